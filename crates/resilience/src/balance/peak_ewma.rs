//! Finagle's choice of endpoint, to compare with (twitter/finagle, `PeakEwma`; Linkerd has it too): the mean time that
//! follows a longer one at once and shorter ones in ten seconds, times the requests in flight and one more. There time goes
//! on with each look, here with each answer.

use core::time::Duration;

use selvedge_model::Instant;

use super::Pace;
use super::least_time::micros;

/// What was seen goes in so long to a part of e.
const DECAY: Duration = Duration::from_secs(10);
/// What it costs where something is in flight and nothing was ever answered, in us: more than anything else.
const UNKNOWN: f32 = 1e9;

/// An attempt came to something after this time, whatever it was.
pub(crate) fn saw(pace: &Pace, now: Instant, time: Duration) {
    let time = micros(time);
    let mean = mean(pace, now);
    let next = match time > mean {
        true => time,
        false => {
            let keeps = keeps(pace, now);
            pace.mean() * keeps + time * (1.0 - keeps)
        }
    };
    pace.set_mean(now, next);
}

/// What one more request costs.
pub(crate) fn cost(pace: &Pace, now: Instant, in_flight: u32) -> f32 {
    match (mean(pace, now), in_flight) {
        (0.0, 1..) => UNKNOWN * in_flight as f32,
        (mean, in_flight) => mean * (in_flight as f32 + 1.0),
    }
}

/// It fades while nothing comes, as if answers took no time.
fn mean(pace: &Pace, now: Instant) -> f32 {
    pace.mean() * keeps(pace, now)
}

fn keeps(pace: &Pace, now: Instant) -> f32 {
    libm::expf(-(pace.since(now).as_secs_f32() / DECAY.as_secs_f32()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn longer_times_count_at_once_and_shorter_ones_slowly() {
        let pace = Pace::default();
        assert_eq!(cost(&pace, at(0), 0), 0.0, "who is new is asked");
        assert!(cost(&pace, at(0), 1) >= UNKNOWN, "once");
        let ms = Duration::from_millis;
        saw(&pace, at(0), ms(10));
        saw(&pace, at(0), ms(50));
        assert_eq!(cost(&pace, at(0), 1), 100_000.0);
        saw(&pace, at(10_000), ms(10));
        let part = core::f32::consts::E.recip();
        let due = 50_000.0 * part + 10_000.0 * (1.0 - part);
        let found = cost(&pace, at(10_000), 0);
        assert!((found - due).abs() < 20.0, "{found}, not {due}");
    }
}
