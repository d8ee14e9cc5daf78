//! What a workload has to do itself: requests in flight into it that wait for no call of its own.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use selvedge_model::CgroupId;

use crate::trace::{Change, Key, Slot, TraceTable};

/// What is counted about one workload, by all workers.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Workload {
    cgroup: CgroupId,
    /// Requests that wait for a call, as a signed number: one thread's changes may overtake another's.
    waiting: AtomicU32,
    /// Calls outstanding that belong to no request known.
    stray: AtomicU32,
}

/// A call outstanding.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outstanding {
    Joined(Slot),
    Stray,
}

impl Workload {
    pub(crate) fn new(cgroup: CgroupId) -> Self {
        Self {
            cgroup,
            waiting: AtomicU32::new(0),
            stray: AtomicU32::new(0),
        }
    }

    pub(crate) fn cgroup(&self) -> CgroupId {
        self.cgroup
    }

    /// A request goes into the workload; none where it cannot be joined with calls.
    pub(crate) fn begin_request(&self, traces: &TraceTable, trace: u64) -> Option<Slot> {
        if trace == 0 {
            return None;
        }
        let (slot, change) = traces.begin_request(Key::of(trace, self.cgroup))?;
        self.change(change);
        Some(slot)
    }

    pub(crate) fn end_request(&self, traces: &TraceTable, slot: Slot) {
        self.change(traces.end_request(slot));
    }

    pub(crate) fn begin_call(&self, traces: &TraceTable, trace: u64) -> Outstanding {
        let joined = match trace {
            0 => None,
            trace => traces.begin_call(Key::of(trace, self.cgroup)),
        };
        let Some((slot, change)) = joined else {
            self.stray.fetch_add(1, Relaxed);
            return Outstanding::Stray;
        };
        self.change(change);
        Outstanding::Joined(slot)
    }

    pub(crate) fn end_call(&self, traces: &TraceTable, call: Outstanding) {
        match call {
            Outstanding::Joined(slot) => self.change(traces.end_call(slot)),
            Outstanding::Stray => {
                self.stray.fetch_sub(1, Relaxed);
            }
        }
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
