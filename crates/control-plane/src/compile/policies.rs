//! What all TrafficPolicies together say about each service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use selvedge_model::{
    AppProtocol, Label, Objective, PilotMode, Protocol, RequestPolicy, ServiceName, Timeouts,
};

use selvedge_resilience::planner::Plan;

use super::{ConditionReason, Findings, Set, beside};
use crate::document::{Document, PolicyTarget, Spec, TrafficPolicy, WorkloadPlace};

/// The merged policies of every service that has one.
pub(super) struct Policies(BTreeMap<ServiceName, Policy>);

/// What is said about one service.
#[derive(Debug, Default)]
pub(super) struct Policy {
    workload_weights: BTreeMap<Label, u16>,
    address_weights: BTreeMap<IpAddr, u16>,
    pub(super) connection_limit: Option<u32>,
    pub(super) detailed_counters: Option<bool>,
    pub(super) shadow_search: Option<bool>,
    requests: RequestPolicy,
}

/// What is said about a service that no policy names.
const SILENT: &Policy = &Policy {
    workload_weights: BTreeMap::new(),
    address_weights: BTreeMap::new(),
    connection_limit: None,
    detailed_counters: None,
    shadow_search: None,
    requests: RequestPolicy {
        timeouts: Timeouts {
            request: None,
            attempt: None,
        },
        retry: None,
        retry_budget: None,
        requests_per_endpoint: None,
        ejection: None,
        objective: None,
        share: None,
        caller_weights: BTreeMap::new(),
    },
};

/// The weight of an endpoint that no policy names.
const PLAIN_WEIGHT: u16 = 1;

impl Policies {
    /// Brings all policies together. Where two say something about the same thing, one is an error.
    pub(super) fn merge(set: &Set<'_>, plan: &Plan, findings: &mut Findings) -> Self {
        let mut merged = Self(BTreeMap::new());
        let mut said = BTreeMap::new();
        for document in &set.policies {
            let Spec::TrafficPolicy(policy) = &document.spec else {
                continue;
            };
            for (index, target) in policy.targets.iter().enumerate() {
                let service = beside(document, target);
                if !set.services.contains_key(&service) {
                    let path = format!("spec.targetRefs[{index}].name");
                    findings.missing_service(document, &path, &service);
                    continue;
                }
                for path in fields_said(policy) {
                    if let Some(other) = said.insert((service.clone(), path), *document) {
                        refuse_second(document, other, path, &service, findings);
                    }
                }
                merged.0.entry(service).or_default().add(policy);
            }
        }
        merged.add_objectives(set, findings);
        merged.add_shares(set, plan);
        merged
    }

    fn add_objectives(&mut self, set: &Set<'_>, findings: &mut Findings) {
        let mut said = BTreeMap::new();
        for (document, spec) in &set.objectives {
            for (index, target) in spec.targets.iter().enumerate() {
                let service = beside(document, target);
                let path = format!("spec.targetRefs[{index}].name");
                if !set.services.contains_key(&service) {
                    findings.missing_service(document, &path, &service);
                    continue;
                }
                if let Some(other) = said.insert(service.clone(), document) {
                    refuse_second(document, other, &path, &service, findings);
                }
                // Off is as if nothing were said.
                if spec.objective.mode != PilotMode::Off {
                    let policy = self.0.entry(service).or_default();
                    policy.requests.objective = Some(spec.objective);
                    policy.requests.caller_weights = caller_weights(set, document, spec, findings);
                }
            }
        }
    }

    /// The plan may be older than what the objectives are now: nothing of it holds for one that is no more.
    fn add_shares(&mut self, set: &Set<'_>, plan: &Plan) {
        for (service, share) in &plan.shares {
            let whole = self.0.get(&share.of).and_then(|it| it.requests.objective);
            let Some(whole) = whole.filter(|_| set.services.contains_key(service)) else {
                continue;
            };
            let policy = self.0.entry(service.clone()).or_default();
            policy.requests.share = Some(Objective {
                latency: share.objective.latency.min(whole.latency),
                mode: whole.mode,
            });
        }
    }

