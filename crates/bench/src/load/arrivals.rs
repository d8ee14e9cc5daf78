//! When the requests of an open loop are due.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrivals {
    /// Each independent of all others, as of many people: gaps are exponential.
    Poisson,
    /// At equal gaps, as of one machine.
    Even,
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "poisson" => Ok(Self::Poisson),
            "even" => Ok(Self::Even),
            _ => Err(format!("`{text}` is neither poisson nor even")),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poisson => "poisson",
            Self::Even => "even",
        })
    }
}

/// The instants, one after the other.
#[derive(Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    mean_ns: f64,
    start_ns: u64,
    /// When the next is due, since the start. A double holds nanoseconds exactly for 100 days.
    next_ns: f64,
    random: Random,
}

impl Schedule {
    /// `rate` is above 0, in requests each second.
    pub(super) fn new(arrivals: Arrivals, rate: f64, start_ns: u64, random: Random) -> Self {
        debug_assert!(rate > 0.0);
        let mut schedule = Self {
            arrivals,
            mean_ns: 1e9 / rate,
            start_ns,
            next_ns: 0.0,
            random,
        };
        schedule.next_ns = schedule.gap_ns();
        schedule
    }

    /// When the next is due.
    pub(super) fn next_ns(&self) -> u64 {
        self.start_ns + self.next_ns as u64
    }

    /// The next, where it is due by now.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<u64> {
        let next_ns = self.next_ns();
        if next_ns > now_ns {
            return None;
        }
        self.next_ns += self.gap_ns();
        Some(next_ns)
    }

    fn gap_ns(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Even => self.mean_ns,
            Arrivals::Poisson => {
                // In (0, 1]: the logarithm is finite.
                let share = ((self.random.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
                -share.ln() * self.mean_ns
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(arrivals: Arrivals, count: usize) -> Vec<f64> {
        let mut schedule = Schedule::new(arrivals, 10_000.0, 5, Random::new(3));
        let mut last = 5;
        let mut gaps = Vec::new();
        while gaps.len() < count {
            let at = schedule.due(u64::MAX).unwrap();
            gaps.push((at - last) as f64);
            last = at;
        }
        gaps
    }

    #[test]
    fn even_gaps_are_equal() {
        assert!(gaps(Arrivals::Even, 50).iter().all(|gap| *gap == 100_000.0));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let gaps = gaps(Arrivals::Poisson, 100_000);
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let longer = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
        // One standard error of the mean is 0.3 %; of 1/e above the mean, 0.15 %.
        assert!((mean / 100_000.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((longer - (-1.0_f64).exp()).abs() < 0.01, "{longer}");
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut schedule = Schedule::new(Arrivals::Even, 1000.0, 7, Random::new(3));
        assert_eq!(schedule.due(1_000_006), None);
        assert_eq!(schedule.due(1_000_007), Some(1_000_007));
        assert_eq!(schedule.next_ns(), 2_000_007);
    }
}
