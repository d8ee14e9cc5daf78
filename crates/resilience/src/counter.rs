//! Counts that many read and one thread writes.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that only grows, and that one thread writes: no locked addition. Where another thread writes
/// too, counts get lost, which hurts nothing else.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts so many more.
    pub fn add(&self, count: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A value on cache lines of its own: 128 bytes, since x86 fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);
