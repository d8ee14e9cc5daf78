//! The limit that holds an objective.
//!
//! By Little's law `L = X T`: where a resource is saturated the throughput `X` does not depend on the requests
//! `L` below the limit, so that the latency `T` follows `L`, and where none is it does not. So the tail is
//! led to its set-point by steps of the logarithm of `L`: with an elasticity of 1 and a window of delay
//! such a loop is stable for gains below 1 (K. J. Astrom, R. M. Murray, "Feedback Systems", 2nd ed.,
//! section 10.3), and a third of that leaves room for a steeper tail near the knee. Where the last
//! windows show that latency does *not* follow `L`, throttling costs requests and gains nothing, and the
//! door is opened again.

use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{Decision, Fates, Instant, Rng, Why, WindowSummary};

use super::Law;
use crate::estimate::{Floor, Slope};
use crate::memory::{Reader, Writer};

/// Gain of the loop.
const GAIN: f64 = 0.3;
/// Of requests admitted at the entry so many may take what is scarce and be refused elsewhere.
const WASTE: f64 = 0.01;
const START: f64 = 8.0;
const LEAST: f64 = 2.0;
const MOST: f64 = 4096.0;
/// In flight come as many more, for each that ends, where a queue fills.
const FILLING: f64 = 0.2;
/// Nothing was refused for so long: the endpoint is as fast as it can be.
const QUIET: Duration = Duration::from_secs(2);

/// What a limit that holds an objective goes by: one set for all endpoints of all services, and one for all
/// entries. Others are there to see what each of these is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Whether the limit counts the requests that a workload has to work on itself, and their own time. If not,
    /// it counts all until their last byte.
    pub counts_own: bool,
    /// The set-point as share of the objective, with nothing refused and with a tenth or more: what is
    /// refused bunches what is let in, and the tail of a second is worse than that of a minute.
    pub set_point: (f64, f64),
    /// The set-point is at least as many times the tail without load: below that no limit helps.
    pub above_floor: f64,
    /// Whether the tail is taken for the one without load where it does not follow the limit.
    pub learns_floor: bool,
    /// By how much the limit is raised where throttling does not help; by 1 is never.
    pub reopening: f64,
    /// Of several limits before the same resource each is drawn to the same number, by this part of the gain.
    pub leak: f64,
    /// That number.
    pub leak_to: f64,
    /// Until it was lowered for the first time, a limit rises as far as the tail allows, by this at most.
    pub first_rise: f64,
    /// A limit is at most as many times what was in flight at once, and 8; what was decided before goes
    /// gradually.
    pub headroom: f64,
    /// Gain of the loop that sees to it that nothing takes what is scarce and is refused elsewhere: a request
    /// less at the door is one less behind it.
    pub waste_gain: f64,
    /// Whether it leaves it to the limits behind it to hold times, while these refuse or are too slow themselves.
    pub yields: bool,
    /// Whether what began before a decision says nothing about it.
    pub begins_anew: bool,
    /// Whether places are kept for what is more urgent.
    pub keeps_places: bool,
    /// Whether each of its callers has a share of the places.
    pub shares_places: bool,
}

impl Terms {
    /// Those of an endpoint.
    pub const ENDPOINT: Self = Self {
        counts_own: true,
        set_point: (0.8, 0.7),
        above_floor: 1.25,
        learns_floor: true,
        reopening: 1.5,
        leak: 0.1,
        leak_to: 8.0,
        first_rise: 2.0,
        headroom: 2.0,
        waste_gain: 0.0,
        yields: false,
        begins_anew: true,
        keeps_places: true,
        shares_places: true,
    };

    /// Those of an entry: its set-point is behind the endpoints', so that theirs act first.
    pub const ENTRY: Self = Self {
        counts_own: false,
        set_point: (0.9, 0.9),
        leak: 0.05,
        leak_to: 4.0,
        waste_gain: 0.6,
        yields: true,
        ..Self::ENDPOINT
    };
}

/// Times without load that were found while loaded.
#[derive(Clone, Copy, Debug)]
struct Learnt {
    tail_us: f64,
    median_us: f64,
}

