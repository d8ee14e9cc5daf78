//! The slow loop: what an objective of whole answers leaves for each service that they are made of.
//!
//! Pure and without a memory of its own: what was seen and the plan in force give the next plan, whatever the time.
//! Nothing waits for a plan. Where there is none each limit holds the objective that somebody gave its service,
//! and a service behind has the limits of a plan or none of ours.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{
    Backoff, JournalEvent, Limited, Objective, PilotMode, RetryPolicy, ServiceName,
};

/// What is known of services when a plan is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Those that have an objective, and those that are called for their answers.
    pub services: BTreeMap<ServiceName, Seen>,
}

/// What is known of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What its whole answers are to keep, where somebody said so.
    pub objective: Option<Objective>,
    /// The 95th percentile of its whole answers without load, as far as it is known.
    pub answer: Option<Duration>,
    /// That of the time that is its own.
    pub own: Option<Duration>,
    /// Whom it calls.
    pub calls: BTreeSet<ServiceName>,
}

/// What each service is to keep of its own time, for the sake of an objective that comprises others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By service. One whose answers are its own alone has none: its objective is enough.
    pub shares: BTreeMap<ServiceName, Share>,
}

/// What one service is to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of its own time, with the mode of the objective that it is a share of.
    pub objective: Objective,
    /// The service that has that objective; its own where it is one that calls others.
    pub of: ServiceName,
    /// Whether times without load stand behind it. If not, it is all of the objective.
    pub is_measured: bool,
}

/// How often there is to be a plan.
pub const PERIOD: Duration = Duration::from_secs(5);
/// Where several services share an objective each may take more than its share: theirs are guards, and the
/// limit at the entry holds the whole.
pub const GUARD: f64 = 1.25;
/// A share that would move by less stays: tails of a minute differ as much by chance.
const DEAD_BAND: f64 = 0.1;
/// From one plan to the next a share moves no further: a tail that is far off should show before it is believed.
const LONGEST_STEP: f64 = 2.0;

/// The next plan. Each service has as many times its own tail without load as the objective is of the tail without load
/// of a whole answer: what is slow by itself may take longer, and with load all get slower alike. Of several
/// objectives that a service works for the nearest counts. A service that has an objective itself has a share
/// of its callers' too.
pub fn plan(observation: &Observation, in_force: &Plan) -> Plan {
    let mut wants: BTreeMap<&ServiceName, Want<'_>> = BTreeMap::new();
    for (root, seen) in &observation.services {
        let Some(objective) = seen.objective else {
            continue;
        };
        let reached = observation.reached(root);
        if reached.len() == 1 {
            continue;
        }
        let whole = objective.latency.as_secs_f64();
        // Where even without load it cannot be kept, nobody is asked to be faster than without load.
        let stretch = seen
            .answer
            .map(|answer| f64::max(whole / answer.as_secs_f64(), 1.0));
        for service in reached {
            let own = observation.services.get(service).and_then(|it| it.own);
            let due = own.zip(stretch).map(|(own, stretch)| {
                let due = own.as_secs_f64() * stretch * GUARD;
                due.min(whole)
            });
            // What was measured before is not forgotten where it cannot be measured now.
            let before = in_force.shares.get(service);
            let known = before.filter(|it| it.of == *root && it.is_measured);
            let known = known.map(|it| it.objective.latency.as_secs_f64().min(whole));
            let want = Want {
                of: root,
                objective,
                due: due.or(known),
            };
            match wants.get(service) {
                Some(other) if !want.comes_before(other) => {}
                _ => drop(wants.insert(service, want)),
            }
        }
    }
    let shares = wants.into_iter().map(|(service, want)| {
        let share = want.share(in_force.shares.get(service));
        (service.clone(), share)
    });
    Plan {
        shares: shares.collect(),
    }
}

/// What an objective wants of a service.
struct Want<'o> {
    of: &'o ServiceName,
    objective: Objective,
    /// In seconds; not known is all of it.
    due: Option<f64>,
}

impl Want<'_> {
    fn whole(&self) -> f64 {
        self.objective.latency.as_secs_f64()
    }

    /// An objective that only observes yields to any for which something is done; of others the nearer counts.
    fn comes_before(&self, other: &Self) -> bool {
        let is_idle = |it: &Self| !it.objective.mode.applies();
        let due = |it: &Self| it.due.unwrap_or(it.whole());
        (is_idle(self), due(self)) < (is_idle(other), due(other))
    }

    fn share(&self, before: Option<&Share>) -> Share {
        let before = before.filter(|it| it.is_measured);
        let before = before.map(|it| it.objective.latency);
        let latency = match (self.due, before) {
            // It may be more than there is now to share.
            (Some(due), Some(from)) => step(from, due).min(self.objective.latency),
            (Some(due), None) => step(self.objective.latency, due),
            (None, _) => self.objective.latency,
        };
        Share {
            objective: Objective {
                latency,
                mode: self.objective.mode,
            },
            of: self.of.clone(),
            is_measured: self.due.is_some(),
        }
    }
}

