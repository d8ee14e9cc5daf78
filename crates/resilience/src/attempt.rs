//! One sending of a request to one endpoint.

use alloc::sync::Arc;
use core::mem;
use core::time::Duration;

use selvedge_model::{Instant, Place, Port};

use crate::callers::Caller;
use crate::eject::Probe;
use crate::gate::{Endpoint, Taken};
use crate::outcome::{Ending, OutcomeKind};
use crate::tables::Lane;
use crate::trace::Joined;
use crate::tree::Deadline;
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
    deadline: Option<Deadline>,
    joined: Option<Joined>,
    caller: Option<Caller>,
    probe: Option<Probe>,
    is_repeat: bool,
    is_hedge: bool,
    /// Whether another attempt at the same request was answered first.
    is_needless: bool,
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
    pub(crate) deadline: Option<Deadline>,
    pub(crate) trace: u64,
    pub(crate) caller: Option<Caller>,
    pub(crate) is_repeat: bool,
    pub(crate) is_hedge: bool,
}

impl Attempt {
    pub(crate) fn new(lane: &Arc<Lane>, start: Start) -> Self {
        let tables = &lane.tables;
        let endpoint = &tables.upstreams[start.upstream].gate.endpoints()[start.taken.endpoint];
        endpoint.state.traffic.0.unanswered.enter();
        let workload = endpoint.workload.as_ref();
        let joined =
            workload.and_then(|it| it.begin_request(&tables.traces, start.trace, start.at));
        Self {
            lane: lane.clone(),
            upstream: start.upstream,
            endpoint: start.taken.endpoint,
            began: start.at,
            deadline: start.deadline,
            joined,
            caller: start.caller,
            probe: start.taken.probe,
            is_repeat: start.is_repeat,
            is_hedge: start.is_hedge,
            is_needless: false,
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
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|it| it.at)
    }

    /// When it began.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// Ends the attempt with the body of its response. Where [`crate::Admission::on_answer`] was not
    /// told of a head there is no whole body either: it counts as cancelled.
    pub fn finish(mut self, now: Instant, ending: Ending) {
        let kind = match (ending.fault(), self.stage) {
            (Some(fault), _) => fault,
            (None, Stage::Answered { status }) => OutcomeKind::Answered { status },
            (None, _) => OutcomeKind::Cancelled,
        };
        self.end(Some(now), kind);
    }

    /// Ends the attempt since another at the same request was answered first: that it was given up is nobody's failure.
    pub fn give_up(mut self, now: Instant) {
        self.is_needless = true;
        self.end(Some(now), OutcomeKind::Cancelled);
    }

    /// The head of the response has come.
    pub(crate) fn answer(&mut self, now: Instant, status: u16) {
        if self.stage == Stage::Sent {
            self.endpoint().state.traffic.0.unanswered.leave();
        }
        let probe = self.probe.take();
        let upstream = self.upstream();
        let (gate, kind) = (&upstream.gate, OutcomeKind::Answered { status });
        gate.on_head(now, self.endpoint, probe, status);
        gate.pace(now, self.endpoint, now.since(self.began), kind);
        let meters = upstream.shared.meters(self.lane.worker);
        meters.answer(status);
        if self.is_repeat && status < 500 {
            meters.repeats_succeeded.add(1);
        }
        if self.is_hedge && status < 500 {
            meters.hedges_won.add(1);
        }
        self.stage = Stage::Answered { status };
    }

    /// Ends it, at a time if that is known.
    pub(crate) fn end(&mut self, now: Option<Instant>, kind: OutcomeKind) {
        // Without a time it was dropped, which says nothing about the endpoint.
        let at = now.unwrap_or(self.began);
        if let (OutcomeKind::Answered { status }, Stage::Sent) = (kind, self.stage) {
            self.answer(at, status);
        }
        let is_failed = matches!(self.stage, Stage::Answered { status: 500.. });
        let probe = self.probe.take();
        let upstream = self.upstream();
        let meters = upstream.shared.meters(self.lane.worker);
        if !self.is_needless {
            meters.end(kind);
        }
        if matches!(kind, OutcomeKind::Answered { .. }) {
            meters.took(self.began, at);
        }
        // Who does not wait any longer says nothing about the endpoint.
        let kind = match (kind, self.deadline) {
            (
                OutcomeKind::TimedOut,
                Some(Deadline {
                    is_clients: true, ..
                }),
            ) => OutcomeKind::Cancelled,
            _ => kind,
        };
        if !is_failed {
            upstream.gate.on_end(at, self.endpoint, probe, kind);
        }
        if let (Stage::Sent, Some(now)) = (self.stage, now) {
            let time = now.since(self.began);
            // Of what was overtaken since it was late nobody knows how late it would have been.
            let is_late =
                self.is_needless && upstream.late_at(self.began).is_some_and(|at| now >= at);
            let kind = match is_late {
                true => OutcomeKind::TimedOut,
                false => kind,
            };
            upstream.gate.pace(now, self.endpoint, time, kind);
        }
        if let Some(now) = now.filter(|_| !is_failed) {
            self.sample(now, kind);
        }
        self.leave(now);
    }

    /// Has the limit's controller know how long it took. What failed at once says nothing about that.
    fn sample(&self, now: Instant, kind: OutcomeKind) {
        let endpoint = self.endpoint();
        let limiter = &endpoint.limiter;
        if !limiter.is_watched() {
            return;
        }
        let Some(time) = self.limited_time(now, endpoint) else {
            return;
        };
        let worker = self.lane.worker;
        match kind {
            OutcomeKind::Answered { .. } => limiter.took(worker, self.began, time),
            // Where most of the time went by in calls it is they that are late.
            OutcomeKind::TimedOut if 2 * time >= now.since(self.began) => {
                limiter.expired(worker, self.began, time);
            }
            OutcomeKind::Cancelled => limiter.gave_up(worker, self.began, time),
            _ => {}
        }
    }

    /// The time that the endpoint's limit is about: its own, or all of it.
    fn limited_time(&self, now: Instant, endpoint: &Endpoint) -> Option<Duration> {
        match &endpoint.workload {
            Some(workload) if endpoint.limiter.law().is_of_own() => {
                workload.own_time(&self.lane.tables.traces, self.joined, self.began, now)
            }
            _ => Some(now.since(self.began)),
        }
    }

    /// Gives back what the attempt holds; once.
    fn leave(&mut self, now: Option<Instant>) {
        let stage = mem::replace(&mut self.stage, Stage::Ended);
        if stage == Stage::Ended {
            return;
        }
        let endpoint = self.endpoint();
        if stage == Stage::Sent {
            endpoint.state.traffic.0.unanswered.leave();
        }
        endpoint.state.traffic.0.in_flight.leave();
        self.upstream().leave(self.lane.worker, self.caller);
        if let (Some(joined), Some(workload)) = (self.joined, &endpoint.workload) {
            workload.end_request(&self.lane.tables.traces, joined, now);
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
        self.end(None, OutcomeKind::Cancelled);
    }
}
