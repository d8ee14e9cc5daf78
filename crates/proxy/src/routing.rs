//! What requests meet: routes and gates of one configuration, swapped as a whole.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use selvedge_feed::View;
use selvedge_model::{
    Backend, BackendIndex, CgroupId, Objective, PilotMode, Port, Protocol, RequestPolicy,
    RouteTable, Rule, ServiceName, ServicePort, Snapshot, Spoken, Way, Workload,
};
use selvedge_resilience::planner;
use selvedge_resilience::{
    BalanceLaw, EndpointPlan, LimitLaw, Node, NodePlan, RetryLaw, RoutePlan, UpstreamPlan,
    WorkloadPlan,
};

use crate::heard::Heard;
use crate::pool::Destination;

/// The routing in force; none until the first view has come.
pub(crate) type SharedRouting = Arc<ArcSwapOption<Routing>>;

/// What an exchange must know of the service it leads to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Service {
    /// Its virtual address where it has a connection limit.
    pub(crate) limited: Option<Ipv4Addr>,
    /// Whether its requests may be repeated though their method does not say so.
    pub(crate) non_idempotent: bool,
}

/// Routes and gates of one view.
#[derive(Debug)]
pub(crate) struct Routing {
    pub(crate) table: RouteTable,
    pub(crate) node: Node,
    /// What is spoken where nobody has said so.
    pub(crate) heard: Arc<Heard>,
    services: Vec<Service>,
    /// Endpoints of services that have one.
    limited_endpoints: BTreeSet<Destination>,
    view: Arc<View>,
    workers: usize,
}

impl Routing {
    /// What follows from a view; what the one `before` counts goes on.
    pub(crate) fn of(view: &Arc<View>, before: Option<&Self>, workers: usize) -> Self {
        let table = RouteTable::of(&view.snapshot);
        let plan = plan(&view.snapshot, &table);
        let node = Node::new(&plan, before.map(|before| &before.node), workers);
        let heard = before.map(|before| {
            before.heard.carried_over(|(address, port)| {
                let listener = table.listener(address, port);
                let is_unsaid = listener.is_some_and(|listener| listener.spoken == Spoken::Detect);
                let was = served(&before.view.snapshot, address, port);
                is_unsaid && served(&view.snapshot, address, port) == was
            })
        });
        let backends = table.backends().iter();
        Self {
            heard: Arc::new(heard.unwrap_or_default()),
            services: backends.map(|it| service(&view.snapshot, it)).collect(),
            limited_endpoints: limited_endpoints(&view.snapshot).collect(),
            table,
            node,
            view: view.clone(),
            workers,
        }
    }

    /// The service of a backend.
    pub(crate) fn service(&self, backend: BackendIndex) -> Service {
        let service = self.services.get(backend.0 as usize);
        service.copied().unwrap_or_default()
    }

    /// Whether it is an endpoint of a service that has a connection limit.
    pub(crate) fn limits(&self, destination: &Destination) -> bool {
        self.limited_endpoints.contains(destination)
    }

    /// The workload with this cgroup, if it is one.
    pub(crate) fn workload(&self, cgroup: CgroupId) -> Option<&Workload> {
        self.view.snapshot.workloads.get(&cgroup)
    }

    /// For a connection that was led here when its port still went through the proxy: its service as
    /// it is now. `None` where the service or its port is gone too.
    pub(crate) fn of_departed(&self, address: Ipv4Addr, port: Port) -> Option<Self> {
        let mut service = self.view.snapshot.service_at(address)?.clone();
        service
            .ports
            .retain(|it| it.port == port && it.protocol == Protocol::Tcp);
        service.ports.first_mut()?.way = Way::ProxyOrDirect;
        let mut snapshot = Snapshot::empty();
        snapshot.workloads = self.view.snapshot.workloads.clone();
        snapshot.services.insert(service.name.clone(), service);
        let settings = self.view.settings.clone();
        Some(Self::of(
            &Arc::new(View { snapshot, settings }),
            None,
            self.workers,
        ))
    }
}

/// The port of a service, with who serves there.
fn served(snapshot: &Snapshot, address: Ipv4Addr, port: Port) -> Option<&ServicePort> {
    let ports = &snapshot.service_at(address)?.ports;
    ports
        .iter()
        .find(|it| it.port == port && it.protocol == Protocol::Tcp)
}

fn service(snapshot: &Snapshot, backend: &Backend) -> Service {
    let Some(service) = snapshot.services.get(&backend.service) else {
        return Service::default();
    };
    let retry = service.requests.as_ref().and_then(|it| it.retry.as_ref());
    Service {
        limited: service.connection_limit.map(|_| service.address),
        non_idempotent: retry.is_some_and(|retry| retry.non_idempotent),
    }
}

fn limited_endpoints(snapshot: &Snapshot) -> impl Iterator<Item = Destination> {
    let services = snapshot.services.values();
    let limited = services.filter(|service| service.connection_limit.is_some());
    let endpoints = limited.flat_map(|it| it.ports.iter().flat_map(|port| &port.endpoints));
    endpoints.map(|endpoint| (endpoint.place, endpoint.port))
}

fn plan(snapshot: &Snapshot, table: &RouteTable) -> NodePlan {
    let upstreams = table.backends().iter();
    let routes = table.rules().iter();
    let proxied = proxied(snapshot, table);
    let workloads = snapshot.workloads.values();
    NodePlan {
        upstreams: upstreams
            .map(|backend| upstream(snapshot, backend))
            .collect(),
        routes: routes.map(|rule| entry(snapshot, table, rule)).collect(),
        workloads: workloads
            .map(|workload| WorkloadPlan {
                cgroup: workload.cgroup,
                is_entry: !proxied.contains(&workload.service),
            })
            .collect(),
    }
}