/// What a law knows of its endpoint.
#[derive(Clone, Debug)]
pub(super) struct Adaptive {
    terms: Terms,
    objective_us: f64,
    limit: f64,
    /// Whether the limit was lowered since the door was opened: until then it rises in long steps.
    was_cut: bool,
    /// Whether the limit bound in the window before.
    was_binding: bool,
    /// Most requests at once in the window before.
    peak: u32,
    tail_us: f64,
    refused_at: Option<Instant>,
    /// Tails without load.
    floor: Floor,
    /// A floor that was found while loaded; it goes as soon as something speaks against it.
    learnt_floor: Option<Learnt>,
    /// The logarithm of the median time by that of the requests in flight, in windows where the limit bound.
    medians: Slope,
    /// The tail by the same.
    tails: Slope,
}

impl Adaptive {
    pub(super) fn new(terms: Terms, objective: Duration) -> Self {
        Self {
            terms,
            objective_us: micros(objective),
            limit: START,
            was_cut: false,
            was_binding: false,
            peak: 0,
            tail_us: 0.0,
            refused_at: None,
            floor: Floor::default(),
            learnt_floor: None,
            medians: Slope::default(),
            tails: Slope::default(),
        }
    }

    /// The tail without load; 0 where it is not known.
    fn floor_us(&self) -> f64 {
        let learnt = self.learnt_floor.map(|it| it.tail_us);
        learnt.or(self.floor.median()).unwrap_or(0.0)
    }

    /// This law with the memory of another.
    pub(super) fn restored(&self, memory: &[u8]) -> Option<Self> {
        let mut memory = Reader::new(memory)?;
        let restored = Self {
            terms: self.terms,
            objective_us: self.objective_us,
            limit: memory.number()?,
            was_cut: memory.flag()?,
            was_binding: memory.flag()?,
            peak: u32::try_from(memory.count()?).ok()?,
            tail_us: memory.number()?,
            refused_at: memory.perhaps(|memory| memory.count().map(Instant::from_nanos))?,
            learnt_floor: memory.perhaps(|memory| {
                Some(Learnt {
                    tail_us: memory.number()?,
                    median_us: memory.number()?,
                })
            })?,
            floor: Floor::read(&mut memory)?,
            medians: Slope::read(&mut memory)?,
            tails: Slope::read(&mut memory)?,
        };
        memory.is_over().then_some(restored)
    }
}

impl Law for Adaptive {
    fn limit(&self) -> u32 {
        libm::round(self.limit) as u32
    }

    /// Sooner with more samples, and never before what began in the window can have ended in it.
    fn is_due(&self, length: Duration, samples: u64) -> bool {
        let enough = match samples {
            ..10 => return false,
            10..20 => Duration::from_secs(1),
            20..60 => Duration::from_millis(500),
            60.. => Duration::from_millis(200),
        };
        length >= enough && length.as_secs_f64() * 1e6 >= 1.5 * self.tail_us
    }

    fn on_window(&mut self, window: &WindowSummary, _: &mut Rng) -> Decision {
        self.tail_us = window.times.q95;
        // What is fixed may be lower: from there the way down begins.
        if window.limit < self.limit() {
            self.limit = window.limit.into();
        }
        // What is not in force holds nothing back: it is from what was in flight that there would be a way.
        if !window.is_applied {
            self.limit = f64::max(self.limit, window.peak.into());
        }
        let binds = f64::from(window.peak) >= 0.9 * f64::from(window.limit);
        self.look(window, binds);
        let why = self.steer(window, binds);
        self.limit = self.limit.clamp(LEAST, MOST);
        self.was_binding = binds;
        Decision {
            limit: self.limit(),
            is_fresh: self.terms.begins_anew,
            why,
            floor: self.floor_us(),
        }
    }

    fn tail_us(&self) -> f64 {
        self.tail_us
    }

    fn memory(&self) -> Vec<u8> {
        let mut memory = Writer::default();
        memory.number(self.limit);
        memory.flag(self.was_cut);
        memory.flag(self.was_binding);
        memory.count(self.peak.into());
        memory.number(self.tail_us);
        memory.perhaps(self.refused_at, |memory, at| memory.count(at.as_nanos()));
        memory.perhaps(self.learnt_floor, |memory, learnt| {
            memory.number(learnt.tail_us);
            memory.number(learnt.median_us);
        });
        self.floor.write(&mut memory);
        self.medians.write(&mut memory);
        self.tails.write(&mut memory);
        memory.into_bytes()
    }

