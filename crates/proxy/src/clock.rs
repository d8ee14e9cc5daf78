//! The only place that reads the time.

use std::time::Instant;

/// Monotonic time, unrelated to the calendar.
pub(crate) fn now() -> Instant {
    Instant::now()
}
