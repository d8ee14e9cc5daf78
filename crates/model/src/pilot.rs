//! What controllers see, what they decide, and what is written down of it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::{Backend, Instant, Place, Port, ServiceName};

/// Something whose requests in flight a controller limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limited {
    /// An endpoint of a service.
    Endpoint {
        /// Of which service, at which of its ports.
        backend: Backend,
        /// Where the endpoint is.
        place: Place,
        /// Its port.
        port: Port,
    },
    /// The entry of a route.
    Entry {
        /// The service that has the objective.
        service: ServiceName,
        /// The route's name; see [`crate::Rule::name`].
        route: String,
    },
}

impl Limited {
    /// The service that has the objective.
    pub const fn service(&self) -> &ServiceName {
        match self {
            Self::Endpoint { backend, .. } => &backend.service,
            Self::Entry { service, .. } => service,
        }
    }
}

/// What a controller sees of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WindowSummary {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// The limit that was decided last.
    pub limit: u32,
    /// Whether it was in force.
    pub is_applied: bool,
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

/// Where the times of a window lie, in microseconds; 0 of a window without samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tail {
    /// How many there were.
    pub samples: u32,
    /// Their mean.
    pub mean: f64,
    /// Half of them took no longer.
    pub median: f64,
    /// Of 100 of them 95 took no longer.
    pub q95: f64,
    /// The 95th percentile, less half a standard deviation of how many of so many samples lie above it: where
    /// this is above a target there is more above it than by chance (a binomial count has the variance
    /// `n p (1 - p)`).
    pub q95_low: f64,
    /// The 95th percentile and a quarter of that deviation.
    pub q95_high: f64,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// How many ended.
    pub ended: u64,
    /// Those of which something found no place.
    pub refused: u64,
    /// Those that had a place at an upstream that refuses others, and found none at another.
    pub wasted: u64,
    /// Those that had a place at an endpoint which takes longer than it may, whatever its limit does.
    pub late: u64,
}

impl Fates {
    /// What has come since those.
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            ended: self.ended.saturating_sub(earlier.ended),
            refused: self.refused.saturating_sub(earlier.refused),
            wasted: self.wasted.saturating_sub(earlier.wasted),
            late: self.late.saturating_sub(earlier.late),
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
    /// The 95th percentile without load, in us, as far as the law knows it; 0 where it does not.
    pub floor: f64,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $word:literal;)+) => {
        /// Why a limit is what it is. The number is written down and travels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Why { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl Why {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The public word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// One line of explanation.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// The tail is where it should be, or nothing is known against it.
    Steady = 1, "steady";
    /// The tail is shorter than it may be and the limit binds: there is room.
    Room = 2, "room";
    /// The tail is longer than it may be.
    Slow = 3, "slow";
    /// The tail is longer than it may be, but no less so with less in flight: throttling does not help.
    NotTheLoad = 4, "not_the_load";
    /// Too many of those admitted take what is scarce and are refused elsewhere.
    Wasted = 5, "wasted";
    /// Far less is in flight than may be: what the limit would do is not known any more.
    Unused = 6, "unused";
    /// The latency without load is being measured.
    Measuring = 7, "measuring";
    /// The tail is longer than it may be, and limits behind this one refuse: it is theirs to hold.
    Behind = 8, "behind";
}

impl Why {
    /// The reason with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|it| **it as u32 == number).copied()
    }
}

/// A line of the journal of controllers.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// About which limit.
    pub about: Limited,
    /// What happened.
    pub event: JournalEvent,
}

/// What is written down about a limit. From a state on, the windows lead to the decisions.
#[derive(Clone, Debug, PartialEq)]
pub enum JournalEvent {
    /// A controller moves the limit, and is in this state.
    State(ControllerState),
    /// A window was closed.
    Decided {
        /// What the controller saw.
        window: WindowSummary,
        /// What followed.
        decision: Decision,
    },
    /// From now on nothing moves the limit, until there is a state again.
    Held {
        /// When that began.
        at: Instant,
        /// The limit meanwhile; `None` is no limit.
        limit: Option<u32>,
        /// Who wants it so.
        by: HeldBy,
    },
    /// The limit is no more.
    Gone,
}

/// Who holds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// Somebody, to rest.
    Freeze,
    /// Somebody, at a value that was asked for.
    Pin,
    /// Its controller, which does not trust what it sees.
    Doubt(Doubt),
}

/// Why a controller does not trust what it sees. The number is written down and travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doubt {
    /// Time went on for long without a look: what came meanwhile is of a time that nobody saw.
    Stalled = 1,
    /// Requests have places, and nothing has ended for long.
    Silent = 2,
    /// Figures that cannot be: not a number, below zero, or a percentile beside its own bounds.
    Absurd = 3,
    /// The limit went to and fro by half and more, again and again.
    Restless = 4,
}

impl Doubt {
    /// Every doubt there is.
    pub const ALL: [Self; 4] = [Self::Stalled, Self::Silent, Self::Absurd, Self::Restless];

    /// The one with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|it| *it as u32 == number)
    }

    /// The public word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Silent => "silent",
            Self::Absurd => "absurd",
            Self::Restless => "restless",
        }
    }

    /// What was seen, in a line.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Stalled => {
                "the controllers did not run for seconds, so what they saw is of no known time"
            }
            Self::Silent => "requests have places, and nothing ends",
            Self::Absurd => "figures came that cannot be",
            Self::Restless => "the limit went to and fro",
        }
    }
}

/// All that a controller's decisions follow from, beside the windows.
#[derive(Clone, Debug, PartialEq)]
pub struct ControllerState {
    /// When it was so.
    pub at: Instant,
    /// What is to be kept.
    pub objective: Duration,
    /// What no decision crosses; `None` is no such limit.
    pub fixed: Option<u32>,
    /// Whether what is decided is done, and not only told.
    pub is_applied: bool,
    /// The limit that was decided last.
    pub limit: u32,
    /// What the law remembers, as it alone can read it. At most [`Self::MAX_MEMORY`] bytes.
    pub memory: Vec<u8>,
}

impl ControllerState {
    /// Longest memory of a law, in bytes.
    pub const MAX_MEMORY: usize = 4096;
}

/// What nothing is to move, until it is released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Whether everything rests.
    pub everything: bool,
    /// The services whose limits rest.
    pub services: BTreeSet<ServiceName>,
    /// Limits that are at a value; `None` is no limit.
    pub pins: BTreeMap<Limited, Option<u32>>,
    /// Where limits that rest have come to rest: whoever goes on with them knows nothing of the minutes before.
    pub rests: BTreeMap<Limited, Option<u32>>,
}

/// How one limit is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// At the value of the last minute in which the objective held.
    ToRest,
    /// At this one, where it came to rest; `None` is no limit.
    AtRest(Option<u32>),
    /// At this one; `None` is no limit.
    At(Option<u32>),
}

impl Holds {
    /// Most services, most limits at a value, and most that are known to rest.
    pub const MOST: usize = 1024;

    /// How a limit is held. One that was put to a value stays there when all is frozen.
    pub fn of(&self, limited: &Limited) -> Option<Hold> {
        if let Some(limit) = self.pins.get(limited) {
            return Some(Hold::At(*limit));
        }
        let rest = self.rests.get(limited);
        let rest = rest.map_or(Hold::ToRest, |limit| Hold::AtRest(*limit));
        self.rests(limited.service()).then_some(rest)
    }

    /// Whether what controllers set for a service rests.
    pub fn rests(&self, service: &ServiceName) -> bool {
        self.everything || self.services.contains(service)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.services.is_empty() && self.pins.is_empty()
    }
}
