//! Laws by which a limit of requests in flight follows from what happens below it.
//!
//! A law sees one window after the other and never a request: the same windows give the same decisions,
//! whoever shows them.

mod adaptive;
mod gradient;

use alloc::boxed::Box;
use core::time::Duration;

use selvedge_model::{Instant, Rng};

use adaptive::Adaptive;
use gradient::Gradient;

use crate::estimate::Tail;

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
    /// Whether the limit counts requests that their workload has to work on itself, and their own time. If
    /// not, it counts all until their last byte.
    pub(crate) const fn is_of_own(self) -> bool {
        matches!(self, Self::Adaptive { .. })
    }

    /// What a request is taken to have needed that had no answer in its time: three times the objective,
    /// since its age alone would say that it was nearly done.
    pub(crate) fn least_of_expired(self) -> Duration {
        match self {
            Self::Adaptive { objective } | Self::AdaptiveEntry { objective } => {
                objective.saturating_mul(3)
            }
            Self::Static | Self::Gradient(_) => Duration::ZERO,
        }
    }
}

/// What a controller sees of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowSummary {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The limit that was decided last.
    pub limit: u32,
    /// Most requests at once of those that the limit counts.
    pub peak: u32,
    /// How long those took that ended in the window and began under this limit.
    pub times: Tail,
    /// Requests that found no place in it.
    pub refused: u64,
    /// Share of requests that found none: 0 to 1, with a memory of half a second.
    pub refused_share: f64,
    /// What became of the requests that ended in it; known at the entry of a route.
    pub fates: Fates,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// How many ended.
    pub ended: u64,
    /// Those that had a place at an upstream that refuses others, and found none at another.
    pub wasted: u64,
}

impl Fates {
    pub(crate) const fn since(&self, earlier: &Self) -> Self {
        Self {
            ended: self.ended.saturating_sub(earlier.ended),
            wasted: self.wasted.saturating_sub(earlier.wasted),
        }
    }
}

/// What follows from a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The limit from now on.
    pub limit: u32,
    /// Whether what began before now says nothing about it.
    pub is_fresh: bool,
    /// Why it is that.
    pub why: Why,
}

/// Why a limit is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The tail is where it should be, or nothing is known against it.
    Steady,
    /// The tail is shorter than it may be and the limit binds: there is room.
    Room,
    /// The tail is longer than it may be.
    Slow,
    /// The tail is longer than it may be, but no less so with less in flight: throttling does not help.
    NotTheLoad,
    /// Too many of those admitted take what is scarce and are refused elsewhere.
    Wasted,
    /// Far less is in flight than may be: what the limit would do is not known any more.
    Unused,
    /// The latency without load is being measured.
    Measuring,
}

impl Why {
    /// The public word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Room => "room",
            Self::Slow => "slow",
            Self::NotTheLoad => "not_the_load",
            Self::Wasted => "wasted",
            Self::Unused => "unused",
            Self::Measuring => "measuring",
        }
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

    /// The limit before any window.
    pub fn start(&self) -> u32 {
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
