//! One sending of a request to one endpoint.

use alloc::sync::Arc;
use core::mem;

use selvedge_model::{Instant, Place, Port};

use crate::eject::Probe;
use crate::gate::{Endpoint, Taken};
use crate::outcome::{Ending, OutcomeKind};
use crate::tables::Lane;
use crate::trace::Slot;
use crate::upstream::Upstream;

/// A request on its way to one endpoint, which counts it in flight until this is gone: after
/// [`crate::Admission::on_outcome`], after [`Self::finish`], or dropped, which is cancelling it.
#[derive(Debug)]
#[must_use = "dropped, it counts as cancelled"]
pub struct Attempt {
    lane: Arc<Lane>,
    upstream: usize,
    endpoint: usize,
    began: Instant,
    deadline: Option<Instant>,
    joined: Option<Slot>,
    probe: Option<Probe>,
    is_repeat: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sent,
    Answered { status: u16 },
    Ended,
}

/// What an attempt begins with.
pub(crate) struct Start {
    pub(crate) upstream: usize,
    pub(crate) taken: Taken,
    pub(crate) at: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) trace: u64,
    pub(crate) is_repeat: bool,
}

impl Attempt {
    pub(crate) fn new(lane: &Arc<Lane>, start: Start) -> Self {
        let tables = &lane.tables;
        let endpoint = &tables.upstreams[start.upstream].gate.endpoints()[start.taken.endpoint];
        let joined = endpoint.workload.and_then(|index| {
            let workload = &tables.workloads[index].workload;
            workload.begin_request(&tables.traces, start.trace)
        });
        Self {
            lane: lane.clone(),
            upstream: start.upstream,
            endpoint: start.taken.endpoint,
            began: start.at,
            deadline: start.deadline,
            joined,
            probe: start.taken.probe,
            is_repeat: start.is_repeat,
            stage: Stage::Sent,
        }
    }

    /// Where to send.
    pub fn place(&self) -> Place {
        self.endpoint().place
    }

    /// The port to send to.
    pub fn port(&self) -> Port {
        self.endpoint().port
    }

    /// When the last byte of the response has to be there: the nearer of the attempt's time and the
    /// request's. None is never.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends the attempt with the body of its response. Where [`crate::Admission::on_answer`] was not
    /// told of a head there is no whole body either: it counts as cancelled.
    pub fn finish(mut self, now: Instant, ending: Ending) {
        let kind = match (ending.fault(), self.stage) {
            (Some(fault), _) => fault,
            (None, Stage::Answered { status }) => OutcomeKind::Answered { status },
            (None, _) => OutcomeKind::Cancelled,
        };
        self.end(now, kind);
    }

    /// The head of the response has come.
    pub(crate) fn answer(&mut self, now: Instant, status: u16) {
        let probe = self.probe.take();
        let upstream = self.upstream();
        upstream.gate.on_head(now, self.endpoint, probe, status);
        let meters = upstream.shared.meters(self.lane.worker);
        meters.answer(status);
        if self.is_repeat && status < 500 {
            meters.repeats_succeeded.add(1);
        }
        self.stage = Stage::Answered { status };
    }

    pub(crate) fn end(&mut self, now: Instant, kind: OutcomeKind) {
        if let (OutcomeKind::Answered { status }, Stage::Sent) = (kind, self.stage) {
            self.answer(now, status);
        }
        let is_failed = matches!(self.stage, Stage::Answered { status: 500.. });
        let probe = self.probe.take();
        let upstream = self.upstream();
        let meters = upstream.shared.meters(self.lane.worker);
        meters.end(kind);
        if matches!(kind, OutcomeKind::Answered { .. }) {
            meters.took(self.began, now);
        }
        if !is_failed {
            upstream.gate.on_end(now, self.endpoint, probe, kind);
        }
        self.leave();
    }

    /// Gives back what the attempt holds; once.
    fn leave(&mut self) {
        if mem::replace(&mut self.stage, Stage::Ended) == Stage::Ended {
            return;
        }
        let tables = &self.lane.tables;
        let endpoint = self.endpoint();
        endpoint.state.in_flight.0.leave();
        if let (Some(slot), Some(index)) = (self.joined, endpoint.workload) {
            let workload = &tables.workloads[index].workload;
            workload.end_request(&tables.traces, slot);
        }
    }

    fn upstream(&self) -> &Upstream {
        &self.lane.tables.upstreams[self.upstream]
    }

    fn endpoint(&self) -> &Endpoint {
        &self.upstream().gate.endpoints()[self.endpoint]
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.stage == Stage::Ended {
            return;
        }
        // Cancelling says nothing about the endpoint, so that the time does not matter.
        self.end(self.began, OutcomeKind::Cancelled);
    }
}
