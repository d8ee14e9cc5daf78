//! What happens when, to the nanosecond: services of fixed times, and a request or two.

use std::time::Duration;

use selvedge_model::{Backoff, RequestPolicy, RetryPolicy, Timeouts};
use selvedge_scenario::{Arrivals, Condition, Crowd, Fault, Scenario, Service, ServiceTime};
use selvedge_sim::{Policy, Second, run};

use crate::scenes::{scene, service};

const WORK: Duration = Duration::from_millis(20);

/// One user who asks, on average every second, for a minute.
fn lone(service: Service) -> Scenario {
    let users = vec![Crowd {
        from: Duration::ZERO,
        users: 1,
    }];
    let think = Duration::from_secs(1);
    scene(service, Arrivals::Closed { users, think }, 60)
}

fn fixed(name: &str) -> Service {
    service(name, 1, ServiceTime::Fixed(WORK))
}

fn throughout(condition: Condition) -> Fault {
    Fault {
        from: Duration::ZERO,
        until: Duration::from_secs(3600),
        service: 0,
        replica: None,
        condition,
    }
}

fn total(scenario: &Scenario, policy: &RequestPolicy) -> Second {
    let total = run(scenario, &policy.clone().into(), 1).unwrap().total();
    assert!(total.offered > 30, "{total:?}");
    total
}

fn mean(second: &Second) -> Duration {
    Duration::from_micros(second.latency_us.sum() / second.good)
}

fn retrying(statuses: &[u16], attempt: Option<Duration>) -> RequestPolicy {
    RequestPolicy {
        timeouts: Timeouts {
            request: None,
            attempt,
        },
        retry: Some(RetryPolicy {
            attempts: 1,
            statuses: statuses.to_vec(),
            backoff: Backoff {
                least: Duration::ZERO,
                base: Duration::ZERO,
                most: Duration::ZERO,
            },
            non_idempotent: false,
        }),
        ..RequestPolicy::default()
    }
}

#[test]
fn work_slowness_and_what_comes_on_top_add_up() {
    let mut scenario = lone(fixed("a"));
    let none = RequestPolicy::default();
    assert_eq!(mean(&total(&scenario, &none)), WORK);
    let extra = Duration::from_millis(7);
    let condition = Condition {
        slow: 3.0,
        extra,
        ..Condition::default()
    };
    scenario.faults = vec![throughout(condition)];
    assert_eq!(mean(&total(&scenario, &none)), WORK * 3 + extra);
}

/// The first attempt is answered 30 ms after it was given up, when the second is under way: that is not its
/// answer.
#[test]
fn an_answer_to_what_was_given_up_is_nobodys() {
    let mut scenario = lone(service("a", 2, ServiceTime::Fixed(WORK * 4)));
    scenario.objective.deadline = Duration::from_secs(1);
    scenario.objective.latency = Duration::from_secs(1);
    let given_up = Duration::from_millis(50);
    let total = total(&scenario, &retrying(&[], Some(given_up)));
    assert_eq!((total.good, total.expired), (0, total.offered), "{total:?}");
    assert_eq!(total.attempts, 2 * total.offered);
}

#[test]
fn errors_are_answered_500_and_failures_of_calls_503() {
    let mut scenario = lone(fixed("a"));
    let condition = Condition {
        errors: 1.0,
        ..Condition::default()
    };
    scenario.faults = vec![throughout(condition)];
    let attempts = |scenario: &Scenario, statuses: &[u16]| {
        let total = total(scenario, &retrying(statuses, None));
        assert_eq!(total.failed, total.offered);
        total.attempts / total.offered
    };
    // A budget of a hundred is more than sixty need.
    assert_eq!(attempts(&scenario, &[500]), 2);
    assert_eq!(attempts(&scenario, &[503]), 1);
    // Its caller answers 503 then, and makes no further step.
    let mut front = fixed("front");
    front.calls = vec![vec![1], vec![2]];
    scenario.services = vec![front, fixed("a"), fixed("b")];
    scenario.faults[0].service = 1;
    assert_eq!(attempts(&scenario, &[404]), 2, "front, and a in vain");
}

/// Who comes first is served first: the second of two who come at once waits for the first, and nobody
/// for the third.
#[test]
fn those_who_wait_are_served_in_their_order() {
    let mut front = fixed("front");
    front.calls = vec![vec![1, 1, 1]];
    let mut scenario = lone(front);
    scenario.services.push(fixed("a"));
    let none = RequestPolicy::default();
    // Its own work, and then three behind each other.
    assert_eq!(mean(&total(&scenario, &none)), WORK * 4);
    scenario.services[1].queue = 1;
    let total = total(&scenario, &none);
    assert_eq!(total.failed, total.offered, "the third finds no room");
}

#[test]
fn who_is_one_too_many_leaves_instead_of_asking() {
    let mut scenario = lone(fixed("a"));
    let crowd = |from, users| Crowd {
        from: Duration::from_secs(from),
        users,
    };
    scenario.clients[0].arrivals = Arrivals::Closed {
        users: vec![crowd(0, 100), crowd(20, 0)],
        think: Duration::from_secs(30),
    };
    let report = run(&scenario, &Policy::default(), 1).unwrap();
    let later: u64 = report.seconds[20..].iter().map(|it| it.offered).sum();
    assert_eq!(later, 0);
}
