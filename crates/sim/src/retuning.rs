//! A law that tunes retries, to compare with: fewer where requests come to nothing or the tail is too long, one more
//! otherwise, and each attempt has its part of the objective (M. R. Saleh Sedghpour, A. Garbizu-Saez, E. Elmroth,
//! J. Tordsson, "Breaking the vicious circle: self-adaptive microservice circuit breaking and retry", IC2E 2023), written
//! out after `experiments/libs/controllers.py`, class `retryControllerTCP`, of
//! salehsedghpour/breaking-the-vicious-circle (commit d44d693).

use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{Backoff, Instant, RequestPolicy, RetryPolicy, Timeouts};
use selvedge_resilience::{Node, OutcomeKind, Totals};

use crate::policy::UNLIMITED;

/// How often it looks and sets.
const PERIOD: Duration = Duration::from_secs(5);
/// What it begins with.
const ATTEMPTS: u32 = 2;
const ATTEMPT_TIME: Duration = Duration::from_millis(25);

/// The law, for each service by its place.
#[derive(Debug)]
pub(crate) struct Retuning {
    objective_ms: u32,
    services: Vec<Tuned>,
    next: Instant,
}

#[derive(Debug, Default)]
struct Tuned {
    attempts: u32,
    /// Requests a second that came to nothing, before the last look.
    failed: f64,
    seen: Totals,
}

impl Retuning {
    pub(crate) fn new(objective: Duration, services: usize) -> Self {
        let tuned = |_| Tuned {
            attempts: ATTEMPTS,
            ..Tuned::default()
        };
        Self {
            objective_ms: u32::try_from(objective.as_millis()).unwrap_or(u32::MAX),
            services: (0..services).map(tuned).collect(),
            next: Instant::default() + PERIOD,
        }
    }

    /// Looks at the node if that is due; whether anything is set.
    pub(crate) fn look(&mut self, now: Instant, node: &Node) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + PERIOD;
        let routes = node.reading(now).routes;
        for (tuned, route) in self.services.iter_mut().zip(routes) {
            let new = route.totals.since(&tuned.seen);
            tuned.seen = route.totals;
            let lost = new.answered[4]
                + new.ended(OutcomeKind::TimedOut)
                + new.ended(OutcomeKind::Cut)
                + new.refused_limit;
            let failed = lost as f64 / PERIOD.as_secs_f64();
            // Without an answer there is no tail, which it takes for 0.
            let tail_us = new.latency_us.quantile(95, 100).unwrap_or(0);
            tuned.step(tail_us > u64::from(self.objective_ms) * 1000, failed);
        }
        true
    }

    /// What a service has, with what is said besides.
    pub(crate) fn policy(&self, service: usize, said: &RequestPolicy) -> RequestPolicy {
        let attempts = self.services[service].attempts;
        let first = self.seen_nothing();
        let time = match first {
            true => ATTEMPT_TIME,
            false => Duration::from_millis((self.objective_ms / attempts).max(1).into()),
        };
        RequestPolicy {
            timeouts: Timeouts {
                attempt: Some(time),
                ..said.timeouts
            },
            retry: Some(RetryPolicy {
                attempts: u8::try_from(attempts).unwrap_or(u8::MAX),
                statuses: (500..600).collect(),
                backoff: Backoff::default(),
                non_idempotent: false,
            }),
            retry_budget: Some(UNLIMITED),
            ..said.clone()
        }
    }

    fn seen_nothing(&self) -> bool {
        self.next == Instant::default() + PERIOD
    }
}

impl Tuned {
    fn step(&mut self, is_slow: bool, failed: f64) {
        if is_slow || failed > 0.0 {
            let worse = failed / self.failed.max(1.0);
            self.attempts = ((f64::from(self.attempts) / worse.max(2.0)) as u32).max(1);
        } else {
            self.attempts = self.attempts.saturating_add(1);
        }
        self.failed = failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand from the source.
    #[test]
    fn attempts_fall_by_half_or_as_failures_rise() {
        let mut tuned = Tuned {
            attempts: 16,
            ..Tuned::default()
        };
        for (is_slow, failed, attempts) in [
            (false, 0.0, 17),
            (true, 0.0, 8),
            (false, 3.0, 2),
            (false, 6.0, 1),
            (false, 6.0, 1),
            (false, 0.0, 2),
        ] {
            tuned.step(is_slow, failed);
            assert_eq!(tuned.attempts, attempts);
        }
    }
}
