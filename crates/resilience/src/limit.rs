//! Laws by which a limit of requests in flight follows from what happens below it.
//!
//! A law sees one window after the other and never a request: the same windows give the same decisions,
//! whoever shows them.

mod adaptive;
mod gradient;
mod gradient2;
mod inversion;
mod vegas;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::time::Duration;

use selvedge_model::{Decision, Instant, Limited, Rng, WindowSummary};

use adaptive::Adaptive;
use gradient::Gradient;
use gradient2::Gradient2;
use inversion::Inversion;
use vegas::Vegas;

pub use adaptive::Terms;
pub use gradient::GradientSettings;

/// How a limit is set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LimitLaw {
    /// As the policy says, whatever happens; a route's entry has none then.
    #[default]
    Static,
    /// So that 95 of 100 requests take no longer than the objective.
    Adaptive {
        /// Of the time that is counted: an endpoint's own, or all of a request's.
        objective: Duration,
        /// Whose limit it is, and what it goes by.
        terms: Terms,
    },
    /// As Envoy's adaptive concurrency filter does; to compare with.
    Gradient(GradientSettings),
    /// As Netflix's Gradient2 does; to compare with.
    Gradient2,
    /// As Netflix's Vegas does; to compare with.
    Vegas,
    /// The objective over what each request in flight adds to the tail; to compare with.
    Inversion {
        /// Of all of a request's time.
        objective: Duration,
    },
}

impl LimitLaw {
    /// The one that holds an objective of an endpoint's own time.
    pub const fn of_endpoint(objective: Duration) -> Self {
        let terms = Terms::ENDPOINT;
        Self::Adaptive { objective, terms }
    }

    /// The one that holds an objective of all of a request's time, at the entry of a route. What would be
    /// refused behind it is refused too.
    pub const fn of_entry(objective: Duration) -> Self {
        let terms = Terms::ENTRY;
        Self::Adaptive { objective, terms }
    }

    /// The law that the proxy has for a limit.
    pub const fn of(limited: &Limited, objective: Duration) -> Self {
        match limited {
            Limited::Endpoint { .. } => Self::of_endpoint(objective),
            Limited::Entry { .. } => Self::of_entry(objective),
        }
    }

    /// Whether they differ in no more than what is to be kept.
    pub(crate) fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Adaptive { terms, .. }, Self::Adaptive { terms: others, .. }) => terms == others,
            (law, other) => law == other,
        }
    }

    /// What is to be kept; zero where nothing is.
    pub(crate) const fn objective(self) -> Duration {
        match self {
            Self::Adaptive { objective, .. } => objective,
            _ => Duration::ZERO,
        }
    }

    /// Whether the limit counts requests that their workload has to work on itself, and their own time. If
    /// not, it counts all until their last byte.
    pub(crate) const fn is_of_own(self) -> bool {
        matches!(self, Self::Adaptive { terms, .. } if terms.counts_own)
    }

    /// Whether its controller lets go in doubt; those to compare with do what their sources say.
    pub(crate) const fn doubts(self) -> bool {
        matches!(self, Self::Adaptive { .. })
    }

    /// Whether callers have shares of its limit, where that is applied.
    pub(crate) const fn shares_places(self, is_applied: bool) -> bool {
        matches!(self, Self::Adaptive { terms, .. } if terms.shares_places && is_applied)
    }

    /// Whether places of its limit are kept for what is more urgent; those to compare with know no such thing.
    pub(crate) const fn keeps_places(self) -> bool {
        matches!(self, Self::Adaptive { terms, .. } if terms.keeps_places)
    }
}

/// What a law knows of its limit, and does with windows.
trait Law: Debug + Send {
    /// The limit now; at the beginning, the one before any window.
    fn limit(&self) -> u32;

    /// Whether a window of this length with so many samples may be closed.
    fn is_due(&self, length: Duration, samples: u64) -> bool;

    fn on_window(&mut self, window: &WindowSummary, rng: &mut Rng) -> Decision;

    /// The 95th percentile that was seen last, in us; what is given up before that says nothing.
    fn tail_us(&self) -> f64 {
        f64::from(u32::MAX)
    }

    /// All that its decisions follow from; nothing of one that leaves things to chance.
    fn memory(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Another has had this limit meanwhile.
    fn resume(&mut self, _limit: u32) {}

    /// From now on this is to be kept.
    fn aim(&mut self, _objective: Duration) {}
}

/// The controller of one limit.
#[derive(Debug)]
pub struct Controller(Box<dyn Law>);

impl Controller {
    /// The controller of a law; none where nothing is controlled.
    pub fn new(law: LimitLaw) -> Option<Self> {
        Some(Self(match law {
            LimitLaw::Static => return None,
            LimitLaw::Adaptive { .. } => Box::new(adaptive(law)?),
            LimitLaw::Gradient(settings) => Box::new(Gradient::new(settings)),
            LimitLaw::Gradient2 => Box::new(Gradient2::default()),
            LimitLaw::Vegas => Box::new(Vegas::default()),
            LimitLaw::Inversion { objective } => Box::new(Inversion::new(objective)),
        }))
    }

    /// One that goes on where another of this law was when that gave its [`Self::memory`]. `None` where those
    /// bytes are of no such law, or of one that is only there to compare with.
    pub fn restored(law: LimitLaw, memory: &[u8]) -> Option<Self> {
        let restored = adaptive(law)?.restored(memory)?;
        Some(Self(Box::new(restored)))
    }

    /// All that its decisions follow from, beside its law and the windows to come.
    pub fn memory(&self) -> Vec<u8> {
        self.0.memory()
    }

    /// The limit now; at the beginning, the one before any window.
    pub fn limit(&self) -> u32 {
        self.0.limit()
    }

    /// Whether a window that began then and has so many samples may be closed.
    pub fn is_due(&self, began: Instant, now: Instant, samples: u64) -> bool {
        self.0.is_due(now.since(began), samples)
    }

    /// What follows from a window that was due.
    pub fn on_window(&mut self, window: &WindowSummary, rng: &mut Rng) -> Decision {
        self.0.on_window(window, rng)
    }

    /// Goes on from this limit, since another had it meanwhile. What was seen before says nothing of that.
    pub(crate) fn resume(&mut self, limit: u32) {
        self.0.resume(limit);
    }

    /// Goes on with another objective.
    pub(crate) fn aim(&mut self, objective: Duration) {
        self.0.aim(objective);
    }

    /// The 95th percentile that was seen last, in us; what is given up before that says nothing.
    pub(crate) fn tail_us(&self) -> f64 {
        self.0.tail_us()
    }
}

fn adaptive(law: LimitLaw) -> Option<Adaptive> {
    match law {
        LimitLaw::Adaptive { objective, terms } => Some(Adaptive::new(terms, objective)),
        _ => None,
    }
}

/// A limit without its fraction.
fn whole(limit: f64) -> u32 {
    limit as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_model::Tail;

    /// A window of which a law to compare with sees no more than this.
    pub(super) fn window(peak: u32, times: Tail) -> WindowSummary {
        WindowSummary {
            peak,
            times: Tail {
                samples: 10,
                ..times
            },
            ..WindowSummary::default()
        }
    }
}
