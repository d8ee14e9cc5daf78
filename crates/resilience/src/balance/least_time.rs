//! Choosing who is likely to answer well sooner.
//!
//! What one more request costs at an endpoint is its place in the line there times the mean time of an answer, as
//! in Finagle's peak EWMA (twitter/finagle, `PeakEwma`), over the square of the share of good answers: once because
//! a request that is sent until it has a good one takes as many attempts in the mean, and once more because not all
//! may be sent again. So an endpoint that fails at once, and has nothing in flight by that, is not the one that looks
//! free. What was seen fades: who is passed over is asked again.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use selvedge_model::{EndpointPace, Instant};

/// After this long what was seen counts half as much.
const HALF: Duration = Duration::from_millis(1400);

/// Of answers that come sooner one after the other than that the first is enough: some hundreds in [`HALF`] are.
const APART: Duration = Duration::from_millis(2);

/// How far one answer moves the time that two of 100 take longer than: so far up if it took longer, and down if not, that
/// both are balanced there (H. Robbins, S. Monro, "A stochastic approximation method", 1951).
const LATER: f32 = 1.05;
const SOONER: f32 = 0.999;

/// What costs are divided by at least.
const LEAST_GOOD: f32 = 0.001;

/// How an endpoint answers. Workers that write at once lose one of their samples.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When an answer came last, in ns.
    at: AtomicU64,
    /// [`Seen`], the mean in the upper half, and good as what it lacks to 1, so that 0 is that nothing was seen.
    seen: AtomicU64,
    /// Of 100 good answers 98 take no longer, in us; 0 where there was none.
    late: AtomicU32,
}

/// What was seen of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    /// Mean time of an answer in us; 0 where there was none.
    mean: f32,
    /// Share of good ones.
    good: f32,
}

/// An endpoint as it stands for the next request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) in_flight: u32,
    /// Not 0.
    pub(crate) weight: u16,
    /// In us; None where nothing is known of it.
    mean: Option<f32>,
    good: f32,
}

impl Pace {
    /// An answer has come after this time, or what failed has failed.
    pub(crate) fn answered(&self, now: Instant, time: Duration, is_good: bool) {
        let since = self.since(now);
        if since < APART {
            return;
        }
        let (seen, keeps) = (self.seen(), kept(since));
        let mean = match (is_good, seen.mean) {
            // How long failing takes says nothing about answers.
            (false, mean) => mean,
            (true, 0.0) => micros(time),
            (true, mean) => mix(mean, micros(time), keeps),
        };
        let good = mix(seen.good, if is_good { 1.0 } else { 0.0 }, keeps);
        self.write(now, Seen { mean, good });
        if is_good {
            self.took(micros(time));
        }
    }

    fn took(&self, time: f32) {
        let late = match f32::from_bits(self.late.load(Relaxed)) {
            0.0 => 2.0 * time,
            late if time > late => late * LATER,
            late => late * SOONER,
        };
        self.late.store(late.to_bits(), Relaxed);
    }

    /// Whether a good answer takes longer than that in the mean, as far as that has not faded.
    pub(crate) fn is_slower_than(&self, now: Instant, time: Duration) -> bool {
        self.seen().mean * kept(self.since(now)) > micros(time)
    }

    /// Of 100 good answers 98 take no longer; `None` where there was none.
    pub(crate) fn late(&self) -> Option<Duration> {
        let late = f32::from_bits(self.late.load(Relaxed));
        (late > 0.0).then(|| Duration::from_micros(late as u64))
    }

