//! One replica of a service: so many requests at once, and the rest in the order they came.

use alloc::collections::VecDeque;

use selvedge_scenario::{Condition, Service};

/// A replica, with its requests as `R`.
#[derive(Debug)]
pub(crate) struct Station<R> {
    permits: u32,
    room: usize,
    condition: Condition,
    busy: u32,
    waiting: VecDeque<R>,
}

impl<R> Station<R> {
    pub(crate) fn new(service: &Service) -> Self {
        Self {
            permits: service.permits,
            room: service.queue as usize,
            condition: Condition::default(),
            busy: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// From now on it is like this. What is being worked on goes on.
    pub(crate) const fn set(&mut self, condition: Condition) {
        self.condition = condition;
    }

    /// A request joins those that wait; false where there is no room.
    pub(crate) fn join(&mut self, request: R) -> bool {
        // One that begins at once has waited in no queue.
        let has_room = self.waiting.len() < self.room || self.has_permit();
        if has_room {
            self.waiting.push_back(request);
        }
        has_room
    }

    /// The next request that work begins on now.
    pub(crate) fn begin(&mut self) -> Option<R> {
        if !self.has_permit() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.busy += 1;
        Some(next)
    }

    /// The work on one is done.
    pub(crate) fn end(&mut self) {
        self.busy = self.busy.checked_sub(1).expect("one was begun");
    }

    /// Requests that are worked on, and that wait.
    #[cfg(test)]
    pub(crate) fn load(&self) -> (u32, usize) {
        (self.busy, self.waiting.len())
    }

    fn has_permit(&self) -> bool {
        self.busy < self.condition.permits.unwrap_or(self.permits)
    }
}