    /// Says which weights belong to no endpoint: most likely a name mistyped or a replica gone.
    pub(super) fn note_unused_weights(set: &Set<'_>, findings: &mut Findings) {
        for document in &set.policies {
            let Spec::TrafficPolicy(policy) = &document.spec else {
                continue;
            };
            for (index, weight) in policy.weights.iter().flatten().enumerate() {
                let services = policy.targets.iter().map(|target| beside(document, target));
                if !services
                    .into_iter()
                    .any(|service| set.has_endpoint(&service, &weight.of))
                {
                    let path = format!("spec.balancing.weights[{index}]");
                    let message = "belongs to no endpoint of the services at this moment";
                    findings.condition(document, ConditionReason::WeightUnused, &path, message);
                }
            }
        }
    }

    /// Says of which ports a policy's words about requests mean nothing.
    pub(super) fn note_unseen_requests(set: &Set<'_>, findings: &mut Findings) {
        for document in &set.policies {
            let Spec::TrafficPolicy(policy) = &document.spec else {
                continue;
            };
            if policy.requests == RequestPolicy::default() {
                continue;
            }
            for (index, target) in policy.targets.iter().enumerate() {
                let service = beside(document, target);
                let spec = set.services.get(&service).map(|(_, spec)| spec);
                let ports = spec.into_iter().flat_map(|spec| &spec.ports);
                for port in ports.filter(|port| port.protocol == Protocol::Tcp) {
                    let spoken = port.app_protocol.as_ref();
                    let Some(spoken) = spoken.filter(|spoken| spoken.hides_requests()) else {
                        continue;
                    };
                    let message = format!(
                        "port {} of service {service} speaks {}: no requests are seen there, and \
                         what is said about them does not hold for it",
                        port.port, spoken.0
                    );
                    let path = format!("spec.targetRefs[{index}].name");
                    let reason = ConditionReason::RequestsUnseen;
                    findings.condition(document, reason, &path, message);
                }
            }
        }
    }

    pub(super) fn of(&self, service: &ServiceName) -> &Policy {
        self.0.get(service).unwrap_or(SILENT)
    }
}

/// The weights of callers by their whole names.
fn caller_weights(
    set: &Set<'_>,
    document: &Document,
    spec: &crate::ServiceObjective,
    findings: &mut Findings,
) -> BTreeMap<ServiceName, u16> {
    let mut weights = BTreeMap::new();
    for (index, caller) in spec.callers.iter().enumerate() {
        let path = format!("spec.callers[{index}].name");
        let beside = beside(document, &caller.name);
        let namespace = caller.namespace.clone();
        let name = ServiceName::new(namespace.unwrap_or(beside.namespace), beside.name);
        if !set.services.contains_key(&name) {
            findings.missing_service(document, &path, &name);
        }
        if weights.insert(name.clone(), caller.weight).is_some() {
            findings.error(document, &path, format!("names service {name} twice"));
        }
    }
    weights
}

fn fields_said(policy: &TrafficPolicy) -> impl Iterator<Item = &'static str> {
    let requests = &policy.requests;
    let said = [
        (policy.weights.is_some(), "spec.balancing.weights"),
        (policy.connection_limit.is_some(), "spec.limits.connections"),
        (policy.detailed_counters.is_some(), "spec.counters"),
        (policy.shadow_search.is_some(), "spec.resolver.shadowSearch"),
        (requests.timeouts.request.is_some(), "spec.timeouts.request"),
        (requests.timeouts.attempt.is_some(), "spec.timeouts.attempt"),
        (requests.retry.is_some(), "spec.retry"),
        (requests.retry_budget.is_some(), "spec.retryBudget"),
        (
            requests.requests_per_endpoint.is_some(),
            "spec.limits.requestsPerEndpoint",
        ),
        (requests.ejection.is_some(), "spec.ejection"),
    ];
    said.into_iter()
        .filter_map(|(is_said, path)| is_said.then_some(path))
}

