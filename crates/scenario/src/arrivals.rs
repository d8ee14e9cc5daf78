//! Who asks, and how often.

use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::Rng;

use crate::chance;

/// How requests come.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Whatever becomes of earlier ones: a Poisson process whose rate follows this schedule, in the order of
    /// its moments. Before the first of them nothing comes.
    Open(Vec<Rate>),
    /// Each user asks, waits for the answer and thinks, for an exponentially distributed time, before it
    /// asks again. Such load sinks with the service, and cannot bring it to collapse as open load can (B.
    /// Schroeder, A. Wierman, M. Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006).
    Closed {
        /// How many there are from when on, in the order of the moments. Who is one too many leaves instead
        /// of asking, or once it has its answer.
        users: Vec<Crowd>,
        /// Mean of their thinking; they all begin with it.
        think: Duration,
    },
}

/// From when on there are how many users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// Since the beginning.
    pub from: Duration,
    /// How many.
    pub users: u32,
}

/// From when on requests come how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Since the beginning.
    pub from: Duration,
    /// Requests a second; 0 is none.
    pub per_second: f64,
}

impl Arrivals {
    /// The moment of the next arrival behind `now`, both since the beginning: of open load only. `None` where
    /// there is none any more.
    ///
    /// A rate holds from its moment on exactly, since what is left of an exponential time is exponential
    /// again.
    pub fn next(&self, now: Duration, rng: &mut Rng) -> Option<Duration> {
        let Self::Open(rates) = self else {
            return None;
        };
        let mut left = chance::exponential(rng);
        let mut from = now;
        let begun = rates.partition_point(|rate| rate.from <= now);
        for place in begun.saturating_sub(1)..rates.len() {
            let rate = rates[place];
            from = from.max(rate.from);
            let until = rates.get(place + 1).map_or(Duration::MAX, |next| next.from);
            let room = rate.per_second * until.saturating_sub(from).as_secs_f64();
            if left < room {
                return Some(from.saturating_add(chance::seconds(left / rate.per_second)));
            }
            left -= room;
        }
        None
    }

    /// Thinking of one user: of closed load only.
    pub fn think(&self, rng: &mut Rng) -> Option<Duration> {
        match self {
            Self::Open(_) => None,
            Self::Closed { think, .. } => Some(chance::seconds(
                think.as_secs_f64() * chance::exponential(rng),
            )),
        }
    }

    /// When load changes: the rate, or how many users there are.
    pub fn changes(&self) -> impl Iterator<Item = Duration> {
        let (rates, users): (&[Rate], &[Crowd]) = match self {
            Self::Open(rates) => (rates, &[]),
            Self::Closed { users, .. } => (&[], users),
        };
        let rates = rates.iter().map(|rate| rate.from);
        rates.chain(users.iter().map(|crowd| crowd.from)).skip(1)
    }

    /// Most requests that may be under way at once where each ends within `deadline`.
    pub(crate) fn most(&self, deadline: Duration) -> f64 {
        match self {
            Self::Open(rates) => {
                let rates = rates.iter().map(|rate| rate.per_second);
                rates.fold(0.0, f64::max) * deadline.as_secs_f64()
            }
            Self::Closed { users, .. } => {
                let users = users.iter().map(|crowd| f64::from(crowd.users));
                users.fold(0.0, f64::max)
            }
        }
    }

    /// How many users there are at a moment: of closed load only, else none.
    pub fn users(&self, at: Duration) -> u32 {
        let Self::Closed { users, .. } = self else {
            return 0;
        };
        let begun = users.partition_point(|crowd| crowd.from <= at);
        begun.checked_sub(1).map_or(0, |place| users[place].users)
    }

    /// Requests a second that are asked for at a moment, where that does not depend on the answers.
    pub fn rate(&self, at: Duration) -> Option<f64> {
        match self {
            Self::Open(rates) => {
                let begun = rates.partition_point(|rate| rate.from <= at);
                let place = begun.checked_sub(1);
                Some(place.map_or(0.0, |place| rates[place].per_second))
            }
            Self::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_holds_from_its_moments_on() {
        let rate = |from, per_second| Rate {
            from: Duration::from_secs(from),
            per_second,
        };
        let arrivals = Arrivals::Open(alloc::vec![
            rate(1, 1000.0),
            rate(11, 0.0),
            rate(21, 5000.0),
            rate(31, 0.0),
        ]);
        let mut rng = Rng::seeded(3);
        let mut counts = [0u32; 31];
        let mut now = Duration::ZERO;
        while let Some(next) = arrivals.next(now, &mut rng) {
            assert!(next >= now);
            now = next;
            counts[now.as_secs() as usize] += 1;
        }
        assert_eq!(counts[0], 0);
        assert_eq!(counts[11..21], [0; 10]);
        let sum = |range: core::ops::Range<usize>| counts[range].iter().sum::<u32>();
        // Four deviations of a Poisson count.
        assert!(sum(1..11).abs_diff(10_000) < 400, "{counts:?}");
        assert!(sum(21..31).abs_diff(50_000) < 900, "{counts:?}");
        assert_eq!(arrivals.rate(Duration::from_secs(25)), Some(5000.0));
        assert_eq!(arrivals.rate(Duration::ZERO), Some(0.0));
    }
}
