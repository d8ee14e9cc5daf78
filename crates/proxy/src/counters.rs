//! What the proxy counted: written by every thread of the resolver, read by the feed thread.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use selvedge_feed::{Counter, Report};

/// Totals since the process started, and the shadowed names for `status`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    values: [AtomicU64; Counter::ALL.len()],
    /// At most [`Report::MAX_SHADOWED`] names, the first ones; those that find it full are counted.
    shadowed: Mutex<BTreeSet<String>>,
}

impl Counters {
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    pub(crate) fn add(&self, counter: Counter, amount: u64) {
        self.values[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes over a total that is counted elsewhere.
    pub(crate) fn set(&self, counter: Counter, total: u64) {
        self.values[counter as usize].store(total, Ordering::Relaxed);
    }

    /// Notes an outside name that was answered NXDOMAIN for the sake of a mesh name.
    pub(crate) fn note_shadowed(&self, name: String) {
        let mut shadowed = self.shadowed.lock().unwrap_or_else(PoisonError::into_inner);
        if shadowed.len() < Report::MAX_SHADOWED {
            shadowed.insert(name);
        } else if !shadowed.contains(&name) {
            self.count(Counter::ShadowedUnlisted);
        }
    }

    pub(crate) fn report(&self) -> Report {
        let shadowed = self.shadowed.lock().unwrap_or_else(PoisonError::into_inner);
        let values = Counter::ALL.iter().map(|counter| {
            let value = self.values[*counter as usize].load(Ordering::Relaxed);
            (*counter, value)
        });
        Report {
            counters: values.filter(|(_, value)| *value > 0).collect(),
            shadowed: shadowed.iter().cloned().collect(),
        }
    }
}
