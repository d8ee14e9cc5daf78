//! Laws to compare with that say at each replica which requests are let in, by what they see there and not by a limit
//! that a controller moves.

mod rajomon;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::time::Duration;

use selvedge_model::{Instant, Rng};

use rajomon::Rajomon;

/// Which of them stands before each replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doorman {
    /// None.
    #[default]
    None,
    /// A level of priority that all below are turned away from, by the time that requests wait (H. Zhou et al., "Overload
    /// Control for Scaling WeChat Microservices", SoCC 2018, sections 4.1 and 4.2). All requests are of one business, and
    /// each client's request is a user's.
    Dagor,
    /// Credits for requests by the time that these wait (I. Cho et al., "Overload Control for us-scale RPCs with Breakwater",
    /// OSDI 2020, section 4), for one caller: a credit is a place.
    Breakwater,
    /// Prices by the time that requests wait, at the replica and behind it, for which requests have tokens (J. Xing et al.,
    /// "Rajomon: Decentralized and Coordinated Overload Control for Latency-Sensitive Microservices", NSDI 2025).
    Rajomon,
    /// By chance, the more the fewer answers are good, as Envoy's admission control has it.
    SuccessRatio,
}

/// A door.
#[derive(Debug)]
pub(crate) enum Door {
    Dagor(Dagor),
    Breakwater(Breakwater),
    SuccessRatio(SuccessRatio),
    Rajomon(Rajomon),
}

impl Door {
    /// The one before a replica whose answers are wanted within `objective`.
    pub(crate) fn new(doorman: Doorman, objective: Duration) -> Option<Self> {
        match doorman {
            Doorman::None => None,
            Doorman::Dagor => Some(Self::Dagor(Dagor::default())),
            Doorman::Breakwater => Some(Self::Breakwater(Breakwater::new(objective))),
            Doorman::SuccessRatio => Some(Self::SuccessRatio(SuccessRatio::default())),
            Doorman::Rajomon => Some(Self::Rajomon(Rajomon::new(objective))),
        }
    }

    /// A request comes; whether it is let in.
    pub(crate) fn admits(&mut self, now: Instant, trace: u64, rng: &mut Rng) -> bool {
        match self {
            Self::Dagor(door) => door.admits(now, trace, rng),
            Self::Breakwater(door) => door.admits(now),
            Self::SuccessRatio(door) => door.admits(now, rng),
            Self::Rajomon(door) => door.admits(now, trace, rng),
        }
    }

    /// Work begins on one that has waited for so long.
    pub(crate) fn waited(&mut self, time: Duration) {
        match self {
            Self::Dagor(door) => door.waited(time),
            Self::Breakwater(door) => door.longest = door.longest.max(time),
            Self::SuccessRatio(_) => {}
            Self::Rajomon(door) => door.waited(time),
        }
    }

    /// What an answer tells of its price; none where there are no prices.
    pub(crate) fn price(&mut self, now: Instant) -> Option<u32> {
        match self {
            Self::Rajomon(door) => Some(door.price(now)),
            _ => None,
        }
    }

    /// A service behind has this price.
    pub(crate) fn hears(&mut self, service: usize, price: u32) {
        if let Self::Rajomon(door) = self {
            door.hears(service, price);
        }
    }

    /// One that was let in is answered, so long after it came.
    pub(crate) fn answered(&mut self, now: Instant, time: Duration, is_good: bool) {
        match self {
            Self::Dagor(_) | Self::Rajomon(_) => {}
            Self::Breakwater(door) => door.answered(time),
            Self::SuccessRatio(door) => door.answered(now, is_good),
        }
    }
}

/// The paper's setting: 20 ms, 1 s or 2000 requests, 5 % less, 1 % more.
#[derive(Debug)]
pub(crate) struct Dagor {
    /// Levels up to and with this are let in.
    level: usize,
    /// Requests that came, by level, since it was looked at.
    came: Box<[u32; Self::LEVELS]>,
    admitted: u32,
    began: Instant,
    waited: Duration,
    begun: u32,
}

