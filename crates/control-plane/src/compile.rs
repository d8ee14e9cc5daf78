//! From documents to a snapshot: everything that only the whole set shows.
//!
//! Pure: the same documents and facts give the same snapshot. What contradicts itself is an error
//! and no snapshot comes out; what is merely incomplete (a workload whose service is gone, a cgroup
//! that is not there) is a [`Condition`] of its object, and the rest works. Linear in the size of
//! the set. Read next: `compile/endpoints.rs`, then `plane.rs`, which calls this.

mod condition;
mod endpoints;
mod gateways;
mod policies;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use selvedge_model::{
    CgroupId, Diagnostic, DnsSettings, GatewayName, Generation, Port, Protocol, Service,
    ServiceName, Snapshot, Workload, WorkloadName,
};

use selvedge_resilience::planner::Plan;

use crate::address::VirtualRange;
use crate::document::{
    CgroupRef, Document, EndpointSlice, GatewaySpec, HttpRouteSpec, Kind, Publish,
    ServiceObjective, ServiceSpec, ServiceSpecPort, Spec, TcpRouteSpec, WorkloadPlace,
    WorkloadSpec,
};
use condition::Findings;
pub use condition::{Condition, ConditionReason};
use policies::Policies;
use routes::Routes;

/// What a compilation needs to know beside the documents.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The generation that comes out.
    pub generation: Generation,
    /// Where virtual addresses lie.
    pub virtual_range: VirtualRange,
    /// The cgroups that exist, of those that Workloads name.
    pub cgroups: &'a BTreeMap<CgroupRef, CgroupId>,
    /// What is left of objectives for the services behind them.
    pub plan: &'a Plan,
}

/// What came out.
#[derive(Debug)]
pub struct Compiled {
    /// The configuration.
    pub snapshot: Snapshot,
    /// What is incomplete.
    pub conditions: Vec<Condition>,
}

/// Makes a snapshot, or says everything that contradicts itself.
pub fn compile<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    facts: Facts<'_>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    let set = Set::index(documents, &facts, &mut findings);
    let policies = Policies::merge(&set, facts.plan, &mut findings);
    let routes = Routes::read(&set, &mut findings);
    let mut snapshot = Snapshot::empty();
    snapshot.generation = facts.generation;
    snapshot.virtual_range = facts.virtual_range.parts();
    let mut addresses = BTreeMap::new();
    for (name, (document, spec)) in &set.services {
        let Some(address) = spec.cluster_ip else {
            findings.error(document, "spec.clusterIP", "has no virtual address yet");
            continue;
        };
        if !facts.virtual_range.contains(address) {
            let (first, prefix) = facts.virtual_range.parts();
            let message = format!(
                "{address} is outside the virtual range {first}/{prefix}; leave it out to get one"
            );
            findings.error(document, "spec.clusterIP", message);
        }
        if let Some(other) = addresses.insert(address, *document) {
            let message = format!("{address} belongs to {} ({})", other.key, other.origin);
            findings.error(document, "spec.clusterIP", message);
        }
        let policy = policies.of(name);
        let mut ports = endpoints::ports(&set, name, policy, &mut findings);
        routes.set_ways(name, policy, &mut ports);
        let service = Service {
            name: name.clone(),
            address,
            published: published(&set, name, spec, &mut findings),
            published_udp: published_udp(&set, name, spec, &mut findings),
            ports,
            connection_limit: policy.connection_limit,
            detailed_counters: policy.detailed_counters.unwrap_or(false),
            requests: policy.about_requests(),
        };
        note_multiplexing(document, &service, &mut findings);
        snapshot.services.insert(name.clone(), service);
    }
    Policies::note_unused_weights(&set, &mut findings);
    Policies::note_unseen_requests(&set, &mut findings);
    refuse_shared_publications(&set, &mut findings);
    snapshot.workloads = workloads(&set, &policies);
    snapshot.http_routes = routes.http;
    snapshot.tcp_routes = routes.tcp;
    snapshot.gateways = gateways::read(&set, &mut findings);
    routes::note_hidden_matches(&set, &snapshot, &mut findings);
    findings.into_result(snapshot)
}

/// Documents by what they are looked up by.
struct Set<'a> {
    services: BTreeMap<ServiceName, (&'a Document, &'a ServiceSpec)>,
    workloads: BTreeMap<ServiceName, Vec<Instance<'a>>>,
    slices: BTreeMap<ServiceName, Vec<(&'a Document, &'a EndpointSlice)>>,
    policies: Vec<&'a Document>,
    objectives: Vec<(&'a Document, &'a ServiceObjective)>,
    gateways: BTreeMap<GatewayName, (&'a Document, &'a GatewaySpec)>,
    http_routes: Vec<(&'a Document, &'a HttpRouteSpec)>,
    tcp_routes: Vec<(&'a Document, &'a TcpRouteSpec)>,
}

/// A Workload and where it was found.
struct Instance<'a> {
    document: &'a Document,
    spec: &'a WorkloadSpec,
    cgroup: Option<CgroupId>,
}