    fn resume(&mut self, limit: u32) {
        if f64::from(limit) <= MOST {
            self.limit = limit.into();
        }
        self.was_binding = false;
        self.medians.clear();
        self.tails.clear();
    }

    fn aim(&mut self, objective: Duration) {
        self.objective_us = micros(objective);
    }
}

fn micros(objective: Duration) -> f64 {
    f64::max(objective.as_secs_f64() * 1e6, 1.0)
}

impl Adaptive {
    /// Takes in what the window says about the endpoint.
    fn look(&mut self, window: &WindowSummary, binds: bool) {
        // Nor is an entry without load while limits behind it refuse.
        if window.refused > 0 || self.yields(&window.fates) {
            self.refused_at = Some(window.ended);
        }
        let is_quiet = self
            .refused_at
            .is_none_or(|at| window.ended.since(at) >= QUIET);
        // What comes in faster than it goes out is a queue that fills, and its times are not those of no load.
        let more = f64::from(window.peak) - f64::from(self.peak);
        let is_filling = more > FILLING * f64::from(window.times.samples);
        self.peak = window.peak;
        if is_quiet && !binds && !is_filling {
            self.floor.add(window.ended, window.times.q95);
            let is_kept = |floor: &Learnt| window.times.q95 > 0.8 * floor.tail_us;
            self.learnt_floor = self.learnt_floor.filter(is_kept);
        }
        // The first window that binds holds much of the time before.
        if binds && self.was_binding {
            let most = if window.is_applied {
                window.limit
            } else {
                u32::MAX
            };
            let load = libm::log(f64::from(window.peak.min(most)));
            // Of the logarithm of a median: as much for lognormal times of a sigma of 0.8, and up to the double for others.
            let noise = 1.0 / f64::from(window.times.samples);
            // Half of the requests wait as all do where they wait at all; the mean of few moves with the longest.
            let median = f64::max(window.times.median, 1.0);
            self.medians.add(load, libm::log(median), noise);
            self.tails.add(load, window.times.q95, 0.0);
        }
        let line = self.medians.line();
        if line.is_some_and(|line| line.spread > 0.05 && line.slope > 0.5) {
            self.learnt_floor = None;
        }
    }

    fn steer(&mut self, window: &WindowSummary, binds: bool) -> Why {
        let times = &window.times;
        let (unhurried, hurried) = self.terms.set_point;
        let pressure = f64::min(window.refused_share / 0.1, 1.0);
        let wanted = self.objective_us * (unhurried + (hurried - unhurried) * pressure);
        let set_point = f64::max(wanted, self.terms.above_floor * self.floor_us());
        let mut step = libm::log(set_point / f64::max(times.q95, 1.0));
        let (mut is_slow, mut is_quick) = (times.q95_low > set_point, times.q95_high < set_point);
        // A few that take very long are the tail with and without load: what load adds then is in the median.
        if let Some(learnt) = self.learnt_floor {
            let room = (self.terms.above_floor - 1.0) * self.objective_us;
            let set_point = learnt.median_us + room;
            step = f64::min(step, libm::log(set_point / f64::max(times.median, 1.0)));
            is_slow |= times.median > set_point;
            is_quick &= times.median < set_point;
        }
        let step = step.clamp(-0.7, 0.3);
        if let Some(why) = self.spare(&window.fates) {
            return why;
        }
        let reopening = self.terms.reopening;
        if reopening > 1.0 && binds && times.q95 > wanted && self.is_flat(3.0) {
            self.limit *= reopening;
            if self.is_flat(4.0) {
                self.learn_floor();
            }
            return Why::NotTheLoad;
        }
        let why = match (is_slow, is_quick && binds) {
            (true, _) if self.is_behind(&window.fates) => {
                // Where this one binds the limit there sees nothing of what its own steps do.
                if binds {
                    self.limit *= self.terms.reopening;
                }
                Why::Behind
            }
            (true, _) if self.yields(&window.fates) => Why::Behind,
            (true, _) => {
                self.was_cut = true;
                let cut = self.limit * libm::exp(GAIN * step);
                // One that was not reached was not why: it is not cut below what it began with.
                let least = if binds { 0.0 } else { START };
                self.limit = cut.max(f64::min(least, self.limit));
                Why::Slow
            }
            (_, true) => {
                // With as many more in flight times are at most that much longer.
                let more = match self.was_cut {
                    true => libm::exp(GAIN * f64::max(step, 0.0)),
                    false => {
                        (set_point / f64::max(times.q95, 1.0)).clamp(1.0, self.terms.first_rise)
                    }
                };
                self.limit *= more;
                Why::Room
            }
            _ => Why::Steady,
        };
        if binds && self.was_cut {
            let leak = GAIN * self.terms.leak;
            self.limit = self.limit * libm::exp(-leak) + leak * self.terms.leak_to;
        }
        if binds {
            return why;
        }
        if is_quick {
            self.medians.clear();
            self.tails.clear();
        }
        self.unwind(window.peak, why)
    }

