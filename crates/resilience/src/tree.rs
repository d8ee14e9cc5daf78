//! What the requests that are made for one request of a client have in common, by its trace: that one of them
//! was refused for lack of room, that another has what is scarce, how often they were sent again, and when the
//! client gives up.
//!
//! Bounded, without a lock and without allocation. A slot belongs to the request at the entry, which frees it;
//! those that are made for it look it up, and what they say about a slot that is another's by then is
//! nothing. So a program that forwards no trace has requests of its own instead.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use selvedge_model::{Instant, Urgency};

use crate::slots::{Key, Slot, Slots};

/// Sendings again for one request of a client, at all hops together.
pub(crate) const MOST_TRIES: u64 = 2;

const REFUSED: u64 = 1 << 16;
const USED: u64 = 1 << 17;
const TRIES: u64 = REFUSED - 1;
const LATE: u64 = 1 << 18;
const CLIENTS: u64 = 1 << 19;
const URGENCY_SHIFT: u32 = 20;
const URGENCY: u64 = 7;

/// The requests of clients that are under way. Each word holds whether something was refused, whether
/// something scarce was used, whether an endpoint was late, whose the deadline is, tries, and how urgent it is; beside it
/// stands the deadline in ns, and 0 is never.
#[derive(Debug)]
pub(crate) struct TreeTable(pub(crate) Slots<AtomicU64>);

/// A client's request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    slot: Slot,
    key: Key,
}

/// A client's request that another is made for, and what that has of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) tree: Tree,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) urgency: Urgency,
}

/// When a request has to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// Whether it is how long whoever asks waits, which says nothing about who is asked.
    pub(crate) is_clients: bool,
}

/// What became of a client's request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Something of it found no place.
    pub(crate) is_refused: bool,
    /// And something else of it used what others lacked, for nothing.
    pub(crate) is_wasted: bool,
    /// Something of it went to an endpoint that takes longer than it may.
    pub(crate) is_late: bool,
}

impl TreeTable {
    pub(crate) fn new() -> Self {
        Self(Slots::new())
    }

    /// A client's request begins. None where there is no room, or one of the same trace is under way:
    /// then what is made for it is on its own, and what is made for that one may be for this, so that it has the later deadline.
    pub(crate) fn begin(
        &self,
        trace: u64,
        deadline: Option<Deadline>,
        urgency: Urgency,
    ) -> Option<Tree> {
        let key = key(trace)?;
        let words = &self.0.line(key).words;
        let same = words.iter().position(|word| key.is_of(word.load(Relaxed)));
        if let Some(place) = same {
            let slot = key.slot(place);
            self.postpone(Tree { slot, key }, deadline);
            return None;
        }
        let clients = match deadline {
            Some(Deadline {
                is_clients: true, ..
            }) => CLIENTS,
            _ => 0,
        };
        let begun = key.word() | clients | u64::from(urgency.get()) << URGENCY_SHIFT;
        let claim = |word: &AtomicU64| {
            let is_free = word.load(Relaxed) == 0;
            is_free && word.compare_exchange(0, begun, Relaxed, Relaxed).is_ok()
        };
        let Some(place) = words.iter().position(claim) else {
            self.0.count_full();
            return None;
        };
        let slot = key.slot(place);
        self.0.beside(slot).store(nanos(deadline), Relaxed);
        Some(Tree { slot, key })
    }

    fn postpone(&self, tree: Tree, deadline: Option<Deadline>) {
        let later = nanos(deadline);
        let postpone = |before: u64| match (before, later) {
            (0, _) | (_, 0) => Some(0),
            (before, later) => Some(before.max(later)),
        };
        // If the tree ends just then the next one in its slot may have more time than it should: as if it had no trace.
        let _always = self
            .0
            .beside(tree.slot)
            .fetch_update(Relaxed, Relaxed, postpone);
        if deadline.is_none_or(|it| !it.is_clients) {
            self.change(tree, |word| Some(word & !CLIENTS));
        }
    }

    /// The client's request that one of this trace is made for.
    pub(crate) fn find(&self, trace: u64) -> Option<Found> {
        let key = key(trace)?;
        let words = self.0.line(key).words.iter();
        let mut words = words.map(|word| word.load(Relaxed)).enumerate();
        let (place, word) = words.find(|(_, word)| key.is_of(*word))?;
        let slot = key.slot(place);
        let nanos = self.0.beside(slot).load(Relaxed);
        let deadline = (nanos != 0).then(|| Deadline {
            at: Instant::from_nanos(nanos),
            is_clients: word & CLIENTS != 0,
        });
        let urgency = Urgency::new((word >> URGENCY_SHIFT & URGENCY) as u8);
        Some(Found {
            tree: Tree { slot, key },
            deadline,
            urgency: urgency.unwrap_or_default(),
        })
    }