impl<'a> Set<'a> {
    fn index(
        documents: impl IntoIterator<Item = &'a Document>,
        facts: &Facts<'_>,
        findings: &mut Findings,
    ) -> Self {
        let mut set = Self {
            services: BTreeMap::new(),
            workloads: BTreeMap::new(),
            slices: BTreeMap::new(),
            policies: Vec::new(),
            objectives: Vec::new(),
            gateways: BTreeMap::new(),
            http_routes: Vec::new(),
            tcp_routes: Vec::new(),
        };
        let mut owners = BTreeMap::new();
        for document in documents {
            match &document.spec {
                Spec::Service(spec) => {
                    if let Some(name) = service_name(document) {
                        set.services.insert(name, (document, spec));
                    }
                }
                Spec::Workload(spec) => {
                    let service = beside(document, &spec.service);
                    let cgroup = find_cgroup(document, spec, facts, &mut owners, findings);
                    let instance = Instance {
                        document,
                        spec,
                        cgroup,
                    };
                    set.workloads.entry(service).or_default().push(instance);
                }
                Spec::EndpointSlice(spec) => {
                    let service = beside(document, &spec.service);
                    set.slices
                        .entry(service)
                        .or_default()
                        .push((document, spec));
                }
                Spec::TrafficPolicy(_) => set.policies.push(document),
                Spec::ServiceObjective(spec) => set.objectives.push((document, spec)),
                Spec::Gateway(spec) => {
                    if let Some(name) = gateways::gateway_name(document) {
                        set.gateways.insert(name, (document, spec));
                    }
                }
                Spec::HttpRoute(spec) => set.http_routes.push((document, spec)),
                Spec::TcpRoute(spec) => set.tcp_routes.push((document, spec)),
                Spec::RunPermission(_) => {}
            }
        }
        set.note_missing_services(findings);
        set
    }

    fn note_missing_services(&self, findings: &mut Findings) {
        for (name, instances) in &self.workloads {
            if !self.services.contains_key(name) {
                for instance in instances {
                    findings.missing_service(instance.document, "spec.service", name);
                }
            }
        }
        for (name, slices) in &self.slices {
            if !self.services.contains_key(name) {
                for (document, _) in slices {
                    let path = "metadata.labels.kubernetes.io/service-name";
                    findings.missing_service(document, path, name);
                }
            }
        }
    }
}

/// The service of that name in the document's namespace.
fn beside(document: &Document, name: &selvedge_model::Label) -> ServiceName {
    ServiceName::new(document.key.namespace_or_default(), name.clone())
}

/// The name of the service that a Service object is. A key's name is a label, by `document`.
pub(crate) fn service_name(document: &Document) -> Option<ServiceName> {
    debug_assert_eq!(document.key.kind, Kind::Service);
    let name = selvedge_model::Label::new(&document.key.name).ok()?;
    Some(beside(document, &name))
}

/// Finds the cgroup that a Workload is. Two Workloads are never the same cgroup.
fn find_cgroup<'a>(
    document: &'a Document,
    spec: &WorkloadSpec,
    facts: &Facts<'_>,
    owners: &mut BTreeMap<CgroupId, &'a Document>,
    findings: &mut Findings,
) -> Option<CgroupId> {
    let WorkloadPlace::Cgroup(reference) = &spec.place else {
        return None;
    };
    let path = match reference {
        CgroupRef::Path(_) => "spec.cgroup",
        CgroupRef::Unit(_) => "spec.systemdUnit",
    };
    let Some(cgroup) = facts.cgroups.get(reference).copied() else {
        let message = format!("{reference} does not exist beside the mesh's own at this moment");
        findings.condition(document, ConditionReason::CgroupAbsent, path, message);
        return None;
    };
    if let Some(other) = owners.insert(cgroup, document) {
        let message = format!("{reference} belongs to {} ({})", other.key, other.origin);
        findings.error(document, path, message);
    }
    Some(cgroup)
}

fn workloads(set: &Set<'_>, policies: &Policies) -> BTreeMap<CgroupId, Workload> {
    let mut workloads = BTreeMap::new();
    for (service, instances) in &set.workloads {
        let shadow_search = policies.of(service).shadow_search;
        for instance in instances {
            let Some(cgroup) = instance.cgroup else {
                continue;
            };
            let Some(name) = workload_name(instance.document) else {
                continue;
            };
            let resolver = &instance.spec.resolver;
            let dns = DnsSettings {
                search: resolver.search.clone(),
                ndots: resolver.ndots.unwrap_or(1),
                nameservers: resolver.nameservers.clone(),
                shadow_search: resolver.shadow_search.or(shadow_search).unwrap_or(true),
            };
            let ports = instance.spec.port_mode;
            let workload = Workload {
                name,
                service: service.clone(),
                cgroup,
                ports,
                dns,
            };
            workloads.insert(cgroup, workload);
        }
    }
    workloads
}