    /// A limit far above what is in flight would let a burst in that nobody has seen.
    fn unwind(&mut self, peak: u32, why: Why) -> Why {
        let most = self.terms.headroom * f64::from(peak) + 8.0;
        if self.limit <= most {
            return why;
        }
        self.limit = f64::max(most, 0.9 * self.limit);
        Why::Unused
    }

    /// Sheds at the door what would be refused behind it, where until then it takes what others lack.
    fn spare(&mut self, fates: &Fates) -> Option<Why> {
        let may_be = WASTE * fates.ended as f64;
        let wasted = fates.wasted as f64;
        let gain = self.terms.waste_gain;
        if gain == 0.0 || wasted <= may_be + 2.0 * libm::sqrt(may_be) + 2.0 {
            return None;
        }
        let excess = wasted / fates.ended as f64 - WASTE;
        self.was_cut = true;
        self.limit *= libm::exp(-gain * f64::min(excess, 0.5));
        Some(Why::Wasted)
    }

    /// Whether limits behind this one hold times already: two that throttle for the same would learn nothing of
    /// what throttling does.
    fn yields(&self, fates: &Fates) -> bool {
        self.terms.yields && fates.refused as f64 > WASTE * fates.ended as f64
    }

    /// Whether most requests go to an endpoint that by itself takes longer than it may: then its limit is the one
    /// to find out whether throttling helps.
    fn is_behind(&self, fates: &Fates) -> bool {
        self.terms.yields && 2 * fates.late > fates.ended
    }

    /// Whether latency does not follow the limit, as far as `z` standard errors can tell. One that falls while
    /// the limit rises is of a queue that still fills.
    fn is_flat(&self, z: f64) -> bool {
        self.medians.line().is_some_and(|line| {
            (-0.5..0.2).contains(&line.slope) && line.slope + z * line.error < 1.0
        })
    }

