//! Futures of one kind that serve one guest after the other: an idle connection has none, a busy one
//! allocates none, and none is moved once it is made.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// Where a guest is taken from, and given back.
pub(crate) struct Hand<G, R> {
    guest: Cell<Option<G>>,
    served: Cell<Option<R>>,
}

impl<G, R> Hand<G, R> {
    /// The next guest.
    pub(crate) async fn guest(&self) -> G {
        // Nobody has to be woken: who puts a guest here polls next.
        poll_fn(|_| self.guest.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// What came of the guest.
    pub(crate) fn served(&self, result: R) {
        self.served.set(Some(result));
    }
}

/// Gives a future that serves whoever comes to the hand.
type Make<G, R, F> = Box<dyn Fn(Rc<Hand<G, R>>) -> F>;

/// Futures that are free at this moment.
pub(crate) struct Slots<G, R, F> {
    make: Make<G, R, F>,
    free: RefCell<Vec<Slot<G, R, F>>>,
}

struct Slot<G, R, F> {
    hand: Rc<Hand<G, R>>,
    future: Pin<Box<F>>,
}

impl<G, R, F: Future<Output = Infallible>> Slots<G, R, F> {
    /// How many are kept for later.
    const MOST: usize = 256;

    /// `make` gives a future that serves whoever comes to the hand.
    pub(crate) fn new(make: impl Fn(Rc<Hand<G, R>>) -> F + 'static) -> Self {
        Self {
            make: Box::new(make),
            free: RefCell::new(Vec::new()),
        }
    }

    /// Has a guest served. Where that is given up, the future that was at it is too.
    pub(crate) async fn serve(&self, guest: G) -> R {
        let mut slot = self.slot();
        slot.hand.guest.set(Some(guest));
        let served = poll_fn(|cx| {
            let Poll::Pending = slot.future.as_mut().poll(cx);
            slot.hand.served.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let mut free = self.free.borrow_mut();
        if free.len() < Self::MOST {
            free.push(slot);
        }
        served
    }

    fn slot(&self) -> Slot<G, R, F> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| {
            let hand = Rc::new(Hand {
                guest: Cell::new(None),
                served: Cell::new(None),
            });
            let future = Box::pin((self.make)(hand.clone()));
            Slot { hand, future }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_future_serves_one_guest_after_the_other() {
        let made = Rc::new(Cell::new(0));
        let count = made.clone();
        let slots = Slots::new(move |hand: Rc<Hand<u32, u32>>| {
            count.set(count.get() + 1);
            async move {
                for served in 0.. {
                    let guest = hand.guest().await;
                    tokio::task::yield_now().await;
                    hand.served(guest + served);
                }
                unreachable!("there are more numbers than guests")
            }
        });
        for number in 0..3 {
            assert_eq!(slots.serve(10).await, 10 + number);
        }
        assert_eq!((made.get(), slots.free.borrow().len()), (1, 1));
        {
            let mut abandoned = std::pin::pin!(slots.serve(1));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(abandoned.as_mut().poll(&mut cx).is_pending());
        }
        assert!(slots.free.borrow().is_empty(), "it is amid its guest");
        assert_eq!(slots.serve(10).await, 10);
        assert_eq!(made.get(), 2);
    }
}
