//! What a load found, for readers and programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::client::Client;
use super::latency::Latencies;
use super::tally::Tally;
use super::window::Span;
use super::{LoadOptions, Pace};

/// The lag behind the clock, in nanoseconds at the 99th of 100, beyond which latencies are the load's own.
const MOST_LAG_NS: u64 = 1_000_000;

/// How a run went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Where it went.
    pub target: String,
    /// `closed` or `open`.
    pub pace: String,
    /// Requests wanted each second, of an open loop.
    pub rate: Option<f64>,
    /// Connections kept open.
    pub connections: usize,
    /// Decided what was random.
    pub seed: u64,
    /// How long requests counted, in seconds.
    pub window_s: f64,
    /// Requests that were due in that time.
    pub measured: Outcomes,
    /// Requests that were due before.
    pub warm_up: Outcomes,
    /// Answers that came in that time.
    pub completed: u64,
    /// Answers each second of that time.
    pub per_second: f64,
    /// Answers of 200 to 299 within the objective, where one was given.
    pub good: Option<u64>,
    /// From the instant at which a request was due (in a closed loop: sent) to its answer.
    pub latency: Latency,
    /// From the instant at which a request was sent to its answer.
    pub service_time: Latency,
    /// How late the load was to see that a request was due, of an open loop.
    pub lag: Latency,
    /// Connections opened.
    pub connects: u64,
    /// Connections that could not be opened, by cause.
    pub failed_connects: BTreeMap<String, u64>,
    /// CPU time of the load while requests counted, in seconds.
    pub cpu_s: f64,
    /// The same for each answer, in microseconds.
    pub cpu_us_per_request: f64,
    /// Whether the load was itself the limit: latencies then say nothing of the target.
    pub is_saturated: bool,
}

/// Requests by their end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Requests that were due.
    pub requests: u64,
    /// Answers by class of status: `2xx`.
    pub answers: BTreeMap<String, u64>,
    /// Requests that were sent and got no whole answer, by cause.
    pub errors: BTreeMap<String, u64>,
    /// Answers by which the mesh refused a request, by its reason.
    pub refusals: BTreeMap<String, u64>,
    /// Requests that were not sent, because as many as the queue holds were waiting.
    pub unsent: u64,
}

/// A distribution of times in microseconds, each known within 1 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// What half of them do not exceed.
    pub p50_us: f64,
    /// What 90 of 100 do not exceed.
    pub p90_us: f64,
    /// What 99 of 100 do not exceed.
    pub p99_us: f64,
    /// What 999 of 1000 do not exceed.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// Their mean.
    pub mean_us: f64,
}

impl Outcomes {
    fn of(tally: &Tally) -> Self {
        let answers = tally.classes.iter().enumerate();
        let answers = answers.filter(|(_, count)| **count > 0);
        Self {
            requests: tally.requests,
            answers: answers
                .map(|(class, count)| (format!("{class}xx"), *count))
                .collect(),
            errors: tally.errors.counts().clone(),
            refusals: tally.refusals.counts().clone(),
            unsent: tally.unsent,
        }
    }

    /// Answers of whatever class.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Requests that were sent and failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

impl Latency {
    fn of(latencies: &Latencies) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let quantile = |share| us(latencies.quantile_ns(share));
        Self {
            count: latencies.count(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: us(latencies.most_ns()),
            mean_us: us(latencies.mean_ns()),
        }
    }
}

impl LoadReport {
    pub(super) fn of(options: &LoadOptions, client: &Client<'_>, window: &Span) -> Self {
        let Span {
            wall_ns,
            cpu_ns,
            completed,
        } = *window;
        let lags = &client.measured.lags;
        let lag_p99_ns = lags.quantile_ns(0.99);
        let is_late = lag_p99_ns > MOST_LAG_NS
            || lag_p99_ns > client.measured.latencies.quantile_ns(0.99) / 2;
        let (rate, is_saturated) = match options.pace {
            // Of a closed loop it may be: then requests each second are a lower bound only.
            Pace::Closed => (None, cpu_ns > wall_ns / 20 * 19),
            Pace::Open { rate, .. } => (Some(rate), is_late),
        };
        Self {
            target: options.target.to_string(),
            pace: options.pace.name().to_owned(),
            rate,
            connections: options.connections,
            seed: options.seed,
            window_s: wall_ns as f64 / 1e9,
            measured: Outcomes::of(&client.measured),
            warm_up: Outcomes::of(&client.warm_up),
            completed,
            per_second: completed as f64 * 1e9 / wall_ns as f64,
            good: options.objective.map(|_| client.measured.good),
            latency: Latency::of(&client.measured.latencies),
            service_time: Latency::of(&client.measured.services),
            lag: Latency::of(lags),
            connects: client.connects,
            failed_connects: client.failed_connects.counts().clone(),
            cpu_s: cpu_ns as f64 / 1e9,
            cpu_us_per_request: cpu_ns as f64 / 1000.0 / completed.max(1) as f64,
            is_saturated,
        }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self
            .rate
            .map_or(String::new(), |rate| format!(" at {rate}/s"));
        let (target, pace, connections) = (&self.target, &self.pace, self.connections);
        writeln!(f, "{target}: {pace} loop{rate}, {connections} connections")?;
        writeln!(
            f,
            "{} answers in {:.2} s, {:.0}/s; load's own CPU {:.2} us each",
            self.completed, self.window_s, self.per_second, self.cpu_us_per_request
        )?;
        writeln!(f, "measured    {}", self.measured)?;
        if let Some(good) = self.good {
            let share = 100.0 * good as f64 / self.measured.requests.max(1) as f64;
            writeln!(
                f,
                "good        {good} within the objective, {share:.1} % of the measured"
            )?;
        }
        writeln!(f, "warm-up     {}", self.warm_up)?;
        writeln!(f, "latency     {}", self.latency)?;
        if self.rate.is_some() {
            writeln!(f, "from send   {}", self.service_time)?;
            writeln!(f, "load's lag  {}", self.lag)?;
        }
        write!(
            f,
            "connects    {} opened{}",
            self.connects,
            list(&self.failed_connects, "failed: ")
        )?;
        if self.is_saturated {
            write!(
                f,
                "\nthe load was itself the limit: a faster target would look the same"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests{}", self.requests, list(&self.answers, ""))?;
        write!(f, "{}", list(&self.refusals, "refused: "))?;
        write!(f, "{}", list(&self.errors, "failed: "))?;
        match self.unsent {
            0 => Ok(()),
            unsent => write!(f, ", not sent {unsent}"),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            max_us,
            ..
        } = self;
        write!(
            f,
            "p50 {p50_us:.0}, p90 {p90_us:.0}, p99 {p99_us:.0}, p99.9 {p999_us:.0}, max {max_us:.0} us"
        )
    }
}

fn list(counts: &BTreeMap<String, u64>, prefix: &str) -> String {
    let each = counts.iter();
    each.map(|(kind, count)| format!(", {prefix}{kind} {count}"))
        .collect()
}
