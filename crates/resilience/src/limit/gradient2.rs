//! Netflix's Gradient2, to compare with: written out after `Gradient2Limit.java` and `WindowedLimit.java` of
//! Netflix/concurrency-limits (0.5, commit 78a74b9) with the values that these have by themselves.

use core::time::Duration;

use selvedge_model::{Decision, Rng, Why, WindowSummary};

use super::{Law, whole};

/// A window has this length and as many samples.
const WINDOW: Duration = Duration::from_secs(1);
const SAMPLES: u64 = 10;
/// The latency of long ago is the mean of the first windows, and then follows over so many.
const FIRST: u32 = 10;
const LONG: f64 = 600.0;
/// So much longer than that latency may be.
const TOLERANCE: f64 = 1.5;
/// So many may wait.
const QUEUE: f64 = 4.0;
const SMOOTHING: f64 = 0.2;
const LEAST: f64 = 20.0;
const MOST: f64 = 200.0;

/// What the controller knows.
#[derive(Debug)]
pub(super) struct Gradient2 {
    limit: f64,
    /// Mean latency of long ago, in us, and of how many windows it is.
    long: f64,
    windows: u32,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self {
            limit: LEAST,
            long: 0.0,
            windows: 0,
        }
    }
}

impl Gradient2 {
    fn remember(&mut self, short: f64) {
        let weight = match self.windows {
            ..FIRST => 1.0 / f64::from(self.windows + 1),
            _ => 2.0 / (LONG + 1.0),
        };
        self.windows = self.windows.saturating_add(1);
        self.long += weight * (short - self.long);
    }
}

impl Law for Gradient2 {
    fn limit(&self) -> u32 {
        whole(self.limit)
    }

    fn is_due(&self, length: Duration, samples: u64) -> bool {
        length >= WINDOW && samples >= SAMPLES
    }

    fn on_window(&mut self, window: &WindowSummary, _: &mut Rng) -> Decision {
        let short = f64::max(window.times.mean, 1.0);
        self.remember(short);
        let long = self.long;
        if long / short > 2.0 {
            self.long *= 0.95;
        }
        let is_used = f64::from(window.peak) >= self.limit / 2.0;
        let gradient = (TOLERANCE * long / short).clamp(0.5, 1.0);
        if is_used {
            let next = self.limit * gradient + QUEUE;
            let next = self.limit * (1.0 - SMOOTHING) + next * SMOOTHING;
            self.limit = next.clamp(LEAST, MOST);
        }
        Decision {
            limit: whole(self.limit),
            is_fresh: false,
            why: match (is_used, gradient < 1.0) {
                (false, _) => Why::Unused,
                (true, true) => Why::Slow,
                (true, false) => Why::Room,
            },
            floor: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::window;
    use super::*;
    use selvedge_model::Tail;

    /// By hand, from the original's arithmetic.
    #[test]
    fn it_moves_as_the_original_does() {
        let mut law = Gradient2::default();
        let mut close = |mean_ms: f64, peak| {
            let mean = mean_ms * 1e3;
            let window = window(
                peak,
                Tail {
                    mean,
                    ..Tail::default()
                },
            );
            law.on_window(&window, &mut Rng::seeded(1));
            law.limit
        };
        let near = |value: f64, due: f64| assert!((value - due).abs() < 1e-9, "{value} {due}");
        // Half of it is not in use.
        near(close(10.0, 9), 20.0);
        // Long is 10, and the gradient 1: 20 * 0.8 + 24 * 0.2.
        near(close(10.0, 10), 20.8);
        // Long is (10 + 10 + 100) / 3, the gradient 0.6: 20.8 * 0.8 + 16.48 * 0.2 is below the least.
        near(close(100.0, 30), 20.0);
        for _ in 0..7 {
            near(close(40.0, 0), 20.0);
        }
        // The mean of the first ten was 40; now it follows over 600, and is less than twice as long.
        near(close(20.0, 40), 20.8);
    }
}
