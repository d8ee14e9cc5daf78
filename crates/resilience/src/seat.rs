//! What each worker owns.

use selvedge_model::Rng;

/// A worker's place: under which index it counts, and its chance. One thread uses it, since what a
/// worker counts has no other writer.
#[derive(Debug)]
pub struct Seat {
    pub(crate) worker: usize,
    pub(crate) rng: Rng,
}

impl Seat {
    /// The seat of this worker; workers are counted from 0.
    pub const fn new(worker: usize, rng: Rng) -> Self {
        Self { worker, rng }
    }

    /// Whose it is.
    pub const fn worker(&self) -> usize {
        self.worker
    }
}
