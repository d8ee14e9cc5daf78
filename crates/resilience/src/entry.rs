//! Requests of one route, and the limit at their entry.

use alloc::boxed::Box;
use alloc::string::String;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

use selvedge_model::Reason;

use crate::controller::Settings;
use crate::rejection::{Gate, Rejection};
use crate::window::{Meters, Totals};

/// What lives on of a route.
#[derive(Debug)]
pub(crate) struct Entry {
    name: String,
    limit: AtomicU32,
    /// By worker: so that workers do not take one line from each other for every request.
    shares: Box<[Share]>,
}

#[derive(Debug)]
struct Share {
    in_flight: AtomicU32,
    meters: Meters,
}

impl Entry {
    pub(crate) fn new(name: String, workers: usize) -> Self {
        let share = |_| Share {
            in_flight: AtomicU32::new(0),
            meters: Meters::default(),
        };
        Self {
            name,
            limit: AtomicU32::new(u32::MAX),
            shares: (0..workers).map(share).collect(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn meters(&self, worker: usize) -> &Meters {
        &self.shares[worker].meters
    }

    /// Counts one more at its entry. Each counts itself before it looks, so that there are never more
    /// than the limit; of several at the same moment all may be refused.
    pub(crate) fn enter(&self, worker: usize) -> Result<(), Rejection> {
        self.shares[worker].in_flight.fetch_add(1, SeqCst);
        let limit = self.limit();
        if limit == u32::MAX || self.in_flight() <= limit {
            return Ok(());
        }
        self.leave(worker);
        Err(Rejection {
            reason: Reason::RequestLimit,
            gate: Gate::Entry,
            limit,
        })
    }

    pub(crate) fn leave(&self, worker: usize) {
        self.shares[worker].in_flight.fetch_sub(1, SeqCst);
    }

    pub(crate) fn in_flight(&self) -> u32 {
        let counts = self.shares.iter().map(|share| share.in_flight.load(SeqCst));
        counts.fold(0, u32::saturating_add)
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub(crate) fn apply(&self, settings: Settings) {
        self.limit.store(settings.limit, Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for share in &self.shares {
            share.meters.add_to(&mut totals);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No law sets it yet, so that it is shown here.
    #[test]
    fn the_limit_is_of_all_workers_together() {
        let entry = Entry::new("cart".into(), 2);
        entry.apply(Settings { limit: 3 });
        for worker in [0, 1, 0] {
            entry.enter(worker).unwrap();
        }
        for worker in [0, 1] {
            let refused = entry.enter(worker).unwrap_err();
            assert_eq!((refused.gate, refused.limit), (Gate::Entry, 3));
        }
        assert_eq!(entry.in_flight(), 3, "who is refused is not counted");
        entry.leave(0);
        entry.enter(1).unwrap();
        assert!(entry.enter(1).is_err());
    }
}
