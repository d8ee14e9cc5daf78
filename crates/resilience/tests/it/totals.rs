//! What is counted is what happened.

use std::thread;
use std::time::Duration;

use selvedge_model::{Instant, RequestPolicy, Rng};
use selvedge_resilience::{Admission, Attempt, Ending, Node, OutcomeKind, Seat};

use crate::rig::{ERROR, OK, Rig, call, limited, plan};

#[test]
fn a_window_is_the_difference_of_two_readings() {
    let mut rig = Rig::new(&[1, 1], RequestPolicy::default());
    rig.ask(OK);
    let before = rig.totals();
    rig.ask(ERROR);
    let (admission, attempt) = rig.send();
    drop((admission, attempt));
    let (mut admission, mut attempt) = rig.send();
    rig.wait(Duration::from_millis(3));
    let _ = admission.on_answer(rig.now, &mut rig.seat, &mut attempt, 204, true);
    rig.wait(Duration::from_secs(2));
    attempt.finish(rig.now, Ending::Complete);
    admission.finish(rig.now, Ending::Complete);
    let window = rig.totals().since(&before);
    assert_eq!((window.requests, window.repeats_succeeded), (3, 0));
    assert_eq!(window.answered, [0, 1, 0, 0, 1]);
    assert_eq!(
        (window.ended(OK), window.ended(OutcomeKind::Cancelled)),
        (2, 1)
    );
    assert_eq!(
        (window.latency_us.count(), window.latency_us.sum()),
        (2, 2_003_000)
    );
    assert!(window.latency_us.quantile(1, 1).unwrap() >= 2_003_000);
}

#[test]
fn a_route_counts_what_its_clients_got() {
    let mut rig = Rig::new(&[1, 1], RequestPolicy::default());
    rig.ask(ERROR);
    let (mut admission, mut attempt) = rig.send();
    let _ = admission.on_answer(rig.now, &mut rig.seat, &mut attempt, 200, true);
    attempt.finish(rig.now, Ending::Cut);
    admission.finish(rig.now, Ending::Cut);
    let (mut admission, attempt) = rig.send();
    let _ = rig.tell(&mut admission, attempt, OutcomeKind::TimedOut);
    admission.finish(rig.now, Ending::Complete); // a 504 of the proxy's own
    drop(rig.send());
    let totals = rig.node.reading(rig.now).routes.remove(0).totals;
    assert_eq!((totals.requests, totals.answered), (4, [0, 1, 0, 0, 1]));
    let kinds = [
        OK,
        OutcomeKind::Cut,
        OutcomeKind::TimedOut,
        OutcomeKind::Cancelled,
    ];
    assert_eq!(kinds.map(|kind| totals.ended(kind)), [1, 1, 1, 1]);
}

/// Two attempts at once: the one that is given up does not make the request a failure.
#[test]
fn the_attempt_that_answers_counts() {
    let mut rig = Rig::new(&[1, 1], limited(2));
    let (mut admission, mut attempt) = rig.send();
    let other = rig.attempt(&mut admission);
    assert_eq!(rig.totals().requests, 1);
    let _ = admission.on_answer(rig.now, &mut rig.seat, &mut attempt, 200, true);
    let _ = rig.tell(&mut admission, other, OutcomeKind::Cancelled);
    let others = [rig.send(), rig.send(), rig.send()];
    assert!(admission.attempt(rig.now, &mut rig.seat).is_err());
    let cancelled = others.len() as u64;
    drop(others);
    attempt.finish(rig.now, Ending::Complete);
    admission.finish(rig.now, Ending::Complete);
    let totals = rig.node.reading(rig.now).routes.remove(0).totals;
    assert_eq!(
        (totals.ended(OK), totals.ended(OutcomeKind::Cancelled)),
        (1, cancelled)
    );
}

/// A worker holds one for each request in flight.
#[test]
fn the_state_of_a_request_is_small() {
    assert!(size_of::<Admission>() <= 256);
    assert!(size_of::<Attempt>() <= 128);
}

#[test]
fn the_longest_times_stand_at_a_minute() {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let (mut admission, attempt) = rig.send();
    rig.wait(Duration::from_secs(100_000));
    let _ = rig.tell(&mut admission, attempt, OK);
    let latency = rig.totals().latency_us;
    assert_eq!((latency.count(), latency.sum()), (1, 100_000_000_000));
    assert!(latency.quantile(1, 1).unwrap() > 67_000_000);
}

/// Each worker counts for itself; the reading is of all.
#[test]
fn workers_lose_no_count() {
    let node = &Node::new(&plan(&[1, 1], RequestPolicy::default()), None, 2);
    thread::scope(|scope| {
        for worker in 0..2 {
            scope.spawn(move || {
                let mut seat = Seat::new(worker, Rng::seeded(worker as u64));
                for _ in 0..10_000 {
                    let now = Instant::default();
                    let mut admission = node.admit(now, &mut seat, &call()).unwrap();
                    let mut attempt = admission.attempt(now, &mut seat).unwrap();
                    let _ = admission.on_answer(now, &mut seat, &mut attempt, 200, true);
                    attempt.finish(now, Ending::Complete);
                    admission.finish(now, Ending::Complete);
                }
            });
        }
    });
    let reading = node.reading(Instant::default());
    for totals in [&reading.upstreams[0].totals, &reading.routes[0].totals] {
        assert_eq!((totals.requests, totals.ended(OK)), (20_000, 20_000));
        assert_eq!(totals.latency_us.count(), 20_000);
    }
}
