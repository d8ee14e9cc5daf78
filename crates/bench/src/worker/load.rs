//! Loads that run beside whatever else happens, and tell every failure.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;

use super::{abuse, error_name, lookup};
use crate::clock::monotonic_ns;
use crate::protocol::{Failure, Load, LoadReport, Resolver, SERVED};

/// A connect or an answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a kept connection is used.
const BEAT: Duration = Duration::from_millis(10);
/// Below this lie the names that are looked up.
const FOREIGN: &str = "foreign.example";

/// A load that runs.
pub(super) struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<LoadReport>>,
}

/// What the threads of a load share with the worker.
#[derive(Default)]
pub(super) struct Shared {
    is_over: AtomicBool,
    ended: AtomicU64,
}

impl Shared {
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Running {
    pub(super) fn progress(&self) -> u64 {
        self.shared.ended.load(Ordering::Relaxed)
    }

    pub(super) fn end(self) -> LoadReport {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut report = LoadReport::default();
        for thread in self.threads {
            match thread.join() {
                Ok(part) => report.merge(part),
                Err(_) => report.count("thread: Panicked"),
            }
        }
        report
    }
}

pub(super) fn begin(load: Load) -> anyhow::Result<Running> {
    let shared = Arc::new(Shared::default());
    let count = match &load {
        Load::Kept { connections, .. } => *connections,
        Load::Connections { threads, .. }
        | Load::Lookups { threads, .. }
        | Load::Abuse { threads, .. } => *threads,
    };
    let mut threads = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let (load, shared) = (load.clone(), Arc::clone(&shared));
        let run = move || run(&load, number, &shared);
        let thread = thread::Builder::new().name(format!("load-{number}"));
        threads.push(thread.spawn(run).context("cannot start a thread")?);
    }
    Ok(Running { shared, threads })
}

fn run(load: &Load, number: u64, shared: &Shared) -> LoadReport {
    match *load {
        Load::Connections {
            to,
            hold_every,
            hold_ms,
            pause_us,
            ..
        } => {
            // Threads hold at different times.
            let mut turn = number * 7919;
            each(shared, pause_us, |report| {
                turn += 1;
                let hold = turn.is_multiple_of(hold_every.max(1)).then_some(hold_ms);
                connection(to, hold.map(Duration::from_millis), report)
            })
        }
        Load::Kept { to, .. } => kept(to, shared),
        Load::Lookups {
            server,
            client,
            pause_us,
            ..
        } => {
            let mut turn = number << 32;
            each(shared, pause_us, |report| {
                turn += 1;
                looked_up(server, client, turn, report)
            })
        }
        Load::Abuse { to, seed, .. } => abuse::run(to, seed ^ number, shared),
    }
}

/// Repeats an operation, which counts itself, until the load is over.
fn each(shared: &Shared, pause_us: u64, mut operation: impl FnMut(&mut LoadReport)) -> LoadReport {
    let mut report = LoadReport::default();
    while !shared.is_over() {
        let began_ns = monotonic_ns();
        operation(&mut report);
        report.slowest_ns = report.slowest_ns.max(monotonic_ns() - began_ns);
        shared.count();
        if pause_us > 0 {
            thread::sleep(Duration::from_micros(pause_us));
        }
    }
    report
}

fn connection(to: SocketAddr, hold: Option<Duration>, report: &mut LoadReport) {
    let began_ns = monotonic_ns();
    let mut server = None;
    let mut steps = || -> Result<(), (&str, io::Error)> {
        let mut stream = open(to).map_err(|error| ("connect", error))?;
        server = Some(greeting(&stream).map_err(|error| ("greeting", error))?);
        let failed = |error| ("exchange", error);
        let end_ns = monotonic_ns() + hold.map_or(0, |hold| hold.as_nanos() as u64);
        exchange(&mut stream).map_err(failed)?;
        while monotonic_ns() < end_ns {
            thread::sleep(BEAT);
            exchange(&mut stream).map_err(failed)?;
        }
        Ok(())
    };
    match steps() {
        Ok(()) => report.count(SERVED),
        Err((step, error)) => report.fail(Failure {
            began_ns,
            ended_ns: monotonic_ns(),
            server,
            how: format!("{step}: {}", error_name(&error)),
        }),
    }
    if let Some(server) = server {
        *report.servers.entry(server).or_default() += 1;
    }
}

/// One connection that is to last as long as the load does.
fn kept(to: SocketAddr, shared: &Shared) -> LoadReport {
    let mut report = LoadReport::default();
    let began_ns = monotonic_ns();
    let mut server = None;
    let mut steps = || -> io::Result<()> {
        let mut stream = open(to)?;
        server = Some(greeting(&stream)?);
        while !shared.is_over() {
            exchange(&mut stream)?;
            thread::sleep(BEAT);
        }
        Ok(())
    };
    match steps() {
        Ok(()) => report.count(SERVED),
        Err(error) => report.fail(Failure {
            began_ns,
            ended_ns: monotonic_ns(),
            server,
            how: format!("kept: {}", error_name(&error)),
        }),
    }
    shared.count();
    report
}

fn looked_up(server: SocketAddr, client: Resolver, turn: u64, report: &mut LoadReport) {
    let began_ns = monotonic_ns();
    // Identifiers of one thread's neighbouring queries differ.
    let id = (turn ^ ((turn >> 32) * 40_503)) as u16;
    let looked = lookup::look_up(server, client, &format!("n{turn}.{FOREIGN}"), id);
    report.most_tries = report.most_tries.max(looked.tries);
    match looked.result {
        Ok(()) => report.count(SERVED),
        Err(error) => report.fail(Failure {
            began_ns,
            ended_ns: monotonic_ns(),
            server: None,
            how: format!("look-up: {}", error_name(&error)),
        }),
    }
}

fn open(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Who serves, as a server of many says it.
pub(super) fn greeting(mut stream: &TcpStream) -> io::Result<u64> {
    let mut server = [0; 8];
    stream.read_exact(&mut server)?;
    Ok(u64::from_be_bytes(server))
}

fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"!")?;
    stream.read_exact(&mut [0])
}