/// Services that serve something through the proxy, be it at a Gateway alone: what their workloads send is
/// not at its entry.
fn proxied<'a>(snapshot: &'a Snapshot, table: &'a RouteTable) -> BTreeSet<&'a ServiceName> {
    let services = snapshot.services.values();
    let is_proxied = services.filter(|it| it.ports.iter().any(|port| port.way != Way::Direct));
    let served = table.backends().iter().map(|backend| &backend.service);
    is_proxied
        .map(|service| &service.name)
        .chain(served)
        .collect()
}

/// The entry of a route. At a Gateway, where it is no service's, it keeps what the services want that it leads to, if
/// all of them want something: the longest, since their requests are one stream there, and only to observe if one of
/// them does.
fn entry(snapshot: &Snapshot, table: &RouteTable, rule: &Rule) -> RoutePlan {
    let (name, service, objective) = match &rule.service {
        Some(service) => (rule.name.clone(), Some(service), rule.objective),
        None => {
            let longest = longest_objective(snapshot, table, rule);
            let name = format!("{} at Gateways", rule.name);
            (name, longest.map(|it| it.0), longest.map(|it| it.1))
        }
    };
    RoutePlan {
        name,
        service: service.cloned(),
        law: objective
            .filter(is_steered)
            .map_or(LimitLaw::Static, |it| LimitLaw::of_entry(it.latency)),
        is_applied: is_applied(objective),
    }
}

fn longest_objective<'s>(
    snapshot: &'s Snapshot,
    table: &RouteTable,
    rule: &Rule,
) -> Option<(&'s ServiceName, Objective)> {
    let mut longest: Option<(&ServiceName, Objective)> = None;
    let mut all_apply = true;
    for (backend, _) in rule.backends().filter(|(_, weight)| *weight > 0) {
        let backend = table.backends().get(backend.0 as usize)?;
        let (name, service) = snapshot.services.get_key_value(&backend.service)?;
        let objective = service.requests.as_ref()?.objective.filter(is_steered)?;
        all_apply &= objective.mode.applies();
        if longest.is_none_or(|(_, it)| it.latency < objective.latency) {
            longest = Some((name, objective));
        }
    }
    let (name, mut objective) = longest?;
    if !all_apply {
        objective.mode = PilotMode::Observe;
    }
    Some((name, objective))
}

const fn is_steered(objective: &Objective) -> bool {
    !matches!(objective.mode, PilotMode::Off)
}

/// Whether what controllers decide is done.
fn is_applied(objective: Option<Objective>) -> bool {
    objective.is_none_or(|it| it.mode.applies())
}

/// The workloads of callers that somebody weighed.
fn caller_weights(snapshot: &Snapshot, policy: &RequestPolicy) -> Vec<(CgroupId, u16)> {
    if policy.caller_weights.is_empty() {
        return Vec::new();
    }
    let weight = |workload: &Workload| {
        let weight = policy.caller_weights.get(&workload.service)?;
        Some((workload.cgroup, *weight))
    };
    snapshot.workloads.values().filter_map(weight).collect()
}

fn upstream(snapshot: &Snapshot, backend: &Backend) -> UpstreamPlan {
    let service = snapshot.services.get(&backend.service);
    let is_it = |port: &&selvedge_model::ServicePort| {
        port.port == backend.port && port.protocol == Protocol::Tcp
    };
    let port = service.and_then(|service| service.ports.iter().find(is_it));
    let endpoints = port.into_iter().flat_map(|port| &port.endpoints);
    let endpoints: Vec<_> = endpoints.filter(|it| it.ready).collect();
    let policy = service.and_then(|it| it.requests.clone());
    let mut policy = policy.unwrap_or_default();
    let objective = policy.of_own().filter(is_steered);
    if policy.retry.is_none() {
        policy.retry = objective.and_then(|it| planner::retries(it.mode, endpoints.len()));
    }
    UpstreamPlan {
        backend: backend.clone(),
        law: objective.map_or(LimitLaw::Static, |it| LimitLaw::of_endpoint(it.latency)),
        balance: match objective.map(|it| it.mode) {
            Some(PilotMode::Drive) => BalanceLaw::LeastTime,
            _ => BalanceLaw::LeastRequest,
        },
        retries: match objective.map(|it| it.mode) {
            Some(PilotMode::Guard) => RetryLaw::BudgetAndHeadroom,
            // What somebody said is not crossed.
            Some(PilotMode::Drive) if policy.retry_budget.is_some() => RetryLaw::BudgetAndHeadroom,
            Some(PilotMode::Drive) => RetryLaw::Headroom,
            _ => RetryLaw::Budget,
        },
        hedges: objective.is_some_and(|it| it.mode == PilotMode::Drive)
            && policy
                .retry
                .as_ref()
                .is_some_and(|retry| retry.attempts > 0),
        is_applied: is_applied(objective),
        caller_weights: caller_weights(snapshot, &policy),
        policy,
        endpoints: endpoints
            .into_iter()
            .map(|endpoint| EndpointPlan {
                place: endpoint.place,
                port: endpoint.port,
                weight: endpoint.weight,
            })
            .collect(),
    }
}
