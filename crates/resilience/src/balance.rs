//! Choosing among endpoints.

mod draw;
mod hot_cold;
mod least_request;
mod least_time;
mod peak_ewma;

pub(crate) use draw::Draw;
pub(crate) use hot_cold::{Probed, Warmth};
pub(crate) use least_request::{Load, lighter};
pub(crate) use least_time::{Pace, Standing, sooner};
pub(crate) use peak_ewma::cost as peak_cost;

use core::time::Duration;

use selvedge_model::Instant;

use crate::outcome::OutcomeKind;

/// Which of two endpoints a request goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BalanceLaw {
    /// The one with fewer requests in flight for its weight.
    #[default]
    LeastRequest,
    /// The one that is likely to have it answered well sooner, by how long its answers took of late and how many of
    /// them were good: half as much counts after 1.4 s.
    LeastTime,
    /// Finagle's, to compare with.
    PeakEwma,
    /// Prequal's, to compare with.
    HotCold,
}

impl Pace {
    /// An attempt came to this after this time.
    pub(crate) fn saw(&self, law: BalanceLaw, now: Instant, time: Duration, kind: OutcomeKind) {
        match law {
            BalanceLaw::LeastRequest => {}
            BalanceLaw::LeastTime => self.least_time(now, time, kind),
            BalanceLaw::PeakEwma => peak_ewma::saw(self, now, time),
            BalanceLaw::HotCold if matches!(kind, OutcomeKind::Answered { status: ..500 }) => {
                hot_cold::saw(self, now, time);
            }
            BalanceLaw::HotCold => {}
        }
    }

    fn least_time(&self, now: Instant, time: Duration, kind: OutcomeKind) {
        match kind {
            OutcomeKind::Answered { status } => self.answered(now, time, status < 500),
            OutcomeKind::Cancelled => self.gave_up(now, time, false),
            OutcomeKind::TimedOut => self.gave_up(now, time, true),
            OutcomeKind::Stale => {}
            OutcomeKind::ConnectFailed | OutcomeKind::Cut | OutcomeKind::Malformed => {
                self.answered(now, time, false);
            }
        }
    }
}