fn workload_name(document: &Document) -> Option<WorkloadName> {
    let namespace = document.key.namespace_or_default();
    let name = selvedge_model::Label::new(&document.key.name).ok()?;
    Some(WorkloadName { namespace, name })
}

/// The outside TCP ports of a service: what its workloads of this host ask for, each once.
fn published(
    set: &Set<'_>,
    name: &ServiceName,
    spec: &ServiceSpec,
    findings: &mut Findings,
) -> Vec<(Port, Port)> {
    let mut published = BTreeMap::new();
    for instance in set.workloads.get(name).into_iter().flatten() {
        for (index, publish) in publications(instance, Protocol::Tcp) {
            let tcp = || {
                spec.ports
                    .iter()
                    .filter(|port| port.protocol == Protocol::Tcp)
            };
            let wanted = publish.service_port.unwrap_or(publish.port);
            let exact = tcp().find(|port| port.port == wanted);
            let fallback = if publish.service_port.is_none() {
                tcp().next()
            } else {
                None
            };
            match exact.or(fallback) {
                Some(port) => {
                    published.entry(publish.port).or_insert(port.port);
                }
                None => {
                    let path = format!("spec.publish[{index}]");
                    let mut message =
                        format!("service {name} has no TCP port {wanted} at this moment");
                    if spec.ports.iter().any(|port| port.protocol == Protocol::Udp) {
                        message +=
                            "; for its UDP port say `protocol: UDP` (run: `--publish N/udp`)";
                    }
                    let reason = ConditionReason::PortMissing;
                    findings.condition(instance.document, reason, &path, message);
                }
            }
        }
    }
    published.into_iter().collect()
}

/// The UDP ports that replicas of a service share. One that no service port leads to yet is among
/// them: a service made by `run` gets its ports when its replicas bind them, which must share then.
fn published_udp(
    set: &Set<'_>,
    name: &ServiceName,
    spec: &ServiceSpec,
    findings: &mut Findings,
) -> Vec<Port> {
    let mut published = BTreeSet::new();
    for instance in set.workloads.get(name).into_iter().flatten() {
        for (index, publish) in publications(instance, Protocol::Udp) {
            published.insert(publish.port);
            let leads_there = |port: &ServiceSpecPort| {
                port.protocol == Protocol::Udp
                    && endpoints::target(instance, port) == Some(publish.port)
            };
            if !spec.ports.iter().any(leads_there) {
                let path = format!("spec.publish[{index}]");
                let message = format!(
                    "no UDP port of service {name} leads to port {} of its programs at this moment",
                    publish.port
                );
                let reason = ConditionReason::PortMissing;
                findings.condition(instance.document, reason, &path, message);
            }
        }
    }
    published.into_iter().collect()
}

/// What the instance publishes over `protocol`, with its place in the list.
fn publications<'a>(
    instance: &Instance<'a>,
    protocol: Protocol,
) -> impl Iterator<Item = (usize, &'a Publish)> {
    let all = instance.spec.publish.iter().enumerate();
    all.filter(move |(_, publish)| publish.protocol == protocol)
}

/// One outside port leads to one service. What is asked for is compared, whether or not the services
/// have the ports at this moment: ports that appear later must not bring a contradiction with them.
fn refuse_shared_publications(set: &Set<'_>, findings: &mut Findings) {
    let mut first = BTreeMap::new();
    let all = set.workloads.iter();
    let mut all: Vec<_> = all
        .flat_map(|(service, instances)| instances.iter().map(move |it| (service, it)))
        .collect();
    // What runs has its ports already, whatever is written about them.
    all.sort_by_key(|(_, instance)| !instance.document.metadata.is_made_by_run());
    for (service, instance) in all {
        for (index, publish) in instance.spec.publish.iter().enumerate() {
            let Publish { protocol, port, .. } = publish;
            let (owner, publisher) = *first
                .entry((*protocol, *port))
                .or_insert((service, instance.document));
            if owner == service {
                continue;
            }
            let message = format!(
                "{protocol} port {port} leads to service {owner} already, by {} ({}): a port of \
                 the host leads to one service, so publish another here, or end or change that",
                publisher.key, publisher.origin
            );
            findings.error(
                instance.document,
                &format!("spec.publish[{index}]"),
                message,
            );
        }
    }
}

fn note_multiplexing(document: &Document, service: &Service, findings: &mut Findings) {
    for (index, port) in service.ports.iter().enumerate() {
        let Some(protocol) = port
            .app_protocol
            .as_ref()
            .filter(|spoken| spoken.multiplexes())
        else {
            continue;
        };
        let message = format!(
            "{} keeps many requests on one connection, and connections are balanced, not \
             requests: replicas may carry unequal load",
            protocol.0
        );
        let path = format!("spec.ports[{index}].appProtocol");
        findings.condition(
            document,
            ConditionReason::BalancedPerConnection,
            &path,
            message,
        );
    }
}

#[cfg(test)]
mod tests;
