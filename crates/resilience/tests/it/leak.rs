//! Whatever happens to requests and in whichever order, nothing stays counted once they are gone, and
//! no endpoint stays barred.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_model::{BackendIndex, CgroupId, Instant, Rng, Urgency};
use selvedge_resilience::{
    Admission, Attempt, BalanceLaw, Call, Ending, LimitLaw, Node, NodePlan, Outcome, OutcomeKind,
    RetryLaw, Seat,
};

use crate::rig::{backend, call, ejecting, limited, plan, retrying};

/// What a worker may do next; a number picks one of what it holds.
#[derive(Clone, Debug)]
enum Step {
    Admit {
        source: u8,
        trace: u8,
        upstream: bool,
    },
    Attempt(usize),
    Hedge(usize),
    GiveUp(usize),
    Answer(usize, u16, bool),
    Outcome(usize, OutcomeKind, bool),
    FinishAttempt(usize, Ending),
    DropAttempt(usize),
    Finish(usize, Ending),
    Drop(usize),
    Panic(usize),
    Pass {
        millis: u16,
    },
    Reconfigure(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pick = 0..8usize;
    let status = prop_oneof![Just(200u16), Just(404), Just(503)];
    let ending = prop_oneof![
        Just(Ending::Complete),
        Just(Ending::Cut),
        Just(Ending::Malformed),
        Just(Ending::TimedOut),
        Just(Ending::Cancelled),
    ];
    let kind = prop_oneof![
        status
            .clone()
            .prop_map(|status| OutcomeKind::Answered { status }),
        Just(OutcomeKind::ConnectFailed),
        Just(OutcomeKind::Stale),
        Just(OutcomeKind::Cut),
        Just(OutcomeKind::Malformed),
        Just(OutcomeKind::TimedOut),
        Just(OutcomeKind::Cancelled),
    ];
    let admit = (0..5u8, 0..3u8, any::<bool>());
    let step = prop_oneof![
        6 => admit.prop_map(|(source, trace, upstream)| Step::Admit { source, trace, upstream }),
        6 => pick.clone().prop_map(Step::Attempt),
        2 => pick.clone().prop_map(Step::Hedge),
        1 => pick.clone().prop_map(Step::GiveUp),
        3 => (pick.clone(), status, any::<bool>()).prop_map(|(at, s, r)| Step::Answer(at, s, r)),
        3 => (pick.clone(), kind, any::<bool>()).prop_map(|(at, k, r)| Step::Outcome(at, k, r)),
        2 => (pick.clone(), ending.clone()).prop_map(|(at, e)| Step::FinishAttempt(at, e)),
        1 => pick.clone().prop_map(Step::DropAttempt),
        2 => (pick.clone(), ending).prop_map(|(at, ending)| Step::Finish(at, ending)),
        1 => pick.clone().prop_map(Step::Drop),
        1 => pick.prop_map(Step::Panic),
        2 => any::<u16>().prop_map(|millis| Step::Pass { millis }),
        1 => (0..4u8).prop_map(Step::Reconfigure),
    ];
    vec(step, 0..120)
}

/// Two upstreams of three workloads, which call each other; each variant lacks something else.
fn variant(number: u8) -> NodePlan {
    let mut policy = ejecting(100);
    policy.ejection.as_mut().unwrap().consecutive_failures = 1.try_into().unwrap();
    policy.requests_per_endpoint = limited(4).requests_per_endpoint;
    policy.retry = Some(retrying(3));
    policy.timeouts.request = Some(Duration::from_secs(60));
    let mut plan = plan(&[1, 1, 1], policy);
    let mut other = plan.upstreams[0].clone();
    other.backend = backend("orders");
    other.law = LimitLaw::of_endpoint(Duration::from_millis(100));
    other.retries = RetryLaw::Headroom;
    other.balance = BalanceLaw::LeastTime;
    other.hedges = true;
    plan.upstreams.push(other);
    match number {
        0 => {}
        1 => plan.upstreams.reverse(),
        2 => {
            plan.upstreams[0].endpoints.truncate(1);
            plan.upstreams[1].law = LimitLaw::Static;
        }
        _ => {
            plan.upstreams[1].policy.ejection = None;
            plan.routes[0].law = LimitLaw::of_entry(Duration::from_millis(100));
        }
    }
    plan
}

/// A worker with what it holds.
struct Worker<'a> {
    node: &'a Mutex<Arc<Node>>,
    seat: Seat,
    now: Instant,
    admissions: Vec<(Admission, Vec<Attempt>)>,
    /// Of requests that are gone already.
    orphans: Vec<Attempt>,
    attempts: u64,
}

