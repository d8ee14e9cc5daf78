//! What is to happen, and when.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

use selvedge_model::Instant;

/// Events in the order of their moments; those of one moment in the order they were put in, so that a run
/// does not hang on how a heap happens to lie.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    events: BinaryHeap<Reverse<Entry<E>>>,
    count: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self {
            events: BinaryHeap::new(),
            count: 0,
        }
    }

    pub(crate) fn put(&mut self, at: Instant, event: E) {
        let number = self.count;
        self.count += 1;
        self.events.push(Reverse(Entry { at, number, event }));
    }

    /// Puts in what happens behind all else of its moment.
    pub(crate) fn put_last(&mut self, at: Instant, event: E) {
        const LAST: u64 = 1 << 63;
        let number = self.count | LAST;
        self.count += 1;
        self.events.push(Reverse(Entry { at, number, event }));
    }

    /// Keeps those that `is_wanted`.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&E) -> bool) {
        self.events.retain(|Reverse(entry)| is_wanted(&entry.event));
    }

    pub(crate) fn take(&mut self) -> Option<(Instant, E)> {
        let Reverse(Entry { at, event, .. }) = self.events.pop()?;
        Some((at, event))
    }
}

impl<E> Entry<E> {
    const fn place(&self) -> (Instant, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn events_of_one_moment_keep_their_order() {
        let mut agenda = Agenda::new();
        agenda.put_last(Instant::from_nanos(1), 'c');
        for (at, event) in [(2, 'd'), (1, 'a'), (2, 'e'), (1, 'b'), (2, 'x')] {
            agenda.put(Instant::from_nanos(at), event);
        }
        agenda.retain(|event| *event != 'x');
        let order: Vec<_> = core::iter::from_fn(|| agenda.take()).collect();
        let order: Vec<_> = order.into_iter().map(|(_, event)| event).collect();
        assert_eq!(order, ['a', 'b', 'c', 'd', 'e']);
    }
}
