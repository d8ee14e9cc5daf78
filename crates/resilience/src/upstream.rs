//! A port of a service: its endpoints, the gate before each, and what is counted.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use selvedge_model::{Backend, Instant, Place, Port, Reason, RequestPolicy, Rng};

use crate::balance::{Draw, Load, lighter};
use crate::budget::Budget;
use crate::controller::Settings;
use crate::counter::Apart;
use crate::eject::{Breaker, Pass, Probe};
use crate::limit::InFlight;
use crate::outcome::OutcomeKind;
use crate::rejection::{Gate, Rejection};
use crate::retry::RetryRule;
use crate::window::{Meters, Totals};

/// An upstream as one configuration has it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) policy: RequestPolicy,
    pub(crate) rule: Option<RetryRule>,
    pub(crate) budget: Arc<Budget>,
    /// Those that take requests first, then those of weight 0.
    pub(crate) endpoints: Box<[Endpoint]>,
    /// Draws among those that take requests.
    pub(crate) draw: Draw,
    pub(crate) candidates: usize,
}

/// What lives on of an upstream.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) backend: Backend,
    limit: AtomicU32,
    meters: Box<[Meters]>,
}

/// An endpoint as one configuration has it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) place: Place,
    pub(crate) port: Port,
    pub(crate) weight: u16,
    /// Which of the node's workloads it is, where it is one.
    pub(crate) workload: Option<usize>,
    pub(crate) state: Arc<EndpointState>,
}

/// What lives on of an endpoint: what every request writes apart from what every request reads.
#[derive(Debug, Default)]
pub(crate) struct EndpointState {
    pub(crate) in_flight: Apart<InFlight>,
    pub(crate) breaker: Apart<Breaker>,
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

    fn has(&self, endpoint: usize) -> bool {
        let count = usize::from(self.count).min(self.endpoints.len());
        self.endpoints[..count].contains(&(endpoint as u32))
    }
}

impl Shared {
    pub(crate) fn new(backend: Backend, workers: usize) -> Self {
        Self {
            backend,
            limit: AtomicU32::new(u32::MAX),
            meters: (0..workers).map(|_| Meters::new()).collect(),
        }
    }

    pub(crate) fn meters(&self, worker: usize) -> &Meters {
        &self.meters[worker]
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub(crate) fn apply(&self, settings: Settings) {
        self.limit.store(settings.limit, Relaxed);
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for meters in &self.meters {
            meters.add_to(&mut totals);
        }
        totals
    }

    fn first_attempts(&self) -> u64 {
        self.meters.iter().map(|meters| meters.requests.get()).sum()
    }
}

impl Endpoint {
    pub(crate) fn in_flight(&self) -> u32 {
        self.state.in_flight.0.get()
    }
}

impl Upstream {
    /// Takes a place at the better of two endpoints, or where neither serves at the best of all.
    pub(crate) fn take(
        &self,
        now: Instant,
        rng: &mut Rng,
        tried: &Tried,
    ) -> Result<Taken, Rejection> {
        let limit = self.shared.limit();
        let Some((one, other)) = self.draw.two(rng) else {
            return Err(self.refuse(now, limit));
        };
        let is_other_lighter = lighter(self.load(other), self.load(one));
        let order = match is_other_lighter {
            true => [other, one],
            false => [one, other],
        };
        let fresh = order.into_iter().filter(|index| !tried.has(*index));
        for index in fresh {
            if let Some(taken) = self.try_take(now, index, limit) {
                return Ok(taken);
            }
        }
        let start = rng.below(self.candidates as u32) as usize;
        self.take_of_all(now, start, limit, tried)
            .ok_or_else(|| self.refuse(now, limit))
    }

