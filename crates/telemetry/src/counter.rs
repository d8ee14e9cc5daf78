//! A number that only grows, shared by threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts events, from any thread, without a lock. Usable in a `static`.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts from zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one event.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts many events.
    pub fn add(&self, events: u64) {
        // Counters carry no other memory with them.
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
