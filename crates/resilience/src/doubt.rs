//! When a controller does not trust what it sees.
//!
//! A signal that has stopped, or lies, leads a controller that goes on by it further and further away, and with
//! confidence. So it lets go: the limit rests where it was in the last minute that held the objective, or stays
//! as it is where there was none, until there has been no reason for doubt for a while.

use core::time::Duration;

use selvedge_model::{Doubt, Instant, WindowSummary};

/// How long a limit rests after the last reason for doubt.
const PAUSE: Duration = Duration::from_secs(5);
/// Shortest time in which nothing ends that is doubted.
const SILENCE: Duration = Duration::from_secs(10);
/// The limit turns where it has come back by this factor.
const SWING: f64 = 1.5;
/// So many turns in [`TURNING`] are too many.
const TURNS: usize = 8;
const TURNING: Duration = Duration::from_secs(30);

/// How far a controller trusts what it sees of its limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// The last reason for doubt, and until when it counts.
    doubt: Option<(Doubt, Instant)>,
    /// Since when requests have places and none is seen to end.
    waits_since: Option<Instant>,
    is_rising: bool,
    /// Highest limit since it rises, or lowest since it falls.
    extreme: f64,
    /// The last turns, the oldest at `next`.
    turns: [Option<Instant>; TURNS],
    next: usize,
}

impl Trust {
    /// There is a reason for doubt now.
    pub(crate) fn lose(&mut self, now: Instant, doubt: Doubt) {
        self.doubt = Some((doubt, now + PAUSE));
    }

    /// What is doubted at this moment.
    pub(crate) fn doubt(&self, now: Instant) -> Option<Doubt> {
        let (doubt, until) = self.doubt?;
        (now < until).then_some(doubt)
    }

    /// Whether requests, which usually take that long, wait at this moment and have for too long.
    pub(crate) fn is_silent(&mut self, now: Instant, are_waiting: bool, usual: Duration) -> bool {
        if !are_waiting {
            self.waits_since = None;
            return false;
        }
        let since = *self.waits_since.get_or_insert(now);
        now.since(since) >= SILENCE.max(usual.saturating_mul(3))
    }

    /// The limit was set to this; what speaks against it.
    pub(crate) fn on_decision(&mut self, now: Instant, limit: u32) {
        let limit = f64::from(limit);
        let has_turned = match self.is_rising {
            true => limit * SWING < self.extreme,
            false => limit > self.extreme * SWING,
        };
        if !has_turned {
            self.extreme = match self.is_rising {
                true => f64::max(self.extreme, limit),
                false => f64::min(self.extreme, limit),
            };
            return;
        }
        self.is_rising = !self.is_rising;
        self.extreme = limit;
        self.turns[self.next] = Some(now);
        self.next = (self.next + 1) % TURNS;
        let oldest = self.turns[self.next];
        if oldest.is_some_and(|oldest| now.since(oldest) < TURNING) {
            self.turns = [None; TURNS];
            self.lose(now, Doubt::Restless);
        }
    }
}

/// Whether a window can be.
pub(crate) fn is_plausible(window: &WindowSummary) -> bool {
    let times = &window.times;
    let figures = [times.mean, times.median, times.q95, window.refused_share];
    let are_figures = figures.iter().all(|it| it.is_finite() && *it >= 0.0);
    let are_in_order = times.q95_low <= times.q95 && times.q95 <= times.q95_high;
    are_figures && are_in_order && window.began <= window.ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::default() + Duration::from_millis(millis)
    }

    #[test]
    fn doubt_lasts_a_while_beyond_its_last_reason() {
        let mut trust = Trust::default();
        assert_eq!(trust.doubt(at(0)), None);
        trust.lose(at(1000), Doubt::Stalled);
        assert_eq!(trust.doubt(at(5999)), Some(Doubt::Stalled));
        assert_eq!(trust.doubt(at(6000)), None);
    }

    #[test]
    fn waiting_is_doubted_once_it_is_long_for_such_requests() {
        let mut trust = Trust::default();
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(5));
        assert!(!trust.is_silent(at(0), true, short));
        assert!(!trust.is_silent(at(9999), true, short));
        assert!(trust.is_silent(at(10_000), true, short));
        assert!(!trust.is_silent(at(10_000), true, long));
        assert!(trust.is_silent(at(15_000), true, long));
        assert!(!trust.is_silent(at(15_000), false, long));
        assert!(!trust.is_silent(at(30_000), true, long), "it begins anew");
    }

    /// Steps towards a new level are none, nor are small ones to and fro, nor large ones that take their time.
    #[test]
    fn a_limit_that_goes_to_and_fro_is_doubted() {
        let run = |limits: [u32; 2], every: u64| {
            let mut trust = Trust::default();
            let doubts = (0..40).filter(|turn: &u64| {
                trust.on_decision(at(turn * every), limits[*turn as usize % 2]);
                trust.doubt(at(turn * every)).is_some()
            });
            doubts.count()
        };
        assert!(run([10, 20], 500) > 0);
        assert_eq!(run([10, 14], 500), 0);
        assert_eq!(run([10, 20], 5000), 0);
        let mut trust = Trust::default();
        for turn in 0..40 {
            trust.on_decision(at(turn * 200), 8 << (turn / 4));
            assert_eq!(trust.doubt(at(turn * 200)), None);
        }
    }

    #[test]
    fn figures_that_cannot_be_are_told() {
        let window = WindowSummary::default();
        assert!(is_plausible(&window));
        for spoil in [
            (|it| it.times.mean = f64::NAN) as fn(&mut WindowSummary),
            |it| it.times.q95 = f64::INFINITY,
            |it| it.times.median = -1.0,
            |it| it.times.q95_low = 1.0,
            |it| it.refused_share = f64::NAN,
            |it| it.began = at(1),
        ] {
            let mut spoilt = window;
            spoil(&mut spoilt);
            assert!(!is_plausible(&spoilt), "{spoilt:?}");
        }
    }
}
