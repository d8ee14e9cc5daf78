//! A port of a service: the gate before its endpoints, its retry budget, and what is counted.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use selvedge_model::{Backend, CgroupId, Instant, RequestPolicy, Urgency};

use crate::budget::Budget;
use crate::callers::{Caller, Callers};
use crate::gate::{EndpointGate, Taken, Tried};
use crate::outcome::OutcomeKind;
use crate::rejection::Rejection;
use crate::reserve::Claim;
use crate::retry::{RetryLaw, RetryRule};
use crate::seat::Seat;
use crate::throttle::Throttle;
use crate::window::{Meters, Totals};

/// An upstream as one configuration has it.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) policy: RequestPolicy,
    pub(crate) retries: RetryLaw,
    pub(crate) rule: Option<RetryRule>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) headroom: Arc<Budget>,
    pub(crate) throttle: Arc<Throttle>,
    /// Whether second attempts are made beside late ones, and what pays for them.
    pub(crate) hedges: bool,
    pub(crate) hedging: Arc<Budget>,
    /// Who calls it, where a law moves the limits of its endpoints.
    pub(crate) callers: Option<Arc<Callers>>,
    pub(crate) caller_weights: Box<[(CgroupId, u16)]>,
    pub(crate) gate: EndpointGate,
}

/// Thousandths of a retry: what a first attempt earns where nothing is refused.
const FULL_PRICE: u32 = 1000;

/// Thousandths of a hedge that a request earns: two of 100 requests may have one.
const HEDGES: u64 = 20;

/// What lives on of an upstream.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) backend: Backend,
    /// Thousandths of a retry that a first attempt earns.
    earns: AtomicU32,
    /// Whether requests are refused here.
    is_scarce: AtomicBool,
    /// After so many ns an attempt is late; the highest number is never.
    late_after: AtomicU64,
    meters: Box<[Meters]>,
}

impl Shared {
    pub(crate) fn new(backend: Backend, workers: usize) -> Self {
        Self {
            backend,
            earns: AtomicU32::new(FULL_PRICE),
            is_scarce: AtomicBool::new(false),
            late_after: AtomicU64::new(u64::MAX),
            meters: (0..workers).map(|_| Meters::default()).collect(),
        }
    }

    pub(crate) fn meters(&self, worker: usize) -> &Meters {
        &self.meters[worker]
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for meters in &self.meters {
            meters.add_to(&mut totals);
        }
        totals
    }

    /// Requests that came so far, and those of them that found no place.
    pub(crate) fn asked(&self) -> (u64, u64) {
        let counts = self.meters.iter().map(|meters| {
            let refused = meters.refused_limit.get();
            (meters.requests.get() + refused, refused)
        });
        counts.fold((0, 0), |(asked, refused), (more, of_them)| {
            (asked + more, refused + of_them)
        })
    }

    /// From now on a first attempt earns so many thousandths of a retry, and a place here is scarce or not.
    pub(crate) fn price(&self, earns: u32, is_scarce: bool) {
        self.earns.store(earns, Relaxed);
        self.is_scarce.store(is_scarce, Relaxed);
    }

    /// Nobody looks how many find a place here any more.
    pub(crate) fn forget_price(&self) {
        self.price(FULL_PRICE, false);
    }

    pub(crate) fn set_late(&self, after: Option<Duration>) {
        let nanos = after.map_or(u64::MAX, |after| after.as_nanos() as u64);
        self.late_after.store(nanos, Relaxed);
    }

    pub(crate) fn is_scarce(&self) -> bool {
        self.is_scarce.load(Relaxed)
    }

    fn earned(&self) -> u64 {
        self.meters.iter().map(|meters| meters.earned.get()).sum()
    }

    fn first_attempts(&self) -> u64 {
        self.meters.iter().map(|meters| meters.requests.get()).sum()
    }
}

impl Upstream {
    /// Whose place an attempt takes.
    pub(crate) fn caller(&self, source: Option<CgroupId>) -> Option<Caller> {
        self.callers.as_ref()?.find(source, &self.caller_weights)
    }

    /// Takes a place at an endpoint.
    pub(crate) fn take(
        &self,
        now: Instant,
        seat: &mut Seat,
        urgency: Urgency,
        caller: Option<Caller>,
        tried: &Tried,
    ) -> Result<Taken, Rejection> {
        let callers = self.callers.as_ref().zip(caller);
        let claim = Claim {
            urgency,
            has_its_share: callers
                .is_some_and(|(callers, caller)| callers.asks(seat.worker, caller)),
        };
        let taken = self.gate.take(now, &mut seat.rng, claim, tried)?;
        if let Some((callers, caller)) = callers {
            callers.enter(seat.worker, caller);
        }
        Ok(taken)
    }

    /// When an attempt that began then is late, where another may be sent beside it.
    pub(crate) fn late_at(&self, began: Instant) -> Option<Instant> {
        let after = self.shared.late_after.load(Relaxed);
        let may_hedge = self.hedges && after != u64::MAX && !self.shared.is_scarce();
        may_hedge.then(|| began + Duration::from_nanos(after))
    }

    /// Takes a place for an attempt beside a late one, at an endpoint that was not tried.
    pub(crate) fn take_beside(
        &self,
        now: Instant,
        seat: &Seat,
        urgency: Urgency,
        caller: Option<Caller>,
        tried: &Tried,
    ) -> Option<Taken> {
        let may_hedge = || {
            let earned = HEDGES * self.shared.first_attempts();
            self.hedging.withdraw_of(earned)
        };
        if self.shared.is_scarce() || !may_hedge() {
            return None;
        }
        // It has a place already: what is kept is not for this one.
        let claim = Claim {
            urgency,
            has_its_share: true,
        };
        let late = Duration::from_nanos(self.shared.late_after.load(Relaxed));
        let taken = self.gate.take_beside(now, claim, tried, late)?;
        if let Some((callers, caller)) = self.callers.as_ref().zip(caller) {
            callers.enter(seat.worker, caller);
        }
        self.shared.meters(seat.worker).hedges.add(1);
        Some(taken)
    }

    /// Gives back the place of a caller.
    pub(crate) fn leave(&self, worker: usize, caller: Option<Caller>) {
        if let (Some(callers), Some(caller)) = (&self.callers, caller) {
            callers.leave(worker, caller);
        }
    }

    /// A first attempt is made.
    pub(crate) fn count_first(&self, worker: usize) {
        let meters = self.shared.meters(worker);
        meters.requests.add(1);
        if self.retries.is_steered() {
            meters.earned.add(self.shared.earns.load(Relaxed).into());
        }
    }

    /// Takes a retry out of the budget.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let law = self.policy.retry_budget.unwrap_or_default();
        let shared = &self.shared;
        let may_spend = || self.budget.withdraw(now, shared.first_attempts(), &law);
        let has_room = || self.headroom.withdraw_of(shared.earned());
        match self.retries {
            RetryLaw::Budget => may_spend(),
            RetryLaw::Headroom => has_room(),
            RetryLaw::BudgetAndHeadroom => has_room() && may_spend(),
            RetryLaw::Throttle => self.throttle.allows(),
        }
    }

    /// An attempt has come to this.
    pub(crate) fn saw(&self, kind: OutcomeKind) {
        if self.retries == RetryLaw::Throttle {
            let is_failure = !matches!(kind, OutcomeKind::Answered { status: ..500 });
            self.throttle.saw(is_failure);
        }
    }
}