impl Default for Dagor {
    fn default() -> Self {
        Self {
            level: Self::LEVELS - 1,
            came: Box::new([0; Self::LEVELS]),
            admitted: 0,
            began: Instant::default(),
            waited: Duration::ZERO,
            begun: 0,
        }
    }
}

impl Dagor {
    const LEVELS: usize = 128;
    const OVERLOADED: Duration = Duration::from_millis(20);
    const WINDOW: Duration = Duration::from_secs(1);
    const MOST: u32 = 2000;
    const LESS: f64 = 0.05;
    const MORE: f64 = 0.01;

    fn admits(&mut self, now: Instant, trace: u64, rng: &mut Rng) -> bool {
        let came: u32 = self.came.iter().sum();
        if now.since(self.began) >= Self::WINDOW || came >= Self::MOST {
            self.look(now, came);
        }
        let level = of_trace(trace, rng) as usize % Self::LEVELS;
        self.came[level] += 1;
        let admits = level <= self.level;
        self.admitted += u32::from(admits);
        admits
    }

    fn waited(&mut self, time: Duration) {
        self.waited += time;
        self.begun += 1;
    }

    fn look(&mut self, now: Instant, came: u32) {
        let is_overloaded = self.waited > Self::OVERLOADED * self.begun;
        let up_to = |level: usize| f64::from(self.came[..=level].iter().sum::<u32>());
        if is_overloaded {
            let wanted = f64::from(self.admitted) * (1.0 - Self::LESS);
            while self.level > 0 && up_to(self.level) > wanted {
                self.level -= 1;
            }
        } else {
            let wanted = f64::from(self.admitted) + f64::from(came) * Self::MORE;
            while self.level + 1 < Self::LEVELS && up_to(self.level) < wanted {
                self.level += 1;
            }
        }
        *self = Self {
            level: self.level,
            began: now,
            ..Self::default()
        };
    }
}

/// The paper's gains, with four tenths of the objective for what is to be waited at most.
#[derive(Debug)]
pub(crate) struct Breakwater {
    target: Duration,
    credits: f64,
    in_flight: u32,
    /// What was waited longest since it was looked at.
    longest: Duration,
    looked: Instant,
    /// How long answers take, in seconds, smoothed: it looks as often.
    time: f64,
}

impl Breakwater {
    const MORE: f64 = 0.001;
    const LESS: f64 = 0.02;
    const START: f64 = 8.0;

    fn new(objective: Duration) -> Self {
        Self {
            target: objective.mul_f64(0.4),
            credits: Self::START,
            in_flight: 0,
            longest: Duration::ZERO,
            looked: Instant::default(),
            time: 0.0,
        }
    }

    fn admits(&mut self, now: Instant) -> bool {
        if now.since(self.looked).as_secs_f64() >= self.time {
            let over = self.longest.as_secs_f64() / self.target.as_secs_f64() - 1.0;
            self.credits = match over < 0.0 {
                true => self.credits + f64::max(Self::MORE, 1.0),
                false => f64::max(self.credits * f64::max(1.0 - Self::LESS * over, 0.5), 1.0),
            };
            // No more than are of use.
            self.credits = self
                .credits
                .min(f64::from(2 * self.in_flight) + Self::START);
            (self.looked, self.longest) = (now, Duration::ZERO);
        }
        let admits = f64::from(self.in_flight) < self.credits;
        self.in_flight += u32::from(admits);
        admits
    }

    fn answered(&mut self, time: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.time += 0.1 * (time.as_secs_f64() - self.time);
    }
}

/// Envoy's defaults (envoyproxy/envoy, `AdmissionControl`): aggression 1, 95 % wanted, 80 % turned away at most.
#[derive(Debug, Default)]
pub(crate) struct SuccessRatio {
    /// Answers, and good ones, of each of the last seconds.
    seconds: VecDeque<(u64, u64, u64)>,
}

impl SuccessRatio {
    const SECONDS: u64 = 30;
    const WANTED: f64 = 0.95;
    const MOST: f64 = 0.8;

