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
        for (at, event) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            agenda.put(Instant::from_nanos(at), event);
        }
        let order: Vec<_> = core::iter::from_fn(|| agenda.take()).collect();
        let order: Vec<_> = order.into_iter().map(|(_, event)| event).collect();
        assert_eq!(order, ['a', 'b', 'c', 'd']);
    }
}
