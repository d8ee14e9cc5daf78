//! What there is to say about one request, or one connection without requests, at its end.

use std::cell::Cell;
use std::rc::Rc;

use selvedge_model::{
    BackendIndex, Instant, Reason, RouteIndex, TrafficEdge, TrafficEnd, TrafficPath, TrafficUnit,
    Withheld,
};
use selvedge_resilience::Ending;
use selvedge_wire::http1::Message;

use crate::client::{Asked, Client};
use crate::log_line;
use crate::pool::Destination;
use crate::respond::Reply;
use crate::routing::Routing;
use crate::scratch::Scratch;
use crate::trace::Trace;
use crate::traffic::{Ended, PathKey};
use crate::worker::{Current, Worker};

/// Filled along a request's phases, with no allocation and no clock of its own.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) routing: Option<Rc<Current>>,
    pub(crate) route: Option<RouteIndex>,
    pub(crate) backend: Option<BackendIndex>,
    /// Where it was sent last.
    pub(crate) endpoint: Option<Destination>,
    pub(crate) attempts: u32,
    /// What the client got; 0 is nothing.
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    /// Why it was not sent again, where that was wanted.
    pub(crate) withheld: Option<Withheld>,
    /// Bytes of the request's body, and of the response's.
    pub(crate) bytes: [Cell<u64>; 2],
    /// The request id, where it was made here.
    pub(crate) request_id: Option<[u8; 36]>,
    pub(crate) trace: Option<Trace>,
    is_whole: bool,
}

/// Says what became of a request.
pub(crate) fn request(worker: &Worker, client: &Client, scratch: &Scratch) {
    let record = &scratch.record;
    record.count(worker, client, TrafficUnit::Request);
    if worker.logger.wants(record.reason.is_some()) {
        let request = (!scratch.head.is_empty()).then(|| scratch.request());
        record.log(worker, client, TrafficUnit::Request, request.as_ref());
    }
}

/// Says what became of a connection without requests.
pub(crate) fn connection(worker: &Worker, client: &Client, record: &Record) {
    record.count(worker, client, TrafficUnit::Connection);
    if worker.logger.wants(record.reason.is_some()) {
        record.log(worker, client, TrafficUnit::Connection, None);
    }
}

impl Record {
    /// An attempt begins.
    pub(crate) fn attempt(&mut self, endpoint: Destination) {
        self.attempts += 1;
        self.endpoint = Some(endpoint);
    }

    /// A response of an endpoint went to the client, to its end or not.
    pub(crate) fn delivered(&mut self, at: Instant, ending: Ending, deadline: Option<Instant>) {
        self.ended = at;
        self.is_whole = ending == Ending::Complete;
        self.reason = match ending {
            // The endpoint's answer it is, and there would have been another attempt.
            Ending::Complete if self.withheld == Some(Withheld::BudgetSpent) => {
                Some(Reason::RetryBudget)
            }
            Ending::Complete => None,
            Ending::Cut => Some(Reason::ResponseCut),
            Ending::Malformed => Some(Reason::MalformedResponse),
            Ending::TimedOut if deadline.is_some_and(|deadline| deadline <= at) => {
                Some(Reason::RequestTimeout)
            }
            Ending::TimedOut => Some(Reason::AttemptTimeout),
            Ending::Cancelled => Some(Reason::ClientGone),
        };
    }

    /// The mesh gives the answer.
    pub(crate) fn replied(&mut self, at: Instant, reply: &Reply) {
        self.ended = at;
        self.status = reply.status();
        self.reason = reply.reason();
    }

    /// Nobody is there to answer.
    pub(crate) fn gone(&mut self, at: Instant) {
        self.ended = at;
        self.reason = Some(Reason::ClientGone);
    }

    /// A connection without requests is refused.
    pub(crate) fn refused(&mut self, at: Instant, reason: Reason) {
        self.ended = at;
        self.reason = Some(reason);
    }

    fn log(
        &self,
        worker: &Worker,
        client: &Client,
        unit: TrafficUnit,
        request: Option<&Message<'_>>,
    ) {
        let path = self.path(client, unit);
        let has_query = worker.logger.has_query();
        worker
            .logger
            .log(|line| log_line::write(line, self, client, &path, request, has_query));
    }

    /// Counts what came of it.
    fn count(&self, worker: &Worker, client: &Client, unit: TrafficUnit) {
        let ended = Ended {
            end: TrafficEnd::new(self.status, self.reason),
            began: self.began,
            at: self.ended,
            is_whole: self.is_whole && unit == TrafficUnit::Request,
        };
        let path = || self.path(client, unit);
        // Numbers of a routing that is no longer in force mean other paths by now.
        let routing = self.routing.as_ref();
        if !routing.is_some_and(|routing| worker.is_in_force(routing)) {
            return worker.sighter.count_by_name(&ended, path());
        }
        let key = PathKey {
            source: client.source,
            asked: client.asked,
            unit,
            route: self.route,
            backend: self.backend,
        };
        worker.sighter.count(&key, &ended, path);
    }

    fn path(&self, client: &Client, unit: TrafficUnit) -> TrafficPath {
        let routing: Option<&Routing> = self.routing.as_deref().map(|routing| &**routing);
        let backend = routing.and_then(|it| Some(it.table.backend(self.backend?)));
        let called = match client.asked {
            Asked::Service(address, port) => {
                let listener = routing.and_then(|it| it.table.listener(address, port));
                listener.map(|it| &it.service)
            }
            // A Gateway is nobody's: what it led to was called.
            Asked::Gateway(_) => backend.map(|it| &it.service),
        };
        let workload = routing.and_then(|it| it.workload(client.source?));
        TrafficPath {
            edge: TrafficEdge {
                source: workload.map(|it| it.service.clone()),
                destination: called.cloned(),
            },
            unit,
            route: routing.and_then(|it| Some(it.table.rule(self.route?).name.clone())),
            backend: backend.cloned(),
        }
    }
}
