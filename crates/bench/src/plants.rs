//! Services drawn at random, to see that nothing is tuned to some: one set of parameters meets services from
//! 0.2 ms to 2 s and from one permit to 256, alike and mixed requests, steps, surges and lost capacity.

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use selvedge_model::{RequestPolicy, Rng, Urgency};
use selvedge_scenario::{
    Arrivals, Class, Client, Condition, Fault, Forwards, Objective, Rate, Scenario, Service,
    ServiceTime,
};
use selvedge_sim::{NamedPolicy, Policy, run};

use crate::parallel;

/// The static limits that an oracle chooses from, and none.
pub const GRID: [u32; 20] = [
    1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
];

/// Most requests a second that a plant carries, so that a run has an end.
const MOST_CAPACITY: f64 = 5000.0;
/// Draws that tell the tail without load.
const DRAWS: usize = 4000;

/// What became of one plant.
#[derive(Clone, Debug)]
pub struct PlantRow {
    /// Its number.
    pub plant: u64,
    /// By policy, in the order they were asked for.
    pub policies: Vec<PlantFigures>,
    /// By limit of [`GRID`], and without one.
    pub statics: Vec<PlantFigures>,
}

/// How a policy did at a plant.
#[derive(Clone, Copy, Debug)]
pub struct PlantFigures {
    /// Good answers of those possible.
    pub goodput: f64,
    /// The same of the last quarter, when whatever was wrong has been over for a while.
    pub after: f64,
}

impl PlantRow {
    /// The best static limit's.
    pub fn oracle(&self) -> PlantFigures {
        let best = self.statics.iter().copied();
        let best = best.reduce(|one, other| {
            if other.goodput > one.goodput {
                other
            } else {
                one
            }
        });
        best.expect("the grid is not empty")
    }
}

/// The plant of a number: a service of one replica, and who asks it.
pub fn plant(number: u64) -> Scenario {
    let mut rng = Rng::seeded(number ^ 0x0070_6c61_6e74);
    let mut unit = move || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let between = |unit: f64, from: f64, to: f64| from + unit * (to - from);
    let log_between = |unit: f64, from: f64, to: f64| from * (to / from).powf(unit);
    let classes = classes(&mut unit);
    let work = classes.iter().map(|it| it.share * it.work).sum::<f64>()
        / classes.iter().map(|it| it.share).sum::<f64>().max(1e-9);
    let work = if classes.is_empty() { 1.0 } else { work };
    // Of all requests together.
    let mean = log_between(unit(), 0.0002, 2.0) / work;
    let permits = log_between(unit(), 1.0, 257.0) as u32;
    let permits = permits.min((MOST_CAPACITY * mean * work) as u32).max(1);
    let capacity = (f64::from(permits) / (mean * work)).min(MOST_CAPACITY);
    // One permit of a very short service would still carry more.
    let mean = f64::from(permits) / (capacity * work);
    let sigma = between(unit(), 0.3, 1.5);
    let time = ServiceTime::Lognormal {
        mean: Duration::from_secs_f64(mean),
        sigma,
    };
    let median = mean * work * (-sigma * sigma / 2.0).exp();
    let latency = (median * log_between(unit(), 2.0, 50.0)).max(1.5 * idle_tail(time, &classes));
    let latency = Duration::from_secs_f64(latency);
    let length = Duration::from_secs((2000.0 * mean * work).clamp(60.0, 3600.0) as u64);
    let part = |share: f64| Duration::from_millis((length.as_millis() as f64 * share) as u64);
    let base = log_between(unit(), 0.1, 0.9);
    let high = log_between(unit(), 1.0, 3.0);
    let (fault_from, fault_until) = (part(0.3), part(0.6));
    let rate = |from, load: f64| Rate {
        from,
        per_second: load * capacity,
    };
    let loses_capacity = unit() < 0.5;
    let rates = match (loses_capacity, (unit() * 4.0) as u32) {
        (true, _) => vec![rate(Duration::ZERO, base.max(0.3))],
        (_, 0) => vec![rate(Duration::ZERO, base)],
        (_, 1) => vec![rate(Duration::ZERO, high)],
        (_, 2) => vec![
            rate(Duration::ZERO, base),
            rate(fault_from, high),
            rate(fault_until, base),
        ],
        _ => vec![
            rate(Duration::ZERO, base),
            rate(fault_from, high),
            rate(part(0.35), base),
        ],
    };
    let left = (f64::from(permits) * between(unit(), 0.2, 0.7)).max(1.0) as u32;
    let fault = Fault {
        from: fault_from,
        until: fault_until,
        service: 0,
        replica: None,
        condition: Condition {
            // Of one permit none can be lost, but each request can take longer.
            permits: (permits > 1).then_some(left),
            slow: if permits > 1 { 1.0 } else { 2.5 },
            ..Condition::default()
        },
    };
    Scenario {
        name: format!("plant-{number}"),
        about: "a service drawn at random".to_owned(),
        length,
        warm_up: Duration::from_secs(length.as_secs() / 10),
        objective: Objective {
            latency,
            deadline: (10 * latency).min(Scenario::MOST_LENGTH),
        },
        services: vec![Service {
            name: "plant".to_owned(),
            replicas: 1,
            permits,
            queue: 4096,
            time,
            calls: Vec::new(),
            forwards: Forwards::default(),
            link: None,
        }],
        clients: vec![Client {
            calls: 0,
            urgency: Urgency::default(),
            arrivals: Arrivals::Open(rates),
            classes,
        }],
        faults: loses_capacity.then_some(fault).into_iter().collect(),
        agent_away: None,
    }
}

