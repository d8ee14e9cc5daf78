//! Where a limit rests when nothing is to move it.

use core::time::Duration;

use selvedge_model::WindowSummary;

/// The mean of the limits of the last minute in which the objective held.
///
/// A minute is judged by the mean of its windows' tails, by how many samples each has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rest {
    length: Duration,
    samples: f64,
    tails: f64,
    /// Limits by how long each was in force, in seconds.
    limits: f64,
    value: Option<u32>,
}

impl Rest {
    const MINUTE: Duration = Duration::from_secs(60);

    /// Takes in a window during which `limit` was in force.
    pub(crate) fn add(&mut self, window: &WindowSummary, limit: u32, objective: Duration) {
        let length = window.ended.since(window.began);
        let samples = f64::from(window.times.samples);
        self.length += length;
        self.samples += samples;
        self.tails += samples * window.times.q95;
        self.limits += length.as_secs_f64() * f64::from(limit);
        if self.length < Self::MINUTE {
            return;
        }
        if self.tails <= self.samples * objective.as_secs_f64() * 1e6 {
            self.value = Some(libm::round(self.limits / self.length.as_secs_f64()) as u32);
        }
        *self = Self {
            value: self.value,
            ..Self::default()
        };
    }

    /// `None` before any minute in which it held.
    pub(crate) const fn value(&self) -> Option<u32> {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_model::{Instant, Tail};

    #[test]
    fn it_is_the_mean_of_the_last_minute_that_held() {
        let mut rest = Rest::default();
        let mut now = Instant::default();
        let mut minute = |rest: &mut Rest, limits: [u32; 2], q95: f64| {
            for half in limits {
                let ended = now + Duration::from_secs(30);
                let times = Tail {
                    samples: 10,
                    q95,
                    ..Tail::default()
                };
                let window = WindowSummary {
                    began: now,
                    ended,
                    times,
                    ..WindowSummary::default()
                };
                rest.add(&window, half, Duration::from_millis(100));
                now = ended;
            }
            rest.value()
        };
        assert_eq!(minute(&mut rest, [4, 4], 150e3), None, "it never held");
        assert_eq!(minute(&mut rest, [10, 20], 90e3), Some(15));
        assert_eq!(minute(&mut rest, [2, 2], 101e3), Some(15));
        assert_eq!(minute(&mut rest, [6, 7], 100e3), Some(7));
    }
}
