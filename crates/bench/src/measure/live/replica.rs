//! The programs that serve.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use selvedge_scenario::{Condition, Forwards, Scenario, Service};

use crate::duration::written;
use crate::measure::Bench;
use crate::process::{Process, start_pinned};
use crate::replica::{Controlled, ReplicaReport, Reply};

/// How long a program may take until it listens, and to say how it is.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that serves.
pub(super) struct Replica {
    process: Process,
    control: PathBuf,
}

/// Starts every replica of a scenario on one processor, and waits until they listen. They are started by
/// `command`, to which the options of `bench serve` that do not depend on the plane are added.
pub(super) fn each_replica(
    scenario: &Scenario,
    seed: u64,
    cpu: usize,
    command: impl Fn(usize, u32) -> anyhow::Result<Start>,
) -> anyhow::Result<Vec<Vec<Replica>>> {
    let mut all = Vec::new();
    for (place, service) in scenario.services.iter().enumerate() {
        let mut replicas = Vec::new();
        for number in 0..service.replicas {
            let own_seed = seed ^ ((place as u64) << 32) ^ (u64::from(number) << 16);
            let start = command(place, number)?;
            replicas.push(start_pinned(cpu, || {
                Replica::start(start, service, own_seed)
            })?);
        }
        all.push(replicas);
    }
    for replica in all.iter_mut().flatten() {
        replica.process.await_word("listening at", PATIENCE)?;
    }
    Ok(all)
}

/// How to start a replica.
pub(super) struct Start {
    pub(super) command: Command,
    pub(super) name: String,
    /// For its log and its socket.
    pub(super) folder: PathBuf,
    /// Whom it calls: of each step where each call goes.
    pub(super) calls: Vec<Vec<String>>,
}

impl Replica {
    fn start(mut start: Start, service: &Service, seed: u64) -> anyhow::Result<Self> {
        let control = start.folder.join(format!("{}.control", start.name));
        let command = &mut start.command;
        command.arg("--control").arg(&control);
        for (option, value) in [
            ("--permits", service.permits.to_string()),
            ("--queue", service.queue.to_string()),
            ("--time", written(service.time)),
            ("--seed", seed.to_string()),
            ("--forwards", forwards(service.forwards).to_owned()),
        ] {
            command.args([option, &value]);
        }
        for step in start.calls.iter().filter(|step| !step.is_empty()) {
            command.args(["--call", &step.join(",")]);
        }
        let log = start.folder.join(format!("{}.log", start.name));
        let process = Process::start(&start.name, command, log)?;
        Ok(Self { process, control })
    }

    /// Has it be like this from now on; gives what it did until then.
    pub(super) fn set(&mut self, condition: &Condition) -> anyhow::Result<ReplicaReport> {
        self.process.check()?;
        let mut stream = UnixStream::connect(&self.control)
            .with_context(|| format!("no replica listens at {}", self.control.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = serde_json::to_vec(&Controlled::from(condition))?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut said = String::new();
        BufReader::new(stream).read_line(&mut said)?;
        match serde_json::from_str(&said).context("a replica answered nonsense")? {
            Reply::Done(report) => Ok(report),
            Reply::Refused(why) => bail!("a replica cannot be {condition:?}: {why}"),
        }
    }

    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.process.terminate();
        self.process.wait()?;
        Ok(())
    }
}

const fn forwards(forwards: Forwards) -> &'static str {
    match forwards {
        Forwards::Traces => "trace",
        Forwards::Nothing => "nothing",
    }
}

/// A folder of its own for a run.
pub(super) fn own_folder(bench: &Bench<'_>, name: &str) -> anyhow::Result<PathBuf> {
    let folder: PathBuf = Path::new(&bench.folder).join(name);
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}
