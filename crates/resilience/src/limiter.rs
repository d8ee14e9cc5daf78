//! A limit that a controller moves, and what it is to know of the requests below it.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use selvedge_model::Instant;

use crate::counter::Apart;
use crate::estimate::Samples;
use crate::limit::{Controller, LimitLaw};
use crate::reserve::{Claim, Reserve};

/// What gates read of a limit, and write for its controller.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// What is to be kept is beside it.
    law: LimitLaw,
    /// In ns; the plan for a service moves it while requests go on.
    objective: AtomicU64,
    /// The limit where nothing moves it, and the most where a law does.
    fixed: u32,
    /// Whether what the law decides is done.
    is_applied: bool,
    /// What the law has decided.
    decided: AtomicU32,
    /// What is in force.
    limit: AtomicU32,
    /// What began before, in ns, says nothing about the limit.
    fresh_since: AtomicU64,
    /// Of 100 requests 95 took no longer, in us; what was given up before that says nothing.
    tail_us: AtomicU32,
    /// Most requests in flight at once since it was looked at.
    peak: Apart<AtomicU32>,
    /// What of it is kept for whom.
    reserve: Reserve,
    /// By worker; none where nobody looks at them.
    samples: Box<[Samples]>,
}

impl Limiter {
    /// The limiter of a law for that many workers; `fixed` is the limit where nothing moves it.
    pub(crate) fn new(law: LimitLaw, is_applied: bool, fixed: u32, workers: usize) -> Self {
        let controller = Controller::new(law);
        let watching = if controller.is_some() { workers } else { 0 };
        let start = controller.map_or(fixed, |it| it.limit()).min(fixed);
        Self {
            law,
            objective: AtomicU64::new(nanos(law.objective())),
            fixed,
            is_applied,
            decided: AtomicU32::new(start),
            limit: AtomicU32::new(if is_applied { start } else { fixed }),
            fresh_since: AtomicU64::new(0),
            tail_us: AtomicU32::new(u32::MAX),
            peak: Apart::default(),
            reserve: Reserve::default(),
            samples: (0..watching).map(|_| Samples::default()).collect(),
        }
    }

    pub(crate) const fn law(&self) -> LimitLaw {
        self.law
    }

    /// What is to be kept.
    pub(crate) fn objective(&self) -> Duration {
        Duration::from_nanos(self.objective.load(Relaxed))
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Most requests in flight where this one comes: the limit, less what is kept for others where a law has set it.
    pub(crate) fn limit_for(&self, claim: Claim) -> u32 {
        let limit = self.limit();
        if !self.is_applied || !self.law.keeps_places() {
            return limit;
        }
        self.reserve.saw(claim.urgency);
        limit - self.reserve.kept(limit, claim)
    }

    pub(crate) fn samples(&self) -> &[Samples] {
        &self.samples
    }

    /// Whether a controller looks at what is sampled.
    pub(crate) fn is_watched(&self) -> bool {
        !self.samples.is_empty()
    }

    /// Makes it what [`Self::new`] makes of these, if no more than what is to be kept has changed: the limit goes
    /// on from where it is then. False where more has.
    pub(crate) fn becomes(&self, law: LimitLaw, is_applied: bool, fixed: u32) -> bool {
        let is_same = (self.is_applied, self.fixed) == (is_applied, fixed);
        let becomes = is_same && self.law.is_like(law);
        if becomes {
            self.objective.store(nanos(law.objective()), Relaxed);
        }
        becomes
    }

    /// What the law has decided last, within what is fixed; it is in force if it is applied.
    pub(crate) fn decided(&self) -> u32 {
        self.decided.load(Relaxed)
    }

    /// Has what was decided, within what is fixed, in force if it is applied.
    pub(crate) fn set(&self, decided: u32) {
        let decided = decided.min(self.fixed);
        self.decided.store(decided, Relaxed);
        if self.is_applied {
            self.limit.store(decided, Relaxed);
        }
    }

    /// Whether requests took longer of late than they may, by more than a limit that holds them would let chance do.
    pub(crate) fn is_late(&self) -> bool {
        let tail = self.tail_us.load(Relaxed);
        let is_known = tail != u32::MAX && self.is_applied;
        is_known && u64::from(tail) * 1000 > self.objective.load(Relaxed) / 4 * 5
    }

    /// The tail that was seen last.
    pub(crate) fn set_tail(&self, tail_us: f64) {
        self.tail_us.store(tail_us as u32, Relaxed);
    }

    /// Nobody looks at tails for now: what was seen says nothing any more.
    pub(crate) fn forget_tail(&self) {
        self.tail_us.store(u32::MAX, Relaxed);
    }

    /// What no decision crosses.
    pub(crate) const fn fixed(&self) -> u32 {
        self.fixed
    }

    pub(crate) const fn is_applied(&self) -> bool {
        self.is_applied
    }

    /// What began before now says nothing any more.
    pub(crate) fn begin_anew(&self, now: Instant) {
        self.fresh_since.store(now.as_nanos(), Relaxed);
    }

    /// A request that began then took this long of the time that is limited.
    pub(crate) fn took(&self, worker: usize, began: Instant, time: Duration) {
        if began.as_nanos() < self.fresh_since.load(Relaxed) {
            return;
        }
        if let Some(samples) = self.samples.get(worker) {
            samples.took(time);
        }
    }

    /// One had no answer in its time.
    pub(crate) fn expired(&self, worker: usize, began: Instant, time: Duration) {
        let least = self.objective().saturating_mul(LEAST_OF_EXPIRED);
        self.took(worker, began, time.max(least));
    }

    /// One was given up after this time: known to have taken longer. That says something only where most would
    /// have been answered by then.
    pub(crate) fn gave_up(&self, worker: usize, began: Instant, time: Duration) {
        let tail = Duration::from_micros(self.tail_us.load(Relaxed).into());
        if time > tail {
            self.took(worker, began, time);
        }
    }

    /// So many are in flight now.
    pub(crate) fn saw(&self, in_flight: u32) {
        if in_flight > self.peak.0.load(Relaxed) {
            self.peak.0.fetch_max(in_flight, Relaxed);
        }
    }

    /// One was refused. If that was for what is kept, the limit is taken for reached.
    pub(crate) fn refused(&self, claim: Claim) {
        let limit = self.limit();
        if self.limit_for(claim) < limit {
            self.saw(limit);
        }
    }

    /// Time goes on for what is kept.
    pub(crate) fn turn(&self, now: Instant) {
        self.reserve.turn(now);
    }

    /// The most since this was asked last; so many are in flight now.
    pub(crate) fn take_peak(&self, in_flight: u32) -> u32 {
        self.peak.0.swap(in_flight, Relaxed).max(in_flight)
    }
}

/// What a request is taken to have needed that had no answer in its time, in objectives: its age alone would say
/// that it was nearly done.
const LEAST_OF_EXPIRED: u32 = 3;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A limit, where the highest number is none.
pub(crate) const fn said(limit: u32) -> Option<u32> {
    match limit {
        u32::MAX => None,
        limit => Some(limit),
    }
}
