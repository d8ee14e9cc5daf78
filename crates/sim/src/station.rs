//! One replica of a service: so many requests at once, and the rest in the order they came. Real replicas of
//! the bench are this same one, with a clock.

use alloc::collections::VecDeque;

use selvedge_scenario::Condition;

/// A replica, with its requests as `R`.
#[derive(Debug)]
pub struct Station<R> {
    permits: u32,
    room: usize,
    condition: Condition,
    busy: u32,
    waiting: VecDeque<R>,
}

impl<R> Station<R> {
    /// An idle one that works on `permits` requests at once while up to `queue` wait.
    pub fn new(permits: u32, queue: u32) -> Self {
        Self {
            permits,
            room: queue as usize,
            condition: Condition::default(),
            busy: 0,
            waiting: VecDeque::new(),
        }
    }

    /// How it is.
    pub const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// From now on it is like this. What is being worked on goes on.
    pub const fn set(&mut self, condition: Condition) {
        self.condition = condition;
    }

    /// A request joins those that wait; false where there is no room.
    pub fn join(&mut self, request: R) -> bool {
        // One that begins at once has waited in no queue.
        let has_room = self.waiting.len() < self.room || self.has_permit();
        if has_room {
            self.waiting.push_back(request);
        }
        has_room
    }

    /// The next request that work begins on now.
    pub fn begin(&mut self) -> Option<R> {
        if !self.has_permit() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.busy += 1;
        Some(next)
    }

    /// The work on one is done.
    ///
    /// # Panics
    /// Where none was begun.
    pub fn end(&mut self) {
        self.busy = self.busy.checked_sub(1).expect("one was begun");
    }

    /// Requests that are worked on, and that wait.
    pub fn load(&self) -> (u32, usize) {
        (self.busy, self.waiting.len())
    }

    fn has_permit(&self) -> bool {
        self.busy < self.condition.permits.unwrap_or(self.permits)
    }
}
