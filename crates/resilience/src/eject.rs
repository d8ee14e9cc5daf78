//! Taking out endpoints that fail, and trying them again.
//!
//! No timer: what a circuit is follows from its word and the time at which it is looked at. Everything
//! but a failure reads only.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use core::time::Duration;

use selvedge_model::{Ejection, Instant};

/// Whether requests go to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// They do.
    Closed,
    /// They do not: it is ejected.
    Open {
        /// Until then.
        until: Instant,
    },
    /// One does at a time, whose outcome decides.
    HalfOpen,
}

/// The longest ejection, in times of the first: as Envoy has it (30 s, and 300 s at most), so that what
/// was away for long is tried again in good time.
const MOST_TIMES: u64 = 10;

const PROBING: u64 = 1 << 8;
const TIMES: u64 = PROBING - 1;
const UNTIL_SHIFT: u32 = 9;

/// The state of one endpoint's circuit.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// 0 while closed; else until when it is open in us, whether a probe is out, and which ejection
    /// in a row this is.
    word: AtomicU64,
    /// Failures in a row while closed.
    failures: AtomicU32,
    /// How often the endpoint was ejected, a probe that failed included.
    ejections: AtomicU64,
}

/// How an attempt may go to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Free,
    /// As the probe that decides, if it is claimed first.
    Probe,
    Barred,
}

impl Pass {
    pub(crate) fn is_open(self) -> bool {
        self != Self::Barred
    }
}

/// The one attempt that decides about an endpoint. Whoever has it gives it back.
#[derive(Debug)]
pub(crate) struct Probe(u64);

impl Breaker {
    pub(crate) fn pass(&self, now: Instant) -> Pass {
        let word = self.word.load(Relaxed);
        match state(word) {
            Circuit::Closed => Pass::Free,
            Circuit::Open { until } if now < until => Pass::Barred,
            _ if word & PROBING != 0 => Pass::Barred,
            _ => Pass::Probe,
        }
    }

    /// Takes the probe, if it is still there.
    pub(crate) fn claim(&self, now: Instant) -> Option<Probe> {
        let word = self.word.load(Relaxed);
        let is_free = word != 0 && word & PROBING == 0 && now >= until(word);
        let claimed = word | PROBING;
        (is_free && self.swap(word, claimed)).then_some(Probe(claimed))
    }

    pub(crate) fn is_out(&self) -> bool {
        self.word.load(SeqCst) != 0
    }

    pub(crate) fn circuit(&self, now: Instant) -> Circuit {
        match state(self.word.load(Relaxed)) {
            Circuit::Open { until } if now >= until => Circuit::HalfOpen,
            other => other,
        }
    }

    /// The probe went well.
    pub(crate) fn close(&self, Probe(word): Probe) {
        self.end_row();
        self.swap(word, 0);
    }

    /// No failure any more that others would follow in a row.
    pub(crate) fn end_row(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// An attempt failed; true where this endpoint should be ejected for it.
    pub(crate) fn fail(&self, ejection: &Ejection) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        failures >= u32::from(ejection.consecutive_failures.get())
    }

    /// The probe failed: out again, and longer.
    pub(crate) fn fail_probe(&self, now: Instant, ejection: &Ejection, Probe(word): Probe) {
        if self.swap(word, open(now, ejection.duration, (word & TIMES) + 1)) {
            self.ejections.fetch_add(1, Relaxed);
        }
    }

    /// The probe came to nothing: the next attempt may be it.
    pub(crate) fn return_probe(&self, Probe(word): Probe) {
        self.swap(word, word & !PROBING);
    }

    /// Ejects, unless `may_stay_out` says afterwards that too many are out: of two at once both see
    /// each other, so there are never more for longer than that.
    pub(crate) fn eject(&self, now: Instant, ejection: &Ejection, may_stay_out: impl Fn() -> bool) {
        let word = open(now, ejection.duration, 1);
        if !self.swap(0, word) {
            return;
        }
        match may_stay_out() {
            true => drop(self.ejections.fetch_add(1, Relaxed)),
            false => drop(self.swap(word, 0)),
        }
    }

    pub(crate) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    fn swap(&self, from: u64, to: u64) -> bool {
        self.word
            .compare_exchange(from, to, SeqCst, Relaxed)
            .is_ok()
    }
}

fn state(word: u64) -> Circuit {
    if word == 0 {
        return Circuit::Closed;
    }
    Circuit::Open { until: until(word) }
}

fn until(word: u64) -> Instant {
    Instant::from_nanos((word >> UNTIL_SHIFT).saturating_mul(1000))
}

fn open(now: Instant, duration: Duration, times: u64) -> u64 {
    let times = times.min(MOST_TIMES);
    let until = now + duration.saturating_mul(times as u32);
    ((until.as_nanos() / 1000) << UNTIL_SHIFT) | times
}
