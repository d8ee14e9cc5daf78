//! The unprivileged process: reads everything that comes from outside. For now that is DNS, and HTTP
//! of scrapers where metrics are served.
//!
//! [`run`] gives up its rights, then serves on four threads: two that take the datagrams of programs,
//! over IPv4 and IPv6, and answer mesh names (`dns::datagram`); the worker, which has everything else
//! of the resolver (`dns`); and the feed thread, which follows the agent (`discovery`), builds the
//! [`Table`] that answers come from and serves `metrics`, so that neither a large configuration nor a
//! scraper delays a query. Workers beside them serve requests (`worker`), whose log another thread
//! writes (`access_log`). They share that table, the counters, and short queues.
//!
//! The proxy holds no key and no capability, opens no file and starts no program; its listening
//! sockets come from the agent, and without one it goes on with what it has. It never names the
//! agent's crates. Read next: `worker`, `dns`, then `discovery`.
#![forbid(unsafe_code)]

mod accept;
mod access_log;
mod batch;
mod buffer;
mod client;
mod clock;
mod confine;
mod connect;
mod connection;
mod counters;
mod deadline;
mod detect;
mod discovery;
pub mod dns;
mod error;
mod exchange;
mod flow;
mod handover;
mod head;
mod heard;
mod journal;
mod log_line;
mod metrics;
mod origin;
mod patience;
mod pilot;
mod pool;
mod reading;
mod receiving;
mod record;
mod relay;
mod replay;
mod request;
mod respond;
mod routing;
mod scratch;
mod sending;
mod slots;
mod stream;
mod table;
mod time_left;
mod trace;
mod traffic;
mod worker;

use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;

use arc_swap::ArcSwapOption;
use selvedge_feed::Subscription;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::dns::datagram::{Receiver, ReceiverHandle};
use crate::dns::worker::Queues;
use crate::patience::Patience;
use crate::pilot::Pilot;
use crate::routing::SharedRouting;
use crate::traffic::Sightings;
use crate::worker::{Worker, Workers};

pub use error::{Error, FilterError};
pub use origin::{Origin, OriginSource};
pub use table::Table;

/// How to run the proxy.
#[derive(Clone, Debug)]
pub struct Options {
    /// The agent's feed socket.
    pub feed: PathBuf,
    /// Who knows where queries were meant to go.
    pub origin: OriginSource,
    /// Which system calls are left to the process.
    pub calls: Calls,
}

/// Which system calls are left to the process once it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Those that it needs.
    Needed,
    /// All. For measuring under a tool that has no filter of system calls, such as valgrind.
    All,
}

/// Commands and probes that may wait between the threads.
const QUEUE: usize = 16;

/// Runs the proxy in this process, which should do nothing else. Returns only when it cannot go on.
pub fn run(options: Options) -> Result<(), Error> {
    confine::shed_rights()?;
    confine::allow_descriptors()?;
    let table = Arc::new(ArcSwapOption::empty());
    let counters = Arc::new(counters::Counters::default());
    let (commands, received_commands) = mpsc::channel(QUEUE);
    let (probes, probed) = mpsc::channel(QUEUE);
    let (workers, queues) = Workers::new();
    let setting = worker::Setting {
        clock: Clock::start(),
        routing: SharedRouting::default(),
        origin: options.origin,
        patience: Patience::default(),
        counters: counters.clone(),
        sightings: Sightings::new(workers.count()),
        access_log: Arc::new(AccessLog::new(workers.count(), counters.clone())),
    };
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|source| start("feed", source.into()))?;
    let seed = u64::from_ne_bytes(seed);
    let discovery = discovery::Discovery {
        path: options.feed,
        table: table.clone(),
        counters: counters.clone(),
        commands,
        workers: workers.clone(),
        routing: setting.routing.clone(),
        sightings: setting.sightings.clone(),
        clock: setting.clock,
        pilot: Arc::new(Pilot::new(setting.routing.clone(), setting.clock, seed)),
        access_log: setting.access_log.clone(),
        descriptors: Default::default(),
        is_journaled: false,
        probed,
        subscription: Subscription::new(),
        exporter: Arc::new(metrics::Exporter::new(counters.clone())),
        metrics_listener: None,
    };
    let resolver = local_runtime("resolver")?;
    let responder = Arc::new(dns::Responder::new(table, counters, options.origin));
    let (v4, receives_v4) = receiver(&responder)?;
    let (v6, receives_v6) = receiver(&responder)?;
    let gate = Arc::new(Barrier::new(5 + workers.count()));
    for (index, received) in queues.into_iter().enumerate() {
        start_thread("worker", &gate, worker_thread(&setting, index, received)?)?;
    }
    let access_log = setting.access_log;
    start_thread("access-log", &gate, || move || access_log.run())?;
    let feed = feed_thread(discovery)?;
    start_thread("feed", &gate, || feed)?;
    start_thread("dns-udp-v4", &gate, || || v4.run())?;
    start_thread("dns-udp-v6", &gate, || || v6.run())?;
    // The C library makes calls of its own in a new thread (rseq, robust futexes), and ends the
    // process when they fail: the filter comes after them and before anything from outside.
    gate.wait();
    if options.calls == Calls::Needed {
        confine::filter_calls()?;
    }
    gate.wait();
    let queues = Queues {
        commands: received_commands,
        probed: probes,
        workers,
    };
    let receivers = [receives_v4, receives_v6];
    resolver.block_on(dns::worker::work(responder, receivers, queues))
}

fn receiver(responder: &Arc<dns::Responder>) -> Result<(Receiver, ReceiverHandle), Error> {
    Receiver::new(responder.clone()).map_err(|source| start("thread of datagrams", source))
}

fn local_runtime(what: &'static str) -> Result<LocalRuntime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|source| start(what, source))
}

/// What a thread of the proxy path does. Its end closes its command queue, by which it is noticed.
fn worker_thread(
    setting: &worker::Setting,
    index: usize,
    commands: mpsc::Receiver<worker::Command>,
) -> Result<impl FnOnce() -> Box<dyn FnOnce()> + Send + use<>, Error> {
    let setting = setting.clone();
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|source| start("worker", source.into()))?;
    Ok(move || -> Box<dyn FnOnce()> {
        let runtime = local_runtime("worker");
        let worker = Worker::new(setting, index, u64::from_ne_bytes(seed));
        Box::new(move || match runtime {
            Ok(runtime) => runtime.block_on(worker::work(worker, commands)),
            Err(error) => eprintln!("selvedge proxy: {error}"),
        })
    })
}

/// What the feed thread does, beside which it has the controllers look. Its end closes the command queue, by
/// which the worker notices.
fn feed_thread(discovery: discovery::Discovery) -> Result<impl FnOnce() + Send, Error> {
    let steering = discovery.pilot.clone().steer();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| start("feed", source))?;
    Ok(move || {
        runtime.spawn(steering);
        runtime.block_on(discovery.follow());
    })
}

/// Starts a thread; it passes `gate` once when it has what it works with, for which it makes calls
/// that are forbidden later, and once when it may go on.
fn start_thread<W: FnOnce()>(
    name: &'static str,
    gate: &Arc<Barrier>,
    prepare: impl FnOnce() -> W + Send + 'static,
) -> Result<(), Error> {
    let gate = gate.clone();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let work = prepare();
        gate.wait();
        gate.wait();
        work();
    });
    thread.map(drop).map_err(|source| start(name, source))
}

fn start(what: &'static str, source: std::io::Error) -> Error {
    Error::Start { what, source }
}