    /// Something that was asked for it found no place.
    pub(crate) fn refuse(&self, tree: Tree) {
        self.change(tree, |word| Some(word | REFUSED));
    }

    /// It has a place at an upstream that refuses others.
    pub(crate) fn uses_scarce(&self, tree: Tree) {
        self.change(tree, |word| Some(word | USED));
    }

    /// It has a place at an endpoint that takes longer than it may.
    pub(crate) fn goes_to_late(&self, tree: Tree) {
        self.change(tree, |word| Some(word | LATE));
    }

    /// Whether something found no place.
    pub(crate) fn is_refused(&self, tree: Tree) -> bool {
        let word = self.0.word(tree.slot).load(Relaxed);
        tree.key.is_of(word) && word & REFUSED != 0
    }

    /// Takes one of its tries, if there is one left.
    pub(crate) fn try_again(&self, tree: Tree) -> bool {
        self.change(tree, |word| (word & TRIES < MOST_TRIES).then_some(word + 1))
    }

    /// It is over.
    pub(crate) fn end(&self, tree: Tree) -> Fate {
        let word = self.0.word(tree.slot).load(Relaxed);
        self.change(tree, |_| Some(0));
        let is = |what| tree.key.is_of(word) && word & what != 0;
        Fate {
            is_refused: is(REFUSED),
            is_wasted: is(REFUSED) && is(USED),
            is_late: is(LATE),
        }
    }

    /// False where the change is none, or the slot is another's.
    fn change(&self, tree: Tree, to: impl Fn(u64) -> Option<u64>) -> bool {
        let to = |word: u64| tree.key.is_of(word).then(|| to(word))?;
        let word = self.0.word(tree.slot);
        word.fetch_update(Relaxed, Relaxed, to).is_ok()
    }
}

/// 0 is never.
fn nanos(deadline: Option<Deadline>) -> u64 {
    deadline.map_or(0, |it| it.at.as_nanos())
}

/// None of no trace.
fn key(trace: u64) -> Option<Key> {
    (trace != 0).then(|| Key::of(trace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots;

    #[test]
    fn what_one_request_says_all_of_its_tree_hear() {
        let table = TreeTable::new();
        let deadline = Deadline {
            at: Instant::from_nanos(7),
            is_clients: true,
        };
        let begin = |trace| table.begin(trace, None, Urgency::default());
        let root = table.begin(1, Some(deadline), Urgency::LEAST).unwrap();
        let found = table.find(1).unwrap();
        let child = found.tree;
        assert_eq!(
            (found.deadline, found.urgency),
            (Some(deadline), Urgency::LEAST)
        );
        assert!(table.find(2).is_none() && begin(0).is_none());
        assert!(begin(1).is_none(), "one trace is one request");
        let postponed = table.find(1).unwrap().deadline;
        assert_eq!(
            postponed, None,
            "that one has no deadline, and who knows which it is for"
        );
        assert!(!table.is_refused(root));
        table.refuse(child);
        assert!(table.is_refused(root));
        let tries = (0..5).filter(|_| table.try_again(child)).count();
        assert_eq!(tries as u64, MOST_TRIES);
        table.uses_scarce(child);
        table.goes_to_late(child);
        let fate = table.end(root);
        assert!(fate.is_wasted && fate.is_late && fate.is_refused);
        assert_eq!(table.0.used(), 0);
        // Who is late finds nothing, also where another has the slot.
        let next = begin(1 << 40).unwrap();
        table.refuse(child);
        assert!(!table.try_again(child) && !table.is_refused(child));
        assert!(!table.is_refused(next));
    }

    #[test]
    fn a_full_table_is_counted() {
        let table = TreeTable::new();
        let held: alloc::vec::Vec<_> = (1..=30_000)
            .filter_map(|it| table.begin(it, None, Urgency::default()))
            .collect();
        assert_eq!(table.0.full() as usize, 30_000 - held.len());
        assert_eq!(table.0.used(), held.len());
        assert!(held.len() > slots::CAPACITY / 2);
        assert!(
            held.into_iter()
                .all(|tree| table.end(tree) == Fate::default())
        );
        assert_eq!(table.0.used(), 0);
        assert!(table.begin(1, None, Urgency::default()).is_some());
    }
}
