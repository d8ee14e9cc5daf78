//! What a worker has seen, by path: who called whom, by which rule, at which backend, and how it ended.
//!
//! A worker finds the meters of a path by the numbers that the routing in force has for it, with no
//! lock and no allocation once it has seen that path. What another thread reads is kept by name, since
//! numbers change with the routing: at most [`Sightings::MOST`] paths a worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use selvedge_feed::Counter;
use selvedge_model::{
    BackendIndex, CgroupId, Instant, Reason, RouteIndex, Traffic, TrafficEnd, TrafficPath,
    TrafficRoute, TrafficUnit,
};
use selvedge_resilience::{Counter as Count, Latency};

use crate::client::Asked;
use crate::counters::Counters;

/// A path in the numbers of one routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PathKey {
    pub(crate) source: Option<CgroupId>,
    pub(crate) asked: Asked,
    pub(crate) unit: TrafficUnit,
    pub(crate) route: Option<RouteIndex>,
    pub(crate) backend: Option<BackendIndex>,
}

/// How something ended, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) end: TrafficEnd,
    pub(crate) began: Instant,
    pub(crate) at: Instant,
    /// Whether it belongs among the latencies: an endpoint answered it whole.
    pub(crate) is_whole: bool,
}

/// Counts of one path, which one worker writes.
#[derive(Debug)]
struct Meters {
    /// By reason, none first, and by class.
    ends: [[Count; TrafficEnd::CLASSES]; Reason::ALL.len() + 1],
    latency: Arc<Latency>,
}

impl Meters {
    fn count(&self, ended: &Ended) {
        let reason = ended.end.reason.map_or(0, |reason| {
            let place = Reason::ALL.iter().position(|it| *it == reason);
            place.map_or(0, |place| place + 1)
        });
        self.ends[reason][usize::from(ended.end.class)].add(1);
        if ended.is_whole {
            self.latency.took(ended.began, ended.at);
        }
    }

    fn ends(&self) -> impl Iterator<Item = (TrafficEnd, u64)> {
        let reasons = std::iter::once(None).chain(Reason::ALL.iter().copied().map(Some));
        reasons.zip(&self.ends).flat_map(|(reason, classes)| {
            (0..).zip(classes).filter_map(move |(class, count)| {
                let count = count.get();
                (count > 0).then_some((TrafficEnd { class, reason }, count))
            })
        })
    }
}

/// All paths of one worker by name.
#[derive(Debug, Default)]
struct Paths {
    meters: BTreeMap<TrafficPath, Arc<Meters>>,
    latencies: BTreeMap<TrafficRoute, Arc<Latency>>,
}

impl Paths {
    /// `None` where there is no room for another path.
    fn meters(&mut self, path: TrafficPath, counters: &Counters) -> Option<Arc<Meters>> {
        if let Some(meters) = self.meters.get(&path) {
            return Some(meters.clone());
        }
        if self.meters.len() >= Sightings::MOST {
            return None;
        }
        let meters = Arc::new(Meters {
            ends: std::array::from_fn(|_| Default::default()),
            latency: self.latency(&path, counters),
        });
        self.meters.insert(path, meters.clone());
        Some(meters)
    }

    /// Routes share the times of their edge where there is no room for times of each.
    fn latency(&mut self, path: &TrafficPath, counters: &Counters) -> Arc<Latency> {
        let mut led = TrafficRoute {
            edge: path.edge.clone(),
            route: path.route.clone(),
        };
        if self.latencies.len() >= Sightings::MOST_TIMED && !self.latencies.contains_key(&led) {
            counters.count(Counter::RoutesUntimed);
            led.route = None;
        }
        self.latencies.entry(led).or_default().clone()
    }
}

/// What the workers have seen, as others read it.
#[derive(Clone, Debug)]
pub(crate) struct Sightings(Vec<Arc<Mutex<Paths>>>);

impl Sightings {
    /// Most paths of a worker: some 20 MiB of counts at most, where every one of them is another edge.
    const MOST: usize = 8 << 10;
    /// Routes of a worker with times of their own: a megabyte of text for scrapers.
    const MOST_TIMED: usize = 512;

    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Arc::default()).collect())
    }

    /// The sum over all workers. A worker that meets a new path meanwhile waits.
    pub(crate) fn read(&self) -> Traffic {
        let mut traffic = Traffic::default();
        for paths in &self.0 {
            let paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
            for (path, meters) in &paths.meters {
                let ends = traffic.paths.entry(path.clone()).or_default();
                for (end, count) in meters.ends() {
                    *ends.entry(end).or_default() += count;
                }
            }
            for (led, latency) in &paths.latencies {
                let sum = traffic.latency_us.entry(led.clone()).or_default();
                sum.merge(&latency.histogram());
            }
        }
        traffic.latency_us.retain(|_, latency| latency.count() > 0);
        traffic
    }
}

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Sighter {
    known: RefCell<HashMap<PathKey, Arc<Meters>, BuildHasherDefault<NumberHasher>>>,
    paths: Arc<Mutex<Paths>>,
    counters: Arc<Counters>,
}