    fn admits(&mut self, now: Instant, rng: &mut Rng) -> bool {
        self.forget(now);
        let (all, good) = self.seconds.iter().fold((0, 0), |(all, good), second| {
            (all + second.1, good + second.2)
        });
        let lacks = all as f64 - good as f64 / Self::WANTED;
        let refused = (lacks / (all as f64 + 1.0)).clamp(0.0, Self::MOST);
        (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 >= refused
    }

    fn answered(&mut self, now: Instant, is_good: bool) {
        let at = second(now);
        match self.seconds.back_mut() {
            Some(last) if last.0 == at => {
                last.1 += 1;
                last.2 += u64::from(is_good);
            }
            _ => self.seconds.push_back((at, 1, u64::from(is_good))),
        }
    }

    fn forget(&mut self, now: Instant) {
        let first = second(now).saturating_sub(Self::SECONDS);
        while self.seconds.front().is_some_and(|it| it.0 < first) {
            self.seconds.pop_front();
        }
    }
}

/// The same number at all hops, where the trace is passed on.
fn of_trace(trace: u64, rng: &mut Rng) -> u64 {
    match trace {
        0 => rng.next_u64(),
        trace => Rng::seeded(trace).next_u64(),
    }
}

const fn second(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// How many of 1000 requests of a second are let in, each of which waits for so long.
    fn second_of(door: &mut Door, number: u64, wait: Duration, is_good: bool) -> u32 {
        let mut rng = Rng::seeded(number);
        let mut admitted = 0;
        for nth in 0..1000 {
            let now = at(1000 * number + nth);
            if door.admits(now, 0, &mut rng) {
                admitted += 1;
                door.waited(wait);
                door.answered(now, wait, is_good);
            }
        }
        admitted
    }

    #[test]
    fn levels_fall_by_a_twentieth_and_rise_by_a_hundredth() {
        let mut door = Door::new(Doorman::Dagor, Duration::ZERO).unwrap();
        let (short, long) = (Duration::from_millis(5), Duration::from_millis(25));
        assert_eq!(second_of(&mut door, 1, long, true), 1000);
        let mut before = 1000.0;
        for (number, wait, factor) in [
            (2, long, 0.95),
            (3, long, 0.95),
            (4, short, 0.95),
            (5, short, 1.01),
        ] {
            let admitted = f64::from(second_of(&mut door, number, wait, true));
            let due = factor * before;
            // A level is eight of a thousand, and which requests come is chance.
            assert!(
                (admitted - due).abs() < 35.0,
                "{number}: {admitted}, not {due}"
            );
            before = admitted;
        }
    }

    #[test]
    fn chance_grows_as_answers_fail() {
        let mut door = Door::new(Doorman::SuccessRatio, Duration::ZERO).unwrap();
        let wait = Duration::ZERO;
        assert_eq!(second_of(&mut door, 1, wait, true), 1000);
        for number in 2..40 {
            second_of(&mut door, number, wait, false);
        }
        let admitted = second_of(&mut door, 40, wait, false);
        assert!(
            (150..250).contains(&admitted),
            "a fifth is let in at least: {admitted}"
        );
    }

    #[test]
    fn credits_follow_what_is_waited() {
        let mut door = Breakwater::new(Duration::from_millis(100));
        let admit_all = |door: &mut Breakwater, now, longest| {
            door.longest = longest;
            let mut admitted = 0;
            while door.admits(at(now)) {
                admitted += 1;
                door.longest = Duration::ZERO;
                door.time = 1.0;
            }
            admitted
        };
        assert_eq!(admit_all(&mut door, 0, Duration::ZERO), 8);
        let before = door.credits;
        // Twice the target takes 2 %.
        assert_eq!(admit_all(&mut door, 2000, Duration::from_millis(80)), 0);
        assert!(
            (door.credits / before - 0.98).abs() < 1e-9,
            "{}",
            door.credits
        );
        door.answered(Duration::from_secs(1));
        assert!(door.in_flight < 8);
    }
}
