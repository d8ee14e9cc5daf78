//! Requests go where few are, as weights say.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_model::{Port, Reason, RequestPolicy};
use selvedge_resilience::{BalanceLaw, Ending, OutcomeKind};

use crate::rig::{OK, Rig, port};

/// Asks one at a time and counts where that goes.
fn spread(weights: &[u16], requests: u32) -> BTreeMap<Port, u32> {
    let mut rig = Rig::new(weights, RequestPolicy::default());
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(rig.ask(OK)).or_default() += 1;
    }
    counts
}

#[test]
fn idle_endpoints_get_requests_by_weight() {
    for weights in [
        &[1, 1, 1][..],
        &[1, 3],
        &[98, 1, 1],
        &[7, 7],
        &[65535, 1, 65535],
    ] {
        let counts = spread(weights, 20_000);
        let sum: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
        for (number, weight) in (1..).zip(weights) {
            let got = f64::from(*counts.get(&port(number)).unwrap_or(&0));
            let due = 20_000.0 * f64::from(*weight) / f64::from(sum);
            // Five standard deviations, and one more request for the very rare.
            assert!(
                (got - due).abs() <= 5.0 * due.sqrt() + 1.0,
                "{weights:?}: endpoint {number} got {got} of {due}"
            );
        }
    }
}

#[test]
fn weight_zero_gets_nothing() {
    let counts = spread(&[0, 5, 0], 1000);
    assert_eq!(counts, BTreeMap::from([(port(2), 1000)]));
    let mut rig = Rig::new(&[0], RequestPolicy::default());
    let refused = rig.admit().attempt(rig.now, &mut rig.seat).unwrap_err();
    assert_eq!(refused.reason, Reason::NoEndpoint);
}

/// Of requests that stay, the endpoint with fewer for its weight gets the next.
#[test]
fn standing_requests_lie_as_weights_say() {
    for (weights, due) in [(&[1, 1][..], &[500, 500][..]), (&[3, 1], &[750, 250])] {
        let mut rig = Rig::new(weights, RequestPolicy::default());
        let held: Vec<_> = (0..1000).map(|_| rig.send()).collect();
        for (endpoint, due) in rig.endpoints().iter().zip(due) {
            assert!(
                endpoint.in_flight.abs_diff(*due) <= 25,
                "{weights:?}: {endpoint:?}, due are {due}"
            );
        }
        drop(held);
        assert!(rig.endpoints().iter().all(|it| it.in_flight == 0));
    }
}

/// With two choices a slow endpoint does not gather requests as it would with one.
#[test]
fn the_busy_one_of_many_is_spared() {
    let mut rig = Rig::new(&[1; 10], RequestPolicy::default());
    let mut held = Vec::new();
    for _ in 0..2000 {
        let (admission, attempt) = rig.send();
        if attempt.port() == port(1) {
            held.push((admission, attempt)); // never answers
        }
    }
    assert!(held.len() <= 3, "the stuck endpoint got {}", held.len());
}

/// Asks a hundred times a second until then, one at a time, of three endpoints that are led by their time. The first
/// takes so many ms and answers this; the others take 20 ms and answer well. How often it was the first, and all.
fn asked(rig: &mut Rig, until: Duration, millis: u64, kind: OutcomeKind) -> (u32, u32) {
    let until = rig.now + until;
    let (mut first, mut all) = (0, 0);
    while rig.now < until {
        let (mut admission, attempt) = rig.send();
        let is_first = attempt.port() == port(1);
        let (millis, kind) = if is_first { (millis, kind) } else { (20, OK) };
        rig.now = rig.now + Duration::from_millis(millis);
        let _ = rig.tell(&mut admission, attempt, kind);
        admission.finish(rig.now, Ending::Complete);
        (first, all) = (first + u32::from(is_first), all + 1);
        rig.now = rig.now + Duration::from_millis(10);
    }
    (first, all)
}

#[test]
fn who_is_slow_or_fails_is_passed_over_and_asked_again() {
    let failed = OutcomeKind::Answered { status: 503 };
    let late = OutcomeKind::TimedOut;
    for (millis, kind) in [(200, OK), (1, failed), (1000, late)] {
        let mut rig = Rig::new(&[1, 1, 1], RequestPolicy::default());
        rig.plan.upstreams[0].balance = BalanceLaw::LeastTime;
        rig.reconfigure();
        let seconds = Duration::from_secs;
        let (first, all) = asked(&mut rig, seconds(10), 20, OK);
        assert!(first * 4 > all, "{first} of {all} where all are alike");
        asked(&mut rig, seconds(5), millis, kind);
        let (first, all) = asked(&mut rig, seconds(60), millis, kind);
        assert!(first * 50 < all, "{kind:?}: {first} of {all}");
        assert!(first > 1, "{kind:?}: it is asked again");
        asked(&mut rig, seconds(20), 20, OK);
        let (first, all) = asked(&mut rig, seconds(10), 20, OK);
        assert!(
            first * 4 > all,
            "{kind:?}: {first} of {all} once it is well"
        );
        let pace = rig.endpoints()[0].pace.unwrap();
        assert!(pace.good_per_mille > 900, "{pace:?}");
    }
}
