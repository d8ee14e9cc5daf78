//! Whether a request is sent again, and when.

use core::time::Duration;

use selvedge_model::{Backoff, Instant, RetryPolicy, Rng, Withheld};

use crate::outcome::{Outcome, OutcomeKind, Verdict};

/// How often a request that came to nothing at one endpoint is sent to another at once: whatever the
/// policy says, and free of the budget, since no endpoint has worked on it.
const MOST_MOVES: u8 = 2;
/// How often where an endpoint may have worked on it, or died of it: no more than once, since the next may
/// die of it too.
const MOST_CUTS: u8 = 1;

/// What retries are paid with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryLaw {
    /// The policy's budget.
    #[default]
    Budget,
    /// What the upstream has to spare: with nothing refused each request earns a retry, and the more of them
    /// find no place the fewer are earned. Of all requests that are made for one of a client two may be
    /// sent again, and none once something of it found no place.
    Headroom,
    /// Both.
    BudgetAndHeadroom,
    /// gRPC's, to compare with.
    Throttle,
}

impl RetryLaw {
    /// Whether controllers set what retries cost.
    pub(crate) const fn is_steered(self) -> bool {
        matches!(self, Self::Headroom | Self::BudgetAndHeadroom)
    }
}

/// A [`RetryPolicy`] as a request carries it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryRule {
    attempts: u8,
    statuses: Statuses,
    backoff: Backoff,
}

/// A set of statuses from 400 to 599.
#[derive(Clone, Copy, Debug, Default)]
struct Statuses([u64; 4]);

impl Statuses {
    fn place(status: u16) -> Option<(usize, u64)> {
        let offset = status.checked_sub(400).filter(|offset| *offset < 200)?;
        Some((usize::from(offset / 64), 1 << (offset % 64)))
    }

    fn contain(&self, status: u16) -> bool {
        Self::place(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }
}

impl From<&RetryPolicy> for RetryRule {
    fn from(policy: &RetryPolicy) -> Self {
        let mut statuses = Statuses::default();
        for (word, bit) in policy.statuses.iter().filter_map(|s| Statuses::place(*s)) {
            statuses.0[word] |= bit;
        }
        Self {
            attempts: policy.attempts,
            statuses,
            backoff: policy.backoff,
        }
    }
}

impl RetryRule {
    /// Whether anything is sent again by it.
    pub(crate) const fn repeats(&self) -> bool {
        self.attempts > 0
    }
}

/// How often a request was sent again so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repeats {
    retries: u8,
    moves: u8,
    cuts: u8,
    /// What the next attempt is, where it is no first one.
    pub(crate) next: Option<Repeat>,
}

/// Why an attempt is not the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    Retry,
    Move,
}

impl Repeats {
    /// What follows from `outcome`. `withdraw` takes a retry from the budget, and is asked last.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        rule: Option<&RetryRule>,
        deadline: Option<Instant>,
        outcome: Outcome,
        withdraw: impl FnOnce() -> Result<(), Withheld>,
    ) -> Verdict {
        let deliver = |withheld| Verdict::Deliver { withheld };
        let Some(wanted) = self.wanted(rule, outcome.kind) else {
            return deliver(None);
        };
        if !outcome.repeatable {
            return deliver(Some(Withheld::NotRepeatable));
        }
        let pause = match (wanted, rule) {
            (Repeat::Move, _) => Duration::ZERO,
            (Repeat::Retry, Some(rule)) if self.retries < rule.attempts => {
                jitter(rng, longest(&rule.backoff, self.retries)).max(rule.backoff.least)
            }
            (Repeat::Retry, _) => return deliver(Some(Withheld::AttemptsUsed)),
        };
        let at = now + pause;
        if deadline.is_some_and(|deadline| at >= deadline) {
            return deliver(Some(Withheld::Deadline));
        }
        if wanted == Repeat::Retry
            && let Err(why) = withdraw()
        {
            return deliver(Some(why));
        }
        match (wanted, outcome.kind) {
            (Repeat::Retry, _) => self.retries += 1,
            (Repeat::Move, OutcomeKind::Cut) => self.cuts += 1,
            (Repeat::Move, _) => self.moves += 1,
        }
        self.next = Some(wanted);
        Verdict::Retry { at }
    }

    /// How the request should be sent again, if it should. A failure that could be moved and no more
    /// is a matter of the policy.
    fn wanted(&self, rule: Option<&RetryRule>, kind: OutcomeKind) -> Option<Repeat> {
        let retry = rule.map(|_| Repeat::Retry);
        let moved = match self.moves < MOST_MOVES {
            true => Repeat::Move,
            false => Repeat::Retry,
        };
        match kind {
            OutcomeKind::Answered { status } => {
                retry.filter(|_| rule.is_some_and(|rule| rule.statuses.contain(status)))
            }
            OutcomeKind::ConnectFailed | OutcomeKind::Stale => Some(moved),
            OutcomeKind::Cut if self.cuts < MOST_CUTS => Some(retry.unwrap_or(Repeat::Move)),
            OutcomeKind::Cut => Some(Repeat::Retry),
            OutcomeKind::Malformed | OutcomeKind::TimedOut => retry,
            OutcomeKind::Cancelled => None,
        }
    }
}

/// The longest pause after this many retries.
fn longest(backoff: &Backoff, retries: u8) -> Duration {
    let factor = 1u32.checked_shl(u32::from(retries)).unwrap_or(u32::MAX);
    backoff.base.saturating_mul(factor).min(backoff.most)
}

/// A random time from 0 up to `longest`.
fn jitter(rng: &mut Rng, longest: Duration) -> Duration {
    let span = longest.as_nanos().min(u128::from(u64::MAX)) + 1;
    Duration::from_nanos(((u128::from(rng.next_u64()) * span) >> 64) as u64)
}
