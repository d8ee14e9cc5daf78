//! What goes wrong.

use core::time::Duration;

/// A time in which replicas of a service are not as they should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// When it begins, since the beginning.
    pub from: Duration,
    /// When it is over.
    pub until: Duration,
    /// The service, by its place.
    pub service: usize,
    /// The replica it is about, counted from 0; `None` is all.
    pub replica: Option<u32>,
    /// How they are meanwhile.
    pub condition: Condition,
}

impl Fault {
    /// Whether it is on at a moment.
    pub fn is_on(&self, at: Duration) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// How a replica is. Where several faults are on, the one that stands last counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// Its permits; `None` is as many as it should have.
    pub permits: Option<u32>,
    /// Factor of its service times.
    pub slow: f64,
    /// Time that each answer takes besides, without a permit.
    pub extra: Duration,
    /// Share of requests that are answered 500 at once, without work.
    pub errors: f64,
    /// Whether it is known to be away: no request is led to it. What it has is brought to an end.
    pub absent: bool,
}

impl Default for Condition {
    /// All is well.
    fn default() -> Self {
        Self {
            permits: None,
            slow: 1.0,
            extra: Duration::ZERO,
            errors: 0.0,
            absent: false,
        }
    }
}
