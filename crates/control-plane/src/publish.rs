//! One feed connection to the proxy: snapshots out, acknowledgements and reports in, and a probe
//! that finds out when it hangs.
//!
//! Whatever the proxy sends is taken as hostile: frames are bounded and read by closed decoding in
//! `feed`, and anything out of order ends the connection. It cannot make the agent keep more than
//! one report, one update, one reading of requests and a bounded journal, nor read the metrics more than once a second. Read next: `feed`'s
//! `publication.rs`, then `status.rs`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_feed::{
    DecodeError, Decoder, FrameError, MAX_TO_AGENT_BYTES, MetricsPart, Publication, Report,
    Settings, ToAgent, ToProxy, TrafficReading, TrafficTooLong, UnexpectedAck, VERSION,
};
use selvedge_model::{Generation, Holds, Snapshot, Traffic};
use selvedge_telemetry::{Counter, warn};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use crate::access_log::{AccessLog, Handed};
use crate::pilot::{Held, Pilot};

/// How often the proxy is asked whether it lives. Each time wakes agent and proxy a few times, timers
/// included: at once a second both together were measured at 7 wake-ups a second, of the 5 they may
/// have when nothing happens.
const PROBE_PERIOD: Duration = Duration::from_secs(2);
/// How long it may take to answer before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may take to take what it is sent: it may be busy with a large configuration.
const TAKING: Duration = Duration::from_secs(2);
/// How long the agent rests between two answers to requests for metrics; one that comes earlier
/// waits. Scrapers ask every 15 s as a rule.
const METRICS_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked for more that has come, before it is concluded that nothing has.
const SILENCE: u32 = 3;
/// Read at once. A report fits into a few.
const CHUNK: usize = 16 << 10;

/// Connections that ended because the proxy hung.
pub(crate) static HANGS: Counter = Counter::new();
/// Connections that ended because of what the proxy sent.
pub(crate) static OFFENCES: Counter = Counter::new();

/// The proxy as the agent knows it.
#[derive(Clone, Debug, Default)]
pub struct ProxyHealth {
    /// Whether it is connected.
    pub is_connected: bool,
    /// Its process id, as it says.
    pub pid: Option<u32>,
    /// When this connection began, its first generation came into force, or the last one ended.
    pub since: Option<Instant>,
    /// When it last answered a probe.
    pub answered: Option<Instant>,
    /// The generation in force there.
    pub generation: Option<Generation>,
    /// What it could not take, and why.
    pub refusals: Arc<BTreeMap<String, String>>,
    /// What it last reported.
    pub report: Arc<Report>,
    /// What it has last told of requests.
    pub traffic: Arc<Traffic>,
    /// Which question that answered; 0 is none, of this connection.
    pub traffic_asked: u64,
    /// Connections so far; each but the first is a restart of the proxy or of its feed.
    pub connections: u64,
    /// Why the last connection ended.
    pub last_end: Option<Arc<str>>,
}

