//! How requests to a service are treated by the proxy: fixed values, which no controller may cross.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;

use crate::{Reason, ServiceName};

/// What is said about the requests to one service. Nothing of it is needed to reach the service, so
/// that a service about which only this is said is reached without the proxy while that is away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestPolicy {
    /// How long requests may take, where their route does not say.
    pub timeouts: Timeouts,
    /// Which failed requests are sent again, where their route does not say.
    pub retry: Option<RetryPolicy>,
    /// How many retries there may be beside first attempts; `None` is [`RetryBudget::default`].
    pub retry_budget: Option<RetryBudget>,
    /// Most requests that are in flight into one endpoint at once, of all callers of this node together.
    pub requests_per_endpoint: Option<NonZeroU32>,
    /// When an endpoint is taken out.
    pub ejection: Option<Ejection>,
    /// What is to be kept, within these values.
    pub objective: Option<Objective>,
    /// What is to be kept of the service's own time, so that the objectives of whole answers hold that are made
    /// of it; planned, and by nobody said.
    pub share: Option<Objective>,
    /// How many times the share of another each of these callers has, where callers have shares; others have 1.
    pub caller_weights: BTreeMap<ServiceName, u16>,
}

impl RequestPolicy {
    /// What is to be kept of the service's own time. How far controllers may go for it is what somebody said about
    /// this service, where somebody did.
    pub fn of_own(&self) -> Option<Objective> {
        match (self.objective, self.share) {
            // Nothing is done for the sake of an objective that only observes.
            (Some(said), Some(share)) if share.mode.applies() || !said.mode.applies() => {
                Some(Objective {
                    latency: said.latency.min(share.latency),
                    mode: said.mode,
                })
            }
            (said, share) => said.or(share),
        }
    }

    /// Whether somebody said something.
    pub fn says_anything(&self) -> bool {
        let said = Self {
            share: None,
            ..self.clone()
        };
        said != Self::default()
    }
}

/// What a service is to keep, and how far controllers may go for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// Of 100 requests 95 take no longer.
    pub latency: Duration,
    /// What controllers may do.
    pub mode: PilotMode,
}

/// What controllers may do for an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PilotMode {
    /// Nothing: fixed values only.
    Off,
    /// Decide and tell, and apply nothing.
    Observe,
    /// Only lower load below the fixed values.
    Guard,
    /// Anything within the fixed values.
    Drive,
}

impl PilotMode {
    /// Whether what controllers decide is done.
    pub const fn applies(self) -> bool {
        matches!(self, Self::Guard | Self::Drive)
    }
}

/// How long requests may take; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request's head to the last byte of the response, retries included.
    pub request: Option<Duration>,
    /// From the start of one attempt to the last byte of the response.
    pub attempt: Option<Duration>,
}

/// Which failed requests are sent again. Whatever it says, only what is safe to repeat is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt, at most.
    pub attempts: u8,
    /// Answers that count as failed: statuses from 400 to 599.
    pub statuses: Vec<u16>,
    /// How long to wait before each.
    pub backoff: Backoff,
    /// Whether requests that are not idempotent (RFC 9110, section 9.2.2) are repeated too.
    pub non_idempotent: bool,
}

/// Exponential back-off with full jitter: before retry n a random time from `least` up to
/// `base` x 2^(n-1), `most` at most (M. Brooker, "Exponential Backoff And Jitter", 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Shortest wait before any; not above `base`. A HTTPRoute's `backoff` is one (GEP-1731): nothing
    /// is sent again before it has passed.
    pub least: Duration,
    /// Longest wait before the first retry.
    pub base: Duration,
    /// Longest wait before any.
    pub most: Duration,
}

impl Backoff {
    /// How many times `base` the longest wait is where nobody says, as in Envoy.
    pub const MOST_BY_BASE: u32 = 10;

    /// Waits from 0 up to `base` at first, and to ten times that in the end.
    pub fn of_base(base: Duration) -> Self {
        Self {
            least: Duration::ZERO,
            base,
            most: base.saturating_mul(Self::MOST_BY_BASE),
        }
    }
}

impl Default for Backoff {
    /// That of a base of 25 ms, as in Envoy.
    fn default() -> Self {
        Self::of_base(Duration::from_millis(25))
    }
}

/// How many retries there may be: a share of what is sent first, and a few per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Retries per 100 first attempts.
    pub percent: u16,
    /// Retries per second that there may be however few first attempts there are.
    pub per_second: u16,
}

impl Default for RetryBudget {
    /// What Linkerd and Finagle have: a fifth more load at most, and enough for services that are
    /// called rarely.
    fn default() -> Self {
        Self {
            percent: 20,
            per_second: 10,
        }
    }
}

/// When an endpoint is taken out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row that it takes.
    pub consecutive_failures: NonZeroU16,
    /// How long the first ejection lasts; the n-th in a row lasts n times that, 10 times at most.
    pub duration: Duration,
    /// Most endpoints of a service that may be out at once, in percent; at least one may.
    pub most_percent: u8,
}

/// Why a retry that was wanted is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withheld {
    /// As many were made as may be.
    AttemptsUsed,
    /// The upstream's retry budget is spent.
    BudgetSpent,
    /// It would begin after the request's deadline.
    Deadline,
    /// Sending the request again is not safe.
    NotRepeatable,
    /// Something that it is made for, or that was made for it, found no place: it would find none again.
    Shed,
}

impl Withheld {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::AttemptsUsed,
        Self::BudgetSpent,
        Self::Deadline,
        Self::NotRepeatable,
        Self::Shed,
    ];

    /// The public word, in metrics and the access log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::AttemptsUsed => "attempts_used",
            Self::BudgetSpent => Reason::RetryBudget.word(),
            Self::Deadline => "deadline",
            Self::NotRepeatable => "not_repeatable",
            Self::Shed => "shed",
        }
    }
}
