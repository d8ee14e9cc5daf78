//! Envoy's adaptive concurrency, to compare with: a written-out gradient controller after Envoy 1.40
//! (`source/extensions/filters/http/adaptive_concurrency/controller/gradient_controller.cc`) and the fields of
//! its configuration.

use core::time::Duration;

use selvedge_model::{Decision, Instant, Rng, Why, WindowSummary};

use super::Law;

/// The fields of Envoy's filter that matter here, and what its documentation sets them to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientSettings {
    /// How often the latency without load is measured; `None` is at the start only.
    pub interval: Option<Duration>,
    /// Requests of which it is the median.
    pub requests: u32,
    /// The least limit, and the one while that is measured.
    pub least: u32,
}

impl Default for GradientSettings {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(30)),
            requests: 50,
            least: 3,
        }
    }
}

/// Time of a window.
const WINDOW: Duration = Duration::from_millis(100);
/// The interval is up to so many thousandths longer, by chance.
const JITTER: u32 = 151;
/// Latency may be as much above the one without load.
const BUFFER: f64 = 0.25;
const MOST: u32 = 1000;
/// The limit stayed at its least for so many windows: then the latency without load is measured again.
const ROW_AT_LEAST: u32 = 5;

/// What the controller knows.
#[derive(Clone, Debug)]
pub(super) struct Gradient {
    settings: GradientSettings,
    limit: u32,
    stage: Stage,
    row_at_least: u32,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The latency without load is measured; then there is this limit again.
    Measuring { limit: u32 },
    /// It is known, in us, and measured again from then on.
    Following { idle: f64, until: Option<Instant> },
}

impl Gradient {
    pub(super) fn new(settings: GradientSettings) -> Self {
        Self {
            settings,
            limit: settings.least,
            stage: Stage::Measuring {
                limit: settings.least,
            },
            row_at_least: 0,
        }
    }
}

impl Law for Gradient {
    fn limit(&self) -> u32 {
        self.limit
    }

    fn is_due(&self, length: Duration, samples: u64) -> bool {
        match self.stage {
            Stage::Measuring { .. } => samples >= self.settings.requests.into(),
            Stage::Following { .. } => length >= WINDOW && samples > 0,
        }
    }

    fn on_window(&mut self, window: &WindowSummary, rng: &mut Rng) -> Decision {
        match self.stage {
            Stage::Measuring { limit } => {
                self.limit = limit;
                let jitter = 1000 + rng.below(JITTER);
                let interval = self.settings.interval.map(|time| time * jitter / 1000);
                self.stage = Stage::Following {
                    idle: window.times.median,
                    until: interval.map(|time| window.ended + time),
                };
                self.row_at_least = 0;
            }
            Stage::Following { idle, until } => {
                self.limit = self.follow(idle, window.times.median);
                let is_least = self.limit == self.settings.least;
                self.row_at_least = if is_least { self.row_at_least + 1 } else { 0 };
                let is_over = until.is_some_and(|until| window.ended >= until);
                if is_over || self.row_at_least >= ROW_AT_LEAST {
                    return self.measure();
                }
            }
        }
        Decision {
            limit: self.limit,
            is_fresh: false,
            why: Why::Steady,
            floor: 0.0,
        }
    }
}

impl Gradient {
    fn measure(&mut self) -> Decision {
        self.stage = Stage::Measuring { limit: self.limit };
        self.limit = self.settings.least;
        Decision {
            limit: self.limit,
            is_fresh: true,
            why: Why::Measuring,
            floor: 0.0,
        }
    }

    fn follow(&self, idle: f64, median: f64) -> u32 {
        let gradient = (idle * (1.0 + BUFFER) / f64::max(median, 1.0)).clamp(0.5, 2.0);
        let limit = f64::from(self.limit) * gradient;
        let limit = limit + libm::sqrt(limit);
        (limit as u32).clamp(self.settings.least, MOST)
    }
}