impl<'a> Worker<'a> {
    fn new(node: &'a Mutex<Arc<Node>>, index: usize) -> Self {
        Self {
            node,
            seat: Seat::new(index, Rng::seeded(index as u64)),
            now: Instant::default(),
            admissions: Vec::new(),
            orphans: Vec::new(),
            attempts: 0,
        }
    }

    fn run(mut self, steps: &[Step]) -> u64 {
        for step in steps {
            self.step(step);
        }
        self.attempts
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Admit {
                source,
                trace,
                upstream,
            } => self.admit(source, trace, upstream),
            Step::Attempt(at) => self.attempt(at),
            Step::Hedge(at) => self.hedge(at),
            Step::GiveUp(at) => {
                let now = self.now;
                // It is counted among those that ended nowhere.
                if let Some(attempt) = self.take(at) {
                    self.attempts -= 1;
                    attempt.give_up(now);
                }
            }
            Step::Answer(at, status, repeatable) => self.answer(at, status, repeatable),
            Step::Outcome(at, kind, repeatable) => self.outcome(at, Outcome { kind, repeatable }),
            Step::FinishAttempt(at, ending) => {
                let now = self.now;
                self.take(at)
                    .into_iter()
                    .for_each(|attempt| attempt.finish(now, ending));
            }
            Step::DropAttempt(at) => drop(self.take(at)),
            Step::Finish(at, ending) if at < self.admissions.len() => {
                let (admission, attempts) = self.admissions.swap_remove(at);
                self.orphans.extend(attempts);
                admission.finish(self.now, ending);
            }
            Step::Drop(at) if at < self.admissions.len() => {
                drop(self.admissions.swap_remove(at));
            }
            Step::Panic(at) if at < self.admissions.len() => {
                let held = self.admissions.swap_remove(at);
                let unwound = catch_unwind(AssertUnwindSafe(move || {
                    let _held = held;
                    resume_unwind(Box::new(()));
                }));
                assert!(unwound.is_err());
            }
            Step::Pass { millis } => self.now = self.now + Duration::from_millis(millis.into()),
            Step::Reconfigure(number) => {
                let mut node = self.node.lock().unwrap();
                *node = Arc::new(Node::new(&variant(number), Some(&node), 2));
            }
            _ => {}
        }
    }

    fn admit(&mut self, source: u8, trace: u8, upstream: bool) {
        let call = Call {
            source: (source > 0).then(|| CgroupId(source.into())),
            destination: BackendIndex(upstream.into()),
            trace: trace.into(),
            urgency: Urgency::new(trace % 8),
            ..call()
        };
        let node = self.node.lock().unwrap().clone();
        // None where the limit at the entry refuses it.
        if let Ok(admission) = node.admit(self.now, &mut self.seat, &call) {
            self.admissions.push((admission, Vec::new()));
        }
    }

    fn attempt(&mut self, at: usize) {
        let Some((admission, attempts)) = self.admissions.get_mut(at) else {
            return;
        };
        if let Ok(attempt) = admission.attempt(self.now, &mut self.seat) {
            self.attempts += 1;
            attempts.push(attempt);
        }
    }

    fn hedge(&mut self, at: usize) {
        let Some((admission, attempts)) = self.admissions.get_mut(at) else {
            return;
        };
        if let Some(attempt) = admission.hedge(self.now, &mut self.seat) {
            self.attempts += 1;
            attempts.push(attempt);
        }
    }

    fn answer(&mut self, at: usize, status: u16, repeatable: bool) {
        if let Some((admission, attempts)) = self.admissions.get_mut(at)
            && let Some(attempt) = attempts.last_mut()
        {
            let seat = &mut self.seat;
            let _ = admission.on_answer(self.now, seat, attempt, status, repeatable);
        }
    }

    fn outcome(&mut self, at: usize, outcome: Outcome) {
        if let Some((admission, attempts)) = self.admissions.get_mut(at)
            && let Some(attempt) = attempts.pop()
        {
            let _ = admission.on_outcome(self.now, &mut self.seat, attempt, outcome);
        }
    }

    fn take(&mut self, at: usize) -> Option<Attempt> {
        match self.admissions.get_mut(at) {
            Some((_, attempts)) => attempts.pop(),
            None => self.orphans.pop(),
        }
    }
}

