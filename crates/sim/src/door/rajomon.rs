//! Rajomon, after Jiali-Xing/rajomon (`tokenAndPrice.go`, `overloadDetection.go`): prices move by one step each 10 ms, and a
//! route's is the highest at it and behind it. What its authors tune for each application is set once here: a request has up
//! to a hundred tokens by chance, and four tenths of the objective may be waited.

use alloc::collections::BTreeMap;
use core::time::Duration;

use selvedge_model::{Instant, Rng};

use super::of_trace;

#[derive(Debug)]
pub(crate) struct Rajomon {
    /// Its own.
    price: u32,
    /// What services behind said last.
    behind: BTreeMap<usize, u32>,
    target: Duration,
    /// What was waited longest since it was looked at.
    longest: Duration,
    looked: Instant,
}

impl Rajomon {
    const EACH: Duration = Duration::from_millis(10);
    const TOKENS: u32 = 100;

    pub(super) fn new(objective: Duration) -> Self {
        Self {
            price: 0,
            behind: BTreeMap::new(),
            target: objective.mul_f64(0.4),
            longest: Duration::ZERO,
            looked: Instant::default(),
        }
    }

    pub(super) fn admits(&mut self, now: Instant, trace: u64, rng: &mut Rng) -> bool {
        self.pass(now);
        let tokens = of_trace(trace, rng) % u64::from(Self::TOKENS);
        tokens >= u64::from(self.highest())
    }

    /// Prices move by themselves.
    fn pass(&mut self, now: Instant) {
        while now.since(self.looked) >= Self::EACH {
            self.look();
        }
    }

    fn look(&mut self) {
        self.price = match self.longest > self.target {
            // Somebody has as many tokens, so that who refuses all hears of it when it is over.
            true => (self.price + 1).min(Self::TOKENS - 1),
            false => self.price.saturating_sub(1),
        };
        self.longest = Duration::ZERO;
        self.looked = self.looked + Self::EACH;
    }

    pub(super) fn waited(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
    }

    /// What it tells who asks.
    pub(super) fn price(&mut self, now: Instant) -> u32 {
        self.pass(now);
        self.highest()
    }

    fn highest(&self) -> u32 {
        let behind = self.behind.values().copied().max();
        self.price.max(behind.unwrap_or(0))
    }

    pub(super) fn hears(&mut self, service: usize, price: u32) {
        self.behind.insert(service, price);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_follow_what_is_waited_and_what_is_asked_behind() {
        let mut door = Rajomon::new(Duration::from_millis(100));
        let mut rng = Rng::seeded(1);
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        for millis in (0..300).step_by(10) {
            door.waited(Duration::from_millis(41));
            assert_eq!(u64::from(door.price(at(millis))), millis / 10);
            door.admits(at(millis + 10), 7, &mut rng);
        }
        door.hears(3, 60);
        assert_eq!(door.price(at(300)), 60);
        let mut admitted = |door: &mut Rajomon, now| {
            (1..=10_000)
                .filter(|trace| door.admits(at(now), *trace, &mut rng))
                .count()
        };
        assert!((3800..4200).contains(&admitted(&mut door, 300)));
        door.hears(3, 0);
        assert!((6800..7200).contains(&admitted(&mut door, 300)));
        // Nothing is waited, and nobody has asked for half of a second.
        assert_eq!(admitted(&mut door, 800), 10_000);
    }
}
