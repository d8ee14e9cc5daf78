//! What is sent again, when, and how often.

use std::time::Duration;

use selvedge_model::{RequestPolicy, RetryBudget};
use selvedge_resilience::{Admission, Outcome, OutcomeKind, Verdict, Withheld};

use crate::rig::{ERROR, OK, Rig, retrying};

const DELIVER: Verdict = Verdict::Deliver { withheld: None };

const fn withheld(why: Withheld) -> Verdict {
    Verdict::Deliver {
        withheld: Some(why),
    }
}

fn with_retries(attempts: u8) -> RequestPolicy {
    RequestPolicy {
        retry: Some(retrying(attempts)),
        ..RequestPolicy::default()
    }
}

/// Lets one request fail so until the verdict is to deliver; the pauses before, and that verdict.
fn fail(rig: &mut Rig, kind: OutcomeKind) -> (Vec<Duration>, Verdict) {
    let mut admission = rig.admit();
    let mut pauses = Vec::new();
    loop {
        let attempt = rig.attempt(&mut admission);
        match rig.tell(&mut admission, attempt, kind) {
            Verdict::Retry { at } => {
                pauses.push(at.since(rig.now));
                rig.now = at;
            }
            last => return (pauses, last),
        }
    }
}

#[test]
fn without_a_policy_only_what_came_to_nothing_is_moved_and_at_once() {
    let cases = [
        (
            OutcomeKind::ConnectFailed,
            2,
            withheld(Withheld::AttemptsUsed),
        ),
        (OutcomeKind::Stale, 2, withheld(Withheld::AttemptsUsed)),
        (OutcomeKind::Cut, 1, withheld(Withheld::AttemptsUsed)),
        (OutcomeKind::Malformed, 0, DELIVER),
        (OutcomeKind::TimedOut, 0, DELIVER),
        (OutcomeKind::Cancelled, 0, DELIVER),
        (ERROR, 0, DELIVER),
        (OK, 0, DELIVER),
    ];
    for (kind, moves, last) in cases {
        let mut rig = Rig::new(&[1; 4], RequestPolicy::default());
        let due = vec![Duration::ZERO; moves];
        assert_eq!(fail(&mut rig, kind), (due, last), "{kind:?}");
        assert_eq!(rig.totals().moves, moves as u64, "{kind:?}");
    }
}

/// That connections came to nothing before takes nothing from a request whose endpoint dies.
#[test]
fn one_cut_is_moved_whatever_was_moved_before() {
    let mut rig = Rig::new(&[1; 4], RequestPolicy::default());
    let mut admission = rig.admit();
    let moved = [
        OutcomeKind::Stale,
        OutcomeKind::ConnectFailed,
        OutcomeKind::Cut,
    ];
    for kind in moved {
        let attempt = rig.attempt(&mut admission);
        let verdict = rig.tell(&mut admission, attempt, kind);
        assert_eq!(verdict, Verdict::Retry { at: rig.now }, "{kind:?}");
    }
    let attempt = rig.attempt(&mut admission);
    let verdict = rig.tell(&mut admission, attempt, OutcomeKind::Cut);
    assert_eq!(verdict, withheld(Withheld::AttemptsUsed));
}

#[test]
fn with_a_policy_failures_and_its_statuses_are_retried() {
    let cases = [
        (OutcomeKind::ConnectFailed, 2 + 3),
        (OutcomeKind::Stale, 2 + 3),
        (OutcomeKind::Cut, 3),
        (OutcomeKind::Malformed, 3),
        (OutcomeKind::TimedOut, 3),
        (ERROR, 3),
    ];
    for (kind, repeats) in cases {
        let mut rig = Rig::new(&[1; 4], with_retries(3));
        let (pauses, last) = fail(&mut rig, kind);
        assert_eq!(pauses.len(), repeats, "{kind:?}");
        assert_eq!(last, withheld(Withheld::AttemptsUsed), "{kind:?}");
        assert_eq!(rig.totals().withheld(Withheld::AttemptsUsed), 1);
        assert_eq!(rig.totals().retries, 3, "{kind:?}");
    }
    let other = OutcomeKind::Answered { status: 500 };
    for kind in [OK, other, OutcomeKind::Cancelled] {
        let mut rig = Rig::new(&[1; 4], with_retries(3));
        assert_eq!(fail(&mut rig, kind), (vec![], DELIVER), "{kind:?}");
    }
}

#[test]
fn what_is_not_repeatable_is_never_sent_again() {
    let mut rig = Rig::new(&[1; 4], with_retries(3));
    for kind in [OutcomeKind::ConnectFailed, OutcomeKind::Cut, ERROR] {
        let (mut admission, attempt) = rig.send();
        let outcome = Outcome {
            kind,
            repeatable: false,
        };
        let verdict = admission.on_outcome(rig.now, &mut rig.seat, attempt, outcome);
        assert_eq!(verdict, withheld(Withheld::NotRepeatable), "{kind:?}");
    }
}

