//! A node with one upstream and one route, and a worker that asks it.

use std::num::NonZeroU32;
use std::time::Duration;

use selvedge_model::{
    Backend, BackendIndex, CgroupId, Ejection, Instant, Place, Port, RequestPolicy, RetryPolicy,
    Rng, RouteIndex, ServiceName, Timeouts,
};
use selvedge_resilience::{
    Admission, Attempt, BalanceLaw, Call, Ending, EndpointPlan, EndpointReading, LimitLaw, Node,
    NodePlan, Outcome, OutcomeKind, RetryLaw, RoutePlan, Seat, Totals, UpstreamPlan, Verdict,
    WorkloadPlan,
};

pub(crate) const OK: OutcomeKind = OutcomeKind::Answered { status: 200 };
pub(crate) const ERROR: OutcomeKind = OutcomeKind::Answered { status: 503 };

/// One worker of a node with the upstream `cart`.
pub(crate) struct Rig {
    pub(crate) plan: NodePlan,
    pub(crate) node: Node,
    pub(crate) seat: Seat,
    pub(crate) now: Instant,
}

impl Rig {
    /// Endpoints with these weights, the first of which is workload 1, and a policy.
    pub(crate) fn new(weights: &[u16], policy: RequestPolicy) -> Self {
        let plan = plan(weights, policy);
        Self {
            node: Node::new(&plan, None, 1),
            plan,
            seat: Seat::new(0, Rng::seeded(1)),
            now: Instant::from_nanos(1_000_000_000_000),
        }
    }

    pub(crate) fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    pub(crate) fn reconfigure(&mut self) {
        self.node = Node::new(&self.plan, Some(&self.node), 1);
    }

    pub(crate) fn admit(&mut self) -> Admission {
        self.admit_as(&call()).unwrap()
    }

    pub(crate) fn admit_as(
        &mut self,
        call: &Call<'_>,
    ) -> Result<Admission, selvedge_resilience::Rejection> {
        self.node.admit(self.now, &mut self.seat, call)
    }

    pub(crate) fn attempt(&mut self, admission: &mut Admission) -> Attempt {
        admission.attempt(self.now, &mut self.seat).unwrap()
    }

    /// A request that is let in and on its way.
    pub(crate) fn send(&mut self) -> (Admission, Attempt) {
        let mut admission = self.admit();
        let attempt = self.attempt(&mut admission);
        (admission, attempt)
    }

    /// Tells how an attempt went, and that sending again is safe.
    pub(crate) fn tell(
        &mut self,
        admission: &mut Admission,
        attempt: Attempt,
        kind: OutcomeKind,
    ) -> Verdict {
        let outcome = Outcome {
            kind,
            repeatable: true,
        };
        admission.on_outcome(self.now, &mut self.seat, attempt, outcome)
    }

    /// A request from beginning to end, with the port it went to.
    pub(crate) fn ask(&mut self, kind: OutcomeKind) -> Port {
        let (mut admission, attempt) = self.send();
        let port = attempt.port();
        let _ = self.tell(&mut admission, attempt, kind);
        admission.finish(self.now, Ending::Complete);
        port
    }

    pub(crate) fn endpoints(&self) -> Vec<EndpointReading> {
        self.node.reading(self.now).upstreams.remove(0).endpoints
    }

    pub(crate) fn totals(&self) -> Totals {
        self.node.reading(self.now).upstreams.remove(0).totals
    }
}

/// Endpoint n is workload n at port n, counted from 1. Workload 100 is at its entry, 101 is not.
pub(crate) fn plan(weights: &[u16], policy: RequestPolicy) -> NodePlan {
    let endpoint = |(number, weight): (u16, &u16)| EndpointPlan {
        place: Place::Local(CgroupId(number.into())),
        port: port(number),
        weight: *weight,
    };
    let workload = |number, is_entry| WorkloadPlan {
        cgroup: CgroupId(number),
        is_entry,
    };
    NodePlan {
        upstreams: vec![UpstreamPlan {
            caller_weights: vec![],
            backend: backend("cart"),
            policy,
            law: LimitLaw::Static,
            balance: BalanceLaw::LeastRequest,
            retries: RetryLaw::Budget,
            hedges: false,
            is_applied: true,
            endpoints: (1..).zip(weights).map(endpoint).collect(),
        }],
        routes: vec![RoutePlan {
            name: "cart".into(),
            service: Some("cart".parse().unwrap()),
            law: LimitLaw::Static,
            is_applied: true,
        }],
        workloads: vec![workload(100, true), workload(101, false)],
    }
}

pub(crate) fn backend(name: &str) -> Backend {
    Backend {
        service: ServiceName {
            namespace: "default".parse().unwrap(),
            name: name.parse().unwrap(),
        },
        port: port(80),
    }
}

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

/// A call from outside to the upstream by the route.
pub(crate) fn call() -> Call<'static> {
    Call {
        source: None,
        route: RouteIndex(0),
        destination: BackendIndex(0),
        trace: 0,
        urgency: None,
        client_timeout: None,
        timeouts: Timeouts::default(),
        retry: None,
    }
}

pub(crate) fn limited(limit: u32) -> RequestPolicy {
    RequestPolicy {
        requests_per_endpoint: NonZeroU32::new(limit),
        ..RequestPolicy::default()
    }
}

/// Out after three failures in a row, for ten seconds.
pub(crate) fn ejecting(most_percent: u8) -> RequestPolicy {
    RequestPolicy {
        ejection: Some(Ejection {
            consecutive_failures: 3.try_into().unwrap(),
            duration: Duration::from_secs(10),
            most_percent,
        }),
        ..RequestPolicy::default()
    }
}

/// Retries of 503, after up to 100 ms, 200 ms, and so on to a second.
pub(crate) fn retrying(attempts: u8) -> RetryPolicy {
    RetryPolicy {
        attempts,
        statuses: vec![503],
        backoff: selvedge_model::Backoff {
            least: Duration::ZERO,
            base: Duration::from_millis(100),
            most: Duration::from_secs(1),
        },
        non_idempotent: false,
    }
}
