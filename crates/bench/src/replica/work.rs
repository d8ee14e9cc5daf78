//! A request from its arrival to its answer.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use selvedge_model::Rng;
use selvedge_scenario::{Condition, ServiceTime, happens};
use selvedge_sim::Station;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::{Forwarded, ReplicaOptions, ReplicaReport};
use crate::alarm::{Alarms, nanos};
use crate::clock::monotonic_ns;
use crate::load::Target;

/// Whoever calls waits no longer than that, so that nothing is there for ever.
const LONGEST_CALL: Duration = Duration::from_secs(60);
/// What an answer says.
const BODY: &[u8] = b"{\"served\":true}\n";

/// The replica.
pub(super) struct Work {
    alarms: Alarms,
    station: RefCell<Station<Turn>>,
    time: ServiceTime,
    calls: Vec<Vec<Target>>,
    forwards: Forwarded,
    client: Client<HttpConnector, Empty<Bytes>>,
    rng: RefCell<Rng>,
    report: Cell<ReplicaReport>,
}

/// Tells a request that its work begins, and when.
type Turn = oneshot::Sender<u64>;

impl Work {
    pub(super) fn new(options: &ReplicaOptions) -> io::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            alarms: Alarms::start()?,
            station: RefCell::new(Station::new(options.permits, options.queue)),
            time: options.time,
            calls: options.calls.clone(),
            forwards: options.forwards,
            client: Client::builder(TokioExecutor::new()).build(connector),
            rng: RefCell::new(Rng::seeded(options.seed)),
            report: Cell::new(ReplicaReport::default()),
        })
    }

    pub(super) fn report(&self) -> ReplicaReport {
        self.report.get()
    }

    fn note(&self, change: impl FnOnce(&mut ReplicaReport)) {
        let mut report = self.report.get();
        change(&mut report);
        self.report.set(report);
    }

    /// From now on it is like this. What is worked on goes on.
    pub(super) fn set(&self, condition: Condition) {
        self.station.borrow_mut().set(condition);
        self.begin();
    }

    pub(super) async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        // Of an answer to whoever sends no whole request nobody hears.
        let _body = body.collect().await;
        let Some(work) = work_of(&head.uri) else {
            return reply(StatusCode::BAD_REQUEST);
        };
        reply(self.handle(work, &head.headers).await)
    }

    /// The status that a request is answered with, once it is.
    async fn handle(self: &Rc<Self>, work: f64, headers: &HeaderMap) -> StatusCode {
        self.note(|report| report.requests += 1);
        let condition = *self.station.borrow().condition();
        if condition.errors > 0.0 && happens(condition.errors, &mut self.rng.borrow_mut()) {
            self.note(|report| report.errors += 1);
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        let (turn, is_begun) = oneshot::channel();
        if !self.station.borrow_mut().join(turn) {
            self.note(|report| report.full += 1);
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        self.begin();
        let Ok(began_ns) = is_begun.await else {
            return StatusCode::SERVICE_UNAVAILABLE; // the program ends
        };
        self.labour(began_ns, work).await;
        for step in &self.calls {
            if !self.call_all(step, work, headers).await {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
        }
        let extra = self.station.borrow().condition().extra;
        if !extra.is_zero() {
            self.alarms.until(monotonic_ns() + nanos(extra)).await;
        }
        StatusCode::OK
    }

    /// Has the work begin on whoever's turn it is.
    fn begin(&self) {
        let mut station = self.station.borrow_mut();
        while let Some(turn) = station.begin() {
            if turn.send(monotonic_ns()).is_err() {
                station.end();
            }
        }
    }

    /// Holds a permit for a time, and gives it to the next.
    async fn labour(&self, began_ns: u64, work: f64) {
        let slow = self.station.borrow().condition().slow * work;
        let drawn = self.time.draw(slow, &mut self.rng.borrow_mut());
        let done_ns = began_ns.saturating_add(nanos(drawn));
        self.alarms.until(done_ns).await;
        let held_ns = monotonic_ns() - began_ns;
        self.station.borrow_mut().end();
        self.begin();
        self.note(|report| {
            report.worked += 1;
            report.drawn_us += nanos(drawn) / 1000;
            report.held_us += held_ns / 1000;
        });
    }

    /// Makes all calls of a step at once; whether all are answered well.
    async fn call_all(self: &Rc<Self>, step: &[Target], work: f64, headers: &HeaderMap) -> bool {
        let calls = step.iter().map(|target| {
            let (this, request) = (Rc::clone(self), self.request(target, work, headers));
            spawn_local(async move { this.call(request?).await })
        });
        let calls: Vec<_> = calls.collect();
        let mut are_well = true;
        for call in calls {
            let is_well = matches!(call.await, Ok(Some(())));
            self.note(|report| report.failed_calls += u64::from(!is_well));
            are_well &= is_well;
        }
        are_well
    }

    fn request(
        &self,
        target: &Target,
        work: f64,
        headers: &HeaderMap,
    ) -> Option<Request<Empty<Bytes>>> {
        let sign = if target.path.contains('?') { '&' } else { '?' };
        let uri = format!("{target}{sign}work={work}");
        let mut request = Request::get(uri).body(Empty::new()).ok()?;
        let passed = headers.iter().filter(|(name, _)| match self.forwards {
            Forwarded::All => ![CONNECTION, HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name),
            Forwarded::Trace => *name == "traceparent",
            Forwarded::Nothing => false,
        });
        for (name, value) in passed {
            request.headers_mut().append(name, value.clone());
        }
        Some(request)
    }

    /// Makes a call; `None` where it is not answered well.
    async fn call(&self, request: Request<Empty<Bytes>>) -> Option<()> {
        let exchange = async {
            let response = self.client.request(request).await.ok()?;
            let status = response.status();
            response.into_body().collect().await.ok()?;
            status.is_success().then_some(())
        };
        timeout(LONGEST_CALL, exchange).await.ok().flatten()
    }
}

fn reply(status: StatusCode) -> Response<Full<Bytes>> {
    let body = match status {
        StatusCode::OK => Bytes::from_static(BODY),
        StatusCode::BAD_REQUEST => {
            Bytes::from_static(b"expected ?work=FACTOR, with a factor from 0.001 to 1000\n")
        }
        _ => Bytes::new(),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

/// The factor of its service times that a request names as `?work=F`, 1 where it names none; `None` where
/// that is no factor.
fn work_of(uri: &Uri) -> Option<f64> {
    let parameters = uri.query().unwrap_or_default().split('&');
    let mut named = parameters.filter_map(|parameter| parameter.strip_prefix("work="));
    match named.next() {
        None => Some(1.0),
        Some(text) => {
            let factor: f64 = text.parse().ok()?;
            (0.001..=1000.0).contains(&factor).then_some(factor)
        }
    }
}
