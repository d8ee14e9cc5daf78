//! Joining the calls of a program with the request it makes them for, by trace: which requests wait for a
//! call, and how long they have.
//!
//! No lock, no allocation and no hand-over between workers. Whoever counts itself into a slot
//! remembers which, so that whatever happens between, everything returns to zero.
//!
//! A time is kept as an integral that is written at changes only: when one more request waits, the moment is
//! taken off a sum, and when one less does it is added. Additions may come in any order, and what a request
//! waited is the difference of two readings.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use selvedge_model::{CgroupId, Instant, Rng};

/// Slots in one cache line, which is all that is looked at for a key.
const SLOTS: usize = 8;

/// Lines: 16,384 slots in 256 KiB. At 5,000 requests in flight one of some 1,000 finds its line full.
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

/// Each slot holds a tag, requests and calls; a slot without either is 0. Beside it stands what its requests
/// have waited, which is looked at where requests make calls.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    slots: [AtomicU64; SLOTS],
    waited: [Integral; SLOTS],
}

/// Where something was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    line: u32,
    place: u32,
}

/// A number over time: nanoseconds times that number, less what it is now times the present moment. It
/// wraps, and only differences mean something.
#[derive(Debug, Default)]
pub(crate) struct Integral(AtomicU64);

impl Integral {
    /// From now on the number is so much greater.
    pub(crate) fn change(&self, by: Change, now: Instant) {
        if by != 0 {
            let moment = (i64::from(by) as u64).wrapping_mul(now.as_nanos());
            self.0.fetch_sub(moment, Relaxed);
        }
    }

    /// The integral so far of what is this number now.
    pub(crate) fn until(&self, now: Instant, number: u64) -> u64 {
        let sum = self.0.load(Relaxed);
        sum.wrapping_add(number.wrapping_mul(now.as_nanos()))
    }
}

/// A request in a slot, with the reading at its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    slot: Slot,
    waited: u64,
}

/// By how much the requests that wait for a call became more.
pub(crate) type Change = i32;

#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) line: usize,
    pub(crate) tag: u64,
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
        let slots = self.lines.iter().flat_map(|line| &line.slots);
        slots.filter(|slot| slot.load(Relaxed) != 0).count()
    }

    /// Counts a request that goes into the workload. None where there is no room.
    pub(crate) fn begin_request(&self, key: Key, now: Instant) -> Option<(Joined, Change)> {
        let joined = self
            .join(key, REQUEST, now, |word| key.is_of(word))
            .or_else(|| self.join(key, REQUEST, now, |word| word == 0 || key.is_of(word)));
        if joined.is_none() {
            self.full.fetch_add(1, Relaxed);
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
        let sharing = requests(self.slot(joined.slot).load(Relaxed)).max(1);
        let waited = Duration::from_nanos(waited / sharing);
        (waited <= now.since(began)).then_some(waited)
    }

    fn waited(&self, slot: Slot, now: Instant) -> u64 {
        let number = waiting(self.slot(slot).load(Relaxed));
        self.integral(slot)
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
            let tagged = if word == 0 {
                key.tag << TAG_SHIFT
            } else {
                word
            };
            (fits(word) && has_room(word)).then(|| tagged + unit)
        };
        let line = self.lines[key.line].slots.iter().enumerate();
        let mut fitting = line.filter(|(_, slot)| fits(slot.load(Relaxed)));
        fitting.find_map(|(place, slot)| {
            let before = slot.fetch_update(Relaxed, Relaxed, take).ok()?;
            let slot = Slot {
                line: key.line as u32,
                place: place as u32,
            };
            let change = waiting(before + unit) - waiting(before);
            self.integral(slot).change(change, now);
            Some((slot, change))
        })
    }

    fn leave(&self, slot: Slot, unit: u64, now: Option<Instant>) -> Change {
        let drop = |word: u64| {
            let left = word - unit;
            let is_empty = left & (REQUEST * REQUEST - 1) == 0;
            Some(if is_empty { 0 } else { left })
        };
        let (Ok(before) | Err(before)) = self.slot(slot).fetch_update(Relaxed, Relaxed, drop);
        let change = waiting(before - unit) - waiting(before);
        if let Some(now) = now {
            self.integral(slot).change(change, now);
        }
        change
    }

    fn slot(&self, slot: Slot) -> &AtomicU64 {
        &self.lines[slot.line as usize].slots[slot.place as usize]
    }

    fn integral(&self, slot: Slot) -> &Integral {
        &self.lines[slot.line as usize].waited[slot.place as usize]
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
