//! The node under test: the same gates and controllers as the proxy's, for the services of a scenario.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{
    Backend, BackendIndex, CgroupId, Instant, Label, Place, Port, Rng, RouteIndex, ServiceName,
    Timeouts,
};
use selvedge_resilience::{
    Admission, Call, Controllers, Decision, EndpointPlan, LimitLaw, Limited, Node, NodePlan,
    Rejection, RoutePlan, Seat, UpstreamPlan, WindowSummary, WorkloadPlan,
};
use selvedge_scenario::{Objective, Scenario};

use crate::objective;
use crate::policy::{Policy, Steering};

/// What a controller has decided in a run.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// When.
    pub at: Duration,
    /// About which service, by its place.
    pub service: usize,
    /// About which replica, counted from 0; `None` is the entry of clients to the service.
    pub replica: Option<u32>,
    /// What it saw.
    pub window: WindowSummary,
    /// What followed.
    pub decision: Decision,
}

/// Hears of each decision.
pub type Hear<'h> = dyn FnMut(&Told) + 'h;

/// One node that all requests go through.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) node: Node,
    pub(crate) seat: Seat,
    controllers: Controllers,
    deadline: Timeouts,
    /// Of each service's own time.
    objectives: Vec<Duration>,
}

impl Mesh {
    /// With the same policy for each service.
    pub(crate) fn new(scenario: &Scenario, policy: &Policy, mut rng: Rng) -> Self {
        let objectives = match policy.limit {
            Steering::Adaptive => objective::of_services(scenario),
            _ => vec![Duration::MAX; scenario.services.len()],
        };
        let plan = plan(scenario, policy, &objectives, Duration::ZERO);
        Self {
            node: Node::new(&plan, None, 1),
            controllers: Controllers::new(Rng::seeded(rng.next_u64())),
            seat: Seat::new(0, rng),
            deadline: deadline(scenario.objective),
            objectives,
        }
    }

    /// Replicas have come or gone.
    pub(crate) fn reconfigure(&mut self, scenario: &Scenario, policy: &Policy, at: Duration) {
        let plan = plan(scenario, policy, &self.objectives, at);
        self.node = Node::new(&plan, Some(&self.node), 1);
    }

    /// A request to a service, by its place; `source` is the service and replica that makes it.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        source: Option<(usize, u32)>,
        service: usize,
        trace: u64,
    ) -> Result<Admission, Rejection> {
        let timeouts = match source {
            None => self.deadline,
            Some(_) => Timeouts::default(),
        };
        let place = service as u32;
        let call = Call {
            source: source.map(|(service, replica)| cgroup(service, replica)),
            route: RouteIndex(place),
            destination: BackendIndex(place),
            trace,
            timeouts,
            retry: None,
        };
        self.node.admit(now, &mut self.seat, &call)
    }

    /// The controllers see what came since the last time.
    pub(crate) fn tick(&mut self, now: Instant, hear: &mut Hear<'_>) {
        self.controllers.tick(now, &self.node, &mut |decided| {
            let name = match decided.about {
                Limited::Endpoint { backend, .. } => backend.service.name.as_str(),
                Limited::Entry { route } => route,
            };
            hear(&Told {
                at: now.since(Instant::default()),
                service: name[1..].parse().expect("the plan gave the names"),
                replica: match decided.about {
                    Limited::Endpoint { port, .. } => Some(replica(port)),
                    Limited::Entry { .. } => None,
                },
                window: *decided.window,
                decision: decided.decision,
            });
        });
    }
}

/// The replica that an attempt goes to, counted from 0.
pub(crate) const fn replica(port: Port) -> u32 {
    port.get() as u32 - 1
}

fn deadline(objective: Objective) -> Timeouts {
    Timeouts {
        request: Some(objective.deadline),
        attempt: None,
    }
}

/// Unique by the bounds of a scenario.
fn cgroup(service: usize, replica: u32) -> CgroupId {
    CgroupId(((service as u64) << 32) + u64::from(replica) + 1)
}

fn plan(scenario: &Scenario, policy: &Policy, objectives: &[Duration], at: Duration) -> NodePlan {
    let port = |number: u32| {
        let number = u16::try_from(number).ok();
        number
            .and_then(Port::new)
            .expect("the scenario was checked")
    };
    // Names of a scenario are free; those of the mesh are labels.
    let name = |place: usize| ServiceName {
        namespace: Label::default_namespace(),
        name: Label::new(&format!("s{place}")).expect("it is one"),
    };
    let endpoint = |service: usize, replica: u32| EndpointPlan {
        place: Place::Local(cgroup(service, replica)),
        port: port(replica + 1),
        weight: 1,
    };
    let services = || scenario.services.iter().enumerate();
    let upstreams = services().map(|(place, service)| UpstreamPlan {
        backend: Backend {
            service: name(place),
            port: port(80),
        },
        policy: policy.request.clone(),
        law: policy.limit.law(objectives[place]),
        retries: policy.retries,
        is_applied: true,
        endpoints: (0..service.replicas)
            .filter(|it| !scenario.condition(place, *it, at).absent)
            .map(|it| endpoint(place, it))
            .collect(),
    });
    let routes = services().map(|(place, _)| RoutePlan {
        name: format!("s{place}"),
        law: match scenario.clients.iter().any(|client| client.calls == place) {
            true => policy.entry.law_of_entry(scenario.objective.latency),
            false => LimitLaw::Static,
        },
        is_applied: true,
    });
    let workloads = services().flat_map(|(place, service)| {
        (0..service.replicas).map(move |replica| WorkloadPlan {
            cgroup: cgroup(place, replica),
            is_entry: false,
        })
    });
    NodePlan {
        upstreams: upstreams.collect(),
        routes: routes.collect(),
        workloads: workloads.collect::<Vec<_>>(),
    }
}
