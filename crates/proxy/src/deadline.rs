//! When a connection has waited long enough.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use selvedge_model::Instant;
use tokio::time::Sleep;

use crate::clock::Clock;

/// The one timer of a connection. It is set anew many times per request, and almost never fires:
/// so it is moved only where it must fire sooner, and where it has fired too soon.
#[derive(Debug)]
pub(crate) struct Deadline {
    clock: Clock,
    /// Made at the first wait.
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
    /// When `timer` fires, at the latest.
    armed: Cell<Instant>,
    /// When what is done now must be done.
    end: Cell<Instant>,
    /// How long nothing may move.
    idle: Cell<Option<Duration>>,
    /// When something has moved, as far as is known: the time is looked at only where the timer fires.
    moved: Cell<Instant>,
    moved_since: Cell<bool>,
}

/// It was not done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimedOut {
    /// The end has come.
    End,
    /// Nothing has moved for too long.
    Idle,
}

impl Deadline {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            timer: RefCell::new(None),
            armed: Cell::new(Instant::NEVER),
            end: Cell::new(Instant::NEVER),
            idle: Cell::new(None),
            moved: Cell::new(clock.now()),
            moved_since: Cell::new(false),
        }
    }

    /// What begins `now` must be done by `end`, and never stand still for twice as long as `idle`. What
    /// stands still for less than `idle` is never ended.
    pub(crate) fn set(&self, now: Instant, end: Option<Instant>, idle: Option<Duration>) {
        self.end.set(end.unwrap_or(Instant::NEVER));
        self.idle.set(idle);
        self.moved.set(now);
        self.moved_since.set(false);
    }

    /// What begins just now has no end, but must never stand still for twice as long as `idle`. When it
    /// begins is found out where the timer fires.
    pub(crate) fn rest(&self, idle: Duration) {
        self.end.set(Instant::NEVER);
        self.idle.set(Some(idle));
        self.touch();
    }

    /// Something has moved.
    pub(crate) fn touch(&self) {
        self.moved_since.set(true);
    }

    /// Waits for `work`, but no longer than was set. It is lent, since a future that holds another holds
    /// it twice.
    pub(crate) async fn within<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, TimedOut> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll_due(cx).map(Err),
        })
        .await
    }

    fn due(&self) -> (Instant, TimedOut) {
        let end = self.end.get();
        match self.idle.get().map(|idle| self.moved.get() + idle) {
            Some(still) if still < end => (still, TimedOut::Idle),
            _ => (end, TimedOut::End),
        }
    }

    fn poll_due(&self, cx: &mut Context<'_>) -> Poll<TimedOut> {
        let (due, _) = self.due();
        if due == Instant::NEVER {
            return Poll::Pending;
        }
        let mut timer = self.timer.borrow_mut();
        let sleep = timer.get_or_insert_with(|| {
            self.armed.set(due);
            Box::pin(tokio::time::sleep_until(self.clock.timer(due)))
        });
        if due < self.armed.get() {
            self.armed.set(due);
            sleep.as_mut().reset(self.clock.timer(due));
        }
        while sleep.as_mut().poll(cx).is_ready() {
            let now = self.clock.now();
            if self.moved_since.replace(false) {
                self.moved.set(now);
            }
            let (due, timed_out) = self.due();
            if now >= due {
                self.armed.set(Instant::NEVER);
                *timer = None;
                return Poll::Ready(timed_out);
            }
            self.armed.set(due);
            sleep.as_mut().reset(self.clock.timer(due));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn deadline() -> (Clock, Deadline) {
        let clock = Clock::start();
        (clock, Deadline::new(clock))
    }

    #[tokio::test]
    async fn what_is_done_in_time_is_given() {
        let (clock, deadline) = deadline();
        deadline.set(clock.now(), Some(clock.now() + SECOND), Some(SECOND));
        assert_eq!(deadline.within(pin!(async { 7 })).await, Ok(7));
    }

    #[tokio::test]
    async fn a_timer_that_was_set_for_later_fires_sooner() {
        let (clock, deadline) = deadline();
        let never = || std::future::pending::<()>();
        let start = clock.now();
        deadline.set(start, Some(start + 3600 * SECOND), None);
        let soon = Duration::from_millis(20);
        let outer = tokio::time::timeout(soon, deadline.within(pin!(never()))).await;
        assert!(outer.is_err(), "an hour has not passed");
        deadline.set(start, Some(start + 2 * soon), None);
        assert_eq!(deadline.within(pin!(never())).await, Err(TimedOut::End));
        deadline.set(clock.now(), None, Some(soon));
        assert_eq!(deadline.within(pin!(never())).await, Err(TimedOut::Idle));
        assert!(clock.now() >= start + 3 * soon);
    }

    #[tokio::test]
    async fn what_moves_is_not_idle() {
        let (clock, deadline) = deadline();
        let idle = Duration::from_millis(50);
        // A machine that stands still for long makes the work look idle, which it then was.
        for _ in 0..20 {
            deadline.set(clock.now(), None, Some(idle));
            let moving = async {
                for _ in 0..8 {
                    tokio::time::sleep(idle / 5).await;
                    deadline.touch();
                }
            };
            if deadline.within(pin!(moving)).await.is_ok() {
                return;
            }
        }
        panic!("it never went through");
    }
}
