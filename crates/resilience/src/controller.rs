//! The controllers of a node: they see what came, and set the gates.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{Backend, Instant, Place, Port, Rng};

use crate::entry::Entry;
use crate::estimate::Baseline;
use crate::limit::{Controller, Decision, Fates, WindowSummary};
use crate::limiter::Limiter;
use crate::node::Node;
use crate::retry::RetryLaw;
use crate::tables::Tables;
use crate::upstream::Upstream;

/// What a controller has decided, and from what.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// About which limit.
    pub about: Limited<'a>,
    /// What it saw.
    pub window: &'a WindowSummary,
    /// What follows.
    pub decision: Decision,
}

/// Something whose requests in flight are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited<'a> {
    /// An endpoint of an upstream.
    Endpoint {
        /// Which upstream.
        backend: &'a Backend,
        /// Where the endpoint is.
        place: Place,
        /// Its port.
        port: Port,
    },
    /// The entry of a route.
    Entry {
        /// The route's name.
        route: &'a str,
    },
}

/// Hears of each decision.
pub type Record<'r> = dyn FnMut(&Decided<'_>) + 'r;

/// The controllers of a node: one for each limit that a law moves. What has none costs nothing.
#[derive(Debug)]
pub struct Controllers {
    rng: Rng,
    /// What the lists below are of; none before the first time.
    tables: Option<Arc<Tables>>,
    upstreams: Vec<SteeredUpstream>,
    entries: Vec<SteeredEntry>,
}