/// Nothing is counted any more, all attempts ended in one way, and every endpoint serves.
fn check_clean(node: &Node, attempts: u64) {
    let later = Instant::from_nanos(u64::MAX / 2);
    let reading = node.reading(later);
    for upstream in &reading.upstreams {
        assert!(
            upstream
                .endpoints
                .iter()
                .all(|it| (it.in_flight, it.unanswered) == (0, 0)),
            "{upstream:?}"
        );
    }
    assert!(
        reading
            .upstreams
            .iter()
            .all(|it| it.in_flight_of_callers == 0)
    );
    assert!(reading.routes.iter().all(|it| it.in_flight == 0));
    for workload in &reading.workloads {
        let counts = (
            workload.in_flight,
            workload.waiting,
            workload.unjoined_calls,
        );
        assert_eq!(counts, (0, 0, 0), "{workload:?}");
    }
    assert_eq!((reading.trace_slots_used, reading.trees_used), (0, 0));
    let ended: u64 = reading.upstreams.iter().map(|it| ended(&it.totals)).sum();
    assert_eq!(ended, attempts);
    check_all_serve(node, later);
}

fn ended(totals: &selvedge_resilience::Totals) -> u64 {
    let kinds = [
        OutcomeKind::Answered { status: 200 },
        OutcomeKind::ConnectFailed,
        OutcomeKind::Stale,
        OutcomeKind::Cut,
        OutcomeKind::Malformed,
        OutcomeKind::TimedOut,
        OutcomeKind::Cancelled,
    ];
    kinds.iter().map(|kind| totals.ended(*kind)).sum()
}

/// With one place each, as many requests as endpoints only fit if none is barred.
fn check_all_serve(node: &Node, now: Instant) {
    let mut plan = variant(0);
    for upstream in &mut plan.upstreams {
        upstream.policy.requests_per_endpoint = limited(1).requests_per_endpoint;
        upstream.law = LimitLaw::Static;
    }
    let node = Node::new(&plan, Some(node), 2);
    let mut seat = Seat::new(0, Rng::seeded(3));
    let mut held = Vec::new();
    for destination in [0, 0, 0, 1, 1, 1].map(BackendIndex) {
        let call = Call {
            destination,
            ..call()
        };
        let mut admission = node.admit(now, &mut seat, &call).unwrap();
        let attempt = admission.attempt(now, &mut seat).unwrap();
        held.push((admission, attempt));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn one_worker_leaves_nothing(steps in steps()) {
        let node = Mutex::new(Arc::new(Node::new(&variant(0), None, 2)));
        let attempts = Worker::new(&node, 0).run(&steps);
        check_clean(&node.into_inner().unwrap(), attempts);
    }

    #[test]
    fn two_workers_leave_nothing(one in steps(), other in steps()) {
        let node = Mutex::new(Arc::new(Node::new(&variant(0), None, 2)));
        let attempts = thread::scope(|scope| {
            let scripts = [(0, &one), (1, &other)];
            let workers = scripts.map(|(index, steps)| {
                let worker = Worker::new(&node, index);
                scope.spawn(move || worker.run(steps))
            });
            workers.map(|worker| worker.join().unwrap()).iter().sum()
        });
        check_clean(&node.into_inner().unwrap(), attempts);
    }
}
