//! What would have been otherwise, by a simulation that is fitted to a journal.

use std::num::NonZeroU32;
use std::time::Duration;

use selvedge_model::{RequestPolicy, Rng};
use selvedge_sim::{Fit, NamedPolicy, Policy, Recorded, Report, Second, Sightings, Unfit, run};
use serde::Serialize;

use crate::parallel;

/// What is to be otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// As many times the requests.
    pub load: f64,
    /// As many times the time of work.
    pub slow: f64,
    /// As many times the requests that an endpoint works on at once.
    pub permits: f64,
    /// So many endpoints.
    pub replicas: Option<u32>,
    /// Another objective.
    pub objective: Option<Duration>,
    /// A fixed limit of requests per endpoint, instead of one that moves.
    pub limit: Option<NonZeroU32>,
    /// Limits that move, where so far nothing was done.
    pub drives: bool,
}

impl Default for Change {
    fn default() -> Self {
        Self {
            load: 1.0,
            slow: 1.0,
            permits: 1.0,
            replicas: None,
            objective: None,
            limit: None,
            drives: false,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Whether the recorded service was ever at its limits; if not it can do more than is simulated.
    pub is_saturated: bool,
    /// Whether long times are missing in what was recorded, since windows are short against them.
    pub is_cut_off: bool,
    /// Whether limits moved, and were in force, when it was recorded.
    pub was_applied: bool,
    /// What each endpoint works on at once.
    pub permits: Interval,
    /// Mean time of work, in ms.
    pub mean_ms: Interval,
    /// Deviation of its logarithm.
    pub sigma: Interval,
    /// Requests a second, over all the time.
    pub rate: Interval,
    /// How many endpoints there are.
    pub replicas: u32,
    /// How much of the journal was looked at, in seconds.
    pub length_s: f64,
    /// 95th percentile that was recorded, in ms.
    pub recorded_p95_ms: f64,
    /// Share of requests that found no place, as recorded.
    pub recorded_refused: f64,
    /// The simulation without a change: how like it is to what was recorded is how far it is to be trusted.
    pub as_it_was: Figures,
    /// The simulation with it.
    pub what_if: Figures,
}

/// What simulations came to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Mean of the seconds' 95th percentiles, weighted by requests, in ms.
    pub p95_ms: Interval,
    /// Requests that found no place, of those that came.
    pub refused: Interval,
    /// Answers within the objective, of requests that came.
    pub in_time: Interval,
}

/// Where nine of ten simulations lie, and their median.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// One of twenty is below.
    pub low: f64,
    /// Half of them are below.
    pub middle: f64,
    /// One of twenty is above.
    pub high: f64,
}

/// Simulates the service as it was and as it would be, so many times, each with another drawing of what was recorded.
/// `None` after an interrupt.
///
/// # Errors
/// Where too little is recorded, or what is asked for cannot be run.
pub fn what_if(
    sightings: &Sightings,
    change: &Change,
    runs: u32,
    seed: u64,
) -> anyhow::Result<Option<Answer>> {
    let as_it_was = match sightings.is_applied() {
        true => adaptive(),
        false => Policy::default(),
    };
    let otherwise = match change.limit {
        None if change.drives => adaptive(),
        None => as_it_was.clone(),
        Some(limit) => RequestPolicy {
            requests_per_endpoint: Some(limit),
            ..RequestPolicy::default()
        }
        .into(),
    };
    let simulate = |number: usize| -> anyhow::Result<_> {
        let mut rng = Rng::seeded(seed.wrapping_add(number as u64));
        let fit = sightings.fit(&mut rng)?;
        let was = fit.scenario(&mut rng.clone());
        let scenario = changed(fit.clone(), change).scenario(&mut rng);
        let seed = rng.next_u64();
        let was = figures(&run(&was, &as_it_was, seed)?);
        let would = figures(&run(&scenario, &otherwise, seed)?);
        Ok((fit, was, would))
    };
    let runs_done = parallel::each(runs as usize, |_| (), simulate)?;
    let runs_done: Vec<_> = runs_done.into_iter().collect::<anyhow::Result<_>>()?;
    if runs_done.len() < runs as usize {
        return Ok(None);
    }
    let Recorded { p95, refused } = sightings.recorded();
    let of_fit = |of: &dyn Fn(&Fit) -> f64| interval(runs_done.iter().map(|(fit, ..)| of(fit)));
    let first = &runs_done.first().ok_or(Unfit::TooFew)?.0;
    Ok(Some(Answer {
        is_saturated: runs_done.iter().all(|(fit, ..)| fit.is_saturated),
        is_cut_off: sightings.is_cut_off(),
        was_applied: sightings.is_applied(),
        permits: of_fit(&|fit| fit.permits),
        mean_ms: of_fit(&|fit| 1e3 * fit.mean.as_secs_f64()),
        sigma: of_fit(&|fit| fit.sigma),
        rate: of_fit(&mean_rate),
        replicas: first.replicas,
        length_s: first.length.as_secs_f64(),
        recorded_p95_ms: 1e3 * p95.as_secs_f64(),
        recorded_refused: refused,
        as_it_was: in_all(runs_done.iter().map(|(_, was, _)| *was)),
        what_if: in_all(runs_done.iter().map(|(.., would)| *would)),
    }))
}

