//! A service as a scenario, fitted to what its controllers saw: to ask what would have been otherwise.
//!
//! Recorded windows are a consequence of the limits of that time, so that other limits cannot be judged by them;
//! a simulated service that is like the recorded one can be asked anything. It is one service by itself, in its own
//! time: whom it calls is no part of it.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{
    JournalEntry, JournalEvent, Limited, Rng, ServiceName, Urgency, WindowSummary,
};
use selvedge_scenario::{
    Arrivals, Client, Forwards, Objective, Rate, Scenario, Service, ServiceTime,
};

/// A rate of requests holds for so long.
const BIN: f64 = 5.0;
/// A window whose mean is as many times that without load is of requests that waited.
const WAITED: f64 = 1.3;
/// Windows as many times as long as their mean time hold nearly all of a lognormal time with a deviation of 1.
const LONG: f64 = 6.0;
/// Fewer windows than this say nothing.
const LEAST: usize = 10;
/// Clients give up after as many objectives.
const DEADLINES: u32 = 10;
/// The standard normal distribution has 95 % below this.
const Z95: f64 = 1.645;

/// What a journal says of one service.
#[derive(Clone, Debug)]
pub struct Sightings {
    service: ServiceName,
    objective: Duration,
    endpoints: BTreeSet<Limited>,
    /// Windows of the endpoints.
    windows: Vec<Sighting>,
    /// Windows of the service's entries.
    entries: Vec<Sighting>,
}

/// A window, in seconds.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    began: f64,
    ended: f64,
    /// In flight at once, as far as the limit let.
    most: f64,
    binds: bool,
    is_applied: bool,
    samples: f64,
    mean: f64,
    median: f64,
    q95: f64,
    /// Requests that had a place and were answered.
    answered: f64,
    refused: f64,
}

/// A service like the recorded one, as one drawing of the recorded windows has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// How many endpoints there are.
    pub replicas: u32,
    /// What each works on at once; in part, since it is a mean.
    pub permits: f64,
    /// Whether it was ever seen at its limits. If not, it can do more than that, and nobody knows how much.
    pub is_saturated: bool,
    /// Mean of its service times.
    pub mean: Duration,
    /// Deviation of their logarithm.
    pub sigma: f64,
    /// How many requests came.
    pub rates: Vec<Rate>,
    /// How long was looked.
    pub length: Duration,
    /// What its own time is to keep.
    pub objective: Duration,
}

/// What was recorded, in figures that a simulation has too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recorded {
    /// Mean of the windows' 95th percentiles, weighted by their requests.
    pub p95: Duration,
    /// Requests that found no place, as share of those that came.
    pub refused: f64,
}

/// Why nothing can be fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nothing is written of it.
    #[error("the journal has fewer than {LEAST} windows of its endpoints in that time")]
    TooFew,
    /// All of it is of times under load.
    #[error("no window shows it without load, so that its service times are not known")]
    NeverIdle,
}

