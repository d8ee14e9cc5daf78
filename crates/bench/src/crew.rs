//! The workers of a run: starting them, in a mesh or not, and asking them.
//!
//! Workers call in over a unix socket and are told what to do there; when a [`Worker`] is dropped its
//! connection closes and its process ends.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use serde::de::DeserializeOwned;

use crate::interrupt::{self, GLANCE};
use crate::process::Process;
use crate::protocol::{Hello, Served, Task};

/// How long a worker may take to call in.
const CALL_IN: Duration = Duration::from_secs(20);
/// How long any answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer: a report with every failure it may tell.
const MAX_ANSWER: usize = 16 << 20;

/// How a worker's command line begins; the control socket and its name are appended.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// Where workers call in.
#[derive(Debug)]
pub(crate) struct Crew {
    launcher: Launcher,
    folder: PathBuf,
    listener: UnixListener,
    started: u32,
    /// Workers that called in before they were asked for.
    early: Vec<(Hello, BufReader<UnixStream>)>,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: u32,
    name: String,
    stream: BufReader<UnixStream>,
    /// What started it: the worker itself, or `selvedge run`. Workers started together share one,
    /// and the last of them holds it.
    process: Option<Process>,
}

impl Crew {
    /// A crew with its socket and logs in `folder`, which only this user may enter.
    pub(crate) fn new(folder: &Path, launcher: Launcher) -> anyhow::Result<Self> {
        let path = folder.join("control");
        let folder = folder.to_owned();
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            launcher,
            folder,
            listener,
            started: 0,
            early: Vec::new(),
        })
    }

    /// Where a process's output goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts a worker that is no workload of any mesh.
    pub(crate) fn start(&mut self, role: &str) -> anyhow::Result<Worker> {
        let (name, arguments) = self.next_command(role);
        let mut command = Command::new(&arguments[0]);
        let log = self.log(&name);
        let process = Process::start(&name, command.args(&arguments[1..]), log)?;
        self.called(&name, process)
    }

    /// Starts workers by a command to which the worker's own command line is appended; they are of
    /// one name and share the process.
    pub(crate) fn start_by(
        &mut self,
        role: &str,
        mut command: Command,
        count: usize,
    ) -> anyhow::Result<Vec<Worker>> {
        let (name, arguments) = self.next_command(role);
        let log = self.log(&name);
        let mut process = Process::start(&name, command.arg("--").args(arguments), log)?;
        let mut workers = Vec::with_capacity(count);
        for _ in 0..count {
            let (hello, stream) = self.wait_for(&name, &mut process)?;
            workers.push(Worker::new(hello, stream));
        }
        let last = workers.last_mut().context("no worker was asked for")?;
        last.process = Some(process);
        Ok(workers)
    }

    /// A name of its own, and the command line that starts a worker of this name.
    fn next_command(&mut self, role: &str) -> (String, Vec<String>) {
        self.started += 1;
        let name = format!("{role}-{}", self.started);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut arguments = vec![text(&self.launcher.program)];
        arguments.extend(self.launcher.arguments.iter().cloned());
        arguments.extend([text(&self.folder.join("control")), name.clone()]);
        (name, arguments)
    }

    fn called(&mut self, name: &str, mut process: Process) -> anyhow::Result<Worker> {
        let (hello, stream) = self.wait_for(name, &mut process)?;
        let mut worker = Worker::new(hello, stream);
        worker.process = Some(process);
        Ok(worker)
    }

    fn wait_for(
        &mut self,
        name: &str,
        process: &mut Process,
    ) -> anyhow::Result<(Hello, BufReader<UnixStream>)> {
        let deadline = Instant::now() + CALL_IN;
        loop {
            let early = self.early.iter().position(|(hello, _)| hello.name == name);
            if let Some(early) = early {
                return Ok(self.early.swap_remove(early));
            }
            match self.listener.accept() {
                Ok((stream, _)) => self.early.extend(introduced(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    interrupt::check()?;
                    process.check()?;
                    if Instant::now() > deadline {
                        bail!("{name} did not call in{}", process.last_words());
                    }
                    thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error).context("cannot accept a worker"),
            }
        }
    }
}

/// Reads who calls; `None` when that is not said at once.
fn introduced(stream: UnixStream) -> Option<(Hello, BufReader<UnixStream>)> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    reader.get_ref().set_read_timeout(Some(GLANCE)).ok()?;
    Some((serde_json::from_str(&line).ok()?, reader))
}

impl Worker {
    fn new(hello: Hello, stream: BufReader<UnixStream>) -> Self {
        Self {
            pid: hello.pid,
            name: hello.name,
            stream,
            process: None,
        }
    }

    /// Has a task done, and gives its answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, task: &Task) -> anyhow::Result<T> {
        self.tell(task)?;
        self.hear()
    }

    /// Has a task done whose answer says nothing.
    pub(crate) fn order(&mut self, task: &Task) -> anyhow::Result<()> {
        self.ask::<()>(task)
    }

    /// Has it serve, and gives the address it bound.
    pub(crate) fn serve(&mut self, what: Served, at: SocketAddr) -> anyhow::Result<SocketAddr> {
        self.ask(&Task::Serve { what, at })
    }

    /// CPU time it has used so far, in nanoseconds.
    pub(crate) fn cpu_ns(&mut self) -> anyhow::Result<u64> {
        self.ask(&Task::CpuTime)
    }

    fn tell(&mut self, task: &Task) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(task)?;
        line.push(b'\n');
        let sent = self.stream.get_mut().write_all(&line);
        sent.with_context(|| format!("{} is gone{}", self.name, self.last_words()))
    }

    fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let deadline = Instant::now() + ANSWER;
        let mut line = Vec::new();
        loop {
            match self.stream.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => break,
                Ok(_) => bail!("{} is gone{}", self.name, self.last_words()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    interrupt::check()?;
                    if Instant::now() > deadline || line.len() > MAX_ANSWER {
                        bail!("{} does not answer{}", self.name, self.last_words());
                    }
                }
                Err(error) => return Err(error).with_context(|| format!("{} is gone", self.name)),
            }
        }
        let answer: Result<T, String> = serde_json::from_slice(&line)
            .with_context(|| format!("{} answered nonsense", self.name))?;
        answer.map_err(|error| anyhow!("{}: {error}", self.name))
    }

    fn last_words(&self) -> String {
        let process = self.process.as_ref();
        process.map(Process::last_words).unwrap_or_default()
    }

    /// Waits for the end of what started it, once the worker itself was killed.
    pub(crate) fn await_end(mut self) -> anyhow::Result<()> {
        if let Some(process) = &mut self.process {
            process.wait()?;
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The worker reads the end and ends; `selvedge run` follows.
        let _gone = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
        if let Some(process) = &mut self.process {
            // What does not end in time is killed.
            let _ended = process.wait();
        }
    }
}

/// Ends many workers at once.
pub(crate) fn dismiss(workers: Vec<Worker>) {
    for worker in &workers {
        // Gone already is as good.
        let _gone = worker.stream.get_ref().shutdown(std::net::Shutdown::Both);
    }
    drop(workers);
}

#[cfg(test)]
mod tests;
