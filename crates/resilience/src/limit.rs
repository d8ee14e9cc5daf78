//! Laws by which a limit of requests in flight follows from what happens below it.
//!
//! A law sees one window after the other and never a request: the same windows give the same decisions,
//! whoever shows them.

mod adaptive;
mod gradient;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{Decision, Instant, Limited, Rng, WindowSummary};

use adaptive::Adaptive;
use gradient::Gradient;

pub use gradient::GradientSettings;

/// How a limit is set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LimitLaw {
    /// As the policy says, whatever happens; a route's entry has none then.
    #[default]
    Static,
    /// So that 95 of 100 requests take no longer than the objective: before an endpoint.
    Adaptive {
        /// Of the endpoint's own time.
        objective: Duration,
    },
    /// The same at the entry of a route, where what would be refused behind it is refused too.
    AdaptiveEntry {
        /// Of all of a request's time.
        objective: Duration,
    },
    /// As Envoy's adaptive concurrency filter does; to compare with.
    Gradient(GradientSettings),
}

impl LimitLaw {
    /// The law that the proxy has for a limit.
    pub const fn of(limited: &Limited, objective: Duration) -> Self {
        match limited {
            Limited::Endpoint { .. } => Self::Adaptive { objective },
            Limited::Entry { .. } => Self::AdaptiveEntry { objective },
        }
    }

    /// What is to be kept; zero where nothing is.
    pub(crate) const fn objective(self) -> Duration {
        match self {
            Self::Adaptive { objective } | Self::AdaptiveEntry { objective } => objective,
            Self::Static | Self::Gradient(_) => Duration::ZERO,
        }
    }

    /// Whether the limit counts requests that their workload has to work on itself, and their own time. If
    /// not, it counts all until their last byte.
    pub(crate) const fn is_of_own(self) -> bool {
        matches!(self, Self::Adaptive { .. })
    }

    /// What a request is taken to have needed that had no answer in its time: three times the objective,
    /// since its age alone would say that it was nearly done.
    pub(crate) fn least_of_expired(self) -> Duration {
        self.objective().saturating_mul(3)
    }
}

/// The controller of one limit.
#[derive(Clone, Debug)]
pub enum Controller {
    /// Of [`LimitLaw::Adaptive`] and [`LimitLaw::AdaptiveEntry`].
    Adaptive(Box<Adaptive>),
    /// Of [`LimitLaw::Gradient`].
    Gradient(Gradient),
}

impl Controller {
    /// The controller of a law; none where nothing is controlled.
    pub fn new(law: LimitLaw) -> Option<Self> {
        match law {
            LimitLaw::Static => None,
            LimitLaw::Adaptive { objective } => {
                Some(Self::Adaptive(Box::new(Adaptive::of_endpoint(objective))))
            }
            LimitLaw::AdaptiveEntry { objective } => {
                Some(Self::Adaptive(Box::new(Adaptive::of_entry(objective))))
            }
            LimitLaw::Gradient(settings) => Some(Self::Gradient(Gradient::new(settings))),
        }
    }

    /// One that goes on where another of this law was when that gave its [`Self::memory`]. `None` where those
    /// bytes are of no such law, or of one that leaves things to chance.
    pub fn restored(law: LimitLaw, memory: &[u8]) -> Option<Self> {
        let Some(Self::Adaptive(fresh)) = Self::new(law) else {
            return None;
        };
        Some(Self::Adaptive(Box::new(fresh.restored(memory)?)))
    }

    /// All that its decisions follow from, beside its law and the windows to come.
    pub fn memory(&self) -> Vec<u8> {
        match self {
            Self::Adaptive(law) => law.memory(),
            Self::Gradient(_) => Vec::new(),
        }
    }

    /// Goes on from this limit, since another had it meanwhile. What was seen before says nothing of that.
    pub(crate) fn resume(&mut self, limit: u32) {
        if let Self::Adaptive(law) = self {
            law.resume(limit);
        }
    }

    /// The limit now; at the beginning, the one before any window.
    pub fn limit(&self) -> u32 {
        match self {
            Self::Adaptive(law) => law.limit(),
            Self::Gradient(law) => law.limit(),
        }
    }

    /// Whether a window that began then and has so many samples may be closed.
    pub fn is_due(&self, began: Instant, now: Instant, samples: u64) -> bool {
        match self {
            Self::Adaptive(law) => law.is_due(now.since(began), samples),
            Self::Gradient(law) => law.is_due(now.since(began), samples),
        }
    }

    /// What follows from a window that was due.
    pub fn on_window(&mut self, window: &WindowSummary, rng: &mut Rng) -> Decision {
        match self {
            Self::Adaptive(law) => law.on_window(window),
            Self::Gradient(law) => law.on_window(window, rng),
        }
    }

    /// The 95th percentile that was seen last, in us; what is given up before that says nothing.
    pub(crate) fn tail_us(&self) -> f64 {
        match self {
            Self::Adaptive(law) => law.tail_us(),
            Self::Gradient(_) => f64::from(u32::MAX),
        }
    }
}
