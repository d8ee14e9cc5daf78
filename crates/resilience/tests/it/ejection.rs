//! Endpoints that fail are left out, tried again one request at a time, and never all of them.

use std::time::Duration;

use selvedge_model::{Port, Reason};
use selvedge_resilience::{Circuit, Ending, OutcomeKind};

use crate::rig::{ERROR, OK, Rig, ejecting, limited, port};

const SECOND: Duration = Duration::from_secs(1);

/// Asks until endpoint `bad` was asked `times` times, which it answers so; the others are well.
fn ask_bad(rig: &mut Rig, bad: Port, kind: OutcomeKind, times: usize) {
    let mut left = times;
    for _ in 0..1000 {
        if left == 0 {
            return;
        }
        let (mut admission, attempt) = rig.send();
        let is_bad = attempt.port() == bad;
        left -= usize::from(is_bad);
        let _ = rig.tell(&mut admission, attempt, if is_bad { kind } else { OK });
    }
    panic!("endpoint {bad} was asked {} times of {times}", times - left);
}

fn circuit(rig: &Rig, port: Port) -> Circuit {
    let endpoints = rig.endpoints();
    endpoints.iter().find(|it| it.port == port).unwrap().circuit
}

#[test]
fn failures_in_a_row_eject() {
    let bad = port(1);
    let failures = [
        ERROR,
        OutcomeKind::ConnectFailed,
        OutcomeKind::Cut,
        OutcomeKind::Malformed,
        OutcomeKind::TimedOut,
    ];
    for kind in failures {
        let mut rig = Rig::new(&[1, 1, 1], ejecting(50));
        ask_bad(&mut rig, bad, kind, 2);
        assert_eq!(circuit(&rig, bad), Circuit::Closed, "{kind:?}");
        ask_bad(&mut rig, bad, OK, 1);
        ask_bad(&mut rig, bad, kind, 2);
        assert_eq!(
            circuit(&rig, bad),
            Circuit::Closed,
            "{kind:?}: not in a row"
        );
        ask_bad(&mut rig, bad, kind, 1);
        let until = rig.now + 10 * SECOND;
        assert_eq!(circuit(&rig, bad), Circuit::Open { until }, "{kind:?}");
        for _ in 0..300 {
            assert_ne!(rig.ask(OK), bad, "{kind:?}");
        }
    }
}

#[test]
fn what_says_nothing_about_the_endpoint_does_not_eject() {
    let not_found = OutcomeKind::Answered { status: 404 };
    for kind in [OK, not_found, OutcomeKind::Stale, OutcomeKind::Cancelled] {
        let mut rig = Rig::new(&[1, 1], ejecting(50));
        ask_bad(&mut rig, port(1), kind, 20);
        assert_eq!(circuit(&rig, port(1)), Circuit::Closed, "{kind:?}");
    }
}

/// A good head with a body that breaks off is a failure.
#[test]
fn cut_bodies_eject() {
    let mut rig = Rig::new(&[1, 1], ejecting(50));
    for _ in 0..200 {
        let (mut admission, mut attempt) = rig.send();
        let is_bad = attempt.port() == port(1);
        let _ = admission.on_answer(rig.now, &mut rig.seat, &mut attempt, 200, false);
        let ending = if is_bad {
            Ending::Cut
        } else {
            Ending::Complete
        };
        attempt.finish(rig.now, ending);
    }
    assert!(matches!(circuit(&rig, port(1)), Circuit::Open { .. }));
    assert_eq!(rig.totals().ended(OutcomeKind::Cut), 3);
}

/// An attempt fails once, with its head or with its body.
#[test]
fn an_error_that_is_cut_counts_once() {
    let mut rig = Rig::new(&[1, 1], ejecting(50));
    let mut failures = 0;
    while failures < 3 {
        assert_eq!(circuit(&rig, port(1)), Circuit::Closed, "{failures}");
        let (mut admission, mut attempt) = rig.send();
        if attempt.port() == port(1) {
            let _ = admission.on_answer(rig.now, &mut rig.seat, &mut attempt, 500, false);
            attempt.finish(rig.now, Ending::Cut);
            failures += 1;
        }
    }
    assert!(matches!(circuit(&rig, port(1)), Circuit::Open { .. }));
}

#[test]
fn one_probe_at_a_time_decides() {
    let bad = port(1);
    let mut rig = Rig::new(&[1, 1], ejecting(50));
    ask_bad(&mut rig, bad, ERROR, 3);
    rig.wait(10 * SECOND);
    assert_eq!(circuit(&rig, bad), Circuit::HalfOpen);
    let held: Vec<_> = (0..50).map(|_| rig.send()).collect();
    let probes = held.iter().filter(|(_, attempt)| attempt.port() == bad);
    assert_eq!(probes.count(), 1, "while a probe is out there is no other");
    drop(held); // the probe is cancelled: nothing is decided
    assert_eq!(circuit(&rig, bad), Circuit::HalfOpen);
    ask_bad(&mut rig, bad, OK, 1);
    assert_eq!(circuit(&rig, bad), Circuit::Closed);
    ask_bad(&mut rig, bad, ERROR, 2);
    assert_eq!(circuit(&rig, bad), Circuit::Closed, "it begins anew");
}

