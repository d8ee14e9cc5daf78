//! How many retries there may be.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use selvedge_model::{Instant, RetryBudget};

/// A retry costs this many parts of a token.
const RETRY: u64 = 1000;

/// A budget holds at most what its `per_second` earns in this time, which is how far back Finagle's
/// `RetryBudget` looks (`ttl`, 10 s).
const BURST_SECONDS: u64 = 10;

/// It may always hold as many as this: with a small `per_second` what first attempts earn must not be
/// lost before the failures come for which it is meant.
const LEAST_BURST: u64 = 20;

/// A token bucket that nobody fills: what was earned so far follows from the time and the count of
/// first attempts, and only what was spent is kept. So requests that go well write nothing.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    spent: AtomicU64,
}

impl Budget {
    /// Takes one retry, if there is one.
    pub(crate) fn withdraw(&self, now: Instant, first_attempts: u64, law: &RetryBudget) -> bool {
        let earned = earned(now, first_attempts, law);
        let burst = LEAST_BURST.max(u64::from(law.per_second) * BURST_SECONDS);
        self.spend(earned, burst * RETRY)
    }

    /// Takes one retry of those that first attempts have earned, in thousandths; at first there are some.
    pub(crate) fn withdraw_of(&self, earned: u64) -> bool {
        let burst = LEAST_BURST * RETRY;
        self.spend(earned.saturating_add(burst), burst)
    }

    fn spend(&self, earned: u64, burst: u64) -> bool {
        let spend = |spent: u64| {
            // What overflowed the bucket counts as spent.
            let spent = spent.max(earned.saturating_sub(burst));
            (earned >= spent.saturating_add(RETRY)).then(|| spent.saturating_add(RETRY))
        };
        self.spent.fetch_update(Relaxed, Relaxed, spend).is_ok()
    }
}

/// Parts of tokens since the beginning, which is [`BURST_SECONDS`] before the clock's: a node that has just
/// started has failures to repeat too.
fn earned(now: Instant, first_attempts: u64, law: &RetryBudget) -> u64 {
    let milliseconds = now.as_nanos() / 1_000_000 + BURST_SECONDS * 1000;
    let by_time = milliseconds.saturating_mul(u64::from(law.per_second));
    let by_traffic = first_attempts.saturating_mul(u64::from(law.percent) * RETRY / 100);
    by_time.saturating_add(by_traffic)
}