impl Sighter {
    /// Most paths that are found by number; then all are looked up by name once more.
    const MOST_KNOWN: usize = 2 * Sightings::MOST;

    pub(crate) fn new(sightings: &Sightings, worker: usize, counters: Arc<Counters>) -> Self {
        Self {
            known: RefCell::default(),
            paths: sightings.0[worker].clone(),
            counters,
        }
    }

    /// The numbers mean other paths from here on.
    pub(crate) fn forget_numbers(&self) {
        self.known.borrow_mut().clear();
    }

    /// Counts an end. `path` is asked where the key was not met before.
    pub(crate) fn count(&self, key: &PathKey, ended: &Ended, path: impl FnOnce() -> TrafficPath) {
        if let Some(meters) = self.known.borrow().get(key) {
            return meters.count(ended);
        }
        if let Some(meters) = self.count_named(ended, path()) {
            let mut known = self.known.borrow_mut();
            if known.len() >= Self::MOST_KNOWN {
                known.clear();
            }
            known.insert(*key, meters);
        }
    }

    /// Counts an end on a path whose numbers are not those of the routing in force.
    pub(crate) fn count_by_name(&self, ended: &Ended, path: TrafficPath) {
        self.count_named(ended, path);
    }

    fn count_named(&self, ended: &Ended, path: TrafficPath) -> Option<Arc<Meters>> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let meters = paths.meters(path, &self.counters);
        drop(paths);
        match &meters {
            Some(meters) => meters.count(ended),
            None => self.counters.count(Counter::TrafficUnlisted),
        }
        meters
    }
}

/// Hashes the few numbers of a [`PathKey`], which no caller can choose: a multiplication each
/// (D. Knuth, "The Art of Computer Programming", volume 3, section 6.4).
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio.
        self.0 = (self.0.rotate_left(26) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use selvedge_model::TrafficEdge;

    use super::*;

    fn ended(status: u16, reason: Option<Reason>, is_whole: bool) -> Ended {
        Ended {
            end: TrafficEnd::new(status, reason),
            began: Instant::default(),
            at: Instant::from_nanos(5_000),
            is_whole,
        }
    }

    fn key(route: u32) -> PathKey {
        PathKey {
            source: Some(CgroupId(7)),
            asked: Asked::Service(
                std::net::Ipv4Addr::new(127, 96, 0, 1),
                selvedge_model::Port::MIN,
            ),
            unit: TrafficUnit::Request,
            route: Some(RouteIndex(route)),
            backend: None,
        }
    }

    fn path(route: &str) -> TrafficPath {
        TrafficPath {
            edge: TrafficEdge {
                source: None,
                destination: Some("cart".parse().unwrap()),
            },
            unit: TrafficUnit::Request,
            route: Some(route.to_owned()),
            backend: None,
        }
    }

    fn led(path: TrafficPath) -> TrafficRoute {
        TrafficRoute {
            edge: path.edge,
            route: path.route,
        }
    }

    #[test]
    fn counts_of_all_workers_go_on_over_configurations() {
        let sightings = Sightings::new(2);
        let workers = [0, 1].map(|it| Sighter::new(&sightings, it, Arc::default()));
        for worker in &workers {
            worker.count(&key(0), &ended(200, None, true), || path("a"));
            worker.count(&key(0), &ended(200, None, true), || panic!("it is known"));
            worker.forget_numbers();
            let refused = ended(503, Some(Reason::NoEndpoint), false);
            worker.count(&key(0), &refused, || path("b"));
            worker.count(&key(1), &refused, || path("a"));
        }
        let traffic = sightings.read();
        let well = TrafficEnd::new(200, None);
        let refused = TrafficEnd::new(503, Some(Reason::NoEndpoint));
        assert_eq!(traffic.paths[&path("a")], [(well, 4), (refused, 2)].into());
        assert_eq!(traffic.paths[&path("b")], [(refused, 2)].into());
        let latency = &traffic.latency_us[&led(path("a"))];
        assert_eq!((latency.count(), latency.sum()), (4, 20));
    }

    #[test]
    fn what_finds_no_room_is_counted_as_that() {
        let sightings = Sightings::new(1);
        let counters = Arc::new(Counters::default());
        let worker = Sighter::new(&sightings, 0, counters.clone());
        for route in 0..Sightings::MOST + 2 {
            let end = ended(200, None, true);
            worker.count_by_name(&end, path(&route.to_string()));
        }
        let traffic = sightings.read();
        assert_eq!(traffic.paths.len(), Sightings::MOST);
        let named = traffic.latency_us.keys().filter(|it| it.route.is_some());
        assert_eq!(named.count(), Sightings::MOST_TIMED);
        let rest = TrafficRoute {
            edge: path("a").edge,
            route: None,
        };
        let untimed = (Sightings::MOST - Sightings::MOST_TIMED) as u64;
        assert_eq!(traffic.latency_us[&rest].count(), untimed);
        let counted = counters.report().counters;
        assert_eq!(counted[&Counter::RoutesUntimed], untimed);
        assert_eq!(counters.report().counters[&Counter::TrafficUnlisted], 2);
    }
}
