//! Worlds drawn at random in which one thing after another goes wrong, to see that none stays broken: whatever
//! happened, once it is over and load is what can be carried, requests are answered in time again.

use std::ops::Range;
use std::time::Duration;

use selvedge_model::{Rng, Urgency};
use selvedge_scenario::{
    Arrivals, Client, Condition, Fault, Forwards, Objective, Rate, Scenario, Service, ServiceTime,
};
use selvedge_sim::{NamedPolicy, Policy, Report, run};

use crate::parallel;

/// Services of a world.
const SERVICES: usize = 11;
/// Requests a second that one carries at least and at most, so that a run has an end.
const CAPACITY: Range<f64> = 60.0..150.0;
/// Each trouble has this long to come, go and be over.
const EPISODE: Duration = Duration::from_secs(60);
const EPISODES: u32 = 10;
/// Before the first one.
const WARM_UP: Duration = Duration::from_secs(20);
/// Requests that tell the tail without load.
const IDLE_LENGTH: Duration = Duration::from_secs(400);

/// A world under a policy.
#[derive(Clone, Debug)]
pub struct ChaosRow {
    /// The world's number.
    pub world: u64,
    /// The policy's name.
    pub policy: &'static str,
    /// Good answers of those possible, in all.
    pub goodput: f64,
    /// From the end of each trouble to the first of five seconds that are well; `None` where the next one came first.
    pub recoveries: Vec<Option<Duration>>,
}

/// The world of a number: services that call each other, asked by one client, and what goes wrong.
pub(crate) fn world(number: u64) -> Scenario {
    let mut draw = Draw(Rng::seeded(number ^ 0x63_6861_6f73));
    let mut scenario = Scenario {
        name: format!("chaos-{number}"),
        about: "services drawn at random, and one trouble after another".to_owned(),
        length: IDLE_LENGTH,
        warm_up: Duration::ZERO,
        objective: Objective {
            latency: Duration::from_secs(1),
            deadline: Duration::from_secs(60),
        },
        services: services(&mut draw),
        clients: Vec::new(),
        faults: Vec::new(),
        agent_away: None,
    };
    let client = |rates| Client {
        calls: 0,
        urgency: Urgency::default(),
        arrivals: Arrivals::Open(rates),
        classes: Vec::new(),
    };
    scenario.clients = vec![client(Vec::new())];
    fit_permits(&mut scenario, draw.between(CAPACITY));
    let capacity = scenario.capacity(Duration::ZERO).unwrap_or_default();
    let rate = |from, per_second| Rate { from, per_second };
    scenario.clients = vec![client(vec![rate(Duration::ZERO, 0.05 * capacity)])];
    let latency = 2 * idle_tail(&scenario);
    scenario.objective = Objective {
        latency,
        deadline: 8 * latency,
    };
    let base = draw.between(0.5..0.75) * capacity;
    let mut rates = vec![rate(Duration::ZERO, base)];
    for episode in 0..EPISODES {
        let from = WARM_UP + EPISODE * episode + draw.time(0.0..10.0);
        let until = from + draw.time(5.0..25.0);
        match draw.below(7) {
            0 | 1 => {
                rates.push(rate(from, base * draw.between(1.5..3.5)));
                rates.push(rate(until, base));
            }
            _ => {
                let fault = fault(&mut draw, &scenario.services, from..until);
                scenario.faults.push(fault);
            }
        }
    }
    scenario.clients = vec![client(rates)];
    scenario.warm_up = WARM_UP;
    scenario.length = WARM_UP + EPISODE * EPISODES;
    scenario
}

fn services(draw: &mut Draw) -> Vec<Service> {
    let mut services: Vec<Service> = (0..SERVICES)
        .map(|place| Service {
            name: format!("s{place}"),
            replicas: 1 + draw.below(3),
            permits: 1,
            queue: 4096,
            time: ServiceTime::Lognormal {
                mean: Duration::from_secs_f64(0.002 * 15f64.powf(draw.unit())),
                sigma: draw.between(0.3..1.0),
            },
            calls: Vec::new(),
            forwards: Forwards::default(),
            link: None,
        })
        .collect();
    // Each is called by one that stands before it, at once with what that called last or after it.
    for called in 1..SERVICES {
        let caller = draw.below(called as u32) as usize;
        let steps = &mut services[caller].calls;
        match steps.last_mut() {
            Some(step) if draw.below(2) == 0 => step.push(called),
            _ => steps.push(vec![called]),
        }
    }
    services
}

/// Gives each service what carries so many requests a second, and up to twice as much to all but one.
fn fit_permits(scenario: &mut Scenario, capacity: f64) {
    for (place, service) in scenario.services.iter_mut().enumerate() {
        let spare = 1.0 + (place * 7 % SERVICES) as f64 / SERVICES as f64;
        let of_one = 1.0 / service.time.mean().as_secs_f64();
        let wanted = spare * capacity / of_one / f64::from(service.replicas);
        service.permits = (wanted.ceil() as u32).max(1);
    }
}