/// What is sent again of a service that has these endpoints ready, where nobody said anything about that: what an endpoint
/// could not do (RFC 9110, sections 15.6.3 and 15.6.4) another perhaps can, so it takes two. It happens where it failed, which is
/// the lowest place, and not above it too, since tries are those of the whole tree of requests, and paid for out of headroom.
pub fn retries(mode: PilotMode, endpoints: usize) -> Option<RetryPolicy> {
    (mode == PilotMode::Drive && endpoints >= 2).then(|| RetryPolicy {
        attempts: 2,
        statuses: alloc::vec![502, 503],
        backoff: Backoff::default(),
        non_idempotent: false,
    })
}

/// From there towards what is due, in seconds.
fn step(from: Duration, due: f64) -> Duration {
    let now = from.as_secs_f64();
    let ratio = due / now;
    if (1.0 - DEAD_BAND..=1.0 / (1.0 - DEAD_BAND)).contains(&ratio) {
        return from;
    }
    let next = now * ratio.clamp(1.0 / LONGEST_STEP, LONGEST_STEP);
    Duration::from_micros(libm::round(next * 1e6) as u64).max(Duration::from_micros(1))
}

impl Observation {
    /// The service and all that are called for its answers, each once, also where calls go in a circle.
    fn reached<'o>(&'o self, root: &'o ServiceName) -> BTreeSet<&'o ServiceName> {
        let mut reached = BTreeSet::from([root]);
        let mut next: Vec<&ServiceName> = alloc::vec![root];
        while let Some(service) = next.pop() {
            let seen = self.services.get(service);
            for called in seen.into_iter().flat_map(|it| &it.calls) {
                if reached.insert(called) {
                    next.push(called);
                }
            }
        }
        reached
    }
}

/// Tails without load, as controllers tell of them.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    /// In us.
    tails: BTreeMap<Limited, f64>,
}

impl Floors {
    /// Takes note of what is told about a limit.
    pub fn on_event(&mut self, about: &Limited, event: &JournalEvent) {
        match event {
            JournalEvent::Decided { decision, .. } if decision.floor > 0.0 => {
                self.tails.insert(about.clone(), decision.floor);
            }
            JournalEvent::Gone => drop(self.tails.remove(about)),
            _ => {}
        }
    }

    /// Keeps those of these limits alone.
    pub fn retain(&mut self, is_kept: impl Fn(&Limited) -> bool) {
        self.tails.retain(|about, _| is_kept(about));
    }

    /// That of a service's whole answers. Of several routes the slowest counts: its objective is the hardest to keep.
    pub fn answer(&self, service: &ServiceName) -> Option<Duration> {
        let tails = self.of(service, |it| matches!(it, Limited::Entry { .. }));
        tails.last().copied().map(micros)
    }

    /// That of a service's own time: the median of its endpoints'.
    pub fn own(&self, service: &ServiceName) -> Option<Duration> {
        let tails = self.of(service, |it| matches!(it, Limited::Endpoint { .. }));
        tails.get(tails.len() / 2).copied().map(micros)
    }

    /// From the shortest to the longest.
    fn of(&self, service: &ServiceName, is_one: impl Fn(&Limited) -> bool) -> Vec<f64> {
        let tails = self.tails.iter();
        let tails = tails.filter(|(about, _)| about.service() == service && is_one(about));
        let mut tails: Vec<f64> = tails.map(|(_, tail)| *tail).collect();
        tails.sort_unstable_by(f64::total_cmp);
        tails
    }
}

