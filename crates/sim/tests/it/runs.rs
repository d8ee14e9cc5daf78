//! What holds of every run.

use std::num::NonZeroU32;
use std::time::Duration;

use selvedge_model::{Backoff, RequestPolicy, RetryPolicy, Urgency};
use selvedge_scenario::{
    Arrivals, Client, Condition, Crowd, Fault, Forwards, Objective, Scenario, ServiceTime,
};
use selvedge_sim::{Policy, run};

use crate::scenes::{open, scene, service};

fn retries() -> Policy {
    let request = RequestPolicy {
        retry: Some(RetryPolicy {
            attempts: 2,
            statuses: vec![500, 503],
            backoff: Backoff::default(),
            non_idempotent: false,
        }),
        requests_per_endpoint: NonZeroU32::new(40),
        ..RequestPolicy::default()
    };
    request.into()
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
        urgency: Urgency::default(),
        arrivals: Arrivals::Closed {
            users: vec![Crowd {
                from: Duration::ZERO,
                users: 50,
            }],
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
        assert_eq!(offered(&retries()), offered(&Policy::default()));
    }
}

/// What nobody can use is not done at once, but all that fits is.
#[test]
fn a_service_carries_its_capacity_and_no_more() {
    let time = ServiceTime::Exponential(Duration::from_millis(20));
    let mut narrow = service("a", 8, time);
    narrow.queue = 16;
    let scenario = scene(narrow, open(800.0), 60);
    let all = run(&scenario, &Policy::default(), 1).unwrap().total();
    let carried = all.good as f64 / 60.0;
    let capacity = scenario.capacity(Duration::from_secs(20)).unwrap();
    assert_eq!(capacity, 400.0);
    assert!((carried / capacity - 1.0).abs() < 0.03, "{carried}");
    assert_eq!(all.good + all.failed, all.offered, "{all:?}");
}

#[test]
fn what_cannot_be_run_is_refused_by_field() {
    type Spoil = fn(&mut Scenario);
    let cases: [(Spoil, &str); 17] = [
        (|it| it.length = Duration::ZERO, "length"),
        (|it| it.warm_up = it.length, "warmUp"),
        (|it| it.warm_up = Duration::from_millis(1200), "warmUp"),
        (|it| it.services[2].queue = u32::MAX, "services[2].queue"),
        (
            |it| {
                it.clients[0].arrivals = open(2e6);
                it.objective.deadline = Duration::from_secs(10);
            },
            "clients",
        ),
        (
            |it| it.faults[1].from = Duration::from_secs(60),
            "faults[1].from",
        ),
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
            "clients[0].open",
        ),
        (|it| it.faults[0].replica = Some(3), "faults[0].replica"),
        (|it| it.faults[1].condition.errors = 1.5, "faults[1].errors"),
    ];
    for (spoil, field) in cases {
        let mut scenario = hostile();
        spoil(&mut scenario);
        let error = run(&scenario, &Policy::default(), 1).err();
        assert_eq!(error.map(|it| it.field).as_deref(), Some(field));
    }
}

/// Users come and go by the schedule, and one that waits for its answer has it first.
#[test]
fn a_crowd_follows_its_schedule() {
    let time = ServiceTime::Exponential(Duration::from_millis(1));
    let crowd = |from, users| Crowd {
        from: Duration::from_secs(from),
        users,
    };
    let users = Arrivals::Closed {
        users: vec![crowd(0, 100), crowd(20, 1000), crowd(40, 0)],
        think: Duration::from_secs(1),
    };
    let mut scenario = scene(service("a", 64, time), users, 50);
    scenario.length = Duration::from_secs(60);
    let report = run(&scenario, &Policy::default(), 1).unwrap();
    let offered = |range: std::ops::Range<usize>| {
        let seconds = report.seconds[range.clone()].iter();
        seconds.map(|it| it.offered).sum::<u64>() as f64 / range.len() as f64
    };
    assert!((offered(5..20) / 100.0 - 1.0).abs() < 0.1);
    assert!((offered(25..40) / 1000.0 - 1.0).abs() < 0.05);
    assert_eq!(offered(55..60), 0.0);
}

/// A replica that is away is asked nothing, and serves again when it is back.
#[test]
fn replicas_come_and_go() {
    let time = ServiceTime::Exponential(Duration::from_millis(20));
    let mut pair = service("a", 8, time);
    pair.replicas = 2;
    let mut scenario = scene(pair, open(600.0), 50);
    scenario.objective.latency = Duration::from_millis(200);
    scenario.objective.deadline = Duration::from_secs(1);
    scenario.faults = vec![Fault {
        from: Duration::from_secs(20),
        until: Duration::from_secs(40),
        service: 0,
        replica: Some(1),
        condition: Condition {
            absent: true,
            ..Condition::default()
        },
    }];
    let verdict = run(&scenario, &retries(), 1).unwrap().verdict(&scenario);
    // Half of what is asked for can be had meanwhile, and within the limit it is had.
    assert_eq!(scenario.capacity(Duration::from_secs(30)), Some(400.0));
    assert!(verdict.goodput_disturbed.unwrap() > 0.9, "{verdict:?}");
    assert!(
        verdict.goodput > 0.95 && verdict.recovery.is_some(),
        "{verdict:?}"
    );
}

/// Two tries are for all that a request of a client leads to where the trace is passed on, and for each hop where
/// it is not.
#[test]
fn tries_are_shared_by_what_a_trace_joins() {
    let time = ServiceTime::Fixed(Duration::from_millis(5));
    let mut front = service("front", 50, time);
    front.calls = vec![vec![1]];
    let mut scenario = scene(front, open(50.0), 20);
    let mut middle = service("middle", 50, time);
    middle.calls = vec![vec![2]];
    scenario
        .services
        .extend([middle, service("leaf", 50, time)]);
    scenario.faults.push(Fault {
        from: Duration::from_secs(2),
        until: Duration::from_secs(20),
        service: 2,
        replica: None,
        condition: Condition {
            errors: 1.0,
            ..Condition::default()
        },
    });
    let adaptive = selvedge_sim::NamedPolicy::find("adaptive")
        .unwrap()
        .policy();
    let attempts = |scenario: &Scenario| {
        let report = run(scenario, &adaptive, 1).unwrap();
        report.verdict(scenario).attempts
    };
    let joined = attempts(&scenario);
    for service in &mut scenario.services {
        service.forwards = Forwards::Nothing;
    }
    let alone = attempts(&scenario);
    assert!(joined > 3.5 && alone > 1.5 * joined, "{joined} {alone}");
}
