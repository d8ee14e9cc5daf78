//! A bounded table that all workers look up and write at once, without a lock and without allocation.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use selvedge_model::Rng;

/// Slots in one line, which is all that is looked at for a key.
const SLOTS: usize = 8;

/// At 5,000 things at once one of some 1,000 finds its line full.
const LINES: usize = 2048;

/// Slots in all: 256 KiB where what stands beside takes 8 bytes.
pub(crate) const CAPACITY: usize = LINES * SLOTS;

/// Where the tag stands in a word.
pub(crate) const TAG_SHIFT: u32 = 32;

/// Words, each of which has a tag above and its user's counts below, and is 0 where it is free; beside each
/// stands what is written apart from it.
#[derive(Debug)]
pub(crate) struct Slots<B> {
    lines: Box<[Line<B>]>,
    full: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line<B> {
    pub(crate) words: [AtomicU64; SLOTS],
    beside: [B; SLOTS],
}

/// Where something is found, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    line: u32,
    tag: u64,
}

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    line: u32,
    place: u32,
}

impl Key {
    /// Of whatever this is the hash of.
    pub(crate) const fn of(hash: u64) -> Self {
        let mixed = Rng::seeded(hash).next_u64();
        let tag = mixed >> TAG_SHIFT;
        Self {
            line: (mixed % LINES as u64) as u32,
            tag: if tag == 0 { 1 } else { tag },
        }
    }

    /// A word that has this tag and nothing else.
    pub(crate) const fn word(self) -> u64 {
        self.tag << TAG_SHIFT
    }

    pub(crate) const fn is_of(self, word: u64) -> bool {
        word >> TAG_SHIFT == self.tag
    }

    pub(crate) const fn slot(self, place: usize) -> Slot {
        Slot {
            line: self.line,
            place: place as u32,
        }
    }
}

impl<B: Default> Slots<B> {
    pub(crate) fn new() -> Self {
        Self {
            lines: (0..LINES).map(|_| Line::default()).collect(),
            full: AtomicU64::new(0),
        }
    }

    /// Where a key may be.
    pub(crate) fn line(&self, key: Key) -> &Line<B> {
        &self.lines[key.line as usize]
    }

    pub(crate) fn word(&self, slot: Slot) -> &AtomicU64 {
        &self.lines[slot.line as usize].words[slot.place as usize]
    }

    pub(crate) fn beside(&self, slot: Slot) -> &B {
        &self.lines[slot.line as usize].beside[slot.place as usize]
    }

    /// A line was full for something.
    pub(crate) fn count_full(&self) {
        self.full.fetch_add(1, Relaxed);
    }

    /// How often that was.
    pub(crate) fn full(&self) -> u64 {
        self.full.load(Relaxed)
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> usize {
        let words = self.lines.iter().flat_map(|line| &line.words);
        words.filter(|word| word.load(Relaxed) != 0).count()
    }
}
