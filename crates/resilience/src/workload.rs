//! What a workload has to do itself: requests in flight into it that wait for no call of its own.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use selvedge_model::{CgroupId, Instant};

use crate::estimate::Integral;
use crate::slots::Slot;
use crate::trace::{self, Change, Joined, TraceTable};

/// What is counted about one workload, by all workers.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Workload {
    cgroup: CgroupId,
    /// Requests that wait for a call, as a signed number: one thread's changes may overtake another's.
    waiting: AtomicU32,
    /// Calls outstanding that belong to no request known.
    stray: AtomicU32,
    /// How many these were over time.
    stray_time: Integral,
    /// What that was when it was looked at last.
    stray_seen: AtomicU64,
    /// What a request waits for such calls, in the mean and in microseconds.
    stray_wait: AtomicU32,
    /// Whether it calls others.
    calls: AtomicBool,
}

/// A call outstanding.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outstanding {
    Joined(Slot),
    /// Of no request known; since then.
    Stray(Instant),
}

impl Workload {
    pub(crate) fn new(cgroup: CgroupId) -> Self {
        Self {
            cgroup,
            waiting: AtomicU32::new(0),
            stray: AtomicU32::new(0),
            stray_time: Integral::default(),
            stray_seen: AtomicU64::new(0),
            stray_wait: AtomicU32::new(0),
            calls: AtomicBool::new(false),
        }
    }

    pub(crate) fn cgroup(&self) -> CgroupId {
        self.cgroup
    }

    /// A request goes into the workload; none where it cannot be joined with calls.
    pub(crate) fn begin_request(
        &self,
        traces: &TraceTable,
        trace: u64,
        now: Instant,
    ) -> Option<Joined> {
        if trace == 0 {
            return None;
        }
        let (joined, change) = traces.begin_request(trace::key(trace, self.cgroup), now)?;
        self.change(change);
        Some(joined)
    }

    /// Ends it, at a time if that is known.
    pub(crate) fn end_request(&self, traces: &TraceTable, joined: Joined, now: Option<Instant>) {
        self.change(traces.end_request(joined, now));
    }

    /// Whether it has called anybody.
    pub(crate) fn calls(&self) -> bool {
        self.calls.load(Relaxed)
    }

    /// Whether it is known what each request waits for: all its calls are joined with the requests that they are made for.
    pub(crate) fn knows_waits(&self) -> bool {
        self.stray_wait.load(Relaxed) == 0
    }

    pub(crate) fn begin_call(&self, traces: &TraceTable, trace: u64, now: Instant) -> Outstanding {
        if !self.calls() {
            self.calls.store(true, Relaxed);
        }
        let joined = match trace {
            0 => None,
            trace => traces.begin_call(trace::key(trace, self.cgroup), now),
        };
        let Some((slot, change)) = joined else {
            self.stray.fetch_add(1, Relaxed);
            self.stray_time.change(1, now);
            return Outstanding::Stray(now);
        };
        self.change(change);
        Outstanding::Joined(slot)
    }

    /// Ends it, at a time if that is known.
    pub(crate) fn end_call(&self, traces: &TraceTable, call: Outstanding, now: Option<Instant>) {
        match call {
            Outstanding::Joined(slot) => self.change(traces.end_call(slot, now)),
            // One that is dropped without a time is taken for none: the sum has to come out even.
            Outstanding::Stray(began) => {
                self.stray.fetch_sub(1, Relaxed);
                self.stray_time.change(-1, now.unwrap_or(began));
            }
        }
    }

    /// What the workload itself had of a request that began then and ends now: all but what it waited for
    /// calls. What it waited for calls that were not joined is taken for the mean. `None` where it is not known.
    pub(crate) fn own_time(
        &self,
        traces: &TraceTable,
        joined: Option<Joined>,
        began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        let waited = match joined {
            Some(joined) => traces.waited_by(joined, now, began)?,
            None => Duration::ZERO,
        };
        let strayed = Duration::from_micros(self.stray_wait.load(Relaxed).into());
        Some((now.since(began) - waited).saturating_sub(strayed))
    }

    /// From now on a request is taken to wait as long for calls that were not joined as so many requests
    /// did since this was asked last, in the mean. Of two calls at once it is taken to wait for one after the
    /// other, since nobody knows.
    pub(crate) fn spread_stray_time(&self, now: Instant, requests: u32) {
        let total = self.stray_time.until(now, self.stray().into());
        let nanos = total.wrapping_sub(self.stray_seen.swap(total, Relaxed));
        let micros = nanos / 1000 / u64::from(requests.max(1));
        let micros = u32::try_from(micros).unwrap_or(u32::MAX);
        self.stray_wait.store(micros, Relaxed);
    }

    pub(crate) fn waiting(&self) -> u32 {
        let waiting = self.waiting.load(Relaxed).cast_signed();
        waiting.max(0).cast_unsigned()
    }

    pub(crate) fn stray(&self) -> u32 {
        self.stray.load(Relaxed)
    }

    fn change(&self, change: Change) {
        if change != 0 {
            self.waiting.fetch_add(change.cast_unsigned(), Relaxed);
        }
    }
}
