//! The slow loop: what an objective of whole answers leaves for each service that they are made of.
//!
//! Pure and without a memory of its own: what was seen and the plan in force give the next plan, whatever the time.
//! Nothing waits for a plan. Where there is none each limit holds the objective that somebody gave its service,
//! and a service behind has the limits of a plan or none of ours.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{
    Backoff, Decision, JournalEvent, Limited, Objective, PilotMode, RetryPolicy, ServiceName,
    WindowSummary,
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
    /// The 95th percentile of its whole answers of late.
    pub tail: Option<Duration>,
    /// Parts of a thousand of the requests to it that found no place of late.
    pub refused_per_mille: u32,
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
    /// Thousandths of what times without load would give it: more where whole answers have time to spare.
    pub slack_per_mille: u32,
}

/// How often there is to be a plan.
pub const PERIOD: Duration = Duration::from_secs(5);
/// Where several services share an objective each may take more than its share: theirs are guards, and the
/// limit at the entry holds the whole.
pub const GUARD: f64 = 1.25;
/// Where whole answers take less than this part of the objective, and a service behind refuses some, it may take longer.
const SPARE_TIME: f64 = 0.8;
/// Where they take more than this part, what was given beyond shares is taken back.
const NO_TIME: f64 = 0.9;
/// One service that refuses more than this does so for want of capacity, and time would not help it; less than the other
/// is not worth it. Of a thousand.
const BY_CHANCE: core::ops::Range<u32> = 5..100;
/// By how much it may take longer from one plan to the next.
const SLACK_STEP: f64 = 1.25;
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
            let behind = observation.services.get(service);
            let before = in_force.shares.get(service);
            let before = before.filter(|it| it.of == *root && it.is_measured);
            let own = behind.and_then(|it| it.own);
            let due = own.zip(stretch);
            let due = due.map(|(own, stretch)| own.as_secs_f64() * stretch * GUARD);
            let refused = behind.map_or(0, |it| it.refused_per_mille);
            let spent = seen.tail.map(|tail| tail.as_secs_f64() / whole);
            let slack = slack(before, spent, refused, due.map_or(1.0, |due| whole / due));
            // What was measured before is not forgotten where it cannot be measured now.
            let known = before.map(|it| it.objective.latency.as_secs_f64().min(whole));
            let want = Want {
                of: root,
                objective,
                due: due.map(|due| f64::min(due * slack, whole)).or(known),
                slack,
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

/// How many times what times without load give it a service may take. Shares are by times without load, but a service
/// with few places refuses some by chance, and of many services some always do: as long as whole answers have time to
/// spare, `spent` of their objective, that is for nothing.
fn slack(before: Option<&Share>, spent: Option<f64>, refused: u32, most: f64) -> f64 {
    let before = before.map_or(1.0, |share| f64::from(share.slack_per_mille) / 1000.0);
    let next = match spent {
        Some(spent) if spent > NO_TIME => before / SLACK_STEP,
        Some(spent) if spent < SPARE_TIME && BY_CHANCE.contains(&refused) => before * SLACK_STEP,
        _ => before,
    };
    next.min(most).max(1.0)
}

/// What an objective wants of a service.
struct Want<'o> {
    of: &'o ServiceName,
    objective: Objective,
    /// In seconds; not known is all of it.
    due: Option<f64>,
    slack: f64,
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
            slack_per_mille: libm::round(self.slack * 1000.0) as u32,
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

/// What controllers tell of their limits, as far as plans follow from it.
#[derive(Clone, Debug, Default)]
pub struct Told {
    limits: BTreeMap<Limited, ToldOf>,
}

/// Of one limit. Times are in us; 0 where none is known.
#[derive(Clone, Copy, Debug, Default)]
struct ToldOf {
    /// The tail without load.
    floor: f64,
    /// The tail of late.
    tail: f64,
    /// Share of requests that found no place of late.
    refused: f64,
    /// Whether that was told since a plan was made.
    is_new: bool,
}

/// What is left of earlier windows with each.
const OF_LATE: f64 = 0.8;

impl Told {
    /// Takes note of what is told about a limit.
    pub fn on_event(&mut self, about: &Limited, event: &JournalEvent) {
        match event {
            JournalEvent::Decided { window, decision } => match self.limits.get_mut(about) {
                Some(told) => told.add(window, decision),
                None => {
                    let mut told = ToldOf::default();
                    told.add(window, decision);
                    self.limits.insert(about.clone(), told);
                }
            },
            JournalEvent::Gone => drop(self.limits.remove(about)),
            _ => {}
        }
    }

    /// Keeps those of these limits alone.
    pub fn retain(&mut self, is_kept: impl Fn(&Limited) -> bool) {
        self.limits.retain(|about, _| is_kept(about));
    }

    /// What is told of a service, beside what is said about it.
    pub fn see(&self, service: &ServiceName, seen: &mut Seen) {
        let entry = |it: &Limited| matches!(it, Limited::Entry { .. });
        let endpoint = |it: &Limited| matches!(it, Limited::Endpoint { .. });
        // Of several routes the slowest counts: its objective is the hardest to keep. Of endpoints the median.
        seen.answer = self.of(service, entry, |it| it.floor).last().map(micros);
        seen.tail = self.of(service, entry, |it| it.tail).last().map(micros);
        let floors = self.of(service, endpoint, |it| it.floor);
        seen.own = floors.get(floors.len() / 2).map(micros);
        // What was told before the last plan is in that.
        let refused = self.of(service, endpoint, |it| match it.is_new {
            true => it.refused,
            false => 0.0,
        });
        let refused = refused.last().copied().unwrap_or(0.0);
        seen.refused_per_mille = (refused.clamp(0.0, 1.0) * 1000.0) as u32;
    }

    /// A plan follows from what was told so far.
    pub fn mark_planned(&mut self) {
        self.limits
            .values_mut()
            .for_each(|told| told.is_new = false);
    }

    /// What is known, from the least to the most.
    fn of(
        &self,
        service: &ServiceName,
        is_one: impl Fn(&Limited) -> bool,
        what: impl Fn(&ToldOf) -> f64,
    ) -> Vec<f64> {
        let limits = self.limits.iter();
        let limits = limits.filter(|(about, _)| about.service() == service && is_one(about));
        let mut all: Vec<f64> = limits.map(|(_, told)| what(told)).collect();
        all.retain(|it| *it > 0.0);
        all.sort_unstable_by(f64::total_cmp);
        all
    }
}

impl ToldOf {
    fn add(&mut self, window: &WindowSummary, decision: &Decision) {
        if decision.floor > 0.0 {
            self.floor = decision.floor;
        }
        // What a journal says may be anything, and one such figure would stay.
        let late = |before: f64, now: f64| match now.is_finite() {
            true => now + (before - now) * OF_LATE,
            false => before,
        };
        self.tail = match self.tail {
            0.0 if window.times.q95.is_finite() => window.times.q95,
            before => late(before, window.times.q95),
        };
        self.refused = late(self.refused, window.refused_share);
        self.is_new = true;
    }
}

/// What a journal says may be anything.
fn micros(tail: &f64) -> Duration {
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

    /// One figure that is none does not stay, and what was told before a plan is not news for the next.
    #[test]
    fn what_is_told_is_of_late_and_taken_once() {
        let about = Limited::Endpoint {
            backend: selvedge_model::Backend {
                service: name("cart"),
                port: selvedge_model::Port::MAX,
            },
            place: selvedge_model::Place::Local(selvedge_model::CgroupId(1)),
            port: selvedge_model::Port::MAX,
        };
        let decided = |refused_share, floor| JournalEvent::Decided {
            window: WindowSummary {
                refused_share,
                ..WindowSummary::default()
            },
            decision: Decision {
                limit: 8,
                is_fresh: false,
                why: selvedge_model::Why::Steady,
                floor,
            },
        };
        let mut told = Told::default();
        let see = |told: &Told| {
            let mut seen = Seen::default();
            told.see(&name("cart"), &mut seen);
            (seen.own, seen.refused_per_mille)
        };
        told.on_event(&about, &decided(f64::NAN, 20_000.0));
        told.on_event(&about, &decided(0.625, f64::NAN));
        let (own, refused) = see(&told);
        assert_eq!(own, ms(20));
        assert!((124..=125).contains(&refused), "a fifth of it: {refused}");
        told.mark_planned();
        assert_eq!(see(&told), (ms(20), 0));
    }

    /// A service that refuses a little takes longer while whole answers have time to spare, and gives it back.
    #[test]
    fn who_refuses_by_chance_takes_time_that_nobody_needs() {
        let with = |tail, refused| {
            let mut shop = shop(ms(100));
            shop.services.get_mut(&name("front")).unwrap().tail = ms(tail);
            let cart = shop.services.get_mut(&name("cart")).unwrap();
            cart.refused_per_mille = refused;
            shop
        };
        let slack = |plan: &Plan, of: &str| plan.shares[&name(of)].slack_per_mille;
        let (before, _) = settled(&with(200, 0));
        assert_eq!(
            (slack(&before, "cart"), slack(&before, "store")),
            (1000, 1000)
        );
        let once = plan(&with(200, 30), &before);
        assert_eq!((slack(&once, "cart"), slack(&once, "store")), (1250, 1000));
        assert_eq!(
            once.shares[&name("cart")].objective.latency,
            ms(93).unwrap() + Duration::from_micros(750)
        );
        let (most, _) = settled(&with(200, 30));
        let latency = most.shares[&name("cart")].objective.latency;
        assert!(
            (WHOLE.mul_f64(1.0 - DEAD_BAND)..=WHOLE).contains(&latency),
            "{latency:?}"
        );
        // Not for want of capacity, nor where there is no time.
        for (tail, refused, due) in [
            (200, 200, 1250),
            (200, 4, 1250),
            (260, 30, 1250),
            (280, 30, 1000),
        ] {
            let next = plan(&with(tail, refused), &once);
            assert_eq!(slack(&next, "cart"), due, "{tail} ms, {refused}");
        }
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
