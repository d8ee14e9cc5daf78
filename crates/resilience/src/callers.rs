//! Who calls an upstream, so that one that asks for much leaves the others their share.
//!
//! Who has as much in flight as an even share leaves the last places to the others ([`crate::reserve`]), so that these find
//! one nearly always: places come to be divided by max-min fairness (D. Bertsekas, R. Gallager, "Data Networks", 1992,
//! section 6.5.2). The share is such that all together have what was in flight; who asks for less has all it asks for.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use selvedge_model::CgroupId;

use crate::counter::{Apart, Counter};

/// Most callers that are told apart; one more has no share to keep to, and is counted.
const MOST: usize = 16;

/// All of those outside the mesh.
const OUTSIDE: CgroupId = CgroupId(u64::MAX);

/// The callers of one upstream.
#[derive(Debug)]
pub(crate) struct Callers {
    /// Their cgroups; 0 where there is none.
    cgroups: [AtomicU64; MOST],
    /// How many times another's share each of them has; 0 is 1.
    weights: [AtomicU32; MOST],
    /// By worker: so that workers do not take one line from each other for every request.
    counts: Box<[Apart<[Count; MOST]>]>,
    /// Requests in flight, for a weight of 1, from which on a caller has its share: as bits of a number that has no bound
    /// where nobody is refused.
    share: AtomicU32,
}

/// What a worker counts of one of them.
#[derive(Debug, Default)]
struct Count {
    in_flight: AtomicU32,
    /// How often it has asked for a place.
    asked: Counter,
}

/// The place of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller(u8);

/// What was seen of the callers, of which their share follows.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    seen: [Seen; MOST],
    /// Requests in flight of all of them lately.
    in_flight: f64,
    /// Whether it has looked at them before: what was counted until then is of no turn.
    has_looked: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    asked: u64,
    /// Places that it asks for in one turn, lately.
    demand: f64,
    /// Turns since it has asked for one.
    silent: u32,
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug)]
struct Demand {
    /// In one turn.
    places: f64,
    weight: f64,
}

impl Demand {
    fn of_weight(&self) -> f64 {
        self.places / self.weight
    }
}

fn weight_of(cgroup: u64, weights: &[(CgroupId, u16)]) -> u32 {
    let of_it = weights.iter().find(|(it, _)| it.0 == cgroup);
    of_it.map_or(1, |(_, weight)| (*weight).into())
}

impl Callers {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            cgroups: Default::default(),
            weights: Default::default(),
            counts: (0..workers).map(|_| Apart::default()).collect(),
            share: AtomicU32::new(f32::INFINITY.to_bits()),
        }
    }

    /// The caller's place; none where there are too many. One that comes has its weight of these.
    pub(crate) fn find(
        &self,
        source: Option<CgroupId>,
        weights: &[(CgroupId, u16)],
    ) -> Option<Caller> {
        let cgroup = source.unwrap_or(OUTSIDE).0;
        let first = cgroup as usize % MOST;
        let places = || (first..MOST).chain(0..first);
        let slot = |place: usize| &self.cgroups[place];
        let known = places().find(|place| slot(*place).load(Relaxed) == cgroup);
        let is_free = |place: &usize| slot(*place).load(Relaxed) == 0;
        let takes = |place: &usize| match slot(*place).compare_exchange(0, cgroup, Relaxed, Relaxed)
        {
            Ok(_) => true,
            Err(taken) => taken == cgroup,
        };
        let place = known.or_else(|| {
            let place = places().filter(is_free).find(takes)?;
            self.weights[place].store(weight_of(cgroup, weights), Relaxed);
            Some(place)
        })?;
        Some(Caller(place as u8))
    }

    /// Those that are there have these weights from now on.
    pub(crate) fn weigh(&self, weights: &[(CgroupId, u16)]) {
        for (cgroup, weight) in self.cgroups.iter().zip(&self.weights) {
            weight.store(weight_of(cgroup.load(Relaxed), weights), Relaxed);
        }
    }

    fn weight(&self, place: usize) -> f32 {
        self.weights[place].load(Relaxed).max(1) as f32
    }

    /// It asks for a place; whether it has its share already.
    pub(crate) fn asks(&self, worker: usize, caller: Caller) -> bool {
        self.count(worker, caller).asked.add(1);
        let share = f32::from_bits(self.share.load(Relaxed));
        if share.is_infinite() {
            return false;
        }
        let its = share * self.weight(usize::from(caller.0));
        self.in_flight(caller) >= ((its + 0.5) as u32).max(1)
    }

    pub(crate) fn enter(&self, worker: usize, caller: Caller) {
        let in_flight = &self.count(worker, caller).in_flight;
        in_flight.fetch_add(1, Relaxed);
    }

    pub(crate) fn leave(&self, worker: usize, caller: Caller) {
        let in_flight = &self.count(worker, caller).in_flight;
        in_flight.fetch_sub(1, Relaxed);
    }

    /// Nobody looks who has how much any more.
    pub(crate) fn forget_share(&self) {
        self.share.store(f32::INFINITY.to_bits(), Relaxed);
    }

    /// Requests in flight of all of them.
    pub(crate) fn all_in_flight(&self) -> u32 {
        let all = (0..MOST).map(|place| self.in_flight(Caller(place as u8)));
        all.fold(0, u32::saturating_add)
    }

    fn in_flight(&self, Caller(place): Caller) -> u32 {
        let counts = self.counts.iter().map(|it| &it.0[usize::from(place)]);
        let counts = counts.map(|count| count.in_flight.load(Relaxed));
        counts.fold(0, u32::saturating_add)
    }

    fn asked(&self, Caller(place): Caller) -> u64 {
        let counts = self.counts.iter().map(|it| &it.0[usize::from(place)]);
        counts.map(|count| count.asked.get()).sum()
    }

    fn count(&self, worker: usize, Caller(place): Caller) -> &Count {
        &self.counts[worker].0[usize::from(place)]
    }
}

