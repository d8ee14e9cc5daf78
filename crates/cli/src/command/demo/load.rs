//! Requests from outside, by `wrk`, and its figures.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::interrupt::Interrupt;
use super::program::Program;

/// Connections held open, each with one request at a time: the machine is busy, not flooded.
const CONNECTIONS: &str = "4";

/// What one burst of requests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Figures {
    /// Requests that were answered, well or not.
    pub(super) requests: u64,
    /// Answers other than a good one, broken connections and time-outs.
    pub(super) failures: u64,
    /// How long the burst took, in microseconds.
    pub(super) duration_us: u64,
    /// Median latency in microseconds.
    pub(super) p50_us: u64,
    /// Latency that 99 of 100 requests kept below, in microseconds.
    pub(super) p99_us: u64,
}

/// A burst of requests under way.
pub(super) struct Load {
    wrk: Program,
    duration: Duration,
}

impl Load {
    /// Starts requests to the front at `port` that go on for `duration`.
    pub(super) fn start(folder: &Path, port: u16, duration: Duration) -> anyhow::Result<Self> {
        let mut wrk = Command::new("wrk");
        wrk.args(["--threads", "1", "--connections", CONNECTIONS])
            .args(["--duration", &format!("{}s", duration.as_secs())])
            .args(["--timeout", "5s", "--script", "report.lua"])
            .arg(format!("http://127.0.0.1:{port}/"))
            .current_dir(folder);
        let name = format!("wrk-{port}");
        Ok(Self {
            wrk: Program::start(&name, folder, wrk)?,
            duration,
        })
    }

    /// Waits for the end and gives the figures.
    pub(super) fn finish(mut self, interrupt: &Interrupt) -> anyhow::Result<Figures> {
        let patience = self.duration + Duration::from_secs(10);
        let wrk = &mut self.wrk;
        if !interrupt.until(patience, || wrk.ended().is_some())? {
            return Err(wrk.failure("does not end"));
        }
        // Bursts to one port share a log: the last line is this one's.
        let printed = wrk.printed();
        let report = printed.lines().rev().find(|line| line.starts_with('{'));
        let report = report.ok_or_else(|| wrk.failure("gave no figures"))?;
        serde_json::from_str(report).context("wrk's figures cannot be read")
    }
}

impl Figures {
    /// Several bursts as one: sums, and the middle one of the latencies.
    pub(super) fn of(bursts: &[Self]) -> Self {
        let middle = |latency: fn(&Self) -> u64| {
            let mut latencies: Vec<_> = bursts.iter().map(latency).collect();
            latencies.sort_unstable();
            latencies.get(latencies.len() / 2).copied().unwrap_or(0)
        };
        Self {
            requests: bursts.iter().map(|burst| burst.requests).sum(),
            failures: bursts.iter().map(|burst| burst.failures).sum(),
            duration_us: bursts.iter().map(|burst| burst.duration_us).sum(),
            p50_us: middle(|burst| burst.p50_us),
            p99_us: middle(|burst| burst.p99_us),
        }
    }

    /// Requests per second.
    pub(super) fn rate_per_s(&self) -> u64 {
        self.requests * 1_000_000 / self.duration_us.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bursts add up, and their latency is that of the middle one, not the best or the worst.
    #[test]
    fn bursts_are_summed_up_by_their_middle() {
        let burst = |requests, failures, p99_us| Figures {
            requests,
            failures,
            duration_us: 1_000_000,
            p50_us: p99_us / 2,
            p99_us,
        };
        let all = Figures::of(&[burst(10, 0, 900), burst(20, 1, 100), burst(30, 2, 400)]);
        assert_eq!((all.requests, all.failures), (60, 3));
        assert_eq!((all.p50_us, all.p99_us), (200, 400));
        assert_eq!(all.rate_per_s(), 20);
        assert_eq!(Figures::of(&[]).rate_per_s(), 0);
    }
}
