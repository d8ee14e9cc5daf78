//! The node under test: the same gates and controllers as the proxy's, for the services of a scenario.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{
    Backend, BackendIndex, CgroupId, Instant, JournalEvent, Label, Limited, Place, Port,
    RequestPolicy, Rng, RouteIndex, ServiceName, Timeouts, Urgency,
};
use selvedge_resilience::{
    Admission, Attempt, BalanceLaw, Call, Controllers, Ending, EndpointPlan, LimitLaw, Node,
    NodePlan, Outcome, OutcomeKind, Record, Rejection, RetryLaw, RoutePlan, Seat, UpstreamPlan,
    WorkloadPlan,
};
use selvedge_scenario::{Objective, Scenario};

use crate::objective;
use crate::planning::Planning;
use crate::policy::{Policy, Shares, Stands, Steering};
use crate::retuning::Retuning;

/// One node that all requests go through.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) node: Node,
    pub(crate) seat: Seat,
    controllers: Controllers,
    deadline: Timeouts,
    /// Of each service's own time.
    objectives: Vec<Duration>,
    /// What sets these while requests go on, where that is not known beforehand.
    planning: Option<Planning>,
    /// What tunes retries, where something does.
    retuning: Option<Retuning>,
    /// The upstream of each service's first replica alone, where replicas have limits of their own; those of
    /// the others follow.
    before_replicas: Vec<u32>,
}

/// An attempt that a replica let in.
#[derive(Debug)]
pub(crate) struct Inside {
    admission: Admission,
    attempt: Attempt,
}

impl Mesh {
    /// With the same policy for each service.
    pub(crate) fn new(scenario: &Scenario, policy: &Policy, mut rng: Rng) -> Self {
        let objectives = match policy.limit {
            Steering::Adaptive(_) if policy.shares == Shares::Known => {
                objective::of_services(scenario)
            }
            Steering::Adaptive(_) | Steering::Inversion => {
                vec![scenario.objective.latency; scenario.services.len()]
            }
            _ => vec![Duration::MAX; scenario.services.len()],
        };
        let services = scenario.services.len();
        let retuning = policy
            .retunes
            .then(|| Retuning::new(scenario.objective.latency, services));
        let plan = plan(
            scenario,
            policy,
            &objectives,
            retuning.as_ref(),
            Duration::ZERO,
        );
        Self {
            retuning,
            node: Node::new(&plan, None, 1),
            controllers: Controllers::new(Rng::seeded(rng.next_u64())),
            seat: Seat::new(0, rng),
            deadline: deadline(scenario.objective),
            objectives,
            planning: (policy.shares == Shares::Planned)
                .then(|| Planning::new(scenario, names(scenario))),
            before_replicas: match policy.stands {
                Stands::BeforeBalancing => Vec::new(),
                Stands::BehindBalancing => firsts(scenario),
            },
        }
    }

    /// Replicas have come or gone.
    pub(crate) fn reconfigure(&mut self, scenario: &Scenario, policy: &Policy, at: Duration) {
        let retuning = self.retuning.as_ref();
        let plan = plan(scenario, policy, &self.objectives, retuning, at);
        self.node = Node::new(&plan, Some(&self.node), 1);
    }

