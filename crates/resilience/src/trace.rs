//! Joining the calls of a program with the request it makes them for, by trace: which requests wait for a
//! call, and how long they have.
//!
//! No lock, no allocation and no hand-over between workers. Whoever counts itself into a slot
//! remembers which, so that whatever happens between, everything returns to zero.

use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use selvedge_model::{CgroupId, Instant};

use crate::estimate::Integral;
use crate::slots::{Key, Slot, Slots, TAG_SHIFT};

const COUNT_BITS: u32 = 16;
const COUNT_MOST: u64 = (1 << COUNT_BITS) - 1;
const REQUEST: u64 = 1 << COUNT_BITS;
const CALL: u64 = 1;
const _: () = assert!(TAG_SHIFT == 2 * COUNT_BITS);

/// Which requests and calls of one workload belong together. Each word holds requests and calls; beside it
/// stands what its requests have waited. A request that finds its line full is not joined.
#[derive(Debug)]
pub(crate) struct TraceTable(pub(crate) Slots<Integral>);

/// A request in a slot, with the reading at its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    slot: Slot,
    waited: u64,
}

/// By how much the requests that wait for a call became more.
pub(crate) type Change = i32;

/// The key of a trace at a workload; `trace` is not 0.
pub(crate) const fn key(trace: u64, workload: CgroupId) -> Key {
    Key::of(trace ^ workload.0.rotate_left(32))
}

impl TraceTable {
    pub(crate) fn new() -> Self {
        Self(Slots::new())
    }

    /// Counts a request that goes into the workload. None where there is no room.
    pub(crate) fn begin_request(&self, key: Key, now: Instant) -> Option<(Joined, Change)> {
        let joined = self
            .join(key, REQUEST, now, |word| key.is_of(word))
            .or_else(|| self.join(key, REQUEST, now, |word| word == 0 || key.is_of(word)));
        if joined.is_none() {
            self.0.count_full();
        }
        let (slot, change) = joined?;
        let waited = self.waited(slot, now);
        Some((Joined { slot, waited }, change))
    }

    /// Counts a call of the workload. None where no request of the trace is in flight into it.
    pub(crate) fn begin_call(&self, key: Key, now: Instant) -> Option<(Slot, Change)> {
        self.join(key, CALL, now, |word| key.is_of(word) && requests(word) > 0)
    }

    /// Takes back a request that was counted there.
    pub(crate) fn end_request(&self, joined: Joined, now: Option<Instant>) -> Change {
        self.leave(joined.slot, REQUEST, now)
    }

    /// Takes back a call that was counted there.
    pub(crate) fn end_call(&self, slot: Slot, now: Option<Instant>) -> Change {
        self.leave(slot, CALL, now)
    }

    /// How long a request that is still counted has waited so far for its calls. Requests of one trace share
    /// alike what they wait together. `None` where that is not known: a call of the slot was dropped without
    /// a time, or another thread is at it just now.
    pub(crate) fn waited_by(
        &self,
        joined: Joined,
        now: Instant,
        began: Instant,
    ) -> Option<Duration> {
        let waited = self.waited(joined.slot, now).wrapping_sub(joined.waited);
        let sharing = requests(self.0.word(joined.slot).load(Relaxed)).max(1);
        let waited = Duration::from_nanos(waited / sharing);
        (waited <= now.since(began)).then_some(waited)
    }

    fn waited(&self, slot: Slot, now: Instant) -> u64 {
        let number = waiting(self.0.word(slot).load(Relaxed));
        self.0
            .beside(slot)
            .until(now, u64::from(number.unsigned_abs()))
    }

    fn join(
        &self,
        key: Key,
        unit: u64,
        now: Instant,
        fits: impl Fn(u64) -> bool,
    ) -> Option<(Slot, Change)> {
        let take = |word: u64| {
            let tagged = if word == 0 { key.word() } else { word };
            (fits(word) && has_room(word)).then(|| tagged + unit)
        };
        let line = self.0.line(key).words.iter().enumerate();
        let mut fitting = line.filter(|(_, slot)| fits(slot.load(Relaxed)));
        fitting.find_map(|(place, slot)| {
            let before = slot.fetch_update(Relaxed, Relaxed, take).ok()?;
            let slot = key.slot(place);
            let change = waiting(before + unit) - waiting(before);
            self.0.beside(slot).change(change, now);
            Some((slot, change))
        })
    }

    fn leave(&self, slot: Slot, unit: u64, now: Option<Instant>) -> Change {
        let drop = |word: u64| {
            let left = word - unit;
            let is_empty = left & (REQUEST * REQUEST - 1) == 0;
            Some(if is_empty { 0 } else { left })
        };
        let (Ok(before) | Err(before)) = self.0.word(slot).fetch_update(Relaxed, Relaxed, drop);
        let change = waiting(before - unit) - waiting(before);
        if let Some(now) = now {
            self.0.beside(slot).change(change, now);
        }
        change
    }
}

/// Whether neither count is at its end.
const fn has_room(word: u64) -> bool {
    requests(word) < COUNT_MOST && word & COUNT_MOST < COUNT_MOST
}

const fn requests(word: u64) -> u64 {
    (word >> COUNT_BITS) & COUNT_MOST
}

/// Requests that wait: each for one call at least, so not more than either.
fn waiting(word: u64) -> Change {
    requests(word).min(word & COUNT_MOST) as Change
}
