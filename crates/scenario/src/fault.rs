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
    /// After this long with a bad replica requests should go past it.
    const NOTICED_AFTER: Duration = Duration::from_secs(5);

    /// The replica that requests should go past at a moment: this one alone has been slow, late or failing for five
    /// seconds. Where it has lost permits it still answers well what is not too much.
    pub(crate) fn bad_replica(&self, at: Duration) -> Option<u32> {
        let Condition {
            slow,
            extra,
            errors,
            absent,
            ..
        } = self.condition;
        let is_bad = !absent && (slow > 1.0 || errors > 0.0 || !extra.is_zero());
        let is_noticed = at >= self.from.saturating_add(Self::NOTICED_AFTER);
        self.replica
            .filter(|_| is_bad && is_noticed && self.is_on(at))
    }

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