    /// Takes the tail at the lower limits for the one without load, where that is far above the objective.
    fn learn_floor(&mut self) {
        if !self.terms.learns_floor {
            return;
        }
        let floor = self.tails.mean_of_lower_half();
        if let Some(floor) = floor.filter(|floor| *floor > 1.5 * self.objective_us) {
            let median = self.medians.mean_of_lower_half().unwrap_or(0.0);
            self.learnt_floor = Some(Learnt {
                tail_us: floor,
                median_us: libm::exp(median),
            });
            self.was_cut = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_model::Tail;

    /// A window that is twice as slow as it may be, of whose requests so many met with this.
    fn slow(refused: u64, wasted: u64) -> WindowSummary {
        WindowSummary {
            limit: START as u32,
            is_applied: true,
            peak: START as u32,
            times: Tail {
                samples: 60,
                mean: 100_000.0,
                median: 90_000.0,
                q95: 200_000.0,
                q95_low: 180_000.0,
                q95_high: 220_000.0,
            },
            fates: Fates {
                ended: 100,
                refused,
                wasted,
                late: 0,
            },
            ..WindowSummary::default()
        }
    }

    fn after(terms: Terms, window: &WindowSummary) -> (Why, u32) {
        let mut law = Adaptive::new(terms, Duration::from_millis(100));
        let decision = law.on_window(window, &mut Rng::seeded(1));
        (decision.why, decision.limit)
    }

    /// Small limits refuse by chance what they do not hold back.
    #[test]
    fn a_limit_that_was_not_reached_is_not_cut_below_its_start() {
        // What is refused is no window without load.
        let seldom = WindowSummary {
            peak: 3,
            refused: 1,
            ..slow(0, 0)
        };
        assert_eq!(after(Terms::ENDPOINT, &seldom), (Why::Slow, START as u32));
        let mut law = Adaptive::new(Terms::ENDPOINT, Duration::from_millis(100));
        law.limit = 20.0;
        for _ in 0..20 {
            let limit = law.limit();
            law.on_window(&WindowSummary { limit, ..seldom }, &mut Rng::seeded(1));
        }
        assert_eq!(law.limit(), START as u32);
        law.on_window(&slow(0, 0), &mut Rng::seeded(1));
        assert!(law.limit() < START as u32, "it was reached");
    }

    /// What refuses behind an entry holds the times; what it wastes is the entry's to see to.
    #[test]
    fn an_entry_leaves_times_to_limits_behind_it_while_these_refuse() {
        let start = START as u32;
        let (why, limit) = after(Terms::ENTRY, &slow(0, 0));
        assert_eq!(why, Why::Slow);
        assert!(limit < start, "{limit}");
        assert_eq!(after(Terms::ENTRY, &slow(2, 0)), (Why::Behind, start));
        assert_eq!(after(Terms::ENTRY, &slow(1, 0)).0, Why::Slow, "one is none");
        assert_eq!(after(Terms::ENDPOINT, &slow(50, 0)).0, Why::Slow);
        let (why, limit) = after(Terms::ENTRY, &slow(50, 50));
        assert_eq!(why, Why::Wasted);
        assert!(limit < start, "{limit}");
        assert_eq!(after(Terms::ENDPOINT, &slow(50, 50)).0, Why::Slow);
    }

    /// If it did not, the limit there would never be reached, and nobody would see whether throttling helps.
    #[test]
    fn an_entry_makes_way_for_an_endpoint_that_is_too_slow_by_itself() {
        let start = START as u32;
        let mut window = slow(0, 0);
        window.fates.late = 50;
        assert_eq!(
            after(Terms::ENTRY, &window).0,
            Why::Slow,
            "half is not most"
        );
        window.fates.late = 51;
        let (why, limit) = after(Terms::ENTRY, &window);
        assert_eq!((why, limit), (Why::Behind, start * 3 / 2));
        assert_eq!(after(Terms::ENDPOINT, &window).0, Why::Slow);
        // What is refused is no window without load.
        (window.peak, window.refused) = (3, 1);
        assert_eq!(
            after(Terms::ENTRY, &window),
            (Why::Behind, start),
            "it was not reached"
        );
    }

    /// A tenth of the requests takes 300 ms however few there are, and the rest 10 ms and what it waits.
    #[test]
    fn where_a_few_are_the_tail_anyway_the_rest_says_what_load_adds() {
        let mut law = Adaptive::new(Terms::ENDPOINT, Duration::from_millis(100));
        let mut at = |median: f64| {
            let limit = law.limit();
            let times = Tail {
                samples: 60,
                mean: 0.9 * median + 30_000.0,
                median,
                q95: 300_000.0 + median,
                q95_low: 280_000.0 + median,
                q95_high: 320_000.0 + median,
            };
            let window = WindowSummary {
                limit,
                is_applied: true,
                peak: limit,
                times,
                ..WindowSummary::default()
            };
            law.on_window(&window, &mut Rng::seeded(1))
        };
        let learns = (0..50).any(|_| at(10_000.0).floor > 0.0);
        assert!(learns);
        let few = at(10_000.0);
        assert_ne!(few.why, Why::Slow, "throttling does not help");
        let many = at(60_000.0);
        assert_eq!(
            many.why,
            Why::Slow,
            "the tail is the same, and all others wait"
        );
        assert!(many.limit < few.limit);
    }
}
