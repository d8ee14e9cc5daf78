//! gRPC's throttling of retries, to compare with (grpc/proposal, "A6: gRPC Retry Design", section "Throttling Retry
//! Attempts and Hedged RPCs").

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The most tokens that there are, in thousandths: ten, as in the proposal's example.
const MOST: u32 = 10_000;
/// What an answer gives back.
const ANSWER: u32 = 100;
/// What a failure takes.
const FAILURE: u32 = 1000;

/// Tokens, which failures take and answers give back. There are retries while more than half of them are there.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// How many lack.
    lack: AtomicU32,
}

impl Throttle {
    /// An attempt has come to this.
    pub(crate) fn saw(&self, is_failure: bool) {
        let next = |lack: u32| match is_failure {
            true => Some((lack + FAILURE).min(MOST)),
            false => lack.checked_sub(ANSWER),
        };
        // Where nothing changes nothing is written.
        let _unchanged = self.lack.fetch_update(Relaxed, Relaxed, next);
    }

    /// Whether there may be a retry now.
    pub(crate) fn allows(&self) -> bool {
        MOST - self.lack.load(Relaxed) > MOST / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_tokens_are_kept() {
        let throttle = Throttle::default();
        for _ in 0..4 {
            throttle.saw(true);
            assert!(throttle.allows());
        }
        throttle.saw(true);
        assert!(!throttle.allows(), "half is not more than half");
        throttle.saw(false);
        assert!(throttle.allows());
        for _ in 0..100 {
            throttle.saw(true);
        }
        for _ in 0..50 {
            assert!(!throttle.allows());
            throttle.saw(false);
        }
        throttle.saw(false);
        assert!(throttle.allows(), "no more than ten are lost");
    }
}
