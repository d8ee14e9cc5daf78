//! Metrics over HTTP, at the loopback address that the user chose, for scrapers.
//!
//! The text is the agent's, which reads nothing from outside: a request that could be read makes one
//! of ours to the agent, over the feed, for all scrapers that wait. While the agent is away the
//! answer is 503, at once.
//!
//! Bounds: [`MAX_CONNECTIONS`] open, beyond which a new one is closed at once; one request on each,
//! with a head of [`MAX_HEAD`] bytes; [`LIFETIME`], after which it is closed whatever it does. A text
//! is kept once for all who get it, and the agent gives one a second: slow readers hold one for each
//! second of a lifetime at most. All runs on the feed thread, so that no look-up waits for it. Read
//! next: `feed`'s `metrics.rs`, and `discovery` for the way to the agent.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use selvedge_feed::{Counter, MetricsAnswer, MetricsPart, MetricsTooLong};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::accept::accept;
use crate::counters::Counters;
use crate::handover;

const MAX_CONNECTIONS: usize = 16;
/// Bytes. Prometheus sends some 300.
const MAX_HEAD: usize = 8 << 10;
/// As long as Prometheus waits unless it is told otherwise.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long the agent may take, so that a scraper is told before it gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Prometheus text format, version 0.0.4.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Somebody who waits for the text, which is empty where it is too long.
type Waiting = oneshot::Sender<Bytes>;

/// Serves scrapers, over any number of agents.
#[derive(Debug)]
pub(crate) struct Exporter {
    counters: Arc<Counters>,
    places: Arc<Semaphore>,
    /// The agent; none while it is away.
    agent: ArcSwapOption<mpsc::Sender<Waiting>>,
}

/// Why there are no metrics at the moment: one sentence for whoever reads the answer.
#[derive(Debug, thiserror::Error)]
enum Unavailable {
    #[error("the agent is away: metrics are back once `selvedge up` runs again")]
    Away,
    #[error("the agent has not answered within {PATIENCE:?}")]
    Slow,
    #[error(
        "there is more than {} MiB of metrics, the most that is served here: read /metrics on the agent's api.sock",
        selvedge_feed::MAX_METRICS_BYTES >> 20
    )]
    TooLong,
}

impl Exporter {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            agent: ArcSwapOption::empty(),
        }
    }

    /// Scrapers are served on `socket` until what this gives is dropped.
    pub(crate) fn serve(self: &Arc<Self>, socket: OwnedFd) -> io::Result<oneshot::Sender<()>> {
        let listener = handover::tcp(socket)?;
        let (retire, retired) = oneshot::channel();
        let exporter = self.clone();
        tokio::spawn(async move {
            let admit = |stream| exporter.admit(stream);
            if let Err(error) = accept(listener, &exporter.counters, retired, admit).await {
                eprintln!("selvedge proxy: metrics are no longer served: {error}");
            }
        });
        Ok(retire)
    }

    /// The agent can be asked until what this gives is dropped.
    pub(crate) fn connect(self: &Arc<Self>) -> Requests {
        let (agent, waiting) = mpsc::channel(MAX_CONNECTIONS);
        self.agent.store(Some(Arc::new(agent)));
        Requests {
            exporter: self.clone(),
            queue: waiting,
            waiting: Vec::new(),
            is_under_way: false,
            answer: MetricsAnswer::default(),
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.counters.count(Counter::MetricsConnectionsRefused);
            return;
        };
        let exporter = self.clone();
        tokio::spawn(async move {
            let served = timeout(LIFETIME, exporter.converse(stream)).await;
            if !matches!(served, Ok(Ok(()))) {
                exporter.counters.count(Counter::MetricsConnectionsCut);
            }
            drop(place);
        });
    }

    async fn converse(&self, stream: TcpStream) -> hyper::Result<()> {
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(self.respond(&request).await) });
        http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .await
    }

    async fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/metrics" {
            return answer(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let what = "metrics are read with GET\n";
            let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, what);
            let allowed = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(ALLOW, allowed);
            return answer;
        }
        match self.text().await {
            Ok(text) => {
                self.counters.count(Counter::MetricsScrapes);
                let mut answer = answer(StatusCode::OK, text);
                let kind = HeaderValue::from_static(EXPOSITION);
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                answer
            }
            Err(why) => {
                self.counters.count(Counter::MetricsUnavailable);
                answer(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
            }
        }
    }

    /// Asks the agent.
    async fn text(&self) -> Result<Bytes, Unavailable> {
        let agent = self.agent.load_full().ok_or(Unavailable::Away)?;
        let (waiting, text) = oneshot::channel();
        agent.try_send(waiting).map_err(|error| match error {
            TrySendError::Closed(_) => Unavailable::Away,
            // Of scrapers that gave up: the agent takes nothing.
            TrySendError::Full(_) => Unavailable::Slow,
        })?;
        drop(agent);
        match timeout(PATIENCE, text).await {
            Ok(Ok(text)) if text.is_empty() => Err(Unavailable::TooLong),
            Ok(Ok(text)) => Ok(text),
            Ok(Err(_)) => Err(Unavailable::Away),
            Err(_) => Err(Unavailable::Slow),
        }
    }
}

fn answer(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(PLAIN);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// What scrapers want of one agent. Dropping it tells those who wait that the agent is away.
#[derive(Debug)]
pub(crate) struct Requests {
    exporter: Arc<Exporter>,
    queue: mpsc::Receiver<Waiting>,
    /// At most [`MAX_CONNECTIONS`]: those that gave up are forgotten when another comes.
    waiting: Vec<Waiting>,
    is_under_way: bool,
    answer: MetricsAnswer,
}

impl Requests {
    /// Waits until the agent is to be asked. Whoever comes while it is shares the answer.
    pub(crate) async fn next(&mut self) {
        while let Some(waiting) = self.queue.recv().await {
            self.waiting.retain(|waiting| !waiting.is_closed());
            self.waiting.push(waiting);
            if !self.is_under_way {
                self.is_under_way = true;
                return;
            }
        }
        // The exporter has let go of this.
        std::future::pending().await
    }

    /// Part of the agent's answer came.
    pub(crate) fn on_part(&mut self, part: MetricsPart) -> Result<(), MetricsTooLong> {
        if let Some(text) = self.answer.on_part(part)? {
            self.is_under_way = false;
            let text = Bytes::from(text);
            for waiting in self.waiting.drain(..) {
                // Whoever gave up needs it no more.
                let _ = waiting.send(text.clone());
            }
        }
        Ok(())
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.exporter.agent.store(None);
    }
}
