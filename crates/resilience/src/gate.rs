//! The gate before the endpoints of an upstream: which of them a request goes to, if to any.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{Ejection, EndpointPace, Instant, Place, Port, Reason, Rng};

use crate::balance::{
    BalanceLaw, Draw, Load, Pace, Probed, Standing, Warmth, lighter, peak_cost, sooner,
};
use crate::counter::Apart;
use crate::eject::{Breaker, Pass, Probe};
use crate::in_flight::InFlight;
use crate::limiter::Limiter;
use crate::outcome::OutcomeKind;
use crate::rejection::{Gate, Rejection};
use crate::reserve::Claim;
use crate::workload::Workload;

/// The endpoints of an upstream, as one configuration has them.
#[derive(Debug)]
pub(crate) struct EndpointGate {
    /// Those that take requests first, then those of weight 0.
    endpoints: Box<[Endpoint]>,
    /// How many take requests.
    candidates: usize,
    /// Draws among these.
    draw: Draw,
    balance: BalanceLaw,
    warmth: Warmth,
    ejection: Option<Ejection>,
}

/// An endpoint as one configuration has it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) place: Place,
    pub(crate) port: Port,
    pub(crate) weight: u16,
    /// Which of the node's workloads it is, where it is one.
    pub(crate) workload: Option<Arc<Workload>>,
    /// All endpoints that are this workload, where it is not the only one.
    pub(crate) siblings: Box<[Arc<EndpointState>]>,
    pub(crate) state: Arc<EndpointState>,
    pub(crate) limiter: Arc<Limiter>,
}

/// What lives on of an endpoint: what every request writes apart from what every request reads.
#[derive(Debug, Default)]
pub(crate) struct EndpointState {
    pub(crate) traffic: Apart<Traffic>,
    pub(crate) breaker: Apart<Breaker>,
}

/// What each request writes.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) in_flight: InFlight,
    /// Those of them without the head of an answer.
    pub(crate) unanswered: InFlight,
    pub(crate) pace: Pace,
}

/// A place in flight at an endpoint; whoever has it gives it back.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) endpoint: usize,
    pub(crate) probe: Option<Probe>,
}

/// Endpoints that a request was sent to, the last few.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    endpoints: [u32; 4],
    count: u8,
}

impl Tried {
    pub(crate) fn push(&mut self, endpoint: usize) {
        let place = usize::from(self.count) % self.endpoints.len();
        self.endpoints[place] = endpoint as u32;
        self.count = self.count.saturating_add(1);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn is_one(&self) -> bool {
        self.count == 1
    }

    fn has(&self, endpoint: usize) -> bool {
        let count = usize::from(self.count).min(self.endpoints.len());
        self.endpoints[..count].contains(&(endpoint as u32))
    }
}

impl Endpoint {
    pub(crate) fn in_flight(&self) -> u32 {
        self.state.traffic.0.in_flight.get()
    }

    fn load(&self) -> Load {
        Load {
            in_flight: self.in_flight(),
            weight: self.weight,
        }
    }

    fn peak_cost(&self, now: Instant) -> f32 {
        peak_cost(&self.state.traffic.0.pace, now, self.in_flight())
    }

    fn probed(&self) -> Probed {
        Probed {
            in_flight: self.in_flight(),
            mean: self.state.traffic.0.pace.mean(),
        }
    }

    fn standing(&self, now: Instant) -> Standing {
        let traffic = &self.state.traffic.0;
        let waits = traffic.unanswered.get() > 0;
        traffic
            .pace
            .standing(now, self.in_flight(), waits, self.weight)
    }

    /// Requests in flight that the limit counts.
    pub(crate) fn counted(&self) -> u32 {
        let in_flight = self.in_flight();
        in_flight.saturating_sub(self.uncounted(in_flight))
    }

    /// Whether it takes longer than it may, whatever its limit does, as far as its own time is known.
    pub(crate) fn is_late(&self) -> bool {
        let knows_own = |it: &Arc<Workload>| it.knows_waits();
        self.limiter.is_late() && self.workload.as_ref().is_none_or(knows_own)
    }

    /// Counts one more, if that is within the limit.
    fn try_enter(&self, claim: Claim) -> bool {
        let limit = self.limiter.limit_for(claim);
        let in_flight = &self.state.traffic.0.in_flight;
        if !self.limiter.is_watched() {
            return in_flight.try_enter(limit).is_some();
        }
        let uncounted = self.uncounted(in_flight.get());
        let Some(count) = in_flight.try_enter(limit.saturating_add(uncounted)) else {
            return false;
        };
        self.limiter.saw(count.saturating_sub(uncounted));
        true
    }

    fn has_room(&self, claim: Claim) -> bool {
        self.counted() < self.limiter.limit_for(claim)
    }