    /// None has come after this time, which is a failure or not. That says how long answers take only where one would have
    /// come by half of the mean.
    pub(crate) fn gave_up(&self, now: Instant, time: Duration, is_failure: bool) {
        let since = self.since(now);
        if since < APART {
            return;
        }
        let (Seen { mut mean, mut good }, keeps) = (self.seen(), kept(since));
        let late = f32::from_bits(self.late.load(Relaxed));
        if late > 0.0 && micros(time) > late {
            // What was overtaken would have been late.
            self.took(micros(time));
        }
        if mean == 0.0 && is_failure {
            mean = micros(time);
        } else if mean > 0.0 && 2.0 * micros(time) > mean {
            // It would have taken longer: how much is not known, and the same again is a guess.
            mean = mix(mean, 2.0 * micros(time), keeps);
        } else if !is_failure && micros(time) <= mean * keeps {
            return;
        }
        if is_failure {
            good = mix(good, 0.0, keeps);
        }
        self.write(now, Seen { mean, good });
    }

    /// As it is now with so many in flight. While some wait for an answer that will tell; where none `waits`, what was
    /// seen fades.
    pub(crate) fn standing(
        &self,
        now: Instant,
        in_flight: u32,
        waits: bool,
        weight: u16,
    ) -> Standing {
        let Seen { mean, good } = self.seen();
        let keeps = match waits {
            true => 1.0,
            false => kept(self.since(now)),
        };
        Standing {
            in_flight,
            weight,
            mean: (mean > 0.0).then_some(mean * keeps),
            good: mix(good, 1.0, keeps),
        }
    }

    pub(super) fn since(&self, now: Instant) -> Duration {
        now.since(Instant::from_nanos(self.at.load(Relaxed)))
    }

    fn seen(&self) -> Seen {
        let word = self.seen.load(Relaxed);
        Seen {
            mean: f32::from_bits((word >> u32::BITS) as u32),
            good: 1.0 - f32::from_bits(word as u32),
        }
    }

    /// The mean time of an answer in us; 0 where there was none.
    pub(crate) fn mean(&self) -> f32 {
        self.seen().mean
    }

    /// For laws that go by a mean alone.
    pub(super) fn set_mean(&self, now: Instant, mean: f32) {
        self.write(now, Seen { mean, good: 1.0 });
    }

    fn write(&self, now: Instant, seen: Seen) {
        let lacks = (1.0 - seen.good).to_bits();
        let word = u64::from(seen.mean.to_bits()) << u32::BITS | u64::from(lacks);
        self.seen.store(word, Relaxed);
        self.at.store(now.as_nanos(), Relaxed);
    }
}

impl Standing {
    /// What is known of it.
    pub(crate) fn pace(&self) -> Option<EndpointPace> {
        Some(EndpointPace {
            mean_us: self.mean? as u32,
            good_per_mille: (self.good * 1000.0) as u16,
        })
    }

    /// What one more request costs here, with this mean where none is known.
    fn cost(&self, mean: f32) -> f32 {
        let line = (self.in_flight as f32 + 1.0) / f32::from(self.weight);
        line * self.mean.unwrap_or(mean) / (self.good * self.good).max(LEAST_GOOD)
    }
}

/// Whether `one` is likely to have a request answered well sooner than `other`. Of whom nothing is known it is
/// assumed to answer as fast as the other.
pub(crate) fn sooner(one: Standing, other: Standing) -> bool {
    let known = one.mean.or(other.mean).unwrap_or(1.0);
    let of_other = other.mean.unwrap_or(known);
    one.cost(of_other) < other.cost(known)
}

/// What is left after this time of what was seen.
fn kept(since: Duration) -> f32 {
    fading(since.as_nanos() as f32 / HALF.as_nanos() as f32)
}

/// Two to the power of minus `halves`: exact for whole numbers, and by a parabola between, within a third of a percent.
fn fading(halves: f32) -> f32 {
    // Less is not worth a number.
    const MOST: f32 = 64.0;
    let whole = halves.min(MOST) as u32;
    let part = halves.min(MOST) - whole as f32;
    (1.0 - part * (0.6716 - 0.1716 * part))
        / (1u64 << (whole / 2)) as f32
        / (1u64 << whole.div_ceil(2)) as f32
}

fn mix(old: f32, new: f32, keeps: f32) -> f32 {
    new + (old - new) * keeps
}

