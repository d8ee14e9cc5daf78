//! The controllers of a node: they see what came, and set the gates.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{Instant, Rng};

use crate::entry::Entry;
use crate::estimate::Baseline;
use crate::limit::{Controller, WindowSummary};
use crate::limiter::Limiter;
use crate::node::Node;
use crate::tables::Tables;
use crate::upstream::Upstream;

/// The controllers of a node: one for each limit that a law moves. What has none costs nothing.
#[derive(Debug)]
pub struct Controllers {
    rng: Rng,
    /// What the lists below are of; none before the first time.
    tables: Option<Arc<Tables>>,
    upstreams: Vec<SteeredUpstream>,
    entries: Vec<SteeredEntry>,
}

/// An upstream whose endpoints have laws.
#[derive(Debug)]
struct SteeredUpstream {
    /// Its place among the upstreams of the tables.
    index: usize,
    pressure: Pressure,
    /// As the gate has the endpoints.
    endpoints: Vec<Steered>,
}

#[derive(Debug)]
struct SteeredEntry {
    index: usize,
    pressure: Pressure,
    steered: Steered,
}

/// A controller with the window that goes on.
#[derive(Debug)]
struct Steered {
    limiter: Arc<Limiter>,
    controller: Controller,
    began: Instant,
    baseline: Baseline,
    /// Requests refused before the window.
    refused: u64,
    last: Option<WindowSummary>,
}

/// How many requests find no place.
#[derive(Clone, Copy, Debug, Default)]
struct Pressure {
    at: Instant,
    asked: u64,
    refused: u64,
    /// Share of them lately.
    share: f64,
}

impl Controllers {
    /// How often [`Self::tick`] is to be called while there are requests.
    pub const TICK: Duration = Duration::from_millis(50);

