//! What is urgent finds a place where other things find none, as long as there is something urgent.

use std::time::Duration;

use selvedge_model::{BackendIndex, CgroupId, Reason, RequestPolicy, Rng, Urgency};
use selvedge_resilience::{
    Admission, Attempt, Call, Controllers, Ending, LimitLaw, Node, RetryLaw,
};

use crate::rig::{OK, Rig, backend, call};

const OBJECTIVE: LimitLaw = LimitLaw::of_endpoint(Duration::from_secs(1));
/// The limit that it begins with, and what of that is kept for one more urgent kind.
const START: usize = 8;
const KEPT: usize = 3;

/// A service behind which there is another; both have limits that a law moves.
fn rig() -> Rig {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let cart = &mut rig.plan.upstreams[0];
    (cart.law, cart.retries) = (OBJECTIVE, RetryLaw::Headroom);
    let mut orders = cart.clone();
    orders.backend = backend("orders");
    orders.endpoints[0].place = selvedge_model::Place::Local(CgroupId(2));
    // So that what is kept here is seen alone.
    rig.plan.upstreams[0].law = LimitLaw::Static;
    rig.plan.upstreams.push(orders);
    rig.node = Node::new(&rig.plan, None, 1);
    rig
}

fn to_orders(urgency: Option<Urgency>, trace: u64) -> Call<'static> {
    Call {
        source: Some(CgroupId(1)),
        destination: BackendIndex(1),
        trace,
        urgency,
        ..call()
    }
}

/// Lets as many in as there is place for.
fn fill(rig: &mut Rig, call: &Call<'_>) -> Vec<(Admission, Attempt)> {
    let mut held = Vec::new();
    loop {
        let mut admission = rig.admit_as(call).unwrap();
        match admission.attempt(rig.now, &mut rig.seat) {
            Ok(attempt) => held.push((admission, attempt)),
            Err(refused) => {
                assert_eq!(refused.reason, Reason::RequestLimit);
                assert_eq!(refused.limit as usize, START, "the limit itself is told");
                return held;
            }
        }
    }
}

#[test]
fn places_are_kept_while_something_urgent_is_there() {
    let mut rig = rig();
    let urgent = to_orders(Urgency::new(1), 0);
    let usual = to_orders(None, 0);
    let all = fill(&mut rig, &usual);
    assert_eq!(all.len(), START, "there is nothing urgent yet");
    drop(all);
    let first = fill(&mut rig, &urgent);
    assert_eq!(first.len(), START);
    drop(first);
    let usual_ones = fill(&mut rig, &usual);
    assert_eq!(usual_ones.len(), START - KEPT);
    let urgent_ones = fill(&mut rig, &urgent);
    assert_eq!(urgent_ones.len(), KEPT);
    drop((usual_ones, urgent_ones));
    // It is forgotten once nothing urgent has come for a while.
    let mut controllers = Controllers::new(Rng::seeded(1));
    for _ in 0..60 {
        rig.wait(Duration::from_millis(100));
        let (mut admission, attempt) = send(&mut rig, &usual);
        let _ = rig.tell(&mut admission, attempt, OK);
        admission.finish(rig.now, Ending::Complete);
        controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    }
    let limit = rig.node.reading(rig.now).upstreams[1].limit.unwrap();
    let mut held = Vec::new();
    while let Some(sent) = try_send(&mut rig, &usual) {
        held.push(sent);
    }
    assert_eq!(held.len(), limit as usize);
}

/// A call is as urgent as the request it is made for, unless it says so itself.
#[test]
fn what_is_made_for_something_urgent_is_urgent() {
    let mut rig = rig();
    let trace = 7;
    let root = Call {
        trace,
        urgency: Urgency::new(1),
        ..call()
    };
    let _root = send(&mut rig, &root);
    let _seen = fill(&mut rig, &to_orders(Urgency::new(1), 0)).pop();
    let usual = fill(&mut rig, &to_orders(None, 0)).len();
    let _held = fill(&mut rig, &to_orders(Urgency::new(3), trace));
    let _child = try_send(&mut rig, &to_orders(None, trace)).unwrap();
    assert!(try_send(&mut rig, &to_orders(Urgency::new(3), trace)).is_none());
    assert!(usual < START);
}

fn send(rig: &mut Rig, call: &Call<'_>) -> (Admission, Attempt) {
    try_send(rig, call).unwrap()
}

fn try_send(rig: &mut Rig, call: &Call<'_>) -> Option<(Admission, Attempt)> {
    let mut admission = rig.admit_as(call).unwrap();
    let attempt = admission.attempt(rig.now, &mut rig.seat).ok()?;
    Some((admission, attempt))
}
