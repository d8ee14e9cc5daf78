//! The controllers of a node: they see what came, and set the gates.

use alloc::collections::BTreeMap;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{
    ControllerState, Doubt, Fates, HeldBy, Hold, Holds, Instant, JournalEvent, Limited, Rng,
    WindowSummary,
};

use crate::callers::Sharing;
use crate::doubt::{Trust, is_plausible};
use crate::entry::Entry;
use crate::estimate::Baseline;
use crate::gate::Endpoint;
use crate::limit::Controller;
use crate::limiter::{Limiter, said};
use crate::node::Node;
use crate::rest::Rest;
use crate::tables::Tables;
use crate::upstream::Upstream;

/// Hears what happens to a limit.
pub type Record<'r> = dyn FnMut(&Limited, JournalEvent) + 'r;

/// The controllers of a node: one for each limit that a law moves. What has none costs nothing.
#[derive(Debug)]
pub struct Controllers {
    rng: Rng,
    /// What is not to be moved.
    holds: Arc<Holds>,
    /// When it was looked last, while there was something to look at.
    looked: Option<Instant>,
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
    sharing: Sharing,
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
    about: Limited,
    limiter: Arc<Limiter>,
    controller: Controller,
    /// What the controller is to keep, as it was told last.
    objective: Duration,
    held: Option<Hold>,
    trust: Trust,
    /// Why it rests, while it does not trust what it sees.
    doubted: Option<Doubt>,
    rest: Rest,
    began: Instant,
    baseline: Baseline,
    /// Requests refused before the window.
    refused: u64,
    /// What became of requests before it.
    fates: Fates,
}

/// One time that the controllers look.
struct Turn<'t, 'r> {
    now: Instant,
    /// Whether the last was too long ago.
    is_late: bool,
    holds: &'t Holds,
    rng: &'t mut Rng,
    record: &'t mut Record<'r>,
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
    /// Where it is not for so long, what came meanwhile is of a time that nobody saw: the clock jumped, or all
    /// of the process stood still.
    const STALL: Duration = Duration::from_secs(2);

    /// Those of a node that has not been looked at yet.
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            holds: Arc::default(),
            looked: None,
            tables: None,
            upstreams: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// What is not to be moved, from the next [`Self::tick`] on.
    pub fn hold(&mut self, holds: Arc<Holds>) {
        self.holds = holds;
    }

    /// Closes the windows that are due, and has the gates do what follows from them, which `record` hears.
    /// No request waits for it. What the node has no more is forgotten.
    pub fn tick(&mut self, now: Instant, node: &Node, record: &mut Record<'_>) {
        let is_known = self.tables.as_ref();
        if !is_known.is_some_and(|tables| Arc::ptr_eq(tables, &node.tables)) {
            self.meet(now, &node.tables, record);
        }
        let is_late = self
            .looked
            .is_some_and(|looked| now.since(looked) > Self::STALL);
        self.looked = (!self.is_idle()).then_some(now);
        let mut turn = Turn {
            now,
            is_late,
            holds: &self.holds,
            rng: &mut self.rng,
            record,
        };
        for steered in &mut self.upstreams {
            steered.tick(&mut turn, &node.tables.upstreams[steered.index]);
        }
        for steered in &mut self.entries {
            steered.tick(&mut turn, &node.tables.entries[steered.index]);
        }
    }

