//! One request from its head to its last byte, with all its attempts.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use selvedge_model::{
    BackendIndex, CgroupId, Instant, Reason, RetryPolicy, RouteIndex, Timeouts, Urgency,
};

use crate::attempt::{Attempt, Start};
use crate::callers::Caller;
use crate::entry::Entry;
use crate::gate::{Taken, Tried};
use crate::outcome::{Ending, Outcome, OutcomeKind, Verdict};
use crate::rejection::{Gate, Rejection};
use crate::reserve::Claim;
use crate::retry::{Repeat, Repeats, RetryRule};
use crate::seat::Seat;
use crate::tables::Lane;
use crate::tree::{Deadline, Tree};
use crate::upstream::Upstream;
use crate::workload::Outstanding;

/// A request that wants to go somewhere.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The workload that makes it; `None` is somebody outside the mesh.
    pub source: Option<CgroupId>,
    /// What leads it.
    pub route: RouteIndex,
    /// Where it goes.
    pub destination: BackendIndex,
    /// A hash of its trace's id, equal on every worker; 0 where it has none.
    pub trace: u64,
    /// How urgent it is. Where that is not said it is as urgent as what it is made for, if that is known.
    pub urgency: Option<Urgency>,
    /// How long whoever makes it waits, as far as that is known.
    pub client_timeout: Option<Duration>,
    /// What its route says about its time; where that is silent, the upstream's policy counts.
    pub timeouts: Timeouts,
    /// What its route says about retries; where that is silent, the upstream's policy counts.
    pub retry: Option<&'a RetryPolicy>,
}

/// A request that was let in. It is counted until this is gone: after [`Self::finish`], or dropped,
/// which counts it as cancelled.
#[derive(Debug)]
#[must_use = "dropped, the request counts as cancelled"]
pub struct Admission {
    lane: Arc<Lane>,
    route: RouteIndex,
    upstream: usize,
    is_at_entry: bool,
    call: Option<(usize, Outstanding)>,
    trace: u64,
    urgency: Urgency,
    caller: Option<Caller>,
    tree: Option<Tree>,
    began: Instant,
    deadline: Option<Deadline>,
    attempt_timeout: Option<Duration>,
    rule: Option<RetryRule>,
    tried: Tried,
    repeats: Repeats,
    course: Course,
}

/// What a request has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Pending,
    Came(OutcomeKind),
    Refused,
    Ended,
}

impl Admission {
    pub(crate) fn new(lane: &Arc<Lane>, now: Instant, call: &Call<'_>) -> Result<Self, Rejection> {
        let tables = &lane.tables;
        let unknown = |reason| Rejection {
            reason,
            gate: Gate::Upstream,
            limit: u32::MAX,
        };
        let entry = tables.entry(call.route).ok_or(unknown(Reason::NoRoute))?;
        let upstream = tables.upstream(call.destination);
        let upstream = upstream.ok_or(unknown(Reason::NoBackend))?;
        let source = call.source.and_then(|cgroup| tables.local(cgroup));
        let source = source.filter(|index| !tables.workloads[*index].is_entry);
        let is_at_entry = source.is_none();
        let is_steered = upstream.retries.is_steered();
        let meters = entry.meters(lane.worker);
        let urgency = call.urgency.unwrap_or_default();
        if is_at_entry {
            entry
                .enter(lane.worker, Claim::from(urgency))
                .inspect_err(|refused| meters.refuse(refused.reason))?;
        }
        meters.requests.add(1);
        let call_of = |index: usize| {
            let workload = &tables.workloads[index].workload;
            (index, workload.begin_call(&tables.traces, call.trace, now))
        };
        let timeouts = &upstream.policy.timeouts;
        let by = |is_clients| {
            move |time| Deadline {
                at: now + time,
                is_clients,
            }
        };
        let time = call.timeouts.request.or(timeouts.request).map(by(false));
        // Where both are at the same moment it is the policy's: that comes first.
        let deadline = time
            .into_iter()
            .chain(call.client_timeout.map(by(true)))
            .min();
        let found = match (is_steered, is_at_entry) {
            (true, false) => tables.trees.find(call.trace),
            _ => None,
        };
        let tree = match (is_steered, is_at_entry) {
            (true, true) => tables.trees.begin(call.trace, deadline, urgency),
            _ => found.as_ref().map(|found| found.tree),
        };
        let inherited = found.as_ref().and_then(|found| found.deadline);
        let of_tree = found.map(|found| found.urgency);
        let caller = upstream.caller(call.source);
        if caller.is_none() && upstream.callers.is_some() {
            tables.unshared.fetch_add(1, Relaxed);
        }
        Ok(Self {
            lane: lane.clone(),
            route: call.route,
            upstream: call.destination.0 as usize,
            is_at_entry,
            call: source.map(call_of),
            trace: call.trace,
            caller,
            began: now,
            urgency: call.urgency.or(of_tree).unwrap_or_default(),
            deadline: deadline.into_iter().chain(inherited).min(),
            tree,
            attempt_timeout: call.timeouts.attempt.or(timeouts.attempt),
            rule: call.retry.map(RetryRule::from).or(upstream.rule),
            tried: Tried::default(),
            repeats: Repeats::default(),
            course: Course::Pending,
        })
    }

