//! Memory for futures of one kind that is used again: an idle connection needs none, and a busy one
//! allocates none.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Places that are free at this moment.
#[derive(Debug)]
pub(crate) struct Slots<F> {
    free: RefCell<Vec<Slot<F>>>,
}

type Slot<F> = Pin<Box<Option<F>>>;

impl<F: Future> Slots<F> {
    /// How many are kept for later.
    const MOST: usize = 256;

    pub(crate) fn new() -> Self {
        Self {
            free: RefCell::new(Vec::new()),
        }
    }

    /// Gives a future a place to run in. Runs nothing yet.
    pub(crate) fn place(&self, future: F) -> Placed<'_, F> {
        let mut slot = self
            .free
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Box::pin(None));
        slot.set(Some(future));
        Placed { slots: self, slot }
    }
}

/// A future in its place.
#[derive(Debug)]
pub(crate) struct Placed<'s, F> {
    slots: &'s Slots<F>,
    slot: Slot<F>,
}

impl<F: Future> Placed<'_, F> {
    /// Runs it to its end.
    pub(crate) async fn run(mut self) -> F::Output {
        let output = poll_fn(|cx| match self.slot.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        })
        .await;
        self.slot.set(None);
        let mut free = self.slots.free.borrow_mut();
        if free.len() < Slots::<F>::MOST {
            free.push(self.slot);
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_used_again() {
        let slots = Slots::new();
        let add = |a: u32, b: u32| async move {
            tokio::task::yield_now().await;
            a + b
        };
        let mut places = Vec::new();
        for number in 0..3 {
            let placed = slots.place(add(number, 1));
            places.push(std::ptr::from_ref(&*placed.slot).addr());
            assert_eq!(placed.run().await, number + 1);
        }
        assert_eq!(places[0], places[2]);
        let abandoned = slots.place(add(1, 1));
        drop(abandoned);
        assert!(slots.free.borrow().is_empty());
    }
}