/// Why a feed connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedEnd {
    /// The proxy closed it, most likely by ending.
    #[error("the proxy closed the feed")]
    Closed,
    /// The connection failed.
    #[error("the feed failed")]
    Io(#[from] io::Error),
    /// The proxy takes or answers nothing any more.
    #[error("the proxy hangs: it has stood still for {0:?}")]
    Hung(Duration),
    /// It sent a frame that is too long.
    #[error("the proxy sent a frame that is too long")]
    Frame(#[from] FrameError),
    /// It sent a message that cannot be read.
    #[error("the proxy sent a message that cannot be read")]
    Message(#[from] DecodeError),
    /// It acknowledged what it was not sent.
    #[error("the proxy acknowledged what it was not sent")]
    Ack(#[from] UnexpectedAck),
    /// It told of more requests than it can have seen.
    #[error("the proxy told more of requests than there can be")]
    Traffic(#[from] TrafficTooLong),
    /// It said something out of turn.
    #[error("the proxy sent {0} out of turn")]
    OutOfTurn(&'static str),
    /// It speaks another version.
    #[error("the proxy speaks feed version {0}, the agent version {VERSION}; restart it")]
    Version(u32),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// What every connection is fed from, and where it tells how it goes.
#[derive(Clone)]
pub struct Publisher {
    /// The configuration.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// How the proxy behaves towards every workload.
    pub settings: Settings,
    /// What is known of the proxy.
    pub health: watch::Sender<ProxyHealth>,
    /// Gives the text of all metrics when the proxy asks for it.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The number of the last question about requests. Each new one has the proxy asked.
    pub traffic: watch::Receiver<u64>,
    /// What the controllers tell, and what they are to hold.
    pub pilot: Pilot,
    /// Where requests are logged, if anywhere.
    pub access_log: Option<AccessLog>,
}

impl Publisher {
    /// Serves one connection, from after the sockets were handed over, until it ends. After
    /// [`FeedEnd::Hung`] the proxy is to be ended.
    pub async fn serve(&self, stream: UnixStream) -> FeedEnd {
        self.health.send_modify(|health| {
            health.is_connected = true;
            health.pid = None;
            health.since = Some(Instant::now());
            health.answered = None;
            health.generation = None;
            health.traffic_asked = 0;
            health.connections += 1;
        });
        let end = self
            .converse(stream)
            .await
            .err()
            .unwrap_or(FeedEnd::Stopping);
        match end {
            FeedEnd::Hung(_) => HANGS.increment(),
            FeedEnd::Closed | FeedEnd::Io(_) | FeedEnd::Stopping => {}
            _ => OFFENCES.increment(),
        }
        self.health.send_modify(|health| {
            health.is_connected = false;
            health.since = Some(Instant::now());
            health.last_end = Some(selvedge_telemetry::log::chain(&end).to_string().into());
        });
        end
    }

    /// Reading and writing go on side by side, so that a proxy which writes before it reads, or the
    /// other way round, is served all the same.
    async fn converse(&self, stream: UnixStream) -> Result<(), FeedEnd> {
        let (reader, writer) = stream.into_split();
        let (messages, received) = mpsc::channel(1);
        tokio::select! {
            // Before anything is concluded from what has not come.
            biased;
            end = read(reader, messages) => end,
            end = self.write(writer, received) => end,
        }
    }

    async fn write(
        &self,
        mut writer: OwnedWriteHalf,
        mut received: mpsc::Receiver<ToAgent>,
    ) -> Result<(), FeedEnd> {
        let mut log = self.begin_log(&mut writer).await?;
        let mut snapshots = self.snapshots.clone();
        let mut questions = Some(self.traffic.clone());
        let mut holds = self.pilot.wanted();
        self.pilot.on_connect();
        send(&mut writer, &ToProxy::JournalRequest.encode()).await?;
        let frame = hold(&holds.borrow_and_update());
        send(&mut writer, &frame).await?;
        let mut session = Session {
            publication: Publication::new(self.settings.clone()),
            health: &self.health,
            pilot: &self.pilot,
            has_greeted: false,
            probe: 0,
            is_answered: true,
            probed: tokio::time::Instant::now(),
            wants_metrics: false,
            metrics_due: tokio::time::Instant::now(),
            traffic: TrafficReading::default(),
            asked: 0,
            is_traffic_due: false,
        };
        session
            .publication
            .publish(snapshots.borrow_and_update().clone());
        let mut probes = interval(PROBE_PERIOD);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some(frame) = session.publication.poll_transmit() {
                send(&mut writer, &frame).await?;
                session.hear(&mut received)?;
            }
            tokio::select! {
                message = received.recv() => match message {
                    Some(message) => session.on_message(message)?,
                    None => return Err(FeedEnd::Closed),
                },
                changed = snapshots.changed() => match changed {
                    Ok(()) => session.publication.publish(snapshots.borrow_and_update().clone()),
                    Err(_) => return Ok(()),
                },
                question = next_question(&mut questions), if !session.is_traffic_due => {
                    session.asked = question;
                    session.is_traffic_due = true;
                    send(&mut writer, &ToProxy::TrafficRequest.encode()).await?;
                }
                Ok(()) = holds.changed() => {
                    let frame = hold(&holds.borrow_and_update());
                    send(&mut writer, &frame).await?;
                }
                () = self.pilot.is_full() => {
                    send(&mut writer, &ToProxy::JournalRequest.encode()).await?;
                }
                _ = probes.tick(), if session.is_answered => {
                    send(&mut writer, &session.next_probe()).await?;
                    self.follow_log(&writer, &mut log).await;
                }
                () = sleep_until(session.probed + PATIENCE), if !session.is_answered => {
                    // It may be this process that stood still. What has come meanwhile counts.
                    let mut silent = 0;
                    while !session.is_answered {
                        yield_now().await;
                        silent = if session.hear(&mut received)? { 0 } else { silent + 1 };
                        if silent > SILENCE {
                            return Err(FeedEnd::Hung(PATIENCE));
                        }
                    }
                }
                () = sleep_until(session.metrics_due), if session.wants_metrics => {
                    session.wants_metrics = false;
                    let text = (self.metrics)();
                    for part in MetricsPart::answer(&text) {
                        send(&mut writer, &ToProxy::Metrics(part).encode()).await?;
                        session.hear(&mut received)?;
                    }
                    session.metrics_due = tokio::time::Instant::now() + METRICS_PAUSE;
                }
            }
        }
    }
}

impl Publisher {
    /// Tells a proxy that has just connected where to log: it may log for an agent before this one.
    async fn begin_log(&self, writer: &mut OwnedWriteHalf) -> Result<Handed, FeedEnd> {
        let mut handed = Handed::default();
        send(writer, &ToProxy::AccessLog(None).encode()).await?;
        if let Some(log) = &self.access_log {
            hand_over(log, writer, &mut handed).await;
        }
        Ok(handed)
    }

    /// Goes where the file should be. Looked at along with the probes, which wake this process anyway.
    async fn follow_log(&self, writer: &OwnedWriteHalf, handed: &mut Handed) {
        if let Some(log) = &self.access_log
            && log.has_moved(handed)
        {
            hand_over(log, writer, handed).await;
        }
    }
}

/// A log that cannot be opened is no reason to end anything; it is tried again with the next probe.
async fn hand_over(log: &AccessLog, writer: &OwnedWriteHalf, handed: &mut Handed) {
    match log.hand_over(writer.as_ref()).await {
        Ok(next) => *handed = next,
        Err(error) => warn!("the access log could not be opened: {error}; see --access-log"),
    }
}

/// What nothing is to move, as a frame.
fn hold(held: &Held) -> Vec<u8> {
    let hold = ToProxy::Hold {
        version: held.version,
        holds: Holds::clone(&held.holds),
    };
    hold.encode()
}

/// Waits for a question that was not asked before.
async fn next_question(questions: &mut Option<watch::Receiver<u64>>) -> u64 {
    if let Some(receiver) = questions {
        if receiver.changed().await.is_ok() {
            return *receiver.borrow_and_update();
        }
        // Nobody is left to ask.
        *questions = None;
    }
    std::future::pending().await
}

/// Writes a frame; a proxy that does not take it in time hangs.
async fn send(writer: &mut OwnedWriteHalf, frame: &[u8]) -> Result<(), FeedEnd> {
    match timeout(TAKING, writer.write_all(frame)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(FeedEnd::Hung(TAKING)),
    }
}

/// Cuts the proxy's bytes into messages. Dropping it in the middle loses nothing that counts: the
/// connection ends then.
async fn read(mut reader: OwnedReadHalf, messages: mpsc::Sender<ToAgent>) -> Result<(), FeedEnd> {
    let mut decoder = Decoder::new(MAX_TO_AGENT_BYTES);
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = reader.read(&mut chunk).await?;
        if length == 0 {
            return Err(FeedEnd::Closed);
        }
        decoder.push(&chunk[..length]);
        while let Some(message) = decoder.next_message()? {
            let message = ToAgent::decode(message)?;
            if messages.send(message).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// What has been said on a connection so far.
struct Session<'a> {
    publication: Publication,
    health: &'a watch::Sender<ProxyHealth>,
    pilot: &'a Pilot,
    has_greeted: bool,
    probe: u64,
    is_answered: bool,
    probed: tokio::time::Instant,
    /// Whether a request for metrics is to be answered.
    wants_metrics: bool,
    /// When it may be at the earliest.
    metrics_due: tokio::time::Instant,
    /// What has come of a reading of requests.
    traffic: TrafficReading,
    /// The last question about them, and whether its answer is still to come.
    asked: u64,
    is_traffic_due: bool,
}

impl Session<'_> {
    /// Hears what has arrived meanwhile; whether anything has.
    fn hear(&mut self, received: &mut mpsc::Receiver<ToAgent>) -> Result<bool, FeedEnd> {
        let mut heard = false;
        while let Ok(message) = received.try_recv() {
            self.on_message(message)?;
            heard = true;
        }
        Ok(heard)
    }

    fn on_message(&mut self, message: ToAgent) -> Result<(), FeedEnd> {
        match message {
            ToAgent::Hello { .. } if self.has_greeted => return Err(FeedEnd::OutOfTurn("a hello")),
            ToAgent::Hello { version, .. } if version != u32::from(VERSION) => {
                return Err(FeedEnd::Version(version));
            }
            ToAgent::Hello { pid, .. } => {
                self.has_greeted = true;
                self.health.send_modify(|health| health.pid = Some(pid));
            }
            _ if !self.has_greeted => return Err(FeedEnd::OutOfTurn("something before its hello")),
            ToAgent::Ack(ack) => {
                self.publication.on_ack(&ack)?;
                let refusals = Arc::new(self.publication.refusals().clone());
                self.health.send_modify(|health| {
                    if health.generation.is_none() {
                        health.since = Some(Instant::now());
                    }
                    health.generation = Some(ack.generation);
                    health.refusals = refusals;
                });
            }
            ToAgent::ProbeReply(nonce) if nonce != self.probe || self.is_answered => {
                return Err(FeedEnd::OutOfTurn("an answer to no probe"));
            }
            ToAgent::ProbeReply(_) => {
                self.is_answered = true;
                self.health
                    .send_modify(|health| health.answered = Some(Instant::now()));
            }
            ToAgent::Report(report) => {
                self.health
                    .send_modify(|health| health.report = Arc::new(report));
            }
            ToAgent::Traffic(part) => {
                let Some(traffic) = self.traffic.on_part(part)? else {
                    return Ok(());
                };
                self.is_traffic_due = false;
                self.health.send_modify(|health| {
                    health.traffic = Arc::new(traffic);
                    health.traffic_asked = self.asked;
                });
            }
            ToAgent::MetricsRequest if self.wants_metrics => {
                return Err(FeedEnd::OutOfTurn("another request for metrics"));
            }
            ToAgent::MetricsRequest => self.wants_metrics = true,
            ToAgent::Journal(part) => {
                let taken = self.pilot.on_part(part);
                taken.map_err(|_| FeedEnd::OutOfTurn("more of a journal than there can be"))?;
            }
            ToAgent::Held(version) if version > self.pilot.wanted().borrow().version => {
                return Err(FeedEnd::OutOfTurn("that it holds what it was not told"));
            }
            ToAgent::Held(version) => self.pilot.on_held(version),
        }
        Ok(())
    }

    fn next_probe(&mut self) -> Vec<u8> {
        self.probe += 1;
        self.is_answered = false;
        self.probed = tokio::time::Instant::now();
        ToProxy::Probe(self.probe).encode()
    }
}

#[cfg(test)]
mod tests;
