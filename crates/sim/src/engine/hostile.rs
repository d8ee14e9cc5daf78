//! Claim: whatever goes wrong, gates and world agree after every step: what is in flight for the one is under way
//! in the other. 64 worlds drawn at random, by fixed seeds.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;

use selvedge_model::{Backoff, Ejection, RequestPolicy, RetryPolicy, Rng, Timeouts, Urgency};
use selvedge_resilience::{BalanceLaw, GradientSettings, RetryLaw, Terms};
use selvedge_scenario::{
    Arrivals, Class, Client, Condition, Crowd, Fault, Forwards, Objective, Rate, Scenario, Service,
    ServiceTime,
};

use super::{Call, Engine, Visit, is_of};
use crate::door::Doorman;
use crate::policy::{Policy, Shares, Stands, Steering};

fn millis(rng: &mut Rng, from: u32, to: u32) -> Duration {
    Duration::from_millis(u64::from(from + rng.below(to - from)))
}

/// Up to five services, of which each calls some of those behind it, and up to three faults in a second.
/// Where `is_tree`, none is called by two.
fn world(rng: &mut Rng, is_tree: bool) -> Scenario {
    let count = 1 + rng.below(5) as usize;
    let service = |place: usize, rng: &mut Rng| {
        let steps = match (is_tree, place + 1 < count) {
            (_, false) => vec![],
            (true, true) => vec![vec![place + 1]],
            (false, true) => {
                let steps = 0..rng.below(3);
                let step = |rng: &mut Rng| {
                    let behind = (count - place - 1) as u32;
                    let called = |rng: &mut Rng| place + 1 + rng.below(behind) as usize;
                    (0..rng.below(3)).map(|_| called(rng)).collect()
                };
                steps.map(|_| step(rng)).collect()
            }
        };
        Service {
            name: format!("{place}"),
            replicas: 1 + rng.below(3),
            permits: 1 + rng.below(6),
            queue: rng.below(12),
            time: ServiceTime::Lognormal {
                mean: millis(rng, 1, 30),
                sigma: 1.0,
            },
            calls: steps,
            forwards: match rng.below(4) {
                0 => Forwards::Nothing,
                _ => Forwards::Traces,
            },
            link: None,
        }
    };
    let services: Vec<Service> = (0..count).map(|place| service(place, rng)).collect();
    let length = Duration::from_secs(2);
    let fault = |rng: &mut Rng| {
        let service = rng.below(count as u32) as usize;
        let from = millis(rng, 100, 900);
        Fault {
            from,
            until: from + millis(rng, 50, 400),
            service,
            replica: (rng.below(2) == 0).then(|| rng.below(services[service].replicas)),
            condition: match rng.below(5) {
                0 => Condition {
                    permits: Some(rng.below(2)),
                    ..Condition::default()
                },
                1 => Condition {
                    slow: 20.0,
                    ..Condition::default()
                },
                2 => Condition {
                    absent: true,
                    ..Condition::default()
                },
                3 => Condition {
                    extra: millis(rng, 1, 80),
                    ..Condition::default()
                },
                _ => Condition {
                    errors: 0.5,
                    ..Condition::default()
                },
            },
        }
    };
    let faults = (0..rng.below(4)).map(|_| fault(rng)).collect();
    let rates = vec![Rate {
        from: Duration::ZERO,
        per_second: f64::from(20 + rng.below(300)),
    }];
    let crowd = |from, users| Crowd {
        from: Duration::from_millis(from),
        users,
    };
    let users = Arrivals::Closed {
        users: vec![
            crowd(0, 1 + rng.below(20)),
            crowd(500, rng.below(40)),
            crowd(1000, rng.below(5)),
        ],
        think: millis(rng, 1, 100),
    };
    let client = |arrivals, urgency| Client {
        calls: 0,
        urgency,
        arrivals,
        classes: vec![
            Class {
                share: 9.0,
                work: 0.5,
            },
            Class {
                share: 1.0,
                work: 5.0,
            },
        ],
    };
    Scenario {
        name: String::new(),
        about: String::new(),
        length,
        warm_up: Duration::ZERO,
        objective: Objective {
            latency: Duration::from_millis(50),
            deadline: millis(rng, 60, 400),
        },
        faults,
        agent_away: None,
        services,
        clients: vec![
            client(Arrivals::Open(rates), Urgency::default()),
            client(users, Urgency::LEAST),
        ],
    }
}

