//! Another endpoint is asked beside a late one, seldom, and only where that is of use.

use std::time::Duration;

use selvedge_model::{CgroupId, Port, RequestPolicy, Rng};
use selvedge_resilience::{BalanceLaw, Call, Controllers, Ending, LimitLaw, RetryLaw};

use crate::rig::{OK, Rig, call, retrying};

const USUAL: Duration = Duration::from_millis(20);

/// Two endpoints that have answered for a while.
fn warm() -> (Rig, Controllers) {
    let mut rig = Rig::new(&[1, 1], RequestPolicy::default());
    let upstream = &mut rig.plan.upstreams[0];
    upstream.policy.retry = Some(retrying(1));
    upstream.law = LimitLaw::of_endpoint(Duration::from_secs(1));
    upstream.retries = RetryLaw::Headroom;
    upstream.balance = BalanceLaw::LeastTime;
    upstream.hedges = true;
    rig.reconfigure();
    let mut controllers = Controllers::new(Rng::seeded(1));
    for _ in 0..2000 {
        answered(&mut rig, &mut controllers);
    }
    (rig, controllers)
}

fn answered(rig: &mut Rig, controllers: &mut Controllers) {
    let (mut admission, attempt) = rig.send();
    rig.wait(USUAL);
    let _ = rig.tell(&mut admission, attempt, OK);
    admission.finish(rig.now, Ending::Complete);
    controllers.tick(rig.now, &rig.node, &mut |_, _| {});
}

#[test]
fn a_late_attempt_has_another_beside_it_at_the_other_endpoint() {
    let (mut rig, mut controllers) = warm();
    let (mut admission, attempt) = rig.send();
    let late = admission.late_at(&attempt).unwrap().since(rig.now);
    assert!(late >= USUAL && late < 2 * USUAL, "{late:?}");
    rig.wait(late);
    let hedge = admission.hedge(rig.now, &mut rig.seat).unwrap();
    assert_ne!(hedge.port(), attempt.port());
    assert!(admission.late_at(&hedge).is_none(), "there are two at most");
    assert_eq!(
        rig.endpoints().iter().map(|it| it.in_flight).sum::<u32>(),
        2
    );
    attempt.give_up(rig.now);
    let _ = rig.tell(&mut admission, hedge, OK);
    admission.finish(rig.now, Ending::Complete);
    let totals = rig.totals();
    assert_eq!(
        (totals.hedges, totals.hedges_won, totals.requests),
        (1, 1, 2001)
    );
    assert!(rig.endpoints().iter().all(|it| it.in_flight == 0));
    // What was earned pays for twenty, and two of a hundred after that.
    let mut hedges = 0;
    for _ in 0..1000 {
        let (mut admission, attempt) = rig.send();
        if let Some(hedge) = admission.hedge(rig.now, &mut rig.seat) {
            hedges += 1;
            hedge.give_up(rig.now);
        }
        rig.wait(USUAL);
        let _ = rig.tell(&mut admission, attempt, OK);
        admission.finish(rig.now, Ending::Complete);
        controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    }
    assert!((20..=41).contains(&hedges), "{hedges}");
}

#[test]
fn where_endpoints_call_others_nobody_is_asked_twice() {
    let (mut rig, mut controllers) = warm();
    let source = Some(CgroupId(1));
    let _child = rig.admit_as(&Call { source, ..call() }).unwrap();
    answered(&mut rig, &mut controllers);
    let (admission, attempt) = rig.send();
    assert!(admission.late_at(&attempt).is_none());
}

/// The share of good answers at a port, in parts of a thousand.
fn good(rig: &Rig, port: Port) -> u16 {
    let endpoints = rig.endpoints();
    let endpoint = endpoints.iter().find(|it| it.port == port).unwrap();
    endpoint.pace.unwrap().good_per_mille
}

#[test]
fn who_was_late_counts_as_failed_and_who_was_not_needed_does_not() {
    for first_wins in [false, true] {
        let (mut rig, _) = warm();
        let (mut admission, attempt) = rig.send();
        let late = admission.late_at(&attempt).unwrap().since(rig.now);
        rig.wait(late);
        let hedge = admission.hedge(rig.now, &mut rig.seat).unwrap();
        rig.wait(Duration::from_millis(3));
        let ports = [attempt.port(), hedge.port()];
        let (winner, loser) = match first_wins {
            true => (attempt, hedge),
            false => (hedge, attempt),
        };
        loser.give_up(rig.now);
        let _ = rig.tell(&mut admission, winner, OK);
        admission.finish(rig.now, Ending::Complete);
        let [first, second] = ports.map(|port| good(&rig, port));
        assert_eq!(second, 1000);
        assert_eq!(first < 1000, !first_wins, "{first}");
    }
}