/// An upstream whose endpoints have laws, or whose retries have.
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
    /// What became of requests before it.
    fates: Fates,
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

    /// Closes the windows that are due, and has the gates do what follows from them, which `record` hears.
    /// No request waits for it. What the node has no more is forgotten.
    pub fn tick(&mut self, now: Instant, node: &Node, record: &mut Record<'_>) {
        let is_known = self.tables.as_ref();
        if !is_known.is_some_and(|tables| Arc::ptr_eq(tables, &node.tables)) {
            self.meet(now, &node.tables);
        }
        for steered in &mut self.upstreams {
            steered.tick(
                now,
                &node.tables.upstreams[steered.index],
                &mut self.rng,
                record,
            );
        }
        for steered in &mut self.entries {
            steered.tick(
                now,
                &node.tables.entries[steered.index],
                &mut self.rng,
                record,
            );
        }
    }

    /// Whether there is no limit that a law moves.
    pub fn is_idle(&self) -> bool {
        self.upstreams.is_empty() && self.entries.is_empty()
    }

    /// The pressure on each upstream and entry of the tables so far.
    fn pressures(&self) -> BTreeMap<usize, Pressure> {
        let Some(tables) = &self.tables else {
            return BTreeMap::new();
        };
        let upstreams = self.upstreams.iter().map(|it| {
            let shared = &tables.upstreams[it.index].shared;
            (address(shared), it.pressure)
        });
        let entries = self.entries.iter().map(|it| {
            let shared = &tables.entries[it.index].shared;
            (address(shared), it.pressure)
        });
        upstreams.chain(entries).collect()
    }

    /// Makes the lists those of these tables. A limit that was there before is known by its limiter.
    fn meet(&mut self, now: Instant, tables: &Arc<Tables>) {
        let pressures = self.pressures();
        let pressure = |of: usize, asked| {
            let before = pressures.get(&of).copied();
            before.unwrap_or_else(|| Pressure::new(now, asked))
        };
        let endpoints = self.upstreams.drain(..).flat_map(|it| it.endpoints);
        let entries = self.entries.drain(..).map(|it| it.steered);
        let mut before: BTreeMap<usize, Steered> = endpoints
            .chain(entries)
            .map(|steered| (address(&steered.limiter), steered))
            .collect();
        let mut steered = |limiter: &Arc<Limiter>, pressure: &Pressure| {
            let before = before.remove(&address(limiter));
            before.or_else(|| Steered::new(now, limiter, pressure))
        };
        for (index, upstream) in tables.upstreams.iter().enumerate() {
            let pressure = pressure(address(&upstream.shared), upstream.shared.asked());
            let endpoints = upstream.gate.endpoints().iter();
            let endpoints: Vec<Steered> = endpoints
                .filter_map(|endpoint| steered(&endpoint.limiter, &pressure))
                .collect();
            if !endpoints.is_empty() || upstream.retries != RetryLaw::Budget {
                self.upstreams.push(SteeredUpstream {
                    index,
                    pressure,
                    endpoints,
                });
            } else {
                upstream.shared.forget_price();
            }
        }
        for (index, entry) in tables.entries.iter().enumerate() {
            let pressure = pressure(address(&entry.shared), entry.asked());
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

/// What a thing is known by that lives on over configurations, while both are there.
fn address<T>(thing: &Arc<T>) -> usize {
    Arc::as_ptr(thing).addr()
}

impl SteeredUpstream {
    fn tick(&mut self, now: Instant, upstream: &Upstream, rng: &mut Rng, record: &mut Record<'_>) {
        self.pressure.look(now, upstream.shared.asked());
        let pressure = &self.pressure;
        let is_scarce = pressure.share > Pressure::SCARCE;
        upstream.shared.price(pressure.earns(), is_scarce);
        let endpoints = self.endpoints.iter_mut().zip(upstream.gate.endpoints());
        for (steered, endpoint) in endpoints {
            let counted = || endpoint.counted();
            let closed = steered.tick(now, &self.pressure, counted, Fates::default(), rng);
            let Some((window, decision)) = closed else {
                continue;
            };
            if let Some(workload) = &endpoint.workload {
                workload.spread_stray_time(now, window.times.samples);
            }
            record(&Decided {
                about: Limited::Endpoint {
                    backend: &upstream.shared.backend,
                    place: endpoint.place,
                    port: endpoint.port,
                },
                window: &window,
                decision,
            });
        }
    }
}

impl SteeredEntry {
    fn tick(&mut self, now: Instant, entry: &Entry, rng: &mut Rng, record: &mut Record<'_>) {
        self.pressure.look(now, entry.asked());
        let in_flight = || entry.in_flight();
        let fates = entry.fates();
        let pressure = &self.pressure;
        let closed = self.steered.tick(now, pressure, in_flight, fates, rng);
        if let Some((window, decision)) = closed {
            record(&Decided {
                about: Limited::Entry {
                    route: entry.name(),
                },
                window: &window,
                decision,
            });
        }
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
            fates: Fates::default(),
        })
    }

    /// Closes the window if that is due, and tells what it was and what follows; `in_flight` counts as the limit does.
    fn tick(
        &mut self,
        now: Instant,
        pressure: &Pressure,
        in_flight: impl FnOnce() -> u32,
        fates: Fates,
        rng: &mut Rng,
    ) -> Option<(WindowSummary, Decision)> {
        let limiter = &self.limiter;
        let samples = self.baseline.count(limiter.samples());
        if !self.controller.is_due(self.began, now, samples) {
            return None;
        }
        let window = WindowSummary {
            began: self.began,
            ended: now,
            limit: limiter.decided(),
            peak: limiter.take_peak(in_flight()),
            times: self.baseline.close(limiter.samples()),
            refused: pressure.refused.saturating_sub(self.refused),
            refused_share: pressure.share,
            fates: fates.since(&self.fates),
        };
        (self.began, self.refused, self.fates) = (now, pressure.refused, fates);
        let decision = self.controller.on_window(&window, rng);
        limiter.set(decision.limit, self.controller.tail_us());
        if decision.is_fresh {
            limiter.begin_anew(now);
        }
        Some((window, decision))
    }
}

impl Pressure {
    /// How long the share remembers.
    const MEMORY: f64 = 0.5;
    /// Where more than this find no place, places are scarce.
    const SCARCE: f64 = 0.01;

    /// Thousandths of a retry that a request earns. With `p` the share of capacity in use, `0.9 / p - 1` retries
    /// for each request leave a tenth of it free; a tenth of requests refused is taken for all of it in use.
    fn earns(&self) -> u32 {
        let used = f64::min(self.share / 0.1, 1.0);
        let ratio = match used {
            0.0 => 1.0,
            used => (0.9 / used - 1.0).clamp(0.0, 1.0),
        };
        (1000.0 * ratio) as u32
    }

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
