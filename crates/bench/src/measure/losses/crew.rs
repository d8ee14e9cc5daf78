//! Who takes part: origins and callers, started as a user starts them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::interrupt;
use crate::mesh::Mesh;
use crate::process::{Process, family, signal};

/// How long an origin may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long callers may take.
pub(super) const LONGEST: Duration = Duration::from_secs(120);
const GLANCE: Duration = Duration::from_millis(2);

/// An origin that is a replica of a service.
pub(super) struct Replica {
    process: Process,
    record: PathBuf,
}

impl Replica {
    /// Starts one, and waits until it listens.
    pub(super) fn start(
        mesh: &Mesh,
        service: &str,
        port: u16,
        number: usize,
    ) -> anyhow::Result<Self> {
        let name = format!("{service}-{number}");
        let record = mesh.file(&format!("{name}.record"));
        let mut command = mesh.run_own_command(service, &[port]);
        let listen = format!("127.0.0.1:{port}");
        command.args(["bench", "serve", "--listen", &listen, "--record"]);
        let log = mesh.file(&format!("{name}.log"));
        let mut process = Process::start(&name, command.arg(&record), log)?;
        process.await_word("listening at", PATIENCE)?;
        Ok(Self { process, record })
    }

    /// Kills it, as nothing else can, and gives what it recorded.
    pub(super) fn kill(mut self) -> anyhow::Result<PathBuf> {
        let family = family(self.process.pid())?;
        let [_run, origin] = family[..] else {
            bail!("a replica is one process below `selvedge run`, not {family:?}");
        };
        signal(origin, Signal::KILL).context("cannot kill a replica")?;
        self.process.wait()?;
        Ok(self.record)
    }
}

/// What the callers ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) connections: u64,
    pub(super) requests: u64,
    /// Requests each second.
    pub(super) rate: u64,
    /// Of 100 requests, how many are a POST.
    pub(super) posts: u64,
}

/// A load as a workload of the mesh.
pub(super) struct Callers {
    process: Process,
    record: PathBuf,
}

impl Callers {
    pub(super) fn start(
        mesh: &Mesh,
        service: &str,
        port: u16,
        demand: Demand,
    ) -> anyhow::Result<Self> {
        let name = format!("callers-of-{service}");
        let record = mesh.file(&format!("{name}.record"));
        let mut command = mesh.run_own_command(&name, &[]);
        command.args(["bench", "load", &format!("http://{service}:{port}/")]);
        for (option, value) in [
            ("--connections", demand.connections),
            ("--requests", demand.requests),
            ("--rate", demand.rate),
            ("--posts", demand.posts),
        ] {
            command.args([option, &value.to_string()]);
        }
        command.args(["--warm-up", "0s", "--duration", "90s", "--record"]);
        let log = mesh.file(&format!("{name}.log"));
        let process = Process::start(&name, command.arg(&record), log)?;
        Ok(Self { process, record })
    }

    /// Whether every request has ended.
    pub(super) fn are_done(&mut self) -> anyhow::Result<bool> {
        self.process.has_ended()
    }

    /// What they recorded, when the last request has ended.
    pub(super) fn await_end(mut self) -> anyhow::Result<PathBuf> {
        let deadline = Instant::now() + LONGEST;
        while !self.are_done()? && Instant::now() < deadline {
            interrupt::pass(GLANCE)?;
        }
        self.end()
    }

    /// What they recorded; what has not ended in time is killed, and that is an error.
    pub(super) fn end(mut self) -> anyhow::Result<PathBuf> {
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the load failed: {status}{}", self.process.last_words());
        }
        Ok(self.record)
    }
}
