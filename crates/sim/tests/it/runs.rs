//! What holds of every run.

use std::num::NonZeroU32;
use std::time::Duration;

use selvedge_model::{Backoff, RequestPolicy, RetryPolicy};
use selvedge_scenario::{Client, Condition, Fault, Objective, Scenario, ServiceTime};
use selvedge_sim::run;

use crate::scenes::{open, scene, service};

fn retries() -> RequestPolicy {
    RequestPolicy {
        retry: Some(RetryPolicy {
            attempts: 2,
            statuses: vec![500, 503],
            backoff: Backoff::default(),
            non_idempotent: false,
        }),
        requests_per_endpoint: NonZeroU32::new(40),
        ..RequestPolicy::default()
    }
}

/// A chain with a fan-out, of which everything goes wrong that can.
fn hostile() -> Scenario {
    let time = ServiceTime::Lognormal {
        mean: Duration::from_millis(20),
        sigma: 0.8,
    };
    let mut front = service("front", 8, time);
    front.calls = vec![vec![1, 2], vec![], vec![3]];
    let mut middle = service("middle", 4, time);
    (middle.replicas, middle.queue) = (3, 10);
    middle.calls = vec![vec![3]];
    let mut scenario = scene(front, open(250.0), 20);
    scenario
        .services
        .extend([middle, service("side", 16, time), service("leaf", 24, time)]);
    scenario.clients.push(Client {
        calls: 1,
        arrivals: selvedge_scenario::Arrivals::Closed {
            users: 50,
            think: Duration::from_millis(200),
        },
        classes: Vec::new(),
    });
    scenario.objective = Objective {
        latency: Duration::from_millis(250),
        deadline: Duration::from_secs(1),
    };
    let fault = |service, replica, condition| Fault {
        from: Duration::from_secs(14),
        until: Duration::from_secs(22),
        service,
        replica,
        condition,
    };
    scenario.faults = vec![
        fault(
            1,
            Some(0),
            Condition {
                slow: 10.0,
                ..Condition::default()
            },
        ),
        fault(
            1,
            Some(1),
            Condition {
                errors: 0.3,
                ..Condition::default()
            },
        ),
        fault(
            2,
            None,
            Condition {
                permits: Some(0),
                ..Condition::default()
            },
        ),
        fault(
            3,
            None,
            Condition {
                extra: Duration::from_millis(150),
                ..Condition::default()
            },
        ),
    ];
    scenario
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_another() {
    let scenario = hostile();
    let once = |seed| format!("{:?}", run(&scenario, &retries(), seed).unwrap());
    let first = once(1);
    assert_eq!(first, once(1));
    assert_ne!(first, once(2));
}

/// Whatever goes wrong, each request has one end, and whatever its clients ask is asked under every policy.
#[test]
fn every_request_has_one_end() {
    let scenario = hostile();
    let open_alone = |mut scenario: Scenario| {
        scenario.clients.truncate(1);
        scenario
    };
    for seed in 0..8 {
        let report = run(&scenario, &retries(), seed).unwrap();
        for second in &report.seconds {
            let ends = [
                second.good,
                second.late,
                second.refused,
                second.failed,
                second.expired,
            ];
            assert_eq!(ends.iter().sum::<u64>(), second.offered, "seed {seed}");
        }
        let all = report.total();
        assert!(
            [all.good, all.late, all.refused, all.failed, all.expired]
                .iter()
                .all(|it| *it > 0),
            "{all:?}"
        );
        let offered = |policy| {
            let report = run(&open_alone(hostile()), policy, seed).unwrap();
            report
                .seconds
                .iter()
                .map(|it| it.offered)
                .collect::<Vec<_>>()
        };
        assert_eq!(offered(&retries()), offered(&RequestPolicy::default()));
    }
}

/// What nobody can use is not done at once, but all that fits is.
#[test]
fn a_service_carries_its_capacity_and_no_more() {
    let time = ServiceTime::Exponential(Duration::from_millis(20));
    let mut narrow = service("a", 8, time);
    narrow.queue = 16;
    let scenario = scene(narrow, open(800.0), 60);
    let all = run(&scenario, &RequestPolicy::default(), 1)
        .unwrap()
        .total();
    let carried = all.good as f64 / 60.0;
    let capacity = scenario.capacity(Duration::from_secs(20)).unwrap();
    assert_eq!(capacity, 400.0);
    assert!((carried / capacity - 1.0).abs() < 0.03, "{carried}");
    assert_eq!(all.good + all.failed, all.offered, "{all:?}");
}

#[test]
fn what_cannot_be_run_is_refused_by_field() {
    type Spoil = fn(&mut Scenario);
    let cases: [(Spoil, &str); 13] = [
        (|it| it.length = Duration::ZERO, "length"),
        (|it| it.warm_up = it.length, "warmUp"),
        (
            |it| it.objective.deadline = Duration::ZERO,
            "objective.deadline",
        ),
        (|it| it.services.clear(), "services"),
        (
            |it| it.services[1].name = "front".to_owned(),
            "services[1].name",
        ),
        (|it| it.services[1].permits = 0, "services[1].permits"),
        (
            |it| it.services[3].calls = vec![vec![0]],
            "services[3].calls",
        ),
        (
            |it| it.services[0].calls = vec![vec![9]],
            "services[0].calls",
        ),
        (|it| it.clients[0].calls = 4, "clients[0].calls"),
        (
            |it| it.services[0].calls = vec![vec![1; 20_000]],
            "clients[0].calls",
        ),
        (
            |it| it.clients[0].arrivals = open(f64::NAN),
            "clients[0].rates",
        ),
        (|it| it.faults[0].replica = Some(3), "faults[0].replica"),
        (|it| it.faults[1].condition.errors = 1.5, "faults[1].errors"),
    ];
    for (spoil, field) in cases {
        let mut scenario = hostile();
        spoil(&mut scenario);
        let error = run(&scenario, &RequestPolicy::default(), 1).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }
}