    /// When the last byte of the response has to be there, retries included. None is never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|it| it.at)
    }

    /// Takes a place at an endpoint: at first, and after each verdict to retry, then at an endpoint not
    /// tried before if one is free. Two attempts may live at once.
    ///
    /// # Errors
    /// `NoEndpoint` where there is none that is not ejected, `RequestLimit` where all are full,
    /// `RequestTimeout` where the request's time is over.
    pub fn attempt(&mut self, now: Instant, seat: &mut Seat) -> Result<Attempt, Rejection> {
        let tables = &self.lane.tables;
        let upstream = &tables.upstreams[self.upstream];
        let entry = &tables.entries[self.route.0 as usize];
        let meters = upstream.shared.meters(self.lane.worker);
        let taken = self
            .in_time(now, upstream)
            .and_then(|()| upstream.take(now, seat, self.urgency, self.caller, &self.tried));
        let taken = taken.inspect_err(|refused| {
            meters.refuse(refused.reason);
            entry.meters(self.lane.worker).refuse(refused.reason);
            if let (Reason::RequestLimit, Some(tree)) = (refused.reason, self.tree) {
                tables.trees.refuse(tree);
            }
            settle(&mut self.course, Course::Refused);
        })?;
        if let Some(tree) = self.tree {
            if upstream.shared.is_scarce() {
                tables.trees.uses_scarce(tree);
            }
            if upstream.gate.endpoints()[taken.endpoint].is_late() {
                tables.trees.goes_to_late(tree);
            }
        }
        let repeat = self.repeats.next.take();
        match repeat {
            None if self.tried.is_empty() => upstream.count_first(self.lane.worker),
            None => {}
            Some(Repeat::Retry) => meters.retries.add(1),
            Some(Repeat::Move) => meters.moves.add(1),
        }
        Ok(self.begin(now, taken, repeat.is_some(), false))
    }

    /// When another attempt may be made beside this one, which then is late: for a request that may be sent twice, and
    /// that was not sent again so far. `None` is never.
    pub fn late_at(&self, attempt: &Attempt) -> Option<Instant> {
        let upstream = &self.lane.tables.upstreams[self.upstream];
        let may_repeat = self.rule.is_some_and(|rule| rule.repeats());
        let is_first = self.tried.is_one();
        let late = upstream.late_at(attempt.began());
        late.filter(|_| is_first && may_repeat)
    }

    /// Takes a place for an attempt beside the one that is late, at another endpoint. The one of the two that is not
    /// needed is given up: [`Attempt::give_up`]. `None` where there is no place, or two of 100 requests have had one.
    pub fn hedge(&mut self, now: Instant, seat: &mut Seat) -> Option<Attempt> {
        let tables = &self.lane.tables;
        let upstream = &tables.upstreams[self.upstream];
        let is_refused = |tree| tables.trees.is_refused(tree);
        if self.tree.is_some_and(is_refused) || self.in_time(now, upstream).is_err() {
            return None;
        }
        let taken = upstream.take_beside(now, seat, self.urgency, self.caller, &self.tried)?;
        Some(self.begin(now, taken, false, true))
    }

    /// An attempt at the place that was taken for it.
    fn begin(&mut self, now: Instant, taken: Taken, is_repeat: bool, is_hedge: bool) -> Attempt {
        self.tried.push(taken.endpoint);
        let own = self.attempt_timeout.map(|time| Deadline {
            at: now + time,
            is_clients: false,
        });
        let start = Start {
            upstream: self.upstream,
            taken,
            at: now,
            deadline: own.into_iter().chain(self.deadline).min(),
            trace: self.trace,
            caller: self.caller,
            is_repeat,
            is_hedge,
        };
        Attempt::new(&self.lane, start)
    }

    /// The head of a response has come, and `attempt` goes on until its body's end: then call
    /// [`Attempt::finish`]. After a verdict to retry the body is of no use, and the attempt may be
    /// finished or dropped at once.
    pub fn on_answer(
        &mut self,
        now: Instant,
        seat: &mut Seat,
        attempt: &mut Attempt,
        status: u16,
        repeatable: bool,
    ) -> Verdict {
        attempt.answer(now, status);
        let kind = OutcomeKind::Answered { status };
        self.judge(now, seat, Outcome { kind, repeatable })
    }

    /// An attempt has ended before the head of a response, or with head and body at once.
    pub fn on_outcome(
        &mut self,
        now: Instant,
        seat: &mut Seat,
        mut attempt: Attempt,
        outcome: Outcome,
    ) -> Verdict {
        attempt.end(Some(now), outcome.kind);
        drop(attempt);
        self.judge(now, seat, outcome)
    }

    /// Ends the request: its response, or one made in its place, has gone to its last byte or not.
    pub fn finish(mut self, now: Instant, ending: Ending) {
        self.end(ending.fault(), Some(now));
    }

    fn judge(&mut self, now: Instant, seat: &mut Seat, outcome: Outcome) -> Verdict {
        let upstream = &self.lane.tables.upstreams[self.upstream];
        upstream.saw(outcome.kind);
        let verdict = self.repeats.judge(
            now,
            &mut seat.rng,
            self.rule.as_ref(),
            self.deadline(),
            outcome,
            || self.lane.may_retry(now, upstream, self.tree),
        );
        if let Verdict::Deliver { withheld } = verdict {
            settle(&mut self.course, Course::Came(outcome.kind));
            if let Some(why) = withheld {
                upstream.shared.meters(self.lane.worker).withhold(why);
            }
        }
        verdict
    }

    fn in_time(&self, now: Instant, upstream: &Upstream) -> Result<(), Rejection> {
        if self.deadline.is_none_or(|deadline| now < deadline.at) {
            return Ok(());
        }
        Err(Rejection {
            reason: Reason::RequestTimeout,
            gate: Gate::Upstream,
            limit: upstream.gate.highest_limit(),
        })
    }

    fn end(&mut self, fault: Option<OutcomeKind>, now: Option<Instant>) {
        let course = core::mem::replace(&mut self.course, Course::Ended);
        let tables = &self.lane.tables;
        let meters = self.entry().meters(self.lane.worker);
        if let Course::Came(OutcomeKind::Answered { status }) = course {
            meters.answer(status);
        }
        match (course, fault, now) {
            (Course::Ended, ..) => return,
            (Course::Refused, ..) => {}
            (Course::Came(OutcomeKind::Answered { status }), None, Some(now)) => {
                meters.end(OutcomeKind::Answered { status });
                meters.took(self.began, now);
            }
            (Course::Came(OutcomeKind::Answered { .. }), Some(fault), _) => meters.end(fault),
            (Course::Came(kind), ..) => meters.end(kind),
            (Course::Pending, ..) => meters.end(OutcomeKind::Cancelled),
        }
        if let Some((index, call)) = self.call.take() {
            let workload = &tables.workloads[index].workload;
            workload.end_call(&tables.traces, call, now);
        }
        if self.is_at_entry {
            self.leave_entry(course, fault, now);
        }
    }

    fn leave_entry(&self, course: Course, fault: Option<OutcomeKind>, now: Option<Instant>) {
        let entry = self.entry();
        let trees = &self.lane.tables.trees;
        let fate = self.tree.map(|tree| trees.end(tree));
        entry.leave(self.lane.worker, fate.unwrap_or_default());
        if let Some(now) = now {
            self.sample(now, course, fault);
        }
    }

    /// Has the controller of the entry's limit know how long it took. What failed at once says nothing.
    fn sample(&self, now: Instant, course: Course, fault: Option<OutcomeKind>) {
        let limiter = self.entry().limiter();
        let (worker, time) = (self.lane.worker, now.since(self.began));
        let runs_out = |it: Deadline| it.is_clients && now >= it.at;
        let gave_up = self.deadline.is_some_and(runs_out);
        match (course, fault) {
            (Course::Came(OutcomeKind::Answered { status }), None) if status < 500 => {
                limiter.took(worker, self.began, time);
            }
            (Course::Came(OutcomeKind::TimedOut), _) | (_, Some(OutcomeKind::TimedOut))
                if !gave_up =>
            {
                limiter.expired(worker, self.began, time);
            }
            (Course::Pending | Course::Came(OutcomeKind::TimedOut), _)
            | (_, Some(OutcomeKind::Cancelled | OutcomeKind::TimedOut)) => {
                limiter.gave_up(worker, self.began, time);
            }
            _ => {}
        }
    }

    fn entry(&self) -> &Entry {
        &self.lane.tables.entries[self.route.0 as usize]
    }
}

/// One attempt may go on with its answer while another is refused or given up.
fn settle(course: &mut Course, to: Course) {
    if !matches!(course, Course::Came(OutcomeKind::Answered { .. })) {
        *course = to;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.end(Some(OutcomeKind::Cancelled), None);
    }
}