impl Sharing {
    /// What is left after a turn of what was seen before: the half after seven, 0.35 s.
    const KEEPS: f64 = 0.9;
    /// Who has not asked for so long, 10 s, is none any more.
    const SILENT: u32 = 200;

    /// Looks at the callers, each time that controllers do, and sets their share. `refused` is the share of all their
    /// requests that find no place, and `limit` what they may have together.
    pub(crate) fn turn(&mut self, callers: &Callers, refused: f64, limit: u32) {
        let mut in_flight = 0;
        for (place, seen) in self.seen.iter_mut().enumerate() {
            let caller = Caller(place as u8);
            let asked = callers.asked(caller);
            let new = match self.has_looked {
                true => asked.wrapping_sub(seen.asked),
                false => 0,
            };
            let its = callers.in_flight(caller);
            in_flight += u64::from(its);
            seen.asked = asked;
            seen.demand = new as f64 + (seen.demand - new as f64) * Self::KEEPS;
            seen.silent = if new > 0 { 0 } else { seen.silent + 1 };
            if seen.silent > Self::SILENT && its == 0 {
                // Who comes at this very moment counts under whoever has the slot next, once.
                callers.cgroups[place].store(0, Relaxed);
                seen.silent = 0;
            }
        }
        let all = in_flight as f64;
        if !self.has_looked {
            self.has_looked = true;
            self.in_flight = all;
            return;
        }
        self.in_flight = all + (self.in_flight - all) * Self::KEEPS;
        // What is kept may be free.
        let places = f64::max(self.in_flight, limit.into());
        let share = self.share(callers, refused, places);
        callers.share.store(share.to_bits(), Relaxed);
    }

