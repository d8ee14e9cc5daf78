//! Prequal's choice of endpoint, to compare with (B. Wydrowski et al., "Load is not what you should balance: introducing
//! Prequal", NSDI 2024, section 4): of endpoints with few requests in flight the one that answers soonest, and where all have
//! many the one with the fewest. How many are many is a quantile of what was seen at endpoints. It asks them by probes, which
//! tell the median time of late answers; here what is in flight is known, and the time is a mean that follows answers.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::time::Duration;

use selvedge_model::Instant;

use super::Pace;
use super::least_time::micros;

/// The paper's quantile of requests in flight above which an endpoint is hot (2^-0.25).
const HOT: f32 = 0.84;
/// How far one look moves it.
const STEP: f32 = 0.1;
/// What an answer changes of the mean.
const WEIGHT: f32 = 0.1;

/// That many requests in flight are not too many.
#[derive(Debug, Default)]
pub(crate) struct Warmth(AtomicU32);

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probed {
    pub(crate) in_flight: u32,
    /// Mean time of an answer in us; 0 where there was none.
    pub(crate) mean: f32,
}

impl Warmth {
    /// Whether a request goes to `one` sooner than to `other`.
    pub(crate) fn goes_before(&self, one: Probed, other: Probed) -> bool {
        let most = f32::from_bits(self.0.load(Relaxed));
        self.saw(most, one);
        let is_hot = |it: Probed| it.in_flight as f32 > most;
        match (is_hot(one), is_hot(other)) {
            (false, false) => one.mean < other.mean,
            (true, true) => one.in_flight < other.in_flight,
            (one, _) => !one,
        }
    }

    /// Moves it so that it is exceeded as often as it should be (H. Robbins, S. Monro, 1951).
    fn saw(&self, most: f32, probed: Probed) {
        let moved = match probed.in_flight as f32 > most {
            true => most + STEP * HOT,
            false => most - STEP * (1.0 - HOT),
        };
        self.0.store(moved.max(0.0).to_bits(), Relaxed);
    }
}

/// An answer took this long.
pub(crate) fn saw(pace: &Pace, now: Instant, time: Duration) {
    let time = micros(time);
    let mean = match pace.mean() {
        0.0 => time,
        mean => mean + WEIGHT * (time - mean),
    };
    pace.set_mean(now, mean);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_six_is_hot_and_of_the_others_the_quickest_is_asked() {
        let warmth = Warmth::default();
        let probed = |in_flight, mean| Probed { in_flight, mean };
        for nth in 0..20_000 {
            warmth.goes_before(probed(nth * 7 % 100, 1.0), probed(0, 1.0));
        }
        let most = f32::from_bits(warmth.0.load(Relaxed));
        assert!((80.0..88.0).contains(&most), "{most}");
        assert!(warmth.goes_before(probed(70, 1.0), probed(10, 2.0)));
        assert!(warmth.goes_before(probed(70, 9.0), probed(95, 1.0)));
        assert!(!warmth.goes_before(probed(95, 1.0), probed(70, 9.0)));
        assert!(warmth.goes_before(probed(95, 9.0), probed(96, 1.0)));
    }
}