/// The 95th percentile of whole answers at a twentieth of what is carried.
fn idle_tail(scenario: &Scenario) -> Duration {
    let report = run(scenario, &Policy::default(), 1).expect("it is made to be run");
    let tail_us = report.total().latency_us.quantile(95, 100).unwrap_or(1000);
    Duration::from_micros(tail_us)
}

fn fault(draw: &mut Draw, services: &[Service], when: Range<Duration>) -> Fault {
    let service = draw.below(SERVICES as u32) as usize;
    let replicas = services[service].replicas;
    let replica = (replicas > 1 && draw.below(2) == 0).then(|| draw.below(replicas));
    let left = f64::from(services[service].permits) * draw.between(0.1..0.6);
    let usual = Condition::default();
    let condition = match draw.below(5) {
        0 => Condition {
            permits: Some((left as u32).max(1)),
            ..usual
        },
        1 => Condition {
            slow: draw.between(2.0..10.0),
            ..usual
        },
        2 => Condition {
            errors: draw.between(0.1..1.0),
            ..usual
        },
        3 => Condition {
            extra: draw.time(0.05..0.5),
            ..usual
        },
        // Away, where another is left.
        _ => Condition {
            absent: replica.is_some(),
            slow: 3.0,
            ..usual
        },
    };
    Fault {
        from: when.start,
        until: when.end,
        service,
        replica,
        condition,
    }
}

/// Chance, as a world needs it.
struct Draw(Rng);

impl Draw {
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, range: Range<f64>) -> f64 {
        range.start + self.unit() * (range.end - range.start)
    }

    /// To the millisecond.
    fn time(&mut self, seconds: Range<f64>) -> Duration {
        Duration::from_millis((1000.0 * self.between(seconds)) as u64)
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.0.below(bound)
    }
}

/// Runs the worlds of these numbers under each policy, and tells `progress` after each run how many are done. After
/// SIGINT, SIGTERM or SIGHUP none is begun any more; those that are done are given.
///
/// # Errors
/// Where signals cannot be watched.
pub fn chaos(
    numbers: Range<u64>,
    policies: &[&'static NamedPolicy],
    progress: impl Fn(usize) + Sync,
) -> anyhow::Result<Vec<ChaosRow>> {
    let worlds = usize::try_from(numbers.end.saturating_sub(numbers.start))?;
    parallel::each(worlds * policies.len(), progress, |index| {
        let number = numbers.start + (index / policies.len()) as u64;
        let policy = policies[index % policies.len()];
        let scenario = world(number);
        let report = run(&scenario, &policy.policy(), number).expect("it is made to be run");
        ChaosRow {
            world: number,
            policy: policy.name,
            goodput: report.verdict(&scenario).goodput,
            recoveries: recoveries(&scenario, &report),
        }
    })
}

/// By the end of each trouble.
fn recoveries(scenario: &Scenario, report: &Report) -> Vec<Option<Duration>> {
    const WELL: usize = 5;
    let faults = scenario.faults.iter().map(|fault| fault.until);
    // A surge has a beginning and an end.
    let changes = scenario.clients.iter().flat_map(|it| it.arrivals.changes());
    let mut ends: Vec<Duration> = changes.skip(1).step_by(2).chain(faults).collect();
    ends.sort_unstable();
    let is_well = |from: usize| {
        let seconds = &report.seconds[from..from + WELL];
        let good: u64 = seconds.iter().map(|second| second.good).sum();
        let offered: u64 = seconds.iter().map(|second| second.offered).sum();
        good as f64 >= 0.9 * offered as f64
    };
    let after = |end: Duration| {
        let episode = (end - WARM_UP).as_secs() / EPISODE.as_secs();
        let next = WARM_UP + EPISODE * (episode as u32 + 1);
        let first = end.as_secs_f64().ceil() as usize;
        let mut starts = first..(next.as_secs() as usize + 1).saturating_sub(WELL);
        let well = starts.find(|start| is_well(*start))?;
        Some(Duration::from_secs((well - first) as u64))
    };
    ends.into_iter().map(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_can_be_run_and_differ() {
        for number in 1..30 {
            let scenario = world(number);
            assert_eq!(scenario.check(), Ok(()), "{number}");
            assert_eq!(scenario, world(number));
            let capacity = scenario.capacity(Duration::ZERO).unwrap();
            assert!(capacity >= CAPACITY.start, "{number}: {capacity}");
            let report = Report::new(&scenario);
            let episodes = recoveries(&scenario, &report);
            assert_eq!(episodes.len(), EPISODES as usize, "{number}");
        }
        assert_ne!(world(1).services, world(2).services);
    }

    #[test]
    fn what_comes_back_before_the_next_trouble_is_not_stuck() {
        let scenario = world(1);
        let mut report = Report::new(&scenario);
        let is_quiet = |at: usize| (at + 20 - WARM_UP.as_secs() as usize) % 60 >= 58;
        for (at, second) in report.seconds.iter_mut().enumerate() {
            second.offered = 100;
            second.good = if at >= 600 || is_quiet(at) { 95 } else { 50 };
        }
        let recoveries = recoveries(&scenario, &report);
        let (last, others) = recoveries.split_last().unwrap();
        assert!(others.iter().all(Option::is_none), "{recoveries:?}");
        assert!(last.is_some());
    }
}