pub(super) fn micros(time: Duration) -> f32 {
    time.as_nanos() as f32 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Answers each of 20 ms up to this moment, so many of 10 of them good.
    fn seen(until: u64, time: Duration, good: u64) -> Pace {
        let pace = Pace::default();
        for nth in 0..until / 20 {
            pace.answered(at(nth * 20), time, nth % 10 < good);
        }
        pace
    }

    #[test]
    fn half_as_much_counts_after_each_half() {
        for tenths in 0_u8..100 {
            let halves = f32::from(tenths) / 10.0;
            let due = libm::exp2(-f64::from(halves));
            let found = f64::from(fading(halves));
            assert!(
                (found / due - 1.0).abs() < 0.0033,
                "{halves}: {found}, not {due}"
            );
        }
        assert!(fading(63.0) > 0.0 && fading(1e30) < 1e-18);
    }

    #[test]
    fn who_is_slow_or_fails_costs_more_until_that_has_faded() {
        let healthy = seen(5000, ms(20), 10);
        let slow = seen(5000, ms(200), 10);
        let failing = seen(5000, ms(1), 0);
        let standing =
            |pace: &Pace, now, in_flight| pace.standing(at(now), in_flight, in_flight > 0, 1);
        assert!(sooner(
            standing(&healthy, 5000, 8),
            standing(&slow, 5000, 0)
        ));
        assert!(sooner(
            standing(&slow, 5000, 0),
            standing(&healthy, 5000, 11)
        ));
        // Nothing is known of how fast it answers, only that it does not do so well.
        assert!(sooner(
            standing(&healthy, 5000, 50),
            standing(&failing, 5000, 0)
        ));
        for pace in [&slow, &failing] {
            assert!(sooner(
                standing(pace, 12_000, 0),
                standing(&healthy, 5000, 2)
            ));
            // What waits for an answer there will tell; what is being read says nothing more.
            assert!(sooner(
                standing(&healthy, 5000, 2),
                standing(pace, 12_000, 1)
            ));
            let streaming = pace.standing(at(12_000), 1, false, 1);
            assert!(sooner(streaming, standing(&healthy, 5000, 4)));
        }
        let erring = seen(5000, ms(20), 5);
        let Standing { good, .. } = standing(&erring, 5000, 1);
        assert!((good - 0.5).abs() < 0.1, "{good}");
    }

    #[test]
    fn of_two_unknown_the_one_with_less_in_flight_for_its_weight_is_sooner() {
        let pace = Pace::default();
        let standing = |in_flight, weight| pace.standing(at(0), in_flight, false, weight);
        assert!(sooner(standing(1, 1), standing(2, 1)));
        assert!(sooner(standing(2, 3), standing(1, 1)));
        assert!(!sooner(standing(1, 1), standing(1, 1)));
        let known = seen(1000, ms(20), 10).standing(at(1000), 3, true, 1);
        assert!(sooner(standing(2, 1), known) && sooner(known, standing(4, 1)));
    }

    /// Of times from 1 to 100 ms, all equally often, two are above 98 ms.
    #[test]
    fn two_of_a_hundred_answers_are_late() {
        let pace = Pace::default();
        assert_eq!(pace.late(), None);
        for nth in 0..20_000 {
            pace.answered(at(nth * 10), ms(1 + nth * 37 % 100), true);
        }
        let late = pace.late().unwrap();
        assert!(late.abs_diff(ms(98)) < ms(5), "{late:?}");
    }

    #[test]
    fn what_is_given_up_late_took_at_least_so_long() {
        let pace = seen(1000, ms(20), 10);
        pace.gave_up(at(1000), ms(5), false);
        assert_eq!(pace.seen().mean, seen(1000, ms(20), 10).seen().mean);
        pace.gave_up(at(2400), ms(1000), false);
        assert!(pace.seen().mean > 200_000.0, "{:?}", pace.seen());
        assert_eq!(pace.seen().good, 1.0);
        pace.gave_up(at(3800), ms(1), true);
        assert!(pace.seen().good < 0.6, "{:?}", pace.seen());
    }
}