    /// Those of so many in flight that wait for calls of their workload, where they do not count. What a
    /// workload waits is shared among its endpoints by what is in flight into each.
    fn uncounted(&self, in_flight: u32) -> u32 {
        let Some(workload) = self
            .workload
            .as_ref()
            .filter(|_| self.limiter.law().is_of_own())
        else {
            return 0;
        };
        let waiting = workload.waiting().saturating_add(workload.stray());
        if self.siblings.is_empty() || waiting == 0 {
            return waiting.min(in_flight);
        }
        let counts = self
            .siblings
            .iter()
            .map(|it| u64::from(it.traffic.0.in_flight.get()));
        let share = u64::from(waiting) * u64::from(in_flight) / counts.sum::<u64>().max(1);
        (share as u32).min(in_flight)
    }
}

impl EndpointGate {
    pub(crate) fn new(
        mut endpoints: Vec<Endpoint>,
        balance: BalanceLaw,
        ejection: Option<Ejection>,
    ) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.weight == 0);
        let candidates = endpoints.partition_point(|endpoint| endpoint.weight > 0);
        let taking = endpoints[..candidates].iter();
        let weights: Vec<u16> = taking.map(|endpoint| endpoint.weight).collect();
        Self {
            endpoints: endpoints.into_boxed_slice(),
            candidates,
            draw: Draw::new(&weights),
            balance,
            warmth: Warmth::default(),
            ejection,
        }
    }

    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    pub(crate) fn endpoints_mut(&mut self) -> &mut [Endpoint] {
        &mut self.endpoints
    }

    /// How long an answer takes that is late for most endpoints; `None` of less than two, and where they call others: what
    /// makes them late is behind them, and asking twice would have all of that done twice.
    pub(crate) fn late(&self) -> Option<Duration> {
        let mut workloads = self.endpoints.iter().filter_map(|it| it.workload.as_ref());
        if workloads.any(|workload| workload.calls()) {
            return None;
        }
        let mut lates = [Duration::ZERO; Self::ASKED];
        let candidates = self.endpoints[..self.candidates].iter();
        let known = candidates.filter_map(|it| it.state.traffic.0.pace.late());
        let mut count = 0;
        for (place, late) in lates.iter_mut().zip(known) {
            *place = late;
            count += 1;
        }
        let lates = &mut lates[..count];
        lates.sort_unstable();
        // Of two the lower: one that is slow does not say what is late.
        (count >= 2).then(|| lates[(count - 1) / 2])
    }

    /// So many endpoints tell what is late.
    const ASKED: usize = 16;

    /// Takes a place at an endpoint that was not tried, and whose answers are not late themselves.
    pub(crate) fn take_beside(
        &self,
        now: Instant,
        claim: Claim,
        tried: &Tried,
        late: Duration,
    ) -> Option<Taken> {
        let all = (0..self.candidates).filter(|index| !tried.has(*index));
        let open = all.filter(|index| {
            let endpoint = &self.endpoints[*index];
            let pace = &endpoint.state.traffic.0.pace;
            let is_open = self.pass(now, *index) == Pass::Free && endpoint.has_room(claim);
            is_open && !pace.is_slower_than(now, late)
        });
        let best = open.reduce(|best, next| self.better(now, best, next, tried))?;
        self.try_take(now, best, claim, Pass::Free)
    }

    /// Takes a place at the better of two endpoints, or where neither serves at the best of all.
    pub(crate) fn take(
        &self,
        now: Instant,
        rng: &mut Rng,
        claim: Claim,
        tried: &Tried,
    ) -> Result<Taken, Rejection> {
        let draws = self.balance != BalanceLaw::HotCold;
        if let Some((one, other)) = draws.then(|| self.draw.two(rng)).flatten() {
            let order = match one != other && self.goes_before(now, other, one) {
                true => [other, one],
                false => [one, other],
            };
            for index in order.into_iter().filter(|index| !tried.has(*index)) {
                let taken = self.try_take(now, index, claim, self.pass(now, index));
                if let Some(taken) = taken {
                    return Ok(taken);
                }
            }
        }
        self.take_of_all(now, rng, claim, tried)
    }

    /// Looks at all, and prefers those that were not tried. Another thread may take what was found,
    /// hence as many looks as there are endpoints.
    fn take_of_all(
        &self,
        now: Instant,
        rng: &mut Rng,
        claim: Claim,
        tried: &Tried,
    ) -> Result<Taken, Rejection> {
        let start = rng.below(self.candidates as u32) as usize;
        let are_ejections_void = !self.may_stay_out();
        let pass = |index| match self.pass(now, index) {
            Pass::Barred if are_ejections_void => Pass::Free,
            pass => pass,
        };
        for _ in 0..self.candidates {
            let all = (0..self.candidates).map(|step| (start + step) % self.candidates);
            let open = all
                .filter(|index| pass(*index).is_open() && self.endpoints[*index].has_room(claim));
            let best = open.reduce(|best, next| self.better(now, best, next, tried));
            let Some(best) = best else { break };
            if let Some(taken) = self.try_take(now, best, claim, pass(best)) {
                return Ok(taken);
            }
        }
        let mut reason = Reason::NoEndpoint;
        for index in (0..self.candidates).filter(|index| pass(*index).is_open()) {
            self.endpoints[index].limiter.refused(claim);
            reason = Reason::RequestLimit;
        }
        Err(Rejection {
            reason,
            gate: Gate::Upstream,
            limit: self.highest_limit(),
        })
    }

    fn better(&self, now: Instant, best: usize, next: usize, tried: &Tried) -> usize {
        match (tried.has(best), tried.has(next)) {
            (true, false) => next,
            (false, true) => best,
            _ if self.goes_before(now, next, best) => next,
            _ => best,
        }
    }

    fn try_take(&self, now: Instant, index: usize, claim: Claim, pass: Pass) -> Option<Taken> {
        let endpoint = &self.endpoints[index];
        let breaker = &endpoint.state.breaker.0;
        let probe = match pass {
            Pass::Free => None,
            Pass::Probe => Some(breaker.claim(now)?),
            Pass::Barred => return None,
        };
        if endpoint.try_enter(claim) {
            return Some(Taken {
                endpoint: index,
                probe,
            });
        }
        if let Some(probe) = probe {
            breaker.return_probe(probe);
        }
        None
    }

    /// The limit in force: the highest, where they differ by endpoint.
    pub(crate) fn highest_limit(&self) -> u32 {
        let limits = self.endpoints[..self.candidates].iter();
        let limits = limits.map(|endpoint| endpoint.limiter.limit());
        limits.max().unwrap_or(u32::MAX)
    }

    /// Whether a request goes to `one` sooner than to `other`.
    fn goes_before(&self, now: Instant, one: usize, other: usize) -> bool {
        let [one, other] = [one, other].map(|index| &self.endpoints[index]);
        match self.balance {
            BalanceLaw::LeastRequest => lighter(one.load(), other.load()),
            BalanceLaw::LeastTime => sooner(one.standing(now), other.standing(now)),
            BalanceLaw::PeakEwma => one.peak_cost(now) < other.peak_cost(now),
            BalanceLaw::HotCold => self.warmth.goes_before(one.probed(), other.probed()),
        }
    }

    fn pass(&self, now: Instant, index: usize) -> Pass {
        match self.ejection {
            None => Pass::Free,
            Some(_) => self.endpoints[index].state.breaker.0.pass(now),
        }
    }

    /// Whether no more endpoints are out than may be. More can be where a new configuration has fewer
    /// endpoints or a lower bound.
    fn may_stay_out(&self) -> bool {
        let candidates = self.endpoints[..self.candidates].iter();
        let out = candidates.filter(|endpoint| endpoint.state.breaker.0.is_out());
        out.count() <= self.most_out()
    }

    fn most_out(&self) -> usize {
        match (self.candidates, &self.ejection) {
            (0 | 1, _) | (_, None) => 0,
            (count, Some(law)) => (count * usize::from(law.most_percent) / 100).max(1),
        }
    }

    /// How it answers, where requests go by that.
    pub(crate) fn pace_of(&self, now: Instant, endpoint: &Endpoint) -> Option<EndpointPace> {
        let goes_by_it = self.balance == BalanceLaw::LeastTime;
        goes_by_it.then(|| endpoint.standing(now).pace()).flatten()
    }

    /// What the head of a response, or its failing to come, says about how soon an endpoint answers.
    pub(crate) fn pace(&self, now: Instant, endpoint: usize, time: Duration, kind: OutcomeKind) {
        let pace = &self.endpoints[endpoint].state.traffic.0.pace;
        pace.saw(self.balance, now, time, kind);
    }

    /// What the head of a response says about an endpoint.
    pub(crate) fn on_head(&self, now: Instant, endpoint: usize, probe: Option<Probe>, status: u16) {
        match (probe, status) {
            (probe, 500..) => self.on_failure(now, endpoint, probe),
            (Some(probe), _) => self.endpoints[endpoint].state.breaker.0.close(probe),
            (None, _) => {}
        }
    }

    /// What the end of an attempt says about an endpoint whose head said nothing against it. A whole
    /// response ends a row of failures and its head does not, or one that cuts all its responses would
    /// never be ejected.
    pub(crate) fn on_end(
        &self,
        now: Instant,
        endpoint: usize,
        probe: Option<Probe>,
        kind: OutcomeKind,
    ) {
        let breaker = &self.endpoints[endpoint].state.breaker.0;
        match (kind, probe) {
            (OutcomeKind::Answered { .. }, _) => breaker.end_row(),
            (OutcomeKind::Stale | OutcomeKind::Cancelled, Some(probe)) => {
                breaker.return_probe(probe);
            }
            (OutcomeKind::Stale | OutcomeKind::Cancelled, None) => {}
            (_, probe) => self.on_failure(now, endpoint, probe),
        }
    }

    fn on_failure(&self, now: Instant, endpoint: usize, probe: Option<Probe>) {
        let Some(law) = &self.ejection else {
            return;
        };
        let breaker = &self.endpoints[endpoint].state.breaker.0;
        match probe {
            Some(probe) => breaker.fail_probe(now, law, probe),
            None if breaker.fail(law) => breaker.eject(now, law, || self.may_stay_out()),
            None => {}
        }
    }
}
