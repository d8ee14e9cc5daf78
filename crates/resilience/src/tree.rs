//! What the requests that are made for one request of a client have in common, by its trace: that one of them
//! was refused for lack of room, that another has what is scarce, how often they were sent again, and when the
//! client gives up.
//!
//! Bounded, without a lock and without allocation. A slot belongs to the request at the entry, which frees it;
//! those that are made for it look it up, and what they say about a slot that is another's by then is
//! nothing. So a program that forwards no trace has requests of its own instead.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use selvedge_model::{CgroupId, Instant};

use crate::trace::Key;

/// Slots in one line, which is all that is looked at for a trace.
const SLOTS: usize = 8;
const LINES: usize = 2048;

/// Slots in all.
pub(crate) const CAPACITY: usize = LINES * SLOTS;

/// Sendings again for one request of a client, at all hops together.
pub(crate) const MOST_TRIES: u64 = 2;

const TAG_SHIFT: u32 = 32;
const REFUSED: u64 = 1 << 16;
const USED: u64 = 1 << 17;
const TRIES: u64 = REFUSED - 1;

/// The requests of clients that are under way.
#[derive(Debug)]
pub(crate) struct TreeTable {
    lines: Box<[Line]>,
    full: AtomicU64,
}

/// Each word holds a tag, whether something was refused, whether something scarce was used, and tries; a free
/// one is 0.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    words: [AtomicU64; SLOTS],
    /// In ns; 0 is never.
    deadlines: [AtomicU64; SLOTS],
}

/// A client's request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    line: u32,
    place: u32,
    tag: u64,
}

impl TreeTable {
    pub(crate) fn new() -> Self {
        Self {
            lines: (0..LINES).map(|_| Line::default()).collect(),
            full: AtomicU64::new(0),
        }
    }

    /// Client's requests that found no room.
    pub(crate) fn full(&self) -> u64 {
        self.full.load(Relaxed)
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> usize {
        let words = self.lines.iter().flat_map(|line| &line.words);
        words.filter(|word| word.load(Relaxed) != 0).count()
    }

    /// A client's request begins. None where there is no room, or one of the same trace is under way:
    /// then what is made for it is on its own.
    pub(crate) fn begin(&self, trace: u64, deadline: Option<Instant>) -> Option<Tree> {
        let (line, tag) = place(trace)?;
        let slots = &self.lines[line];
        let is_there = |word: &AtomicU64| word.load(Relaxed) >> TAG_SHIFT == tag;
        if slots.words.iter().any(is_there) {
            return None;
        }
        let claimed = tag << TAG_SHIFT;
        let claim = |word: &AtomicU64| {
            let is_free = word.load(Relaxed) == 0;
            is_free && word.compare_exchange(0, claimed, Relaxed, Relaxed).is_ok()
        };
        let Some(place) = slots.words.iter().position(claim) else {
            self.full.fetch_add(1, Relaxed);
            return None;
        };
        let deadline = deadline.map_or(0, |it| it.as_nanos());
        slots.deadlines[place].store(deadline, Relaxed);
        Some(Tree {
            line: line as u32,
            place: place as u32,
            tag,
        })
    }

    /// The client's request that one of this trace is made for, with its deadline.
    pub(crate) fn find(&self, trace: u64) -> Option<(Tree, Option<Instant>)> {
        let (line, tag) = place(trace)?;
        let slots = &self.lines[line];
        let is_it = |word: &AtomicU64| word.load(Relaxed) >> TAG_SHIFT == tag;
        let place = slots.words.iter().position(is_it)?;
        let deadline = match slots.deadlines[place].load(Relaxed) {
            0 => None,
            nanos => Some(Instant::from_nanos(nanos)),
        };
        let tree = Tree {
            line: line as u32,
            place: place as u32,
            tag,
        };
        Some((tree, deadline))
    }

    /// Something that was asked for it found no place.
    pub(crate) fn refuse(&self, tree: Tree) {
        self.change(tree, |word| Some(word | REFUSED));
    }

    /// It has a place at an upstream that refuses others.
    pub(crate) fn uses_scarce(&self, tree: Tree) {
        self.change(tree, |word| Some(word | USED));
    }

    /// Whether something found no place.
    pub(crate) fn is_refused(&self, tree: Tree) -> bool {
        let word = self.word(tree).load(Relaxed);
        word >> TAG_SHIFT == tree.tag && word & REFUSED != 0
    }

    /// Takes one of its tries, if there is one left.
    pub(crate) fn try_again(&self, tree: Tree) -> bool {
        self.change(tree, |word| (word & TRIES < MOST_TRIES).then_some(word + 1))
    }

    /// It is over; whether it used what others lacked for nothing, since something else was refused.
    pub(crate) fn end(&self, tree: Tree) -> bool {
        let word = self.word(tree).load(Relaxed);
        let is_wasted = word >> TAG_SHIFT == tree.tag && word & REFUSED != 0 && word & USED != 0;
        self.change(tree, |_| Some(0));
        is_wasted
    }

    /// False where the change is none, or the slot is another's.
    fn change(&self, tree: Tree, to: impl Fn(u64) -> Option<u64>) -> bool {
        let to = |word: u64| (word >> TAG_SHIFT == tree.tag).then(|| to(word))?;
        self.word(tree).fetch_update(Relaxed, Relaxed, to).is_ok()
    }

    fn word(&self, tree: Tree) -> &AtomicU64 {
        &self.lines[tree.line as usize].words[tree.place as usize]
    }
}

/// The line of a trace and its tag; none of no trace.
fn place(trace: u64) -> Option<(usize, u64)> {
    let key = (trace != 0).then(|| Key::of(trace, CgroupId(0)))?;
    Some((key.line % LINES, key.tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_request_says_all_of_its_tree_hear() {
        let table = TreeTable::new();
        let deadline = Instant::from_nanos(7);
        let root = table.begin(1, Some(deadline)).unwrap();
        let (child, found) = table.find(1).unwrap();
        assert_eq!(found, Some(deadline));
        assert!(table.find(2).is_none() && table.begin(0, None).is_none());
        assert!(table.begin(1, None).is_none(), "one trace is one request");
        assert!(!table.is_refused(root));
        table.refuse(child);
        assert!(table.is_refused(root));
        let tries = (0..5).filter(|_| table.try_again(child)).count();
        assert_eq!(tries as u64, MOST_TRIES);
        table.uses_scarce(child);
        assert!(table.end(root));
        assert_eq!(table.used(), 0);
        // Who is late finds nothing, also where another has the slot.
        let next = table.begin(1 << 40, None).unwrap();
        table.refuse(child);
        assert!(!table.try_again(child) && !table.is_refused(child));
        assert!(!table.is_refused(next));
    }

    #[test]
    fn a_full_table_is_counted() {
        let table = TreeTable::new();
        let held: alloc::vec::Vec<_> = (1..=30_000)
            .filter_map(|it| table.begin(it, None))
            .collect();
        assert_eq!(table.full() as usize, 30_000 - held.len());
        assert_eq!(table.used(), held.len());
        assert!(held.len() > CAPACITY / 2);
        assert!(held.into_iter().all(|tree| !table.end(tree)));
        assert_eq!(table.used(), 0);
        assert!(table.begin(1, None).is_some());
    }
}