/// The head of its response decides: the row begins anew while the body is still on its way.
#[test]
fn a_probe_decides_with_its_head() {
    let bad = port(1);
    let mut rig = Rig::new(&[1, 1], ejecting(50));
    ask_bad(&mut rig, bad, ERROR, 3);
    rig.wait(10 * SECOND);
    let mut held: Vec<_> = (0..50).map(|_| rig.send()).collect();
    let probe = held.iter_mut().find(|(_, attempt)| attempt.port() == bad);
    let (admission, attempt) = probe.unwrap();
    let _ = admission.on_answer(rig.now, &mut rig.seat, attempt, 200, false);
    assert_eq!(circuit(&rig, bad), Circuit::Closed);
    ask_bad(&mut rig, bad, ERROR, 2);
    assert_eq!(circuit(&rig, bad), Circuit::Closed);
    ask_bad(&mut rig, bad, ERROR, 1);
    assert!(matches!(circuit(&rig, bad), Circuit::Open { .. }));
}

#[test]
fn while_all_are_probed_there_is_no_endpoint() {
    let mut rig = Rig::new(&[1, 1], ejecting(100));
    for bad in [1, 2] {
        ask_bad(&mut rig, port(bad), ERROR, 3);
    }
    rig.wait(10 * SECOND);
    let _probes = [rig.send(), rig.send()];
    let refused = rig.admit().attempt(rig.now, &mut rig.seat).unwrap_err();
    assert_eq!(refused.reason, Reason::NoEndpoint);
}

/// An endpoint may be full when its probe is due.
#[test]
fn a_probe_without_room_is_not_lost() {
    let bad = port(1);
    let mut policy = ejecting(50);
    policy.requests_per_endpoint = limited(4).requests_per_endpoint;
    let mut rig = Rig::new(&[1, 1], policy.clone());
    let held: Vec<_> = (0..2).map(|_| rig.send()).collect();
    assert!(held.iter().any(|(_, attempt)| attempt.port() == bad));
    ask_bad(&mut rig, bad, ERROR, 3);
    rig.wait(10 * SECOND);
    policy.requests_per_endpoint = limited(1).requests_per_endpoint;
    rig.plan.upstreams[0].policy = policy;
    rig.reconfigure();
    for _ in 0..20 {
        assert!(rig.admit().attempt(rig.now, &mut rig.seat).is_err());
    }
    drop(held);
    ask_bad(&mut rig, bad, OK, 1);
}

#[test]
fn the_next_ejection_in_a_row_is_longer_to_ten_times() {
    let bad = port(1);
    let mut rig = Rig::new(&[1, 1], ejecting(50));
    ask_bad(&mut rig, bad, ERROR, 3);
    for times in [2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10] {
        let Circuit::Open { until } = circuit(&rig, bad) else {
            panic!("not out after {times} ejections");
        };
        rig.now = until;
        ask_bad(&mut rig, bad, ERROR, 1);
        let until = rig.now + times * 10 * SECOND;
        assert_eq!(circuit(&rig, bad), Circuit::Open { until });
    }
    rig.wait(100 * SECOND);
    ask_bad(&mut rig, bad, OK, 1);
    ask_bad(&mut rig, bad, ERROR, 3);
    let until = rig.now + 10 * SECOND;
    assert_eq!(circuit(&rig, bad), Circuit::Open { until }, "a new row");
    let endpoints = rig.endpoints();
    let ejections: Vec<u64> = endpoints.iter().map(|it| it.ejections).collect();
    assert_eq!(ejections, [13, 0], "each probe that failed counts");
}

/// All fail: so many are out as may be, one at least, and never the only one.
#[test]
fn never_more_than_may_be_are_out() {
    for (count, percent, due) in [(1, 100, 0), (2, 0, 1), (2, 10, 1), (10, 30, 3), (3, 100, 3)] {
        let mut rig = Rig::new(&vec![1; count], ejecting(percent));
        for _ in 0..count * 50 {
            let mut admission = rig.admit();
            match admission.attempt(rig.now, &mut rig.seat) {
                Ok(attempt) => drop(rig.tell(&mut admission, attempt, ERROR)),
                Err(refused) => assert_eq!(refused.reason, Reason::NoEndpoint),
            }
        }
        let endpoints = rig.endpoints();
        let out = endpoints.iter().filter(|it| it.circuit != Circuit::Closed);
        assert_eq!(out.count(), due, "{percent} % of {count}");
    }
}

/// A configuration takes away those that were well: the others serve, though they are ejected.
#[test]
fn ejections_give_way_where_too_few_are_left() {
    let mut rig = Rig::new(&[1, 1, 1, 1], ejecting(50));
    ask_bad(&mut rig, port(1), ERROR, 3);
    ask_bad(&mut rig, port(2), ERROR, 3);
    rig.plan.upstreams[0].endpoints.truncate(2);
    rig.reconfigure();
    assert!(
        matches!(circuit(&rig, port(1)), Circuit::Open { .. }),
        "it lives on"
    );
    rig.ask(OK);
}
