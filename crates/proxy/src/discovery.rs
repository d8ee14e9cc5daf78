//! The proxy's end of the feed socket: follows the agent, for ever and over any number of agents.
//!
//! A lost connection changes nothing but that: sockets and table stay, and it is tried again after
//! 20 ms at first, 500 ms at most. Sockets are passed on to the worker only once there is a table,
//! so that no query is answered from nothing; until then queries wait in the sockets.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use selvedge_feed::{
    Counter, Decoder, FrameError, MAX_TO_PROXY_BYTES, MetricsTooLong, Progress, Report, SocketKind,
    Subscription, ToAgent, ToProxy, TrafficPart, UpdateError, VERSION,
};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::dns::worker::Command;
use crate::handover::{self, HandoverError, Sockets};
use crate::metrics::{Exporter, Requests};
use crate::pilot::Pilot;
use crate::reading;
use crate::routing::{Routing, SharedRouting};
use crate::table::{SharedTable, Table};
use crate::traffic::Sightings;
use crate::worker::Workers;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const CHUNK_BYTES: usize = 16 << 10;

/// Follows the agents that listen at one path.
pub(crate) struct Discovery {
    pub(crate) path: PathBuf,
    pub(crate) table: SharedTable,
    pub(crate) counters: Arc<Counters>,
    /// To the worker.
    pub(crate) commands: mpsc::Sender<Command>,
    /// Whom connections to services are for.
    pub(crate) workers: Workers,
    pub(crate) routing: SharedRouting,
    pub(crate) sightings: Sightings,
    pub(crate) clock: Clock,
    pub(crate) pilot: Arc<Pilot>,
    pub(crate) access_log: Arc<AccessLog>,
    /// For the access log: come, and their message not read yet.
    pub(crate) descriptors: VecDeque<OwnedFd>,
    /// Whether this agent keeps a journal.
    pub(crate) is_journaled: bool,
    /// Numbers of probes that went through every thread.
    pub(crate) probed: mpsc::Receiver<u64>,
    pub(crate) subscription: Subscription,
    pub(crate) exporter: Arc<Exporter>,
    /// Dropping it retires the socket at which metrics are served.
    pub(crate) metrics_listener: Option<oneshot::Sender<()>>,
}

