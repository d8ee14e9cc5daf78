//! Netflix's Vegas, to compare with: written out after `VegasLimit.java` and `WindowedLimit.java` of
//! Netflix/concurrency-limits (0.5, commit 78a74b9) with the values that these have by themselves. What had no
//! answer in its time is a long sample here, and no drop.

use core::time::Duration;

use selvedge_model::{Decision, Rng, Why, WindowSummary};

use super::{Law, whole};

/// A window has this length and as many samples.
const WINDOW: Duration = Duration::from_secs(1);
const SAMPLES: u64 = 10;
const START: f64 = 20.0;
const MOST: f64 = 1000.0;
/// The latency without load is taken anew after half to all of so many windows times the limit.
const PROBE: f64 = 30.0;

/// What the controller knows.
#[derive(Debug)]
pub(super) struct Vegas {
    limit: f64,
    /// The shortest mean of a window, in us; none before the first.
    idle: Option<f64>,
    /// Windows since it was taken anew.
    windows: u32,
    /// From 0.5 to 1; drawn at the first window.
    jitter: Option<f64>,
}

impl Default for Vegas {
    fn default() -> Self {
        Self {
            limit: START,
            idle: None,
            windows: 0,
            jitter: None,
        }
    }
}

impl Vegas {
    fn follow(&mut self, idle: f64, mean: f64, peak: u32) -> Why {
        let queue = libm::ceil(self.limit * (1.0 - idle / mean));
        let unit = f64::max(libm::trunc(libm::log10(libm::trunc(self.limit))), 1.0);
        if 2.0 * f64::from(peak) < self.limit {
            return Why::Unused;
        }
        let (next, why) = match queue {
            queue if queue <= unit => (self.limit + 6.0 * unit, Why::Room),
            queue if queue < 3.0 * unit => (self.limit + unit, Why::Room),
            queue if queue > 6.0 * unit => (self.limit - unit, Why::Slow),
            _ => (self.limit, Why::Steady),
        };
        self.limit = next.clamp(1.0, MOST);
        why
    }
}

impl Law for Vegas {
    fn limit(&self) -> u32 {
        whole(self.limit)
    }

    fn is_due(&self, length: Duration, samples: u64) -> bool {
        length >= WINDOW && samples >= SAMPLES
    }

    fn on_window(&mut self, window: &WindowSummary, rng: &mut Rng) -> Decision {
        let mean = f64::max(window.times.mean, 1.0);
        let mut draw = || 0.5 + f64::from(rng.below(1000)) / 2000.0;
        let jitter = *self.jitter.get_or_insert_with(&mut draw);
        self.windows += 1;
        let why = if jitter * PROBE * self.limit <= f64::from(self.windows) {
            (self.jitter, self.windows, self.idle) = (Some(draw()), 0, Some(mean));
            Why::Measuring
        } else {
            match self.idle.filter(|idle| mean >= *idle) {
                Some(idle) => self.follow(idle, mean, window.peak),
                None => {
                    self.idle = Some(mean);
                    Why::Measuring
                }
            }
        };
        Decision {
            limit: whole(self.limit),
            is_fresh: false,
            why,
            floor: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::window;
    use super::*;
    use selvedge_model::Tail;

    /// By hand, from the original's arithmetic: the unit is 1 up to a limit of 99, and the queue that is seen the
    /// limit's share of what is above the shortest mean.
    #[test]
    fn it_moves_as_the_original_does() {
        let mut law = Vegas::default();
        let mut close = |mean_ms: f64, peak| {
            let mean = mean_ms * 1e3;
            let window = window(
                peak,
                Tail {
                    mean,
                    ..Tail::default()
                },
            );
            let decision = law.on_window(&window, &mut Rng::seeded(1));
            (decision.limit, decision.why)
        };
        assert_eq!(close(10.0, 20), (20, Why::Measuring));
        assert_eq!(close(10.0, 20), (26, Why::Room), "nobody waits");
        assert_eq!(close(10.0, 12), (26, Why::Unused));
        // 26 * (1 - 10 / 10.8) is 2 of 26.
        assert_eq!(close(10.8, 20), (27, Why::Room));
        // 27 * (1 - 10 / 12) is 5.
        assert_eq!(close(12.0, 20), (27, Why::Steady));
        assert_eq!(close(20.0, 20), (26, Why::Slow));
        assert_eq!(
            close(9.0, 20),
            (26, Why::Measuring),
            "a shorter mean than ever"
        );
        // After at most 30 windows for each of the limit the mean is taken for the shortest.
        let mut windows = 0;
        while close(90.0, 0).1 != Why::Measuring {
            windows += 1;
        }
        assert!((26 * 15 - 7..=26 * 30).contains(&windows), "{windows}");
        assert_eq!(
            close(90.0, 26),
            (32, Why::Room),
            "ten times longer is nothing to it now"
        );
    }
}