    /// Has `record` hear what every limit follows from, for a journal that begins here.
    pub fn tell(&self, now: Instant, record: &mut Record<'_>) {
        let endpoints = self.upstreams.iter().flat_map(|it| &it.endpoints);
        let entries = self.entries.iter().map(|it| &it.steered);
        for steered in endpoints.chain(entries) {
            steered.tell(now, record);
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
    fn meet(&mut self, now: Instant, tables: &Arc<Tables>, record: &mut Record<'_>) {
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
        let mut began = Vec::new();
        let mut steered =
            |limiter: &Arc<Limiter>, pressure: &Pressure, about: &dyn Fn() -> Limited| {
                let before = before.remove(&address(limiter));
                before.or_else(|| {
                    let steered = Steered::new(now, about(), limiter, pressure)?;
                    began.push((steered.about.clone(), steered.state(now)));
                    Some(steered)
                })
            };
        for (index, upstream) in tables.upstreams.iter().enumerate() {
            let pressure = pressure(address(&upstream.shared), upstream.shared.asked());
            let about = |endpoint: &Endpoint| Limited::Endpoint {
                backend: upstream.shared.backend.clone(),
                place: endpoint.place,
                port: endpoint.port,
            };
            let endpoints = upstream.gate.endpoints().iter();
            let endpoints: Vec<Steered> = endpoints
                .filter_map(|it| steered(&it.limiter, &pressure, &|| about(it)))
                .collect();
            if !endpoints.is_empty() || upstream.retries.is_steered() {
                self.upstreams.push(SteeredUpstream {
                    index,
                    pressure,
                    sharing: Sharing::default(),
                    endpoints,
                });
            } else {
                upstream.shared.forget_price();
            }
        }
        for (index, entry) in tables.entries.iter().enumerate() {
            let pressure = pressure(address(&entry.shared), entry.asked());
            let Some(service) = entry.service() else {
                continue;
            };
            let about = || Limited::Entry {
                service: service.clone(),
                route: entry.name().to_string(),
            };
            if let Some(steered) = steered(entry.limiter(), &pressure, &about) {
                self.entries.push(SteeredEntry {
                    index,
                    pressure,
                    steered,
                });
            }
        }
        // First, since another may have come for the same.
        for gone in before.values() {
            record(&gone.about, JournalEvent::Gone);
        }
        for (about, state) in began {
            record(&about, JournalEvent::State(state));
        }
        self.tables = Some(tables.clone());
    }
}

/// What a thing is known by that lives on over configurations, while both are there.
fn address<T>(thing: &Arc<T>) -> usize {
    Arc::as_ptr(thing).addr()
}

impl SteeredUpstream {
    fn tick(&mut self, turn: &mut Turn<'_, '_>, upstream: &Upstream) {
        self.pressure.look(turn.now, upstream.shared.asked());
        let pressure = &self.pressure;
        if turn.holds.rests(&upstream.shared.backend.service) {
            upstream.shared.forget_price();
        } else {
            let is_scarce = pressure.share > Pressure::SCARCE;
            upstream.shared.price(pressure.earns(), is_scarce);
        }
        if upstream.hedges {
            let late = upstream.gate.late();
            let rests = turn.holds.rests(&upstream.shared.backend.service);
            upstream.shared.set_late(late.filter(|_| !rests));
        }
        if let Some(callers) = &upstream.callers {
            let limits = upstream.gate.endpoints().iter();
            let limits = limits
                .filter(|it| it.weight > 0)
                .map(|it| it.limiter.limit());
            let limit = limits.fold(0, u32::saturating_add);
            self.sharing.turn(callers, pressure.share, limit);
            if turn.holds.rests(&upstream.shared.backend.service) {
                callers.forget_share();
            }
        }
        let endpoints = self.endpoints.iter_mut().zip(upstream.gate.endpoints());
        for (steered, endpoint) in endpoints {
            let counted = || endpoint.counted();
            let samples = steered.tick(turn, &self.pressure, counted, Fates::default());
            if let (Some(samples), Some(workload)) = (samples, &endpoint.workload) {
                workload.spread_stray_time(turn.now, samples);
            }
        }
    }
}

impl SteeredEntry {
    fn tick(&mut self, turn: &mut Turn<'_, '_>, entry: &Entry) {
        self.pressure.look(turn.now, entry.asked());
        let in_flight = || entry.in_flight();
        self.steered
            .tick(turn, &self.pressure, in_flight, entry.fates());
    }
}

impl Steered {
    fn new(
        now: Instant,
        about: Limited,
        limiter: &Arc<Limiter>,
        pressure: &Pressure,
    ) -> Option<Self> {
        let objective = limiter.objective();
        let mut controller = Controller::new(limiter.law())?;
        controller.aim(objective);
        Some(Self {
            about,
            controller,
            objective,
            held: None,
            trust: Trust::default(),
            doubted: None,
            rest: Rest::default(),
            limiter: limiter.clone(),
            began: now,
            baseline: Baseline::of(limiter.samples()),
            refused: pressure.refused,
            fates: Fates::default(),
        })
    }

    /// Closes the window if that is due and has what follows be done, unless the limit is held; how many samples
    /// were in it. `in_flight` counts as the limit does.
    fn tick(
        &mut self,
        turn: &mut Turn<'_, '_>,
        pressure: &Pressure,
        in_flight: impl Fn() -> u32,
        fates: Fates,
    ) -> Option<u32> {
        self.limiter.turn(turn.now);
        let objective = self.limiter.objective();
        if objective != self.objective {
            if objective < self.objective && self.held.is_none() {
                // What held the one before may not hold this.
                self.rest = Rest::default();
            }
            self.objective = objective;
            self.controller.aim(objective);
            self.tell(turn.now, turn.record);
        }
        if self.held.is_some() || !turn.holds.is_empty() {
            let wanted = turn.holds.of(&self.about);
            if wanted.is_some() || self.held.is_some() {
                if self.held != wanted {
                    self.doubted = None;
                    self.obey(turn, wanted);
                }
                // What was before a release says nothing about what follows.
                self.close(turn.now, pressure, in_flight(), fates);
                return None;
            }
        }
        let samples = self.baseline.count(self.limiter.samples());
        let doubts = self.limiter.law().doubts();
        if doubts && let Some(doubt) = self.reason_for_doubt(turn, samples, &in_flight) {
            self.trust.lose(turn.now, doubt);
        }
        match (self.trust.doubt(turn.now), self.doubted) {
            (None, None) => {}
            (None, Some(_)) => {
                self.doubted = None;
                self.go_on(turn);
                // What was before says nothing about what follows.
                self.close(turn.now, pressure, in_flight(), fates);
                return None;
            }
            (doubt, before) => {
                if doubt != before {
                    self.let_go(turn, doubt);
                }
                return None;
            }
        }
        if !self.controller.is_due(self.began, turn.now, samples) {
            return None;
        }
        let window = self.close(turn.now, pressure, in_flight(), fates);
        if doubts && !is_plausible(&window) {
            self.trust.lose(turn.now, Doubt::Absurd);
            return None;
        }
        let decision = self.controller.on_window(&window, turn.rng);
        self.rest.add(&window, self.limiter.limit(), self.objective);
        self.limiter.set(decision.limit);
        self.limiter.set_tail(self.controller.tail_us());
        if doubts {
            self.trust.on_decision(turn.now, decision.limit);
        }
        if decision.is_fresh {
            self.limiter.begin_anew(turn.now);
        }
        (turn.record)(&self.about, JournalEvent::Decided { window, decision });
        Some(window.times.samples)
    }

    /// The window until now; the next one begins.
    fn close(
        &mut self,
        now: Instant,
        pressure: &Pressure,
        in_flight: u32,
        fates: Fates,
    ) -> WindowSummary {
        let window = WindowSummary {
            began: self.began,
            ended: now,
            limit: self.limiter.decided(),
            is_applied: self.limiter.is_applied(),
            peak: self.limiter.take_peak(in_flight),
            times: self.baseline.close(self.limiter.samples()),
            refused: pressure.refused.saturating_sub(self.refused),
            refused_share: pressure.share,
            fates: fates.since(&self.fates),
        };
        (self.began, self.refused, self.fates) = (now, pressure.refused, fates);
        window
    }

    /// Is held as is wanted, or goes on from where it was held.
    fn obey(&mut self, turn: &mut Turn<'_, '_>, wanted: Option<Hold>) {
        let before = self.held;
        self.held = wanted;
        // It has come to rest there itself.
        if let (Some(Hold::ToRest), Some(Hold::AtRest(limit))) = (before, wanted)
            && limit == said(self.limiter.decided())
        {
            return;
        }
        let event = match wanted {
            Some(hold) => {
                self.limiter.forget_tail();
                self.limiter.set(self.held_at(hold));
                self.told_held(turn.now, hold)
            }
            None => return self.go_on(turn),
        };
        (turn.record)(&self.about, event);
    }

    /// Moves the limit again, from where it is.
    fn go_on(&mut self, turn: &mut Turn<'_, '_>) {
        self.controller.resume(self.limiter.decided());
        self.limiter.set(self.controller.limit());
        self.limiter.begin_anew(turn.now);
        (turn.record)(&self.about, JournalEvent::State(self.state(turn.now)));
    }

    /// Why what is seen at this moment is not to be trusted.
    fn reason_for_doubt(
        &mut self,
        turn: &Turn<'_, '_>,
        samples: u64,
        in_flight: impl Fn() -> u32,
    ) -> Option<Doubt> {
        if turn.is_late {
            return Some(Doubt::Stalled);
        }
        // Whether something waits is only asked where for a second nothing has ended.
        let is_quiet = samples == 0 && turn.now.since(self.began) >= Duration::from_secs(1);
        let are_waiting = is_quiet && in_flight() > 0;
        let tail = Duration::from_secs_f64(self.controller.tail_us().max(0.0) / 1e6);
        let usual = tail.max(self.objective);
        let is_silent = self.trust.is_silent(turn.now, are_waiting, usual);
        is_silent.then_some(Doubt::Silent)
    }

    /// Rests where it was in the last minute that held; where there was none the limit stays as it is, since
    /// none at all is no safe one under load.
    fn let_go(&mut self, turn: &mut Turn<'_, '_>, doubt: Option<Doubt>) {
        self.doubted = doubt;
        self.limiter.forget_tail();
        if let Some(limit) = self.rest.value() {
            self.limiter.set(limit);
        }
        if let Some(doubt) = doubt {
            (turn.record)(&self.about, self.told_doubted(turn.now, doubt));
        }
    }

    fn told_doubted(&self, at: Instant, doubt: Doubt) -> JournalEvent {
        JournalEvent::Held {
            at,
            limit: said(self.limiter.decided()),
            by: HeldBy::Doubt(doubt),
        }
    }

    fn held_at(&self, hold: Hold) -> u32 {
        let fixed = self.limiter.fixed();
        let limit = match hold {
            Hold::ToRest => self.rest.value(),
            Hold::AtRest(limit) | Hold::At(limit) => limit,
        };
        limit.map_or(fixed, |limit| limit.min(fixed))
    }

    fn told_held(&self, at: Instant, hold: Hold) -> JournalEvent {
        JournalEvent::Held {
            at,
            limit: said(self.held_at(hold)),
            by: match hold {
                Hold::At(_) => HeldBy::Pin,
                Hold::ToRest | Hold::AtRest(_) => HeldBy::Freeze,
            },
        }
    }

    /// Has `record` hear what the limit follows from.
    fn tell(&self, now: Instant, record: &mut Record<'_>) {
        record(&self.about, JournalEvent::State(self.state(now)));
        let held = self.held.map(|hold| self.told_held(now, hold));
        let doubted = || Some(self.told_doubted(now, self.doubted?));
        if let Some(event) = held.or_else(doubted) {
            record(&self.about, event);
        }
    }

    fn state(&self, at: Instant) -> ControllerState {
        ControllerState {
            at,
            objective: self.objective,
            fixed: said(self.limiter.fixed()),
            is_applied: self.limiter.is_applied(),
            limit: self.limiter.decided(),
            memory: self.controller.memory(),
        }
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