impl Discovery {
    /// Never ends but with the worker.
    pub(crate) async fn follow(mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.commands.is_closed() {
            let error = match connect(&self.path).await {
                Ok((stream, sockets, rest)) => {
                    pause = FIRST_PAUSE;
                    eprintln!("selvedge proxy: connected to the agent");
                    let Err(error) = self.session(stream, sockets, rest).await;
                    self.subscription.on_disconnect();
                    Some(error)
                }
                // Said once per loss, not once per attempt.
                Err(error) if pause == FIRST_PAUSE => Some(error),
                Err(_) => None,
            };
            if let Some(error) = error {
                report(&self.path, &error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection, until it breaks.
    async fn session(
        &mut self,
        mut stream: UnixStream,
        sockets: Sockets,
        rest: Vec<u8>,
    ) -> Result<std::convert::Infallible, SessionError> {
        let hello = ToAgent::Hello {
            version: VERSION.into(),
            pid: std::process::id(),
        };
        stream.write_all(&hello.encode()).await?;
        let mut scrapes = self.exporter.connect();
        let (metrics, sockets) = sockets
            .into_iter()
            .partition(|(kind, _)| *kind == SocketKind::Metrics);
        self.serve_metrics(metrics)?;
        let mut sockets = Some(sockets);
        self.pass_on(&mut sockets).await;
        let mut decoder = Decoder::new(MAX_TO_PROXY_BYTES);
        decoder.push(&rest);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut reported = Report::default();
        self.is_journaled = false;
        self.descriptors.clear();
        loop {
            while let Some(message) = decoder.next_message()? {
                let message = ToProxy::decode(message)?;
                let answer = self
                    .on_message(message, &mut scrapes, &mut reported)
                    .await?;
                stream.write_all(&answer).await?;
            }
            self.pass_on(&mut sockets).await;
            tokio::select! {
                read = handover::read(&stream, &mut chunk) => match read? {
                    (0, _) => return Err(SessionError::Closed),
                    (length, descriptors) => {
                        self.descriptors.extend(descriptors);
                        decoder.push(&chunk[..length]);
                    }
                },
                Some(nonce) = self.probed.recv() => {
                    // What has changed is told with the answer: a timer of its own would wake both
                    // processes once more.
                    let mut answer = ToAgent::ProbeReply(nonce).encode();
                    answer.extend(self.news(&mut reported));
                    stream.write_all(&answer).await?;
                }
                () = self.pilot.is_due(), if self.is_journaled => {
                    stream.write_all(&self.journal()).await?;
                }
                () = scrapes.next() => {
                    // What we counted ourselves is then as fresh as the rest.
                    let mut request = self.traffic(&mut reported);
                    request.extend(ToAgent::MetricsRequest.encode());
                    stream.write_all(&request).await?;
                }
            }
        }
    }

    /// A report of the counters, as a frame; empty where none has changed since `reported`.
    fn news(&self, reported: &mut Report) -> Vec<u8> {
        if let Some(routing) = &*self.routing.load() {
            let node = &routing.node;
            self.counters
                .set(Counter::RequestsUnjoined, node.unjoined_requests());
            self.counters
                .set(Counter::RequestsLone, node.lone_requests());
            self.counters
                .set(Counter::RequestsUnshared, node.unshared_requests());
        }
        self.counters
            .set(Counter::JournalLost, self.pilot.dropped());
        let report = self.counters.report();
        if report == *reported {
            return Vec::new();
        }
        *reported = report.clone();
        ToAgent::Report(report).encode()
    }

    /// What was seen of requests and what has changed of the counters, as frames.
    fn traffic(&self, reported: &mut Report) -> Vec<u8> {
        let mut frames = self.news(reported);
        let routing = self.routing.load_full();
        let node = routing.as_ref().map(|routing| &routing.node);
        let traffic = reading::read(&self.sightings, node, self.clock.now());
        for part in TrafficPart::cut(&traffic) {
            frames.extend(ToAgent::Traffic(part).encode());
        }
        frames
    }

    /// What the controllers did since this was asked last, as frames.
    fn journal(&self) -> Vec<u8> {
        let parts = self.pilot.take_journal().into_iter();
        parts
            .map(ToAgent::Journal)
            .flat_map(ToAgent::encode)
            .collect()
    }

    /// Serves metrics on the socket that came, before the last one is closed; on none if none came.
    fn serve_metrics(&mut self, sockets: Sockets) -> io::Result<()> {
        let mut sockets = sockets.into_iter();
        let served = sockets
            .next()
            .map(|(_, socket)| self.exporter.serve(socket));
        self.metrics_listener = served.transpose()?;
        Ok(())
    }

    /// Gives the frames to answer with.
    async fn on_message(
        &mut self,
        message: ToProxy,
        scrapes: &mut Requests,
        reported: &mut Report,
    ) -> Result<Vec<u8>, SessionError> {
        match message {
            ToProxy::AccessLog(None) => {
                self.access_log.end();
                Ok(Vec::new())
            }
            ToProxy::AccessLog(Some(content)) => {
                let descriptor = self.descriptors.pop_front();
                let descriptor = descriptor.ok_or(SessionError::NoDescriptor)?;
                self.access_log.begin(content, descriptor);
                Ok(Vec::new())
            }
            ToProxy::TrafficRequest => Ok(self.traffic(reported)),
            ToProxy::JournalRequest => {
                self.is_journaled = true;
                self.pilot.begin_journal();
                Ok(self.journal())
            }
            ToProxy::Hold { version, holds } => {
                self.pilot.hold(holds);
                let mut answer = match self.is_journaled {
                    true => self.journal(),
                    false => Vec::new(),
                };
                answer.extend(ToAgent::Held(version).encode());
                Ok(answer)
            }
            ToProxy::Probe(nonce) => {
                // The answer comes from the worker, so that it vouches for every thread.
                let _ = self.commands.send(Command::Probe(nonce)).await;
                Ok(Vec::new())
            }
            ToProxy::Metrics(part) => {
                scrapes.on_part(part)?;
                Ok(Vec::new())
            }
            ToProxy::Update(update) => match self.subscription.on_update(update)? {
                Progress::Partial => Ok(Vec::new()),
                Progress::Complete(ack) => {
                    let view = self.subscription.view();
                    let table = view.map(|view| Arc::new(Table::build(view)));
                    self.table.store(table);
                    self.reroute();
                    Ok(ToAgent::Ack(ack).encode())
                }
            },
        }
    }

    /// Puts the routing of the view in force.
    fn reroute(&self) {
        let before = self.routing.load_full();
        let workers = self.workers.count();
        let view = self.subscription.view();
        let next = view.map(|view| Arc::new(Routing::of(view, before.as_deref(), workers)));
        self.routing.store(next);
    }

    /// Hands the sockets to the threads that serve them, once there is something to answer from.
    async fn pass_on(&mut self, sockets: &mut Option<Sockets>) {
        if self.subscription.view().is_some()
            && let Some(sockets) = sockets.take()
        {
            let (captured, resolver): (Sockets, Sockets) = sockets
                .into_iter()
                .partition(|(kind, _)| matches!(kind, SocketKind::Captured | SocketKind::Outside));
            self.workers.serve(captured).await;
            // Only a worker that has ended does not take them, and with it the process ends.
            let _ = self.commands.send(Command::Serve(resolver)).await;
        }
    }
}

async fn connect(path: &Path) -> Result<(UnixStream, Sockets, Vec<u8>), SessionError> {
    let stream = UnixStream::connect(path).await?;
    let (sockets, rest) = handover::receive(&stream).await?;
    Ok((stream, sockets, rest))
}

/// One line, with the whole chain of causes.
fn report(path: &Path, error: &SessionError) {
    let mut line = format!("selvedge proxy: {}: {error}", path.display());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    eprintln!("{line}; trying again, serving on as before");
}

/// Why a feed connection ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("no connection to the agent")]
    Io(#[from] io::Error),
    #[error("the agent has closed the connection")]
    Closed,
    #[error("the agent does not speak as it should")]
    Handover(#[from] HandoverError),
    #[error("the agent does not speak as it should")]
    Frame(#[from] FrameError),
    #[error("the agent does not speak as it should")]
    Decode(#[from] selvedge_feed::DecodeError),
    #[error("the agent does not speak as it should")]
    Metrics(#[from] MetricsTooLong),
    #[error("the agent sent no descriptor for the access log")]
    NoDescriptor,
    #[error("the update cannot be followed")]
    Update(#[from] UpdateError),
}
