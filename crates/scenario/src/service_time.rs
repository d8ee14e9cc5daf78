//! How long a service works on a request.

use core::time::Duration;

use selvedge_model::Rng;

use crate::chance;

/// The law that service times follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// Always the same.
    Fixed(Duration),
    /// Exponential, with this mean.
    Exponential(Duration),
    /// Lognormal: what services without a fault show, most of their requests short and some long.
    Lognormal {
        /// The mean; the median is smaller by a factor of exp(sigma^2 / 2).
        mean: Duration,
        /// Deviation of the logarithm.
        sigma: f64,
    },
}

impl ServiceTime {
    /// The mean.
    pub const fn mean(&self) -> Duration {
        match self {
            Self::Fixed(mean) | Self::Exponential(mean) | Self::Lognormal { mean, .. } => *mean,
        }
    }

    /// One service time, of a replica that is slower by this factor.
    pub fn draw(&self, slow: f64, rng: &mut Rng) -> Duration {
        let factor = match self {
            Self::Fixed(_) => 1.0,
            Self::Exponential(_) => chance::exponential(rng),
            Self::Lognormal { sigma, .. } => {
                libm::exp(sigma * chance::normal(rng) - sigma * sigma / 2.0)
            }
        };
        chance::seconds(self.mean().as_secs_f64() * factor * slow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and square of the coefficient of variation, of a million draws.
    fn moments(law: ServiceTime) -> (f64, f64) {
        const DRAWS: u32 = 1_000_000;
        let mut rng = Rng::seeded(1);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..DRAWS {
            let time = law.draw(1.0, &mut rng).as_secs_f64();
            sum += time;
            squares += time * time;
        }
        let mean = sum / f64::from(DRAWS);
        (mean, squares / f64::from(DRAWS) / (mean * mean) - 1.0)
    }

    #[test]
    fn draws_have_the_moments_of_their_law() {
        let mean = Duration::from_millis(20);
        let sigma = 0.8;
        for (law, variation) in [
            (ServiceTime::Fixed(mean), 0.0),
            (ServiceTime::Exponential(mean), 1.0),
            (
                ServiceTime::Lognormal { mean, sigma },
                libm::exp(sigma * sigma) - 1.0,
            ),
        ] {
            let (drawn, square) = moments(law);
            assert!((drawn / 0.02 - 1.0).abs() < 0.005, "{law:?}: {drawn}");
            assert!((square - variation).abs() < 0.02, "{law:?}: {square}");
        }
    }

    /// Whatever a scenario says, within its bounds.
    #[test]
    fn the_longest_time_is_one() {
        let mean = Duration::from_secs(3600);
        let law = ServiceTime::Lognormal { mean, sigma: 5.0 };
        let mut rng = Rng::seeded(1);
        for _ in 0..100_000 {
            law.draw(1000.0, &mut rng);
        }
        assert_eq!(law.draw(f64::MAX, &mut rng), Duration::MAX);
    }

    /// Same seed, same bytes: also by another compiler, on another machine.
    #[test]
    fn draws_are_the_same_everywhere() {
        let mean = Duration::from_millis(20);
        let mut rng = Rng::seeded(7);
        let law = ServiceTime::Lognormal { mean, sigma: 0.8 };
        let drawn: [u128; 3] = core::array::from_fn(|_| law.draw(1.0, &mut rng).as_nanos());
        assert_eq!(drawn, [43_281_535, 10_575_215, 14_575_341]);
    }
}
