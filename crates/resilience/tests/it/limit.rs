//! No endpoint gets more requests than may be, however many threads ask.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use selvedge_model::{Instant, Reason, Rng};
use selvedge_resilience::{Ending, Gate, Node, Seat};

use crate::rig::{OK, Rig, call, limited, plan};

#[test]
fn a_full_upstream_refuses_and_says_so() {
    let mut rig = Rig::new(&[9, 1, 1], limited(2));
    let held: Vec<_> = (0..6).map(|_| rig.send()).collect();
    assert!(rig.endpoints().iter().all(|it| it.in_flight == 2));
    let refused = rig.admit().attempt(rig.now, &mut rig.seat).unwrap_err();
    assert_eq!(
        (refused.reason, refused.gate),
        (Reason::RequestLimit, Gate::Upstream)
    );
    assert_eq!(refused.limit, 2);
    assert_eq!(rig.totals().refused_limit, 1);
    drop(held);
    rig.ask(OK);
}

/// Two draws of a hundred are full nearly always; the one that is free is found all the same.
#[test]
fn the_last_free_place_is_found() {
    let mut rig = Rig::new(&[1; 100], limited(1));
    let held: Vec<_> = (0..100).map(|_| rig.send()).collect();
    assert_eq!(held.len(), 100);
    assert!(rig.admit().attempt(rig.now, &mut rig.seat).is_err());
}

#[test]
fn in_flight_counts_to_the_last_byte() {
    let mut rig = Rig::new(&[1], limited(1));
    let (mut admission, mut attempt) = rig.send();
    let _ = admission.on_answer(rig.now, &mut rig.seat, &mut attempt, 200, true);
    assert!(rig.admit().attempt(rig.now, &mut rig.seat).is_err());
    attempt.finish(rig.now, Ending::Complete);
    rig.ask(OK);
}

#[test]
fn a_new_limit_holds_for_what_was_there_before() {
    let mut rig = Rig::new(&[1], limited(3));
    let held: Vec<_> = (0..3).map(|_| rig.send()).collect();
    rig.plan.upstreams[0].policy = limited(2);
    rig.reconfigure();
    assert!(rig.admit().attempt(rig.now, &mut rig.seat).is_err());
    drop(held);
    let _held = [rig.send(), rig.send()];
    assert!(rig.admit().attempt(rig.now, &mut rig.seat).is_err());
}

/// An endpoint that goes and comes back still has what was sent to it before.
#[test]
fn requests_count_over_an_absence() {
    let mut rig = Rig::new(&[1, 1], limited(1));
    let held = [rig.send(), rig.send()];
    let endpoint = rig.plan.upstreams[0].endpoints.pop().unwrap();
    rig.reconfigure();
    rig.reconfigure();
    assert_eq!(rig.endpoints().len(), 2, "it stays while it has a request");
    rig.plan.upstreams[0].endpoints.push(endpoint);
    rig.reconfigure();
    assert!(rig.admit().attempt(rig.now, &mut rig.seat).is_err());
    drop(held);
    rig.plan.upstreams[0].endpoints.pop();
    rig.reconfigure();
    assert_eq!(rig.endpoints().len(), 1);
}

#[test]
fn threads_never_exceed_it() {
    let node = &Node::new(&plan(&[1, 1], limited(3)), None, 2);
    let is_over = &AtomicBool::new(false);
    let refused: usize = thread::scope(|scope| {
        let senders = [0, 1].map(|worker| scope.spawn(move || hold_many(node, worker)));
        scope.spawn(move || {
            while !is_over.load(SeqCst) {
                let reading = node.reading(Instant::default());
                let endpoints = &reading.upstreams[0].endpoints;
                assert!(
                    endpoints.iter().all(|it| it.in_flight <= 3),
                    "{endpoints:?}"
                );
                thread::yield_now();
            }
        });
        let refused = senders.map(|sender| sender.join().unwrap());
        is_over.store(true, SeqCst);
        refused.iter().sum()
    });
    let totals = &node.reading(Instant::default()).upstreams[0].totals;
    assert_eq!(totals.refused_limit, refused as u64);
    assert!(refused > 0, "eight at once find no room for two");
}

/// Holds up to four at a time, and tells how often there was no room.
fn hold_many(node: &Node, worker: usize) -> usize {
    let mut seat = Seat::new(worker, Rng::seeded(worker as u64));
    let now = Instant::default();
    let mut refused = 0;
    let mut held = std::collections::VecDeque::new();
    for _ in 0..20_000 {
        let mut admission = node.admit(now, &mut seat, &call()).unwrap();
        match admission.attempt(now, &mut seat) {
            Ok(attempt) => held.push_back((admission, attempt)),
            Err(_) => refused += 1,
        }
        // One more than a half of all places, so that even alone a thread is refused.
        if held.len() > 6 || refused % 2 == 1 {
            held.pop_front();
        }
    }
    refused
}
