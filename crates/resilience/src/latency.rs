//! How long things took, counted by one worker.

use core::array;

use selvedge_model::{Histogram, Instant};

use crate::counter::Counter;

/// Buckets of latency: up to 67 s (2^26 us) as [`Histogram`] has them, and one for all above.
pub(crate) const BUCKETS: usize = Histogram::index(1 << 26) + 1;

/// Times in microseconds. Only one thread writes them; what took longer than 67 s stands at that.
#[derive(Debug)]
pub struct Latency {
    counts: [Counter; BUCKETS],
    sum: Counter,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: array::from_fn(|_| Counter::default()),
            sum: Counter::default(),
        }
    }
}

impl Latency {
    /// Counts what began and ended at these moments.
    pub fn took(&self, from: Instant, to: Instant) {
        let us = u64::try_from(to.since(from).as_micros()).unwrap_or(u64::MAX);
        self.counts[Histogram::index(us).min(BUCKETS - 1)].add(1);
        self.sum.add(us);
    }

    /// What was counted so far.
    pub fn histogram(&self) -> Histogram {
        let counts = self.counts.each_ref().map(Counter::get);
        Histogram::from_counts(&counts, self.sum.get())
    }
}