/// None where all are alike, or two or three kinds.
fn classes(unit: &mut impl FnMut() -> f64) -> Vec<Class> {
    let kinds = 1 + (unit() * 3.0) as usize;
    let mut kind = || Class {
        share: 0.05 + unit(),
        work: 20f64.powf(unit()),
    };
    match kinds {
        1 => Vec::new(),
        kinds => (0..kinds).map(|_| kind()).collect(),
    }
}

/// The 95th percentile of the time of requests that wait for nothing, in seconds.
fn idle_tail(time: ServiceTime, classes: &[Class]) -> f64 {
    let mut rng = Rng::seeded(1);
    let client = Client {
        calls: 0,
        urgency: Urgency::default(),
        arrivals: Arrivals::Open(Vec::new()),
        classes: classes.to_vec(),
    };
    let mut draw = || {
        let work = client.draw_work(&mut rng);
        time.draw(work, &mut rng).as_secs_f64()
    };
    let mut times: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    times.sort_unstable_by(f64::total_cmp);
    times[DRAWS * 95 / 100]
}

/// Runs the plants of these numbers under each policy and each static limit, and tells `progress` after each
/// how many are done. After SIGINT, SIGTERM or SIGHUP none is begun any more; those that are done are given.
///
/// # Errors
/// Where signals cannot be watched.
pub fn plants(
    numbers: Range<u64>,
    policies: &[&'static NamedPolicy],
    progress: impl Fn(usize) + Sync,
) -> anyhow::Result<Vec<PlantRow>> {
    let count = usize::try_from(numbers.end.saturating_sub(numbers.start))?;
    parallel::each(count, progress, |index| {
        judge(numbers.start + index as u64, policies)
    })
}

fn judge(number: u64, policies: &[&'static NamedPolicy]) -> PlantRow {
    let scenario = plant(number);
    let figures = |policy: &Policy| {
        let report = run(&scenario, policy, number).expect("a plant can be run");
        PlantFigures {
            goodput: report.verdict(&scenario).goodput,
            after: report.goodput_since(&scenario, scenario.length * 3 / 4),
        }
    };
    let limits = GRID.iter().map(|limit| NonZeroU32::new(*limit));
    let statics = limits.chain([None]).map(|requests_per_endpoint| {
        let request = RequestPolicy {
            requests_per_endpoint,
            ..RequestPolicy::default()
        };
        figures(&request.into())
    });
    PlantRow {
        plant: number,
        statics: statics.collect(),
        policies: policies.iter().map(|it| figures(&it.policy())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many kinds of services as there are numbers, each of which can be run and judged.
    #[test]
    fn plants_lie_within_their_bounds() {
        for number in 0..300 {
            let plant = plant(number);
            plant
                .check()
                .unwrap_or_else(|error| panic!("{number}: {error}"));
            let service = &plant.services[0];
            let mean = service.time.mean().as_secs_f64();
            assert!((0.000_01..=2.0).contains(&mean), "{number}: {mean}");
            assert!((1..=256).contains(&service.permits), "{number}");
            let capacity = plant.capacity(Duration::ZERO).unwrap();
            assert!(capacity < 1.05 * MOST_CAPACITY, "{number}: {capacity}");
            let idle = idle_tail(service.time, &plant.clients[0].classes);
            let ratio = plant.objective.latency.as_secs_f64() / idle;
            assert!(ratio > 1.499, "{number}: {ratio}");
        }
    }
}