/// What a journal says may be anything.
fn micros(tail: f64) -> Duration {
    const MOST: f64 = 1e6 * 86_400.0;
    Duration::from_nanos((tail.clamp(0.001, MOST) * 1e3) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const WHOLE: Duration = Duration::from_millis(300);

    fn name(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    fn ms(number: u64) -> Option<Duration> {
        Some(Duration::from_millis(number))
    }

    fn seen(own: Option<Duration>, calls: &[&str]) -> Seen {
        Seen {
            own,
            calls: calls.iter().map(|it| name(it)).collect(),
            ..Seen::default()
        }
    }

    /// `front`, which calls `cart` and `ads`; `cart` calls `store`.
    fn shop(answer: Option<Duration>) -> Observation {
        let front = Seen {
            objective: Some(Objective {
                latency: WHOLE,
                mode: PilotMode::Guard,
            }),
            answer,
            ..seen(ms(10), &["cart", "ads"])
        };
        let services = [
            ("front", front),
            ("cart", seen(ms(20), &["store"])),
            ("ads", seen(None, &[])),
            ("store", seen(ms(40), &["front"])),
            ("alone", seen(ms(5), &[])),
        ];
        Observation {
            services: services.map(|(it, seen)| (name(it), seen)).into(),
        }
    }

    /// Plans that follow one another until they stay.
    fn settled(observation: &Observation) -> (Plan, usize) {
        let mut before = Plan::default();
        for plans in 0.. {
            let next = plan(observation, &before);
            if next == before {
                return (next, plans);
            }
            before = next;
        }
        unreachable!()
    }

    fn millis(plan: &Plan) -> Vec<(alloc::string::String, u128)> {
        let shares = plan.shares.iter();
        shares
            .map(|(it, share)| (it.to_string(), share.objective.latency.as_millis()))
            .collect()
    }

    #[test]
    fn an_objective_is_shared_by_times_without_load() {
        let (plan, plans) = settled(&shop(ms(100)));
        let expected = [
            ("ads.default", 300),
            ("cart.default", 75),
            ("front.default", 37),
            ("store.default", 150),
        ];
        let expected: Vec<_> = expected.map(|(it, ms)| (it.to_string(), ms)).into();
        assert_eq!(millis(&plan), expected);
        let is_measured = |it: &str| plan.shares[&name(it)].is_measured;
        assert!(is_measured("cart") && !is_measured("ads"));
        assert_eq!(plan.shares[&name("cart")].of, name("front"));
        assert_eq!(plan.shares[&name("cart")].objective.mode, PilotMode::Guard);
        assert_eq!(plans, 3, "halved, halved, and there");
    }

    /// Before anything is known, and where it is known no more.
    #[test]
    fn what_is_not_known_moves_nothing() {
        let (unknown, _) = settled(&shop(None));
        assert!(unknown.shares.values().all(|it| !it.is_measured));
        assert!(millis(&unknown).iter().all(|(_, ms)| *ms == 300));
        let (known, _) = settled(&shop(ms(100)));
        assert_eq!(plan(&shop(None), &known), known);
        assert_eq!(plan(&shop(ms(104)), &known), known, "within chance");
        assert_ne!(plan(&shop(ms(130)), &known), known);
    }

    /// Nobody is asked for less than without load, and a quarter.
    #[test]
    fn an_objective_out_of_reach_closes_no_door_behind() {
        let (plan, _) = settled(&shop(ms(900)));
        assert_eq!(
            plan.shares[&name("store")].objective.latency,
            ms(50).unwrap()
        );
        assert_eq!(
            plan.shares[&name("cart")].objective.latency,
            ms(25).unwrap()
        );
    }

    #[test]
    fn of_two_objectives_the_nearer_counts_and_who_calls_nobody_needs_no_share() {
        let mut shop = shop(ms(100));
        let own = |latency| {
            Some(Objective {
                latency,
                mode: PilotMode::Drive,
            })
        };
        shop.services.get_mut(&name("alone")).unwrap().objective = own(WHOLE);
        let cart = shop.services.get_mut(&name("cart")).unwrap();
        cart.objective = own(Duration::from_millis(60));
        cart.answer = ms(60);
        let (plan, _) = settled(&shop);
        assert!(!plan.shares.contains_key(&name("alone")));
        let share = &plan.shares[&name("cart")];
        assert_eq!(
            (&share.of, share.objective.mode),
            (&name("cart"), PilotMode::Drive)
        );
        assert_eq!(share.objective.latency, ms(25).unwrap());
        // Those behind follow the nearer one too; all call one another here.
        assert_eq!(plan.shares[&name("front")].of, name("cart"));
    }

    /// Nobody is held to an objective that only observes while there is another.
    #[test]
    fn who_observes_yields() {
        let mut shop = shop(ms(100));
        let watched = Seen {
            objective: Some(Objective {
                latency: Duration::from_millis(50),
                mode: PilotMode::Observe,
            }),
            answer: ms(50),
            ..seen(ms(5), &["ads"])
        };
        shop.services.insert(name("watched"), watched);
        let (plan, _) = settled(&shop);
        assert_eq!(plan.shares[&name("ads")].of, name("front"));
        assert_eq!(
            plan.shares[&name("watched")].objective.mode,
            PilotMode::Observe
        );
    }
}
