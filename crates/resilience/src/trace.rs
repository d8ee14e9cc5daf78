//! Joining the calls of a program with the request it makes them for, by trace.
//!
//! No lock, no allocation and no hand-over between workers. Whoever counts itself into a slot
//! remembers which, so that whatever happens between, everything returns to zero.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use selvedge_model::{CgroupId, Rng};

/// Slots in one cache line, which is all that is looked at for a key.
const SLOTS: usize = 8;

/// Lines: 16,384 slots in 128 KiB. At 5,000 requests in flight one of some 1,000 finds its line full.
const LINES: usize = 2048;

/// Slots in all.
pub(crate) const CAPACITY: usize = LINES * SLOTS;

const COUNT_BITS: u32 = 16;
const COUNT_MOST: u64 = (1 << COUNT_BITS) - 1;
const REQUEST: u64 = 1 << COUNT_BITS;
const CALL: u64 = 1;
const TAG_SHIFT: u32 = 2 * COUNT_BITS;

/// Which requests and calls of one workload belong together. Bounded: a request that finds its line
/// full is not joined and counted in [`TraceTable::full`].
#[derive(Debug)]
pub(crate) struct TraceTable {
    lines: Box<[Line]>,
    full: AtomicU64,
}

/// Each slot holds a tag, requests and calls; a slot without either is 0.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; SLOTS]);

/// Where something was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    line: u32,
    place: u32,
}

/// By how much the requests that wait for a call became more.
pub(crate) type Change = i32;

#[derive(Clone, Copy)]
pub(crate) struct Key {
    line: usize,
    tag: u64,
}

impl Key {
    /// The key of a trace at a workload; `trace` is not 0.
    pub(crate) fn of(trace: u64, workload: CgroupId) -> Self {
        let mixed = Rng::seeded(trace ^ workload.0.rotate_left(32)).next_u64();
        Self {
            line: mixed as usize % LINES,
            tag: (mixed >> TAG_SHIFT).max(1),
        }
    }

    fn is_of(self, word: u64) -> bool {
        word >> TAG_SHIFT == self.tag
    }
}

impl TraceTable {
    pub(crate) fn new() -> Self {
        Self {
            lines: (0..LINES).map(|_| Line::default()).collect(),
            full: AtomicU64::new(0),
        }
    }

    /// Requests that were not joined since their line was full.
    pub(crate) fn full(&self) -> u64 {
        self.full.load(Relaxed)
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> usize {
        let slots = self.lines.iter().flat_map(|line| &line.0);
        slots.filter(|slot| slot.load(Relaxed) != 0).count()
    }

    /// Counts a request that goes into the workload. None where there is no room.
    pub(crate) fn begin_request(&self, key: Key) -> Option<(Slot, Change)> {
        let joined = self
            .join(key, REQUEST, |word| key.is_of(word))
            .or_else(|| self.join(key, REQUEST, |word| word == 0 || key.is_of(word)));
        if joined.is_none() {
            self.full.fetch_add(1, Relaxed);
        }
        joined
    }

    /// Counts a call of the workload. None where no request of the trace is in flight into it.
    pub(crate) fn begin_call(&self, key: Key) -> Option<(Slot, Change)> {
        self.join(key, CALL, |word| key.is_of(word) && requests(word) > 0)
    }

    /// Takes back a request that was counted there.
    pub(crate) fn end_request(&self, slot: Slot) -> Change {
        self.leave(slot, REQUEST)
    }

    /// Takes back a call that was counted there.
    pub(crate) fn end_call(&self, slot: Slot) -> Change {
        self.leave(slot, CALL)
    }

    fn join(&self, key: Key, unit: u64, fits: impl Fn(u64) -> bool) -> Option<(Slot, Change)> {
        let take = |word: u64| {
            let tagged = if word == 0 {
                key.tag << TAG_SHIFT
            } else {
                word
            };
            (fits(word) && has_room(word)).then(|| tagged + unit)
        };
        let line = self.lines[key.line].0.iter().enumerate();
        let mut fitting = line.filter(|(_, slot)| fits(slot.load(Relaxed)));
        fitting.find_map(|(place, slot)| {
            let before = slot.fetch_update(Relaxed, Relaxed, take).ok()?;
            let slot = Slot {
                line: key.line as u32,
                place: place as u32,
            };
            Some((slot, waiting(before + unit) - waiting(before)))
        })
    }

    fn leave(&self, slot: Slot, unit: u64) -> Change {
        let slot = &self.lines[slot.line as usize].0[slot.place as usize];
        let drop = |word: u64| {
            let left = word - unit;
            let is_empty = left & (REQUEST * REQUEST - 1) == 0;
            Some(if is_empty { 0 } else { left })
        };
        let (Ok(before) | Err(before)) = slot.fetch_update(Relaxed, Relaxed, drop);
        waiting(before - unit) - waiting(before)
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
