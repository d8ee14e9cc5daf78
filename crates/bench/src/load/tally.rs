//! What became of the requests of one part of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::Answer;
use super::latency::Latencies;

/// Most kinds of errors told apart: they are words of ours, but for system errors nobody foresaw.
const MOST_KINDS: usize = 64;

/// Requests by their end, and how long they took.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Requests that were due.
    pub(super) requests: u64,
    /// Answers by the first digit of their status.
    pub(super) classes: [u64; 6],
    pub(super) errors: Kinds,
    /// Answers by which the mesh refused a request, by its reason.
    pub(super) refusals: Kinds,
    /// Requests that were due and never sent: no connection was free, and the queue was full.
    pub(super) unsent: u64,
    /// What an answer is to keep.
    objective_ns: Option<u64>,
    /// Answers of 200 to 299 that kept it.
    pub(super) good: u64,
    /// From the instant at which each was due to its answer.
    pub(super) latencies: Latencies,
    /// From the instant at which each was sent to its answer.
    pub(super) services: Latencies,
    /// From the instant at which each was due to when the load saw that.
    pub(super) lags: Latencies,
}

impl Tally {
    pub(super) fn new(objective: Option<Duration>) -> Self {
        let nanoseconds = |it: Duration| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX);
        Self {
            objective_ns: objective.map(nanoseconds),
            good: 0,
            requests: 0,
            classes: [0; 6],
            errors: Kinds::default(),
            refusals: Kinds::default(),
            unsent: 0,
            latencies: Latencies::new(),
            services: Latencies::new(),
            lags: Latencies::new(),
        }
    }

    /// A whole answer.
    pub(super) fn answered(&mut self, answer: &Answer, latency_ns: u64, service_ns: u64) {
        self.classes[usize::from(answer.status / 100).min(5)] += 1;
        if !answer.reason.is_empty() {
            self.refusals.count(&answer.reason);
        }
        let is_quick = self.objective_ns.is_some_and(|most| latency_ns <= most);
        self.good += u64::from(is_quick && answer.status / 100 == 2);
        self.latencies.record(latency_ns);
        self.services.record(service_ns);
    }
}

/// Counts by a word.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds(BTreeMap<String, u64>);

impl Kinds {
    pub(super) fn count(&mut self, kind: &str) {
        if let Some(count) = self.0.get_mut(kind) {
            *count += 1;
        } else {
            let kind = if self.0.len() < MOST_KINDS {
                kind
            } else {
                "others"
            };
            *self.0.entry(kind.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn counts(&self) -> &BTreeMap<String, u64> {
        &self.0
    }
}
