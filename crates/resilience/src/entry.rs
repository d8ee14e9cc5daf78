//! Requests of one route, and the limit at their entry.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use selvedge_model::{Fates, Reason, ServiceName};

use crate::counter::Counter;
use crate::limiter::Limiter;
use crate::plan::RoutePlan;
use crate::rejection::{Gate, Rejection};
use crate::reserve::Claim;
use crate::tree::Fate;
use crate::window::{Meters, Totals};

/// A route as one configuration has it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) shared: Arc<SharedEntry>,
    /// Whose objective its law holds.
    service: Option<ServiceName>,
    limiter: Arc<Limiter>,
}

/// What lives on of a route.
#[derive(Debug)]
pub(crate) struct SharedEntry {
    name: String,
    /// By worker: so that workers do not take one line from each other for every request.
    shares: Box<[Share]>,
}

#[derive(Debug)]
struct Share {
    in_flight: AtomicU32,
    /// Refused here; the meters count those refused deeper too.
    turned_away: Counter,
    ended: Counter,
    refused: Counter,
    wasted: Counter,
    late: Counter,
    meters: Meters,
}

impl Entry {
    /// The entry of a route for that many workers, after the one `before` it.
    pub(crate) fn new(plan: &RoutePlan, before: Option<&Self>, workers: usize) -> Self {
        let share = |_| Share {
            in_flight: AtomicU32::new(0),
            turned_away: Counter::default(),
            ended: Counter::default(),
            refused: Counter::default(),
            wasted: Counter::default(),
            late: Counter::default(),
            meters: Meters::default(),
        };
        let new = || {
            Arc::new(SharedEntry {
                name: plan.name.clone(),
                shares: (0..workers).map(share).collect(),
            })
        };
        let limiter = before.map(|before| &before.limiter);
        let limiter =
            limiter.filter(|limiter| limiter.becomes(plan.law, plan.is_applied, u32::MAX));
        let new_limiter = || Limiter::new(plan.law, plan.is_applied, u32::MAX, workers);
        Self {
            shared: before.map_or_else(new, |before| before.shared.clone()),
            service: plan.service.clone(),
            limiter: limiter.map_or_else(|| Arc::new(new_limiter()), Arc::clone),
        }
    }

    pub(crate) const fn service(&self) -> Option<&ServiceName> {
        self.service.as_ref()
    }

    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) const fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    pub(crate) fn meters(&self, worker: usize) -> &Meters {
        &self.shared.shares[worker].meters
    }

    /// Counts one more at its entry. Each counts itself before it looks, so that there are never more
    /// than the limit; of several at the same moment all may be refused.
    pub(crate) fn enter(&self, worker: usize, claim: Claim) -> Result<(), Rejection> {
        self.shared.shares[worker].in_flight.fetch_add(1, SeqCst);
        // Who only observes is to see how many there are, too.
        if self.limiter.limit() == u32::MAX && !self.limiter.is_watched() {
            return Ok(());
        }
        let in_flight = self.in_flight();
        if in_flight <= self.limiter.limit_for(claim) {
            self.limiter.saw(in_flight);
            return Ok(());
        }
        self.shared.shares[worker].in_flight.fetch_sub(1, SeqCst);
        self.shared.shares[worker].turned_away.add(1);
        self.limiter.refused(claim);
        Err(Rejection {
            reason: Reason::RequestLimit,
            gate: Gate::Entry,
            limit: self.limiter.limit(),
        })
    }

    /// Counts one less, which ended like this behind it.
    pub(crate) fn leave(&self, worker: usize, fate: Fate) {
        let share = &self.shared.shares[worker];
        share.in_flight.fetch_sub(1, SeqCst);
        if self.limiter.is_watched() {
            share.ended.add(1);
            share.refused.add(fate.is_refused.into());
            share.wasted.add(fate.is_wasted.into());
            share.late.add(fate.is_late.into());
        }
    }

    /// What became of the requests at this entry, while a law moves its limit.
    pub(crate) fn fates(&self) -> Fates {
        let mut fates = Fates::default();
        for share in &self.shared.shares {
            fates.ended += share.ended.get();
            fates.refused += share.refused.get();
            fates.wasted += share.wasted.get();
            fates.late += share.late.get();
        }
        fates
    }

    pub(crate) fn in_flight(&self) -> u32 {
        let shares = self.shared.shares.iter();
        let counts = shares.map(|share| share.in_flight.load(SeqCst));
        counts.fold(0, u32::saturating_add)
    }

    /// Requests that came so far, and those of them that found no place here.
    pub(crate) fn asked(&self) -> (u64, u64) {
        let counts = self.shared.shares.iter().map(|share| {
            let turned_away = share.turned_away.get();
            (share.meters.requests.get() + turned_away, turned_away)
        });
        counts.fold((0, 0), |(asked, refused), (more, of_them)| {
            (asked + more, refused + of_them)
        })
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for share in &self.shared.shares {
            share.meters.add_to(&mut totals);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::LimitLaw;

    #[test]
    fn the_limit_is_of_all_workers_together() {
        let plan = RoutePlan {
            name: "cart".into(),
            service: None,
            law: LimitLaw::Static,
            is_applied: true,
        };
        let entry = Entry::new(&plan, None, 2);
        entry.limiter.set(3);
        for worker in [0, 1, 0] {
            entry.enter(worker, Claim::default()).unwrap();
        }
        for worker in [0, 1] {
            let refused = entry.enter(worker, Claim::default()).unwrap_err();
            assert_eq!((refused.gate, refused.limit), (Gate::Entry, 3));
        }
        assert_eq!(entry.in_flight(), 3, "who is refused is not counted");
        entry.leave(0, Fate::default());
        entry.enter(1, Claim::default()).unwrap();
        assert!(entry.enter(1, Claim::default()).is_err());
    }

    #[test]
    fn who_only_observes_sees_how_many_there_are() {
        let law = LimitLaw::of_entry(core::time::Duration::from_secs(1));
        let plan = RoutePlan {
            name: "cart".into(),
            service: None,
            law,
            is_applied: false,
        };
        let entry = Entry::new(&plan, None, 1);
        for _ in 0..20 {
            entry.enter(0, Claim::default()).unwrap();
        }
        for _ in 0..20 {
            entry.leave(0, Fate::default());
        }
        assert_eq!(entry.limiter.take_peak(entry.in_flight()), 20);
    }
}