    /// For a weight of 1.
    fn share(&self, callers: &Callers, refused: f64, places: f64) -> f32 {
        let demand = |place: usize| Demand {
            places: self.seen[place].demand,
            weight: callers.weight(place).into(),
        };
        let mut demands: [Demand; MOST] = core::array::from_fn(demand);
        // What is left of one that has gone is no caller.
        demands.sort_unstable_by(|one, other| one.places.total_cmp(&other.places));
        let gone = demands.partition_point(|demand| demand.places < 0.001);
        let demands = &mut demands[gone..];
        if demands.len() < 2 || refused <= 0.0 {
            return f32::INFINITY;
        }
        demands.sort_unstable_by(|one, other| one.of_weight().total_cmp(&other.of_weight()));
        // What was let in is what was in flight, and so what each asks for is as much more as was refused.
        let asked: f64 = demands.iter().map(|demand| demand.places).sum();
        let in_flight_of_one = places / (asked * (1.0 - refused).max(0.01));
        let mut left = places;
        let mut weights: f64 = demands.iter().map(|demand| demand.weight).sum();
        for demand in demands {
            let even = left / weights;
            if even <= demand.of_weight() * in_flight_of_one {
                return even as f32;
            }
            left -= demand.places * in_flight_of_one;
            weights -= demand.weight;
        }
        f32::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn caller(callers: &Callers, number: u64) -> Caller {
        callers.find(Some(CgroupId(number)), &[]).unwrap()
    }

    /// Each asks for so many places a turn, and has so many; the share after a while.
    fn share(callers: &Callers, of: &[(u64, u32, u32)], refused: f64) -> f32 {
        for (number, _, has) in of {
            (0..*has).for_each(|_| callers.enter(0, caller(callers, *number)));
        }
        let mut sharing = Sharing::default();
        for _ in 0..100 {
            for (number, asks, _) in of {
                (0..*asks).for_each(|_| _ = callers.asks(0, caller(callers, *number)));
            }
            sharing.turn(callers, refused, 1);
        }
        f32::from_bits(callers.share.load(Relaxed))
    }

    #[test]
    fn who_asks_for_less_than_an_even_share_has_it() {
        // Of 200 that ask 100 are let in; none asks for less than a third of these.
        let of = [(1, 100, 50), (2, 60, 30), (3, 40, 20)];
        let callers = Callers::new(2);
        assert!((share(&callers, &of, 0.5) - 100.0 / 3.0).abs() < 0.01);
        // The light one has the ten it asks for, and the others divide 90.
        let of = [(1, 100, 50), (2, 90, 45), (3, 10, 5)];
        let callers = Callers::new(2);
        assert!((share(&callers, &of, 0.5) - 45.0).abs() < 0.01);
        assert!(!callers.asks(0, caller(&callers, 3)));
        assert!(callers.asks(0, caller(&callers, 1)));
        callers.leave(0, caller(&callers, 2));
        assert!(!callers.asks(0, caller(&callers, 2)));
        callers.forget_share();
        assert!(!callers.asks(0, caller(&callers, 1)));
    }

    #[test]
    fn who_has_three_times_the_weight_has_three_times_the_share() {
        let weights = [(CgroupId(1), 3)];
        let callers = Callers::new(2);
        callers.find(Some(CgroupId(1)), &weights);
        // 100 places are for a weight of 4.
        let of = [(1, 100, 75), (2, 100, 25)];
        assert!((share(&callers, &of, 0.5) - 25.0).abs() < 0.01);
        for number in [1, 2] {
            assert!(callers.asks(0, caller(&callers, number)));
            callers.leave(0, caller(&callers, number));
            assert!(!callers.asks(0, caller(&callers, number)));
        }
        // It asks for less than that by itself.
        let callers = Callers::new(2);
        callers.find(Some(CgroupId(1)), &weights);
        let of = [(1, 40, 20), (2, 160, 80)];
        assert!((share(&callers, &of, 0.5) - 60.0).abs() < 0.01);
        callers.weigh(&[]);
        assert_eq!(callers.weight(usize::from(caller(&callers, 1).0)), 1.0);
    }

    #[test]
    fn alone_or_without_refusals_there_is_nothing_to_share() {
        assert_eq!(share(&Callers::new(2), &[(1, 100, 50)], 0.5), f32::INFINITY);
        assert_eq!(
            share(&Callers::new(2), &[(1, 100, 50), (2, 1, 1)], 0.0),
            f32::INFINITY
        );
    }

    #[test]
    fn callers_are_told_apart_as_long_as_there_is_room() {
        let callers = Callers::new(2);
        let first: Vec<Caller> = (0..MOST as u64)
            .map(|it| caller(&callers, 16 * it + 1))
            .collect();
        let again: Vec<Caller> = (0..MOST as u64)
            .map(|it| caller(&callers, 16 * it + 1))
            .collect();
        assert_eq!(first, again);
        assert!((1..MOST).all(|it| !first[..it].contains(&first[it])));
        assert_eq!(callers.find(None, &[]), None);
        let mut sharing = Sharing::default();
        callers.enter(0, first[3]);
        (0..=Sharing::SILENT + 1).for_each(|_| sharing.turn(&callers, 0.0, 1));
        assert!(callers.find(None, &[]).is_some(), "who is silent has gone");
        assert_eq!(
            caller(&callers, 16 * 3 + 1),
            first[3],
            "who has something in flight has not"
        );
        callers.leave(0, first[3]);
    }
}