#[test]
fn the_routes_policy_wins() {
    let mut rig = Rig::new(&[1; 4], with_retries(3));
    let retry = retrying(1);
    let call = selvedge_resilience::Call {
        retry: Some(&retry),
        ..crate::rig::call()
    };
    let mut admission = rig.admit_as(&call).unwrap();
    let attempt = rig.attempt(&mut admission);
    assert!(matches!(
        rig.tell(&mut admission, attempt, ERROR),
        Verdict::Retry { .. }
    ));
    let attempt = rig.attempt(&mut admission);
    let last = rig.tell(&mut admission, attempt, ERROR);
    assert_eq!(last, withheld(Withheld::AttemptsUsed));
}

/// Pauses fill the range of each retry: base x 2^(n-1), at most a second here.
#[test]
fn pauses_double_and_are_jittered_fully() {
    let mut rig = Rig::new(&[1], with_retries(6));
    let rounds: Vec<_> = (0..400).map(|_| fail(&mut rig, ERROR).0).collect();
    for (number, most) in [100, 200, 400, 800, 1000, 1000].into_iter().enumerate() {
        let most = Duration::from_millis(most);
        let pauses = rounds.iter().map(|pauses| pauses[number]);
        let (least, longest) = (pauses.clone().min().unwrap(), pauses.clone().max().unwrap());
        let mean = pauses.sum::<Duration>() / 400;
        assert!(
            longest <= most && longest > most * 9 / 10,
            "{number}: {longest:?}"
        );
        assert!(least < most / 10, "{number}: {least:?}");
        assert!(
            mean > most * 4 / 10 && mean < most * 6 / 10,
            "{number}: {mean:?}"
        );
    }
}

#[test]
fn no_retry_begins_after_the_deadline() {
    let mut policy = with_retries(200);
    policy.timeouts.request = Some(Duration::from_secs(5));
    let mut rig = Rig::new(&[1], policy);
    let began = rig.now;
    let (pauses, last) = fail(&mut rig, ERROR);
    assert_eq!(last, withheld(Withheld::Deadline));
    assert!(!pauses.is_empty() && rig.now < began + Duration::from_secs(5));
}

/// A retry goes to another endpoint while there is one, and back where there is none.
#[test]
fn a_retry_goes_elsewhere() {
    for seed in 0..50 {
        let mut rig = Rig::new(&[1, 1, 1], with_retries(3));
        rig.seat = selvedge_resilience::Seat::new(0, selvedge_model::Rng::seeded(seed));
        let mut admission = rig.admit();
        let mut ports = Vec::new();
        for _ in 0..4 {
            ports.push(try_once(&mut rig, &mut admission));
        }
        ports[..3].sort_unstable();
        ports[..3]
            .windows(2)
            .for_each(|pair| assert_ne!(pair[0], pair[1]));
    }
}

fn try_once(rig: &mut Rig, admission: &mut Admission) -> u16 {
    let attempt = rig.attempt(admission);
    let port = attempt.port().get();
    let _ = rig.tell(admission, attempt, ERROR);
    port
}

/// Asks many that all fail once, in no time, and counts the retries.
fn retries(rig: &mut Rig, requests: usize) -> u64 {
    let before = rig.totals().retries;
    for _ in 0..requests {
        let (mut admission, attempt) = rig.send();
        if let Verdict::Retry { .. } = rig.tell(&mut admission, attempt, ERROR) {
            let attempt = rig.attempt(&mut admission);
            let _ = rig.tell(&mut admission, attempt, OK);
        }
    }
    rig.totals().retries - before
}

fn budgeted(percent: u16, per_second: u16) -> Rig {
    let policy = RequestPolicy {
        retry: Some(retrying(1)),
        retry_budget: Some(RetryBudget {
            percent,
            per_second,
        }),
        ..RequestPolicy::default()
    };
    Rig::new(&[1], policy)
}

#[test]
fn the_budget_is_a_share_of_first_attempts() {
    let mut rig = budgeted(20, 0);
    assert_eq!(retries(&mut rig, 1000), 200);
    assert_eq!(rig.totals().withheld(Withheld::BudgetSpent), 800);
    assert_eq!(rig.totals().repeats_succeeded, 200);
}

#[test]
fn the_budget_earns_by_the_second_and_holds_ten_seconds() {
    let mut rig = budgeted(0, 5);
    assert_eq!(retries(&mut rig, 1000), 50);
    assert_eq!(retries(&mut rig, 1000), 0);
    rig.wait(Duration::from_secs(2));
    assert_eq!(retries(&mut rig, 1000), 10);
    rig.wait(Duration::from_secs(3600));
    assert_eq!(retries(&mut rig, 1000), 50);
}

#[test]
fn the_budget_goes_on_over_configurations() {
    let mut rig = budgeted(0, 5);
    retries(&mut rig, 1000);
    rig.reconfigure();
    assert_eq!(retries(&mut rig, 1000), 0);
}

/// What has never been worked on costs nothing.
#[test]
fn moves_are_free_of_the_budget() {
    let mut rig = budgeted(0, 0);
    let (pauses, last) = fail(&mut rig, OutcomeKind::ConnectFailed);
    assert_eq!((pauses.len(), last), (2, withheld(Withheld::BudgetSpent)));
}