    /// Those of a node that has not been looked at yet.
    pub const fn new(rng: Rng) -> Self {
        Self {
            rng,
            tables: None,
            upstreams: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Closes the windows that are due, and has the gates do what follows from them. No request waits for
    /// it. What the node has no more is forgotten.
    pub fn tick(&mut self, now: Instant, node: &Node) {
        let is_known = self.tables.as_ref();
        if !is_known.is_some_and(|tables| Arc::ptr_eq(tables, &node.tables)) {
            self.meet(now, &node.tables);
        }
        for steered in &mut self.upstreams {
            steered.tick(now, &node.tables.upstreams[steered.index], &mut self.rng);
        }
        for steered in &mut self.entries {
            steered.tick(now, &node.tables.entries[steered.index], &mut self.rng);
        }
    }

    /// The last window of each limit: those of endpoints first, then of entries. None of a limit that had none
    /// yet.
    pub fn windows(&self) -> impl Iterator<Item = &WindowSummary> {
        let endpoints = self.upstreams.iter().flat_map(|it| &it.endpoints);
        let entries = self.entries.iter().map(|it| &it.steered);
        endpoints.chain(entries).filter_map(|it| it.last.as_ref())
    }

    /// Whether there is no limit that a law moves.
    pub fn is_idle(&self) -> bool {
        self.upstreams.is_empty() && self.entries.is_empty()
    }

    /// Makes the lists those of these tables. A limit that was there before is known by its limiter.
    fn meet(&mut self, now: Instant, tables: &Arc<Tables>) {
        let endpoints = self.upstreams.drain(..).flat_map(|it| it.endpoints);
        let entries = self.entries.drain(..).map(|it| it.steered);
        let key = |limiter: &Arc<Limiter>| Arc::as_ptr(limiter).addr();
        let mut before: BTreeMap<usize, Steered> = endpoints
            .chain(entries)
            .map(|steered| (key(&steered.limiter), steered))
            .collect();
        let mut steered = |limiter: &Arc<Limiter>, pressure: &Pressure| {
            let before = before.remove(&key(limiter));
            before.or_else(|| Steered::new(now, limiter, pressure))
        };
        for (index, upstream) in tables.upstreams.iter().enumerate() {
            let pressure = Pressure::new(now, upstream.shared.asked());
            let endpoints = upstream.gate.endpoints().iter();
            let endpoints: Vec<Steered> = endpoints
                .filter_map(|endpoint| steered(&endpoint.limiter, &pressure))
                .collect();
            if !endpoints.is_empty() {
                self.upstreams.push(SteeredUpstream {
                    index,
                    pressure,
                    endpoints,
                });
            }
        }
        for (index, entry) in tables.entries.iter().enumerate() {
            let pressure = Pressure::new(now, entry.asked());
            if let Some(steered) = steered(entry.limiter(), &pressure) {
                self.entries.push(SteeredEntry {
                    index,
                    pressure,
                    steered,
                });
            }
        }
        self.tables = Some(tables.clone());
    }
}

impl SteeredUpstream {
    fn tick(&mut self, now: Instant, upstream: &Upstream, rng: &mut Rng) {
        self.pressure.look(now, upstream.shared.asked());
        let endpoints = self.endpoints.iter_mut().zip(upstream.gate.endpoints());
        for (steered, endpoint) in endpoints {
            let counted = || endpoint.counted();
            let window = steered.tick(now, &self.pressure, counted, rng);
            let workload = endpoint.workload.as_ref();
            if let (Some(window), Some(workload)) = (window, workload) {
                workload.spread_stray_time(now, window.times.samples);
            }
        }
    }
}

impl SteeredEntry {
    fn tick(&mut self, now: Instant, entry: &Entry, rng: &mut Rng) {
        self.pressure.look(now, entry.asked());
        let in_flight = || entry.in_flight();
        self.steered.tick(now, &self.pressure, in_flight, rng);
    }
}

impl Steered {
    fn new(now: Instant, limiter: &Arc<Limiter>, pressure: &Pressure) -> Option<Self> {
        Some(Self {
            controller: Controller::new(limiter.law())?,
            limiter: limiter.clone(),
            began: now,
            baseline: Baseline::of(limiter.samples()),
            refused: pressure.refused,
            last: None,
        })
    }

    /// Closes the window and tells what it was, if that is due; `in_flight` counts as the limit does.
    fn tick(
        &mut self,
        now: Instant,
        pressure: &Pressure,
        in_flight: impl FnOnce() -> u32,
        rng: &mut Rng,
    ) -> Option<WindowSummary> {
        let limiter = &self.limiter;
        let samples = self.baseline.count(limiter.samples());
        if !self.controller.is_due(self.began, now, samples) {
            return None;
        }
        let window = WindowSummary {
            began: self.began,
            ended: now,
            limit: limiter.limit(),
            peak: limiter.take_peak(in_flight()),
            times: self.baseline.close(limiter.samples()),
            refused: pressure.refused.saturating_sub(self.refused),
            refused_share: pressure.share,
        };
        (self.began, self.refused) = (now, pressure.refused);
        let decision = self.controller.on_window(&window, rng);
        limiter.set(decision.limit, self.controller.tail_us());
        if decision.is_fresh {
            limiter.begin_anew(now);
        }
        self.last = Some(window);
        Some(window)
    }
}

impl Pressure {
    /// How long the share remembers.
    const MEMORY: f64 = 0.5;

    const fn new(at: Instant, (asked, refused): (u64, u64)) -> Self {
        Self {
            at,
            asked,
            refused,
            share: 0.0,
        }
    }

    /// So many have asked until now, and so many of them were refused.
    fn look(&mut self, now: Instant, (asked, refused): (u64, u64)) {
        let more = asked.saturating_sub(self.asked);
        let of_them = refused.saturating_sub(self.refused).min(more);
        let share = of_them as f64 / u64::max(more, 1) as f64;
        let weight = 1.0 - libm::exp(-now.since(self.at).as_secs_f64() / Self::MEMORY);
        self.share += weight * (share - self.share);
        (self.at, self.asked, self.refused) = (now, asked, refused);
    }
}
