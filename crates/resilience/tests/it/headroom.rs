//! Retries that cost headroom: what a client's request and those made for it have in common.

use std::time::Duration;

use selvedge_model::{BackendIndex, CgroupId, RequestPolicy, Rng, Withheld};
use selvedge_resilience::{Admission, Attempt, Call, Controllers, Ending, Node, RetryLaw, Verdict};

use crate::rig::{ERROR, Rig, backend, call, limited, retrying};

/// Endpoint 1 serves the route; it calls `orders`, whose endpoint is workload 3 and takes one request.
fn rig() -> Rig {
    let policy = RequestPolicy {
        retry: Some(retrying(9)),
        ..RequestPolicy::default()
    };
    let mut rig = Rig::new(&[1], policy);
    rig.plan.upstreams[0].retries = RetryLaw::Headroom;
    let mut orders = rig.plan.upstreams[0].clone();
    orders.backend = backend("orders");
    orders.endpoints[0].place = selvedge_model::Place::Local(CgroupId(3));
    orders.policy.requests_per_endpoint = limited(1).requests_per_endpoint;
    rig.plan.upstreams.push(orders);
    rig.node = Node::new(&rig.plan, None, 1);
    rig
}

fn from_outside(trace: u64) -> Call<'static> {
    Call { trace, ..call() }
}

/// What endpoint 1 asks of `orders`.
fn inner(trace: u64) -> Call<'static> {
    Call {
        source: Some(CgroupId(1)),
        destination: BackendIndex(1),
        ..from_outside(trace)
    }
}

fn send(rig: &mut Rig, call: &Call<'_>) -> (Admission, Attempt) {
    let mut admission = rig.admit_as(call).unwrap();
    let attempt = rig.attempt(&mut admission);
    (admission, attempt)
}

fn is_retried(rig: &mut Rig, admission: &mut Admission, attempt: Attempt) -> Result<(), Withheld> {
    match rig.tell(admission, attempt, ERROR) {
        Verdict::Retry { .. } => Ok(()),
        Verdict::Deliver { withheld } => Err(withheld.unwrap()),
    }
}

/// Two tries for a client's request, wherever they are made; another has its own.
#[test]
fn tries_are_of_the_whole_tree() {
    let mut rig = rig();
    let (mut root, first) = send(&mut rig, &from_outside(7));
    let (mut child, attempt) = send(&mut rig, &inner(7));
    assert_eq!(is_retried(&mut rig, &mut child, attempt), Ok(()));
    let again = rig.attempt(&mut child);
    assert_eq!(is_retried(&mut rig, &mut child, again), Ok(()));
    drop(child);
    let denied = is_retried(&mut rig, &mut root, first);
    assert_eq!(denied, Err(Withheld::AttemptsUsed));
    drop(root);
    let (mut next, attempt) = send(&mut rig, &from_outside(7));
    assert_eq!(
        is_retried(&mut rig, &mut next, attempt),
        Ok(()),
        "it is over"
    );
    // One that forwards no trace is on its own.
    let (mut lone, mut attempt) = send(&mut rig, &from_outside(0));
    for _ in 0..9 {
        assert_eq!(is_retried(&mut rig, &mut lone, attempt), Ok(()));
        attempt = rig.attempt(&mut lone);
    }
    assert_eq!(rig.node.reading(rig.now).trees_used, 1);
    drop((next, lone, attempt));
    assert_eq!(rig.node.reading(rig.now).trees_used, 0);
}

/// What found no place inside would find none again.
#[test]
fn a_refusal_inside_is_final_outside() {
    let mut rig = rig();
    let (_held, _place) = send(&mut rig, &inner(0));
    let (mut root, attempt) = send(&mut rig, &from_outside(7));
    let mut child = rig.admit_as(&inner(7)).unwrap();
    assert!(child.attempt(rig.now, &mut rig.seat).is_err());
    drop(child);
    let denied = is_retried(&mut rig, &mut root, attempt);
    assert_eq!(denied, Err(Withheld::Shed));
    assert_eq!(rig.totals().withheld(Withheld::Shed), 1);
}

/// Who is asked inside has no more time than who asks outside.
#[test]
fn deadlines_travel() {
    let mut rig = rig();
    rig.plan.upstreams[0].policy.timeouts.request = Some(Duration::from_secs(1));
    rig.reconfigure();
    let deadline = rig.now + Duration::from_secs(1);
    let _root = send(&mut rig, &from_outside(7));
    rig.wait(Duration::from_millis(600));
    let child = rig.admit_as(&inner(7)).unwrap();
    assert_eq!(child.deadline(), Some(deadline));
    let other = rig.admit_as(&inner(8)).unwrap();
    assert_eq!(other.deadline(), None);
}

/// Each request earns a retry while there is room, and none where a tenth of them find no place.
#[test]
fn retries_cost_headroom() {
    let mut rig = rig();
    let mut controllers = Controllers::new(Rng::seeded(1));
    controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    let retries = |rig: &mut Rig| {
        let mut granted = 0;
        for _ in 0..100 {
            let (mut admission, attempt) = send(rig, &from_outside(0));
            granted += u32::from(is_retried(rig, &mut admission, attempt).is_ok());
            admission.finish(rig.now, Ending::Complete);
        }
        granted
    };
    assert_eq!(retries(&mut rig), 100);
    rig.plan.upstreams[0].policy.requests_per_endpoint = limited(1).requests_per_endpoint;
    rig.reconfigure();
    for round in 1..=40 {
        // What was seen is not forgotten with the configuration.
        let timeouts = &mut rig.plan.upstreams[0].policy.timeouts;
        timeouts.attempt = Some(Duration::from_secs(round));
        rig.reconfigure();
        let held = send(&mut rig, &from_outside(0));
        for _ in 0..3 {
            let mut refused = rig.admit();
            assert!(refused.attempt(rig.now, &mut rig.seat).is_err());
        }
        rig.wait(Controllers::TICK);
        controllers.tick(rig.now, &rig.node, &mut |_, _| {});
        drop(held);
    }
    assert_eq!(retries(&mut rig), 20, "what was saved, and no more");
}