fn adaptive() -> Policy {
    let named = NamedPolicy::find("adaptive").expect("there is one of this name");
    named.policy()
}

fn changed(fit: Fit, change: &Change) -> Fit {
    let mut rates = fit.rates.clone();
    rates.iter_mut().for_each(|it| it.per_second *= change.load);
    Fit {
        rates,
        mean: fit.mean.mul_f64(change.slow),
        permits: f64::max(fit.permits * change.permits, 1.0),
        replicas: change.replicas.unwrap_or(fit.replicas),
        objective: change.objective.unwrap_or(fit.objective),
        ..fit
    }
}

fn mean_rate(fit: &Fit) -> f64 {
    let rates = fit.rates.iter().map(|it| it.per_second);
    rates.sum::<f64>() / f64::max(fit.rates.len() as f64, 1.0)
}

/// p95 in ms, shares of refused and in time.
fn figures(report: &Report) -> [f64; 3] {
    let total = report.total();
    let offered = f64::max(total.offered as f64, 1.0);
    let answered = |second: &Second| second.latency_us.count() as f64;
    let tails = report.seconds.iter().filter_map(|second| {
        let tail = within(second, 0.95)?;
        Some(answered(second) * tail / 1e3)
    });
    [
        tails.sum::<f64>() / f64::max(answered(&total), 1.0),
        total.refused as f64 / offered,
        total.good as f64 / offered,
    ]
}

/// A quantile in us, its place in the bucket taken in proportion.
fn within(second: &Second, share: f64) -> Option<f64> {
    let wanted = share * second.latency_us.count() as f64;
    let mut below = 0.0;
    for (range, count) in second.latency_us.buckets() {
        let count = count as f64;
        if count > 0.0 && below + count >= wanted {
            let (low, high) = (*range.start() as f64, *range.end() as f64);
            return Some(low + (high - low) * (wanted - below) / count);
        }
        below += count;
    }
    None
}

fn in_all(runs: impl Iterator<Item = [f64; 3]> + Clone) -> Figures {
    let of = |place: usize| interval(runs.clone().map(|it| it[place]));
    Figures {
        p95_ms: of(0),
        refused: of(1),
        in_time: of(2),
    }
}

fn interval(values: impl Iterator<Item = f64>) -> Interval {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    // As many values lie below the first as above the last.
    let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
    Interval {
        low: at(0.05),
        middle: at(0.5),
        high: at(0.95),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_model::JournalEntry;
    use selvedge_sim::run_and_tell;

    /// What is simulated as it was is like what was recorded, and half the requests all find a place.
    #[test]
    fn a_recorded_overload_is_simulated_again_and_gone_with_half_the_requests() {
        let scenario = crate::scenario("step").unwrap();
        let service = "a.default".parse().unwrap();
        let mut sightings = Sightings::new(service);
        run_and_tell(&scenario, &adaptive(), 3, &mut |about, event| {
            let about = about.clone();
            sightings.on_entry(0, &JournalEntry { about, event });
        })
        .unwrap();
        let ask = |change| what_if(&sightings, &change, 5, 7).unwrap().unwrap();
        let half = ask(Change {
            load: 0.3,
            ..Change::default()
        });
        assert!(half.is_saturated);
        let off = half.as_it_was.p95_ms.middle / half.recorded_p95_ms;
        assert!((0.8..1.2).contains(&off), "{half:?}");
        let off = half.as_it_was.refused.middle - half.recorded_refused;
        assert!(off.abs() < 0.08, "{half:?}");
        assert!(half.recorded_refused > 0.2, "{half:?}");
        assert!(half.what_if.refused.high < 0.01, "{half:?}");
        assert!(half.what_if.in_time.low > 0.95, "{half:?}");
        let more = ask(Change {
            replicas: Some(4),
            ..Change::default()
        });
        assert_eq!(more.replicas, half.replicas, "as it was");
        assert!(more.what_if.refused.high < 0.02, "{more:?}");
        let none = what_if(
            &sightings,
            &Change {
                limit: NonZeroU32::new(1),
                ..Change::default()
            },
            5,
            7,
        );
        assert!(none.unwrap().unwrap().what_if.refused.low > 0.5);
    }
}
