//! The only place that reads the time.

use std::time::{Duration, Instant, SystemTime};

use selvedge_model as model;

/// Monotonic time, unrelated to the calendar.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Calendar time, for logs only.
pub(crate) fn calendar() -> SystemTime {
    SystemTime::now()
}

/// Moments as the pure parts count them: nanoseconds since the clock was made. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    beginning: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { beginning: now() }
    }

    pub(crate) fn now(self) -> model::Instant {
        let elapsed = now().saturating_duration_since(self.beginning);
        model::Instant::default() + elapsed
    }

    /// The same moment as timers want it; one that is too far away for them is a century from now.
    pub(crate) fn timer(self, at: model::Instant) -> tokio::time::Instant {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let after = Duration::from_nanos(at.as_nanos()).min(CENTURY);
        (self.beginning + after).into()
    }
}
