//! One caller that asks for much leaves the others their share.

use std::time::Duration;

use selvedge_model::{CgroupId, Rng};
use selvedge_resilience::{Admission, Attempt, Call, Controllers, Ending, LimitLaw, Node};

use crate::rig::{OK, Rig, call, limited};

const LIMIT: u32 = 16;

/// Requests of a caller that wait for their answers.
type Held = Vec<(Admission, Attempt)>;

/// Lets both ask so often each 50 ms, for a minute, of an endpoint that has `LIMIT` places and answers after 100 ms. How
/// many each was refused of how many, without the first ten seconds.
fn refused(law: LimitLaw, asks: [u32; 2]) -> [(u32, u32); 2] {
    let mut rig = Rig::new(&[1], limited(LIMIT));
    rig.plan.upstreams[0].law = law;
    rig.node = Node::new(&rig.plan, None, 1);
    let mut controllers = Controllers::new(Rng::seeded(1));
    let mut counts = [(0, 0); 2];
    let mut held: [Held; 2] = [Vec::new(), Vec::new()];
    for turn in 0..1200 {
        let [first, second] = &mut held;
        for (mut admission, attempt) in first.drain(..) {
            let _ = rig.tell(&mut admission, attempt, OK);
            admission.finish(rig.now, Ending::Complete);
        }
        core::mem::swap(first, second);
        // Now the one, now the other is first.
        for nth in 0..asks[0] + asks[1] {
            let who = usize::from((nth * asks[0]) % (asks[0] + asks[1]) >= asks[0]);
            let call = Call {
                source: Some(CgroupId(101 + who as u64)),
                ..call()
            };
            let mut admission = rig.admit_as(&call).unwrap();
            let attempt = admission.attempt(rig.now, &mut rig.seat);
            let is_judged = turn >= 200;
            counts[who].1 += u32::from(is_judged);
            match attempt {
                Ok(attempt) => held[1].push((admission, attempt)),
                Err(_) => counts[who].0 += u32::from(is_judged),
            }
        }
        rig.wait(Duration::from_millis(50));
        controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    }
    counts
}

#[test]
fn who_asks_for_little_is_refused_nothing() {
    let law = LimitLaw::of_endpoint(Duration::from_secs(10));
    let [flood, other] = refused(law, [30, 2]);
    assert!(flood.0 * 2 > flood.1, "{flood:?}");
    assert!(other.0 * 100 <= other.1, "{other:?}");
    // Without shares it fares no better than the flood.
    let [_, other] = refused(LimitLaw::Static, [30, 2]);
    assert!(other.0 * 3 > other.1, "{other:?}");
}

#[test]
fn who_is_alone_has_everything() {
    let law = LimitLaw::of_endpoint(Duration::from_secs(10));
    let [alone, _] = refused(law, [8, 0]);
    assert_eq!(alone.0, 0);
}

/// One too many is let in like anybody, and counted.
#[test]
fn more_callers_than_are_told_apart_are_counted() {
    let (mut rig, unshared) = (Rig::new(&[1], limited(100)), |rig: &Rig| {
        rig.node.reading(rig.now).unshared_requests
    });
    rig.plan.upstreams[0].law = LimitLaw::of_endpoint(Duration::from_secs(10));
    rig.node = Node::new(&rig.plan, None, 1);
    for number in 1..=16 {
        let source = Some(CgroupId(number));
        drop(rig.admit_as(&Call { source, ..call() }));
    }
    assert_eq!(unshared(&rig), 0);
    drop(rig.admit());
    assert_eq!(unshared(&rig), 1);
    rig.reconfigure();
    assert_eq!(unshared(&rig), 1);
}