fn policy(rng: &mut Rng) -> Policy {
    let request = RequestPolicy {
        timeouts: Timeouts {
            request: None,
            attempt: (rng.below(2) == 0).then(|| millis(rng, 5, 100)),
        },
        retry: (rng.below(3) > 0).then(|| RetryPolicy {
            attempts: 1 + rng.below(3) as u8,
            statuses: vec![500, 503],
            backoff: Backoff::default(),
            non_idempotent: false,
        }),
        requests_per_endpoint: NonZeroU32::new(rng.below(12)),
        ejection: (rng.below(2) == 0).then(|| Ejection {
            consecutive_failures: NonZeroU16::MIN,
            duration: millis(rng, 10, 200),
            most_percent: 60,
        }),
        ..RequestPolicy::default()
    };
    let retries = match rng.below(2) {
        0 => RetryLaw::Budget,
        _ => RetryLaw::Headroom,
    };
    let balance = match rng.below(2) {
        0 => BalanceLaw::LeastRequest,
        _ => BalanceLaw::LeastTime,
    };
    let mut steering = |terms| match rng.below(4) {
        0 => Steering::Adaptive(terms),
        1 => Steering::Gradient(GradientSettings::default()),
        _ => Steering::Static,
    };
    Policy {
        request,
        balance,
        hedges: balance == BalanceLaw::LeastTime,
        retries,
        limit: steering(Terms::ENDPOINT),
        entry: steering(Terms::ENTRY),
        stands: match rng.below(3) {
            0 => Stands::BehindBalancing,
            _ => Stands::BeforeBalancing,
        },
        shares: match rng.below(3) {
            0 => Shares::Known,
            1 => Shares::Whole,
            _ => Shares::Planned,
        },
        retunes: rng.below(4) == 0,
        door: match rng.below(8) {
            0 => Doorman::Dagor,
            1 => Doorman::Breakwater,
            2 => Doorman::SuccessRatio,
            _ => Doorman::None,
        },
    }
}

impl Engine<'_> {
    /// The call that this visit is for still waits for it.
    fn is_waited_for(&self, visit: &Visit) -> bool {
        let call = self.calls.look(visit.call);
        call.is_some_and(|call| {
            is_of(&call.attempt, visit.attempt) || is_of(&call.beside, visit.attempt)
        })
    }

    /// What must hold after every step.
    fn check(&self, is_tree: bool, has_timeouts: bool) {
        let reading = self.mesh.node.reading(self.now);
        let may_go = self.scenario.faults.iter().any(|it| it.condition.absent);
        let is_static = matches!(self.policy.limit, Steering::Static);
        let limit = reading.upstreams.first().filter(|_| is_static);
        let limit = limit.and_then(|upstream| upstream.limit);
        for (service, stations) in self.stations.iter().enumerate() {
            for (replica, station) in stations.iter().enumerate() {
                let is_here = |place: usize, at: u32| place == service && at as usize == replica;
                let attempts = |call: &Call| {
                    let both = [&call.attempt, &call.beside].into_iter().flatten();
                    let replicas = both.map(|(_, it)| crate::mesh::replica(it.port()));
                    replicas.filter(|at| is_here(call.service, *at)).count() as u32
                };
                let under_way: u32 = self.calls.iter().map(attempts).sum();
                let mut endpoints = reading.upstreams[service].endpoints.iter();
                let endpoint =
                    endpoints.find(|it| crate::mesh::replica(it.port) as usize == replica);
                // One that is away and has nothing is forgotten.
                let in_flight = endpoint.map_or(0, |endpoint| endpoint.in_flight);
                // A call that was admitted before it went may still try it, and is counted where it was
                // admitted.
                assert!(
                    in_flight == under_way || may_go && in_flight < under_way,
                    "into {service}.{replica}: {in_flight}, not {under_way}"
                );
                assert!(may_go || limit.is_none_or(|limit| under_way <= limit));

                let (busy, waiting) = station.load();
                let scenario = &self.scenario.services[service];
                assert!(busy <= scenario.permits);
                assert!(waiting <= scenario.queue as usize);
                let here = || {
                    self.visits
                        .iter()
                        .filter(|it| is_here(it.service, it.replica))
                };
                let calling = || here().filter(|visit| visit.waits_for > 0);
                assert_eq!(busy as usize + waiting + calling().count(), here().count());

                // What it works on itself, as whoever limits it must know.
                let workload = &reading.workloads[self.workload(service) + replica];
                assert_eq!(workload.in_flight, in_flight);
                assert!(workload.own() <= in_flight);
                if is_tree && !has_timeouts && !may_go {
                    let calling = calling().filter(|visit| self.is_waited_for(visit));
                    assert_eq!(workload.own(), under_way - calling.count() as u32);
                }
            }
        }
    }

    /// The place of a service's first replica among workloads.
    fn workload(&self, service: usize) -> usize {
        self.stations[..service].iter().map(Vec::len).sum()
    }
}

#[test]
fn gates_and_world_agree_after_every_step() {
    let mut ends = [0u64; 5];
    for seed in 0..64 {
        let mut rng = Rng::seeded(seed);
        let is_tree = seed % 2 == 0;
        let (mut scenario, mut policy) = (world(&mut rng, is_tree), policy(&mut rng));
        let has_timeouts = seed % 4 != 0;
        if !has_timeouts {
            scenario.objective.deadline = Scenario::MOST_LENGTH;
            policy.request.timeouts = Timeouts::default();
            policy.retunes = false;
            // What is overtaken goes on to call others.
            policy.hedges = false;
        }
        scenario.check().expect("it is drawn within bounds");
        let mut engine = Engine::new(&scenario, &policy, seed);
        engine.begin();
        while engine.step(&mut |_, _| {}) {
            engine.check(is_tree, has_timeouts);
        }
        assert_eq!(engine.calls.iter().count(), 0, "seed {seed}");
        assert_eq!(engine.visits.iter().count(), 0, "seed {seed}");
        for second in &engine.report.seconds {
            let of = [
                second.good,
                second.late,
                second.refused,
                second.failed,
                second.expired,
            ];
            assert_eq!(of.iter().sum::<u64>(), second.offered, "seed {seed}");
            ends = core::array::from_fn(|place| ends[place] + of[place]);
        }
    }
    assert!(ends.iter().all(|count| *count > 100), "{ends:?}");
}