impl Sightings {
    /// Nothing of this service yet.
    pub const fn new(service: ServiceName) -> Self {
        Self {
            service,
            objective: Duration::ZERO,
            endpoints: BTreeSet::new(),
            windows: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Takes the next entry of a journal. Its moments are counted from `epoch`, in ns since 1970.
    pub fn on_entry(&mut self, epoch: u64, entry: &JournalEntry) {
        if *entry.about.service() != self.service {
            return;
        }
        let is_entry = matches!(entry.about, Limited::Entry { .. });
        match &entry.event {
            JournalEvent::State(state) if !is_entry => {
                self.objective = state.objective;
                self.endpoints.insert(entry.about.clone());
            }
            JournalEvent::Gone => drop(self.endpoints.remove(&entry.about)),
            JournalEvent::Decided { window, .. } => {
                let Some(sighting) = Sighting::of(epoch, window) else {
                    return;
                };
                match is_entry {
                    true => self.entries.push(sighting),
                    false => self.windows.push(sighting),
                }
            }
            JournalEvent::State(_) | JournalEvent::Held { .. } => {}
        }
    }

    /// States of all endpoints that there are come anew.
    pub fn begin(&mut self) {
        self.endpoints.clear();
    }

    /// Forgets what is older than so long before the last window.
    pub fn keep_last(&mut self, time: Duration) {
        let ended = self.windows.iter().map(|it| it.ended);
        let from = ended.fold(0.0, f64::max) - time.as_secs_f64();
        self.windows.retain(|it| it.began >= from);
        self.entries.retain(|it| it.ended > from);
    }

    /// When the first window began and the last one ended, in seconds since 1970.
    pub fn span(&self) -> (f64, f64) {
        let began = self.windows.iter().map(|it| it.began);
        let ended = self.windows.iter().map(|it| it.ended);
        (
            began.fold(f64::INFINITY, f64::min),
            ended.fold(0.0, f64::max),
        )
    }

    /// Whether what was decided was in force.
    pub fn is_applied(&self) -> bool {
        let applied = self.windows.iter().filter(|it| it.is_applied).count();
        2 * applied >= self.windows.len()
    }

    /// What was recorded.
    pub fn recorded(&self) -> Recorded {
        let samples: f64 = self.windows.iter().map(|it| it.samples).sum();
        let tails = self.windows.iter().map(|it| it.samples * it.q95);
        let (came, refused) = self.came().fold((0.0, 0.0), |(came, refused), it| {
            (came + it.came(), refused + it.refused)
        });
        Recorded {
            p95: seconds(tails.sum::<f64>() / samples.max(1.0)),
            refused: f64::min(refused / came.max(1.0), 1.0),
        }
    }

    /// Windows that tell how many requests came, each once: answered by endpoints, refused there, which each of them
    /// tells of all, or refused at an entry.
    fn came(&self) -> impl Iterator<Item = Sighting> {
        let endpoints = f64::max(self.endpoints.len() as f64, 1.0);
        let inside = self.windows.iter().map(move |it| Sighting {
            refused: it.refused / endpoints,
            ..*it
        });
        let outside = self.entries.iter().map(|it| Sighting {
            answered: 0.0,
            ..*it
        });
        inside.chain(outside)
    }

    /// Whether windows are so short against the times in them that long ones are cut off: what takes longer than its
    /// window is in none.
    pub fn is_cut_off(&self) -> bool {
        let lengths = self
            .windows
            .iter()
            .map(|it| (it.ended - it.began) * it.samples);
        let times = self.windows.iter().map(|it| it.mean * it.samples);
        lengths.sum::<f64>() < LONG * times.sum::<f64>()
    }

    /// A service like the recorded one, from windows drawn with replacement from those recorded (B. Efron,
    /// "Bootstrap Methods", Annals of Statistics 7, 1979): how far drawings differ is how little is known.
    ///
    /// # Errors
    /// Where too little is recorded.
    pub fn fit(&self, rng: &mut Rng) -> Result<Fit, Unfit> {
        if self.windows.len() < LEAST || self.endpoints.is_empty() {
            return Err(Unfit::TooFew);
        }
        let calm: Vec<_> = self.windows.iter().filter(|it| it.is_calm()).collect();
        if calm.is_empty() {
            return Err(Unfit::NeverIdle);
        }
        // What waits is not known before what can be worked on at once, and the other way round: a first guess of one
        // leads to the other, and back.
        let mut means: Vec<f64> = calm.iter().map(|it| it.mean).collect();
        means.sort_unstable_by(f64::total_cmp);
        let guess = means[means.len() / 4];
        let permits = self.permits(guess, None);
        let is_unhindered = |it: &&&Sighting| permits.is_none_or(|permits| it.most <= permits);
        let mut unhindered: Vec<&Sighting> = calm.iter().filter(is_unhindered).copied().collect();
        if unhindered.is_empty() {
            unhindered = calm.into_iter().filter(|it| it.mean <= guess).collect();
        }
        let drawn = draw(&unhindered, rng);
        let samples: f64 = drawn.iter().map(|it| it.samples).sum();
        let weighted = |of: &dyn Fn(&Sighting) -> f64| {
            let values = drawn.iter().map(|it| it.samples * of(it));
            values.sum::<f64>() / samples
        };
        let mean = weighted(&|it| it.mean);
        // Of a lognormal distribution the 95th percentile is `exp(Z95 sigma)` times the median.
        let sigma = weighted(&|it| libm::log(f64::max(it.q95 / it.median, 1.0)) / Z95);
        let permits = self.permits(mean, Some(rng));
        // It works on as much as is in flight in the mean where nothing waits.
        let busiest = unhindered
            .iter()
            .map(|it| libm::ceil(it.answered / (it.ended - it.began) * it.mean));
        let busiest = busiest.fold(1.0, f64::max);
        let (began, ended) = self.span();
        let length = f64::min(
            libm::ceil(ended - began),
            Scenario::MOST_LENGTH.as_secs_f64(),
        );
        Ok(Fit {
            replicas: self.endpoints.len() as u32,
            permits: permits.unwrap_or(busiest).max(1.0),
            is_saturated: permits.is_some(),
            mean: seconds(mean),
            sigma: sigma.clamp(0.05, 2.0),
            rates: self.rates(began, length),
            length: seconds(length),
            objective: self.objective,
        })
    }

    /// What an endpoint works on at once: by Little's law, of the requests in flight at a saturated one as large a share is
    /// worked on as the time of work is of all their time. `None` where it was never saturated.
    fn permits(&self, mean: f64, rng: Option<&mut Rng>) -> Option<f64> {
        let busy = self.windows.iter().filter(|it| it.waited(mean));
        let busy: Vec<&Sighting> = busy.collect();
        if busy.len() < LEAST / 2 {
            return None;
        }
        let busy = match rng {
            Some(rng) => draw(&busy, rng),
            None => busy,
        };
        let mut permits: Vec<f64> = busy
            .iter()
            .map(|it| it.in_flight() * mean / it.mean)
            .collect();
        permits.sort_unstable_by(f64::total_cmp);
        Some(permits[permits.len() / 2])
    }

    /// Requests a second, bin by bin.
    fn rates(&self, began: f64, length: f64) -> Vec<Rate> {
        let from = |bin: usize| BIN * bin as f64;
        let bins = libm::ceil(length / BIN) as usize;
        let mut came = vec![0.0; bins];
        for window in self.came() {
            let (began, ended) = (window.began - began, window.ended - began);
            let first = (began.max(0.0) / BIN) as usize;
            for (bin, count) in came.iter_mut().enumerate().skip(first) {
                let common = f64::min(ended, from(bin + 1)) - f64::max(began, from(bin));
                if common <= 0.0 {
                    break;
                }
                *count += window.came() * common / (ended - began);
            }
        }
        let rates = came.iter().enumerate().map(|(bin, count)| Rate {
            from: seconds(from(bin)),
            // The last one may be cut short.
            per_second: count / f64::min(BIN, length - from(bin)),
        });
        rates.collect()
    }
}

impl Sighting {
    /// `None` of what cannot be.
    fn of(epoch: u64, window: &WindowSummary) -> Option<Self> {
        let at = |nanos: u64| epoch.saturating_add(nanos) as f64 / 1e9;
        let (began, ended) = (at(window.began.as_nanos()), at(window.ended.as_nanos()));
        let times = &window.times;
        let (mean, median, q95) = (times.mean / 1e6, times.median / 1e6, times.q95 / 1e6);
        let longest = Scenario::MOST_LENGTH.as_secs_f64();
        let is_plausible = [mean, median, q95]
            .into_iter()
            .all(|it| it > 0.0 && it <= longest);
        if !is_plausible || times.samples == 0 || ended <= began {
            return None;
        }
        let samples = f64::from(times.samples);
        let refused = window.refused as f64;
        // Samples are of requests that began in the window, and those of its end are not over.
        let length = ended - began;
        let answered = samples * length / f64::max(length - mean, 0.3 * length);
        let most = match window.is_applied {
            true => window.peak.min(window.limit),
            false => window.peak,
        };
        Some(Self {
            began,
            ended,
            most: most.into(),
            binds: f64::from(window.peak) >= 0.9 * f64::from(window.limit),
            is_applied: window.is_applied,
            samples,
            mean,
            median,
            q95,
            answered,
            refused,
        })
    }

    fn came(&self) -> f64 {
        self.answered + self.refused
    }

    /// Nothing was held back.
    fn is_calm(&self) -> bool {
        self.refused == 0.0 && !(self.binds && self.is_applied)
    }

    /// Requests waited, for a place or for each other.
    fn waited(&self, mean: f64) -> bool {
        self.mean >= WAITED * mean && (self.binds || !self.is_applied)
    }

    /// The mean of requests in flight.
    fn in_flight(&self) -> f64 {
        match self.is_applied {
            // A limit that binds is reached all the time.
            true => self.most,
            false => self.answered / (self.ended - self.began) * self.mean,
        }
    }
}

impl Fit {
    /// The scenario that it is. Permits are whole there: the part that is left is drawn.
    pub fn scenario(&self, rng: &mut Rng) -> Scenario {
        let (whole, part) = (libm::floor(self.permits), self.permits % 1.0);
        let one_more = f64::from(rng.below(1_000_000)) < part * 1e6;
        Scenario {
            name: "fitted".to_string(),
            about: "a service as its controllers saw it".to_string(),
            length: self.length,
            warm_up: Duration::ZERO,
            objective: Objective {
                latency: self.objective,
                deadline: self.objective.saturating_mul(DEADLINES),
            },
            services: vec![Service {
                name: "fitted".to_string(),
                replicas: self.replicas,
                permits: whole as u32 + u32::from(one_more),
                queue: 4096,
                time: ServiceTime::Lognormal {
                    mean: self.mean,
                    sigma: self.sigma,
                },
                calls: Vec::new(),
                forwards: Forwards::default(),
                link: None,
            }],
            clients: vec![Client {
                calls: 0,
                urgency: Urgency::default(),
                arrivals: Arrivals::Open(self.rates.clone()),
                classes: Vec::new(),
            }],
            faults: Vec::new(),
            agent_away: None,
        }
    }
}

fn draw<'s>(from: &[&'s Sighting], rng: &mut Rng) -> Vec<&'s Sighting> {
    let count = from.len() as u32;
    (0..count)
        .map(|_| from[rng.below(count) as usize])
        .collect()
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NamedPolicy, run_and_tell};

    /// Two replicas of eight places, 20 ms, with so many requests a second at first and later.
    fn sightings(first: f64, later: f64) -> Sightings {
        let rate = |from, per_second| Rate {
            from: Duration::from_secs(from),
            per_second,
        };
        let fit = Fit {
            replicas: 2,
            permits: 8.0,
            is_saturated: true,
            mean: Duration::from_millis(20),
            sigma: 0.8,
            rates: vec![rate(0, first), rate(60, later)],
            length: Duration::from_secs(120),
            objective: Duration::from_millis(100),
        };
        let scenario = fit.scenario(&mut Rng::seeded(1));
        let policy = NamedPolicy::find("adaptive").unwrap().policy();
        let mut sightings = Sightings::new("fitted.default".parse().unwrap());
        run_and_tell(&scenario, &policy, 5, &mut |about, event| {
            let about = about.clone();
            sightings.on_entry(0, &JournalEntry { about, event });
        })
        .unwrap();
        sightings
    }

    fn is_near(value: f64, expected: f64, share: f64) {
        let off = f64::abs(value / expected - 1.0);
        assert!(off < share, "{value} is not within {share} of {expected}");
    }

    /// A lognormal service at half of what it carries, then at twice that.
    #[test]
    fn a_simulated_service_is_found_again_in_its_journal() {
        let sightings = sightings(400.0, 1600.0);
        assert!(sightings.is_applied());
        let fit = sightings.fit(&mut Rng::seeded(2)).unwrap();
        assert_eq!(fit.replicas, 2);
        assert!(fit.is_saturated);
        is_near(fit.permits, 8.0, 0.15);
        is_near(fit.mean.as_secs_f64(), 0.02, 0.1);
        is_near(fit.sigma, 0.8, 0.15);
        let at = |second: f64| fit.rates[(second / BIN) as usize].per_second;
        is_near(at(30.0), 400.0, 0.1);
        is_near(at(90.0), 1600.0, 0.1);
        let recorded = sightings.recorded();
        assert!((0.3..0.5).contains(&recorded.refused), "{recorded:?}");
        let again = sightings.fit(&mut Rng::seeded(2)).unwrap();
        assert_eq!(fit, again, "the same drawing");
    }

    #[test]
    fn what_was_never_saturated_is_said_to_be_so() {
        let sightings = sightings(200.0, 300.0);
        let fit = sightings.fit(&mut Rng::seeded(2)).unwrap();
        assert!(!fit.is_saturated);
        // Three are at work in the mean, at each of two.
        assert!((3.0..8.0).contains(&fit.permits), "{fit:?}");
        assert!(!sightings.is_cut_off());
        is_near(fit.mean.as_secs_f64(), 0.02, 0.1);
    }

    #[test]
    fn too_little_is_an_error() {
        let mut sightings = sightings(200.0, 300.0);
        sightings.keep_last(Duration::from_millis(100));
        assert_eq!(sightings.fit(&mut Rng::seeded(2)), Err(Unfit::TooFew));
        let nothing = Sightings::new("other.default".parse().unwrap());
        assert_eq!(nothing.fit(&mut Rng::seeded(2)), Err(Unfit::TooFew));
    }
}