    /// Looks at all from `start` on, and prefers those that were not tried. Another thread may take
    /// what was found, hence as many looks as there are endpoints.
    fn take_of_all(&self, now: Instant, start: usize, limit: u32, tried: &Tried) -> Option<Taken> {
        for _ in 0..self.candidates {
            let all = (0..self.candidates).map(|step| (start + step) % self.candidates);
            let open = all.filter(|index| self.is_open(now, *index, limit));
            let best = open.reduce(|best, next| match (tried.has(best), tried.has(next)) {
                (true, false) => next,
                (false, true) => best,
                _ if lighter(self.load(next), self.load(best)) => next,
                _ => best,
            })?;
            let taken = self.try_take(now, best, limit);
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    fn try_take(&self, now: Instant, index: usize, limit: u32) -> Option<Taken> {
        let state = &self.endpoints[index].state;
        let breaker = &state.breaker.0;
        let probe = match self.pass(now, index) {
            Pass::Free => None,
            Pass::Probe => Some(breaker.claim(now)?),
            Pass::Barred => return None,
        };
        if state.in_flight.0.try_enter(limit) {
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

    fn is_open(&self, now: Instant, index: usize, limit: u32) -> bool {
        let in_flight = self.endpoints[index].state.in_flight.0.get();
        in_flight < limit && self.pass(now, index) != Pass::Barred
    }

    fn load(&self, index: usize) -> Load {
        let endpoint = &self.endpoints[index];
        Load {
            in_flight: endpoint.state.in_flight.0.get(),
            weight: endpoint.weight,
        }
    }

    fn refuse(&self, now: Instant, limit: u32) -> Rejection {
        let serves = |index: usize| self.pass(now, index) != Pass::Barred;
        let reason = match (0..self.candidates).any(serves) {
            true => Reason::RequestLimit,
            false => Reason::NoEndpoint,
        };
        Rejection {
            reason,
            gate: Gate::Upstream,
            limit,
        }
    }

    /// Whether an attempt may go to an endpoint. More may be out than may be where a new configuration
    /// has fewer endpoints; those that are then serve all the same.
    fn pass(&self, now: Instant, index: usize) -> Pass {
        if self.policy.ejection.is_none() {
            return Pass::Free;
        }
        match self.endpoints[index].state.breaker.0.pass(now) {
            Pass::Barred if !self.may_stay_out() => Pass::Free,
            pass => pass,
        }
    }

    /// Whether no more endpoints are out than may be.
    fn may_stay_out(&self) -> bool {
        let candidates = &self.endpoints[..self.candidates];
        let out = candidates
            .iter()
            .filter(|endpoint| endpoint.state.breaker.0.is_out());
        out.count() <= self.most_out()
    }

    fn most_out(&self) -> usize {
        match (self.candidates, &self.policy.ejection) {
            (0 | 1, _) | (_, None) => 0,
            (count, Some(law)) => (count * usize::from(law.most_percent) / 100).max(1),
        }
    }

    /// What an outcome says about an endpoint.
    pub(crate) fn observe(
        &self,
        now: Instant,
        endpoint: usize,
        probe: Option<Probe>,
        kind: OutcomeKind,
    ) {
        let breaker = &self.endpoints[endpoint].state.breaker.0;
        let Some(law) = &self.policy.ejection else {
            return;
        };
        match (kind, probe) {
            (OutcomeKind::Answered { status }, probe) if status < 500 => breaker.succeed(probe),
            (kind, Some(probe)) if kind.is_failure() => breaker.fail_probe(now, law, probe),
            (_, Some(probe)) => breaker.return_probe(probe),
            (kind, None) if kind.is_failure() => {
                if breaker.fail(law) {
                    breaker.eject(now, law, || self.may_stay_out());
                }
            }
            (_, None) => {}
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        let counts = self.endpoints.iter().map(Endpoint::in_flight);
        counts.fold(0, u32::saturating_add)
    }

    /// Takes a retry out of the budget; there is always one where none is set.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let Some(law) = &self.policy.retry_budget else {
            return true;
        };
        self.budget.withdraw(now, self.shared.first_attempts(), law)
    }
}
