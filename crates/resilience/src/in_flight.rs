//! Requests in flight, and their limit.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Requests that have come and not gone. Whoever enters leaves, whatever happens between.
#[derive(Debug, Default)]
pub(crate) struct InFlight(AtomicU32);

impl InFlight {
    /// Counts one more, unless that would be more than `limit`, and tells how many there are then. Never
    /// more than that are counted, however many threads try.
    pub(crate) fn try_enter(&self, limit: u32) -> Option<u32> {
        let enter = |count: u32| (count < limit).then(|| count.saturating_add(1));
        let before = self.0.fetch_update(Relaxed, Relaxed, enter).ok()?;
        Some(before.saturating_add(1))
    }

    /// Counts one more.
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}
