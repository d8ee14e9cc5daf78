//! The worker: a plain client or server that does what it is asked, one task after another.
//!
//! It runs in and out of a mesh and cannot tell the difference: it uses nothing but sockets and the
//! C library's resolver. It ends when the bench does, because its control connection then closes.
//! Read next: `protocol.rs` (the tasks), `worker/batch.rs` (what is timed).

mod abuse;
mod ask;
mod batch;
mod crowd;
mod exchange;
mod load;
mod lookup;
mod server;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;
use serde_json::Value;

use crate::clock::process_cpu_ns;
use crate::protocol::{Held, Hello, Served, Task};
use ask::Asker;
use crowd::Watch;
use exchange::Exchange;
use load::Running;

/// A name of the mesh may take a moment to appear.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(10);

/// Serves the bench that listens at `control` until it closes the connection.
///
/// # Errors
/// The control connection failed. A task that fails is told to the bench and is no error here.
pub fn run(control: &Path, name: &str) -> anyhow::Result<()> {
    let stream = UnixStream::connect(control)
        .with_context(|| format!("cannot reach the bench at {}", control.display()))?;
    let mut answers = stream.try_clone()?;
    let hello = Hello {
        name: name.to_owned(),
        pid: std::process::id(),
    };
    say(&mut answers, &hello)?;
    let mut worker = Worker::default();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        let task: Task = serde_json::from_str(&line).context("the bench asked for nonsense")?;
        let answer = worker.perform(task).map_err(|error| format!("{error:#}"));
        say(&mut answers, &answer)?;
    }
    Ok(())
}

fn say(stream: &mut UnixStream, value: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).context("the bench is gone")
}

#[derive(Default)]
struct Worker {
    load: Option<Running>,
    crowd: Option<Watch>,
    held: Vec<TcpStream>,
    exchange: Option<Exchange>,
    asker: Option<Asker>,
}

impl Worker {
    fn perform(&mut self, task: Task) -> anyhow::Result<Value> {
        match task {
            Task::Pin(cpu) => answer(pin(cpu)?),
            Task::CpuTime => answer(process_cpu_ns()),
            Task::Resolve { name, port } => answer(resolve(&name, port)?),
            Task::Serve { what, at } => answer(self.serve(what, at)?),
            Task::PingPong { to, bytes, for_ms } => answer(batch::ping_pong(to, bytes, for_ms)?),
            Task::Connects { to, for_ms } => answer(batch::connects(&to, for_ms)?),
            Task::Datagrams {
                to,
                connected,
                bytes,
                for_ms,
            } => answer(batch::datagrams(to, connected, bytes, for_ms)?),
            Task::Queries {
                server,
                names,
                window,
                for_ms,
            } => answer(lookup::queries(server, &names, window, for_ms)?),
            Task::Begin(load) => answer(self.begin(load)?),
            Task::Progress => answer(self.running()?.progress()),
            Task::End => answer(self.load.take().context("no load runs")?.end()),
            Task::Hold { to, count } => answer(self.hold(to, count)),
            Task::Release => {
                self.held.clear();
                answer(())
            }
            Task::Crowd => {
                let crowd = self.crowd.as_ref().context("no server of many runs")?;
                answer(crowd.read())
            }
            Task::Origin { at, body_bytes } => {
                let (exchange, address) = Exchange::listen(at, body_bytes)?;
                self.exchange = Some(exchange);
                answer(address)
            }
            Task::Exchange(load) => answer(self.exchange()?.run(&load)?),
            Task::Ask(asking) => {
                self.asker = Some(Asker::begin(asking)?);
                answer(())
            }
            Task::Asked => answer(self.asker.take().context("nobody asks")?.end()?),
            Task::Attend {
                warm_up_ms,
                for_ms,
                watched,
            } => answer(self.exchange()?.attend(warm_up_ms, for_ms, &watched)?),
        }
    }

    fn serve(&mut self, what: Served, at: SocketAddr) -> anyhow::Result<SocketAddr> {
        if what == Served::Many {
            let (address, crowd) = crowd::serve(at)?;
            self.crowd = Some(crowd);
            return Ok(address);
        }
        server::serve(what, at).with_context(|| format!("cannot serve {what:?} at {at}"))
    }

    fn begin(&mut self, load: crate::protocol::Load) -> anyhow::Result<()> {
        if self.load.is_some() {
            bail!("a load runs already");
        }
        self.load = Some(load::begin(load)?);
        Ok(())
    }

    fn running(&self) -> anyhow::Result<&Running> {
        self.load.as_ref().context("no load runs")
    }

    fn exchange(&mut self) -> anyhow::Result<&mut Exchange> {
        self.exchange.as_mut().context("no origin listens")
    }

    fn hold(&mut self, to: SocketAddr, count: usize) -> Held {
        for opened in 0..count {
            // A connection counts once the server has answered it.
            let greeted = TcpStream::connect(to).and_then(|stream| {
                load::greeting(&stream)?;
                Ok(stream)
            });
            match greeted {
                Ok(stream) => self.held.push(stream),
                Err(error) => {
                    let error = Some(error_name(&error));
                    return Held { opened, error };
                }
            }
        }
        Held {
            opened: count,
            error: None,
        }
    }
}

fn answer(value: impl Serialize) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(value)?)
}

fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on CPU {cpu}"))
}

fn resolve(name: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let deadline = Instant::now() + RESOLVE_PATIENCE;
    loop {
        let found = (name, port).to_socket_addrs();
        match found.map(|mut found| found.find(SocketAddr::is_ipv4)) {
            Ok(Some(address)) => return Ok(address),
            Ok(None) => bail!("{name} has no IPv4 address"),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("cannot resolve {name}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The error in one word.
fn error_name(error: &io::Error) -> String {
    format!("{:?}", error.kind())
}