    /// A request to a service, by its place; `source` is the service and replica that makes it.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        source: Option<(usize, u32)>,
        service: usize,
        trace: u64,
        urgency: Option<Urgency>,
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
            urgency,
            client_timeout: None,
            timeouts,
            retry: None,
        };
        self.node.admit(now, &mut self.seat, &call)
    }

    /// An attempt that has come to a replica asks whether it may in, where that is for the replica to say.
    pub(crate) fn enter(
        &mut self,
        now: Instant,
        service: usize,
        replica: u32,
    ) -> Option<Result<Inside, Rejection>> {
        let first = *self.before_replicas.get(service)?;
        let place = service as u32;
        let call = Call {
            source: Some(before(service, replica)),
            route: RouteIndex(place),
            destination: BackendIndex(first + replica),
            trace: 0,
            urgency: None,
            client_timeout: None,
            timeouts: Timeouts::default(),
            retry: None,
        };
        let mut inside = || {
            let mut admission = self.node.admit(now, &mut self.seat, &call)?;
            match admission.attempt(now, &mut self.seat) {
                Ok(attempt) => Ok(Inside { admission, attempt }),
                Err(rejection) => {
                    admission.finish(now, Ending::Complete);
                    Err(rejection)
                }
            }
        };
        Some(inside())
    }

    /// It has ended there.
    pub(crate) fn leave(&mut self, now: Instant, inside: Inside, kind: OutcomeKind) {
        let Inside {
            mut admission,
            attempt,
        } = inside;
        let outcome = Outcome {
            kind,
            repeatable: false,
        };
        // Nothing is sent again there.
        let _verdict = admission.on_outcome(now, &mut self.seat, attempt, outcome);
        admission.finish(now, Ending::Complete);
    }

    /// The controllers see what came since the last time. True where services have other objectives by a plan now, or
    /// other retries: it is for [`Self::reconfigure`] to have them in force.
    pub(crate) fn tick(&mut self, now: Instant, record: &mut Record<'_>) -> bool {
        let retunes = |it: &mut Retuning| it.look(now, &self.node);
        let is_retuned = self.retuning.as_mut().is_some_and(retunes);
        let Some(planning) = &mut self.planning else {
            self.controllers.tick(now, &self.node, record);
            return is_retuned;
        };
        let mut hear = |about: &Limited, event: JournalEvent| {
            planning.told.on_event(about, &event);
            record(about, event);
        };
        self.controllers.tick(now, &self.node, &mut hear);
        let is_planned = planning.is_due(now) && planning.plan(&mut self.objectives);
        is_planned || is_retuned
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

/// Upstreams of services come first, then those of all replicas.
fn firsts(scenario: &Scenario) -> Vec<u32> {
    let mut next = scenario.services.len() as u32;
    let firsts = scenario.services.iter().map(|service| {
        let first = next;
        next += service.replicas;
        first
    });
    firsts.collect()
}

/// What stands before a replica: what goes into the replica is counted where it was sent.
fn before(service: usize, replica: u32) -> CgroupId {
    CgroupId(u64::MAX - cgroup(service, replica).0)
}

/// Names of a scenario are free; those of the mesh are labels. If one is none, all are numbered.
fn names(scenario: &Scenario) -> Vec<ServiceName> {
    let services = scenario.services.iter();
    let labels: Option<Vec<Label>> = services
        .map(|service| Label::new(&service.name).ok())
        .collect();
    let numbered = |place| Label::new(&format!("s{place}")).expect("it is a label");
    let labels = labels.unwrap_or_else(|| (0..scenario.services.len()).map(numbered).collect());
    let namespace = Label::default_namespace;
    labels
        .into_iter()
        .map(|name| ServiceName::new(namespace(), name))
        .collect()
}

fn plan(
    scenario: &Scenario,
    policy: &Policy,
    objectives: &[Duration],
    retuning: Option<&Retuning>,
    at: Duration,
) -> NodePlan {
    let port = |number: u32| {
        let number = u16::try_from(number).ok();
        number
            .and_then(Port::new)
            .expect("the scenario was checked")
    };
    let names = names(scenario);
    let name = |place: usize| names[place].clone();
    let endpoint = |service: usize, replica: u32| EndpointPlan {
        place: Place::Local(cgroup(service, replica)),
        port: port(replica + 1),
        weight: 1,
    };
    let services = || scenario.services.iter().enumerate();
    let upstreams = services().map(|(place, service)| UpstreamPlan {
        caller_weights: vec![],
        backend: Backend {
            service: name(place),
            port: port(80),
        },
        policy: match retuning {
            Some(retuning) => retuning.policy(place, &policy.request),
            None => policy.request.clone(),
        },
        law: match policy.stands {
            Stands::BeforeBalancing => policy.limit.law(objectives[place]),
            Stands::BehindBalancing => LimitLaw::Static,
        },
        balance: policy.balance,
        retries: policy.retries,
        hedges: policy.hedges,
        is_applied: true,
        endpoints: (0..service.replicas)
            .filter(|it| !scenario.condition(place, *it, at).absent)
            .map(|it| endpoint(place, it))
            .collect(),
    });
    // One for each replica that says itself who may in.
    let replicas = |(place, service): (usize, &selvedge_scenario::Service)| {
        (0..service.replicas).map(move |replica| (place, replica))
    };
    let before_replicas = services().flat_map(replicas).map(|(place, replica)| {
        let inbound = Label::new("inbound").expect("it is a label");
        UpstreamPlan {
            caller_weights: vec![],
            backend: Backend {
                service: ServiceName::new(inbound, names[place].name.clone()),
                port: port(replica + 1),
            },
            policy: RequestPolicy::default(),
            law: policy.limit.law(objectives[place]),
            balance: BalanceLaw::LeastRequest,
            retries: RetryLaw::Budget,
            hedges: false,
            is_applied: true,
            endpoints: vec![EndpointPlan {
                place: Place::Local(before(place, replica)),
                ..endpoint(place, replica)
            }],
        }
    });
    let are_behind = policy.stands == Stands::BehindBalancing;
    let upstreams = upstreams.chain(before_replicas.filter(|_| are_behind));
    let routes = services().map(|(place, _)| RoutePlan {
        name: format!("s{place}"),
        service: Some(name(place)),
        law: match scenario.clients.iter().any(|client| client.calls == place) {
            true => policy.entry.law(scenario.objective.latency),
            false => LimitLaw::Static,
        },
        is_applied: true,
    });
    let inside = services().flat_map(replicas);
    let beside = inside.clone().filter(|_| are_behind);
    let inside = inside.map(|(place, replica)| cgroup(place, replica));
    let beside = beside.map(|(place, replica)| before(place, replica));
    let workloads = inside.chain(beside).map(|cgroup| WorkloadPlan {
        cgroup,
        is_entry: false,
    });
    NodePlan {
        upstreams: upstreams.collect(),
        routes: routes.collect(),
        workloads: workloads.collect::<Vec<_>>(),
    }
}