fn refuse_second(
    document: &Document,
    other: &Document,
    path: &str,
    service: &ServiceName,
    findings: &mut Findings,
) {
    let message = if document.key == other.key {
        format!("names service {service} twice")
    } else {
        format!(
            "is said about service {service} by {} too ({})",
            other.key, other.origin
        )
    };
    findings.error(document, path, message);
}

impl Set<'_> {
    fn has_endpoint(&self, service: &ServiceName, endpoint: &PolicyTarget) -> bool {
        let mut instances = self.workloads.get(service).into_iter().flatten();
        let mut slices = self.slices.get(service).into_iter().flatten();
        match endpoint {
            PolicyTarget::Workload(name) => {
                instances.any(|instance| instance.document.key.name == name.as_str())
            }
            PolicyTarget::Address(address) => {
                instances.any(|instance| instance.spec.place == WorkloadPlace::Address(*address))
                    || slices.any(|(_, slice)| slice.has_address(*address))
            }
        }
    }
}

impl Policy {
    fn add(&mut self, policy: &TrafficPolicy) {
        for weight in policy.weights.iter().flatten() {
            match &weight.of {
                PolicyTarget::Workload(name) => {
                    self.workload_weights.insert(name.clone(), weight.weight);
                }
                PolicyTarget::Address(address) => {
                    self.address_weights.insert(*address, weight.weight);
                }
            }
        }
        self.connection_limit = policy.connection_limit.or(self.connection_limit);
        self.detailed_counters = policy.detailed_counters.or(self.detailed_counters);
        self.shadow_search = policy.shadow_search.or(self.shadow_search);
        self.add_requests(&policy.requests);
    }

    fn add_requests(&mut self, said: &RequestPolicy) {
        let own = &mut self.requests;
        own.timeouts.request = said.timeouts.request.or(own.timeouts.request);
        own.timeouts.attempt = said.timeouts.attempt.or(own.timeouts.attempt);
        own.retry = said.retry.clone().or(own.retry.take());
        own.retry_budget = said.retry_budget.or(own.retry_budget);
        own.requests_per_endpoint = said.requests_per_endpoint.or(own.requests_per_endpoint);
        own.ejection = said.ejection.or(own.ejection);
    }

    /// What is said about requests, if anything is.
    pub(super) fn about_requests(&self) -> Option<RequestPolicy> {
        (self.requests != RequestPolicy::default()).then(|| self.requests.clone())
    }

    /// Whether something is said about requests, and this protocol lets them be seen; where a plan alone has
    /// something to say, it has to be known that there are any.
    pub(super) fn is_about(&self, spoken: Option<&AppProtocol>) -> bool {
        match self.requests.says_anything() {
            true => spoken.is_none_or(|spoken| !spoken.hides_requests()),
            false => self.requests.share.is_some() && spoken.is_some_and(AppProtocol::is_http1),
        }
    }

    pub(super) fn weight_of_workload(&self, name: &str) -> Option<u16> {
        if self.workload_weights.is_empty() {
            return None;
        }
        self.workload_weights.get(&Label::new(name).ok()?).copied()
    }

    pub(super) fn weight_of_address(&self, address: IpAddr) -> u16 {
        self.address_weights
            .get(&address)
            .copied()
            .unwrap_or(PLAIN_WEIGHT)
    }

    /// The weight of a workload at `address`, if it has one of its own outside the mesh.
    pub(super) fn weight_of(&self, name: &str, address: Option<IpAddr>) -> u16 {
        let own = self.weight_of_workload(name);
        own.unwrap_or_else(|| address.map_or(PLAIN_WEIGHT, |at| self.weight_of_address(at)))
    }
}
