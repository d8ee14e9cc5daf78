//! Places of a limit that are kept for what is more urgent, and for whom has less than its share.
//!
//! Trunk reservation: who is less urgent finds no place where only a few are left. A few are enough, since places
//! come free all the time: what is more urgent finds one nearly always, and while there is nothing more urgent nothing
//! is kept (P. B. Key, "Optimal control and trunk reservation in loss networks", Probability in the Engineering and
//! Informational Sciences 4, 1990).

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use selvedge_model::{Instant, Urgency};

/// What a request can say for itself where places are few.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claim {
    pub(crate) urgency: Urgency,
    /// Whether its caller has as much in flight as an even share, while callers have shares.
    pub(crate) has_its_share: bool,
}

impl From<Urgency> for Claim {
    fn from(urgency: Urgency) -> Self {
        Self {
            urgency,
            has_its_share: false,
        }
    }
}

/// Which urgencies there are, at one limit.
#[derive(Debug, Default)]
pub(crate) struct Reserve {
    /// Those that came since it was turned, a bit each.
    seen: AtomicU8,
    /// Those that came in the time before.
    lately: AtomicU8,
    /// When it was turned, in ns.
    turned: AtomicU64,
}

impl Reserve {
    /// What has not come for so long, or twice as long, has nothing kept for it.
    const TIME: Duration = Duration::from_secs(1);

    /// One of this urgency has come.
    pub(crate) fn saw(&self, urgency: Urgency) {
        let bit = 1 << urgency.get();
        // One line that all workers read, and write where something has not come for a while.
        if self.seen.load(Relaxed) & bit == 0 {
            self.seen.fetch_or(bit, Relaxed);
        }
    }

    /// Time goes on.
    pub(crate) fn turn(&self, now: Instant) {
        let turned = Instant::from_nanos(self.turned.load(Relaxed));
        if now.since(turned) >= Self::TIME {
            self.turned.store(now.as_nanos(), Relaxed);
            let seen = self.seen.swap(0, Relaxed);
            self.lately.store(seen, Relaxed);
        }
    }

    /// So many places of `limit` that are not for it: for each kind that is more urgent what chance moves such a number
    /// by, and one more, and as many for callers with less than their share if its own has that. Half of them are for
    /// all, so that whoever calls everything urgent does not shut others out.
    pub(crate) fn kept(&self, limit: u32, claim: Claim) -> u32 {
        let there = self.seen.load(Relaxed) | self.lately.load(Relaxed);
        let before = there & ((1 << claim.urgency.get()) - 1);
        let before = before.count_ones() + u32::from(claim.has_its_share);
        if before == 0 {
            // Nearly always.
            return 0;
        }
        let each = limit.isqrt() + 1;
        (before * each).min(limit / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_urgent_has_places_while_there_is_some() {
        let urgency = |number| Urgency::new(number).unwrap();
        let reserve = Reserve::default();
        let kept = |number| reserve.kept(24, urgency(number).into());
        let turn = |seconds: u64| reserve.turn(Instant::from_nanos(seconds * 1_000_000_000));
        reserve.saw(urgency(3));
        assert_eq!(
            [0, 3, 7].map(kept),
            [0, 0, 5],
            "only those that are there count"
        );
        reserve.saw(urgency(1));
        assert_eq!([0, 1, 3, 7].map(kept), [0, 0, 5, 10]);
        turn(1);
        reserve.saw(urgency(3));
        assert_eq!(kept(7), 10, "it was there lately");
        turn(1);
        assert_eq!(kept(7), 10, "no time has gone by");
        turn(2);
        assert_eq!(kept(7), 5);
        let kept = |limit| reserve.kept(limit, urgency(7).into());
        assert_eq!([0, 1, 2, 3, u32::MAX].map(kept), [0, 0, 1, 1, 65_536]);
        let claim = Claim {
            urgency: urgency(3),
            has_its_share: true,
        };
        assert_eq!(reserve.kept(24, claim), 5);
    }
}
