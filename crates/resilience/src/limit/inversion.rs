//! An adaptive circuit breaker, to compare with: the limit is the objective over the smoothed time that a
//! request in the queue adds (M. R. Saleh Sedghpour, C. Klein, J. Tordsson, "Service mesh circuit breaker: from panic
//! button to performance management tool", HAOC 2021), written out after `experiments/libs/controllers.py` of
//! salehsedghpour/breaking-the-vicious-circle (commit 48b7a10).

use core::time::Duration;

use selvedge_model::{Decision, Rng, Why, WindowSummary};

use super::Law;

/// A window, however little is in it: without an answer the tail is 0.
const WINDOW: Duration = Duration::from_secs(5);
const START: u32 = 1024;
const MOST: u32 = i32::MAX as u32 - 1;
/// Weight of what was before.
const SMOOTHING: f64 = 0.95;

/// What the controller knows.
#[derive(Debug)]
pub(super) struct Inversion {
    objective_ms: f64,
    limit: u32,
    /// What each request in flight adds to the tail, in ms.
    share: f64,
}

impl Inversion {
    pub(super) fn new(objective: Duration) -> Self {
        Self {
            objective_ms: objective.as_secs_f64() * 1e3,
            limit: START,
            share: 1.0,
        }
    }
}

impl Law for Inversion {
    fn limit(&self) -> u32 {
        self.limit
    }

    fn is_due(&self, length: Duration, _: u64) -> bool {
        length >= WINDOW
    }

    fn on_window(&mut self, window: &WindowSummary, _: &mut Rng) -> Decision {
        let share = window.times.q95 / 1e3 / f64::from(self.limit);
        self.share = SMOOTHING * self.share + (1.0 - SMOOTHING) * share;
        let before = self.limit;
        self.limit = ((self.objective_ms / self.share) as u32).clamp(1, MOST);
        Decision {
            limit: self.limit,
            is_fresh: false,
            why: match self.limit < before {
                true => Why::Slow,
                false => Why::Room,
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
        let mut law = Inversion::new(Duration::from_millis(100));
        let mut close = |q95_ms: f64| {
            let q95 = q95_ms * 1e3;
            let window = window(
                0,
                Tail {
                    q95,
                    ..Tail::default()
                },
            );
            law.on_window(&window, &mut Rng::seeded(1)).limit
        };
        // 0.95 + 0.05 * 100 / 1024, of which 100 are 104.7.
        assert_eq!(close(100.0), 104);
        // 0.95 * 0.9549 + 0.05 * 200 / 104 is 1.0033.
        assert_eq!(close(200.0), 99);
        // Where nothing is answered it grows.
        assert_eq!(close(0.0), 104);
        assert_eq!(close(0.0), 110);
        for _ in 0..1000 {
            close(0.0);
        }
        assert_eq!(close(0.0), MOST);
    }
}
