//! `selvedge run`: starts replicas of an unmodified program as workloads of a service.
//!
//! Each replica is a child that first becomes `selvedge enter` (see `enter.rs`): it asks the agent
//! to be placed and then turns into the program, so the program has the caller's own rights and is a
//! workload from its first instruction on. This process stays to pass on signals and output, and to
//! wait for everything the replicas leave behind.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use clap::Args;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use selvedge_model::{Label, ServiceName};
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `selvedge run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The service, as NAME or NAME.NAMESPACE.
    service: String,
    /// Port to serve, over TCP or UDP, with an optional name; may be repeated. Without it, every port
    /// that the program listens on is served.
    #[arg(long = "port", value_name = "N[/udp][:NAME]")]
    ports: Vec<String>,
    /// Port on which callers outside the mesh reach the service; may be repeated. N:PORT leads to
    /// the service's port PORT, N alone to the port N or else its first. N/udp is a port that
    /// the program itself binds, and that all replicas then share.
    #[arg(long = "publish", value_name = "N[:PORT]|N/udp")]
    publish: Vec<String>,
    /// How many replicas to run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    replicas: u16,
    /// Namespace of the service, and the one in which the program's bare names are looked up.
    #[arg(long)]
    namespace: Option<Label>,
    /// Run the program as this user (needs root).
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

impl RunArgs {
    fn service(&self) -> anyhow::Result<ServiceName> {
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(Label::default_namespace);
        let service = ServiceName::parse_in(&namespace, &self.service)
            .with_context(|| format!("`{}` is not the name of a service", self.service))?;
        match &self.namespace {
            Some(namespace) if *namespace != service.namespace => {
                bail!(
                    "`{}` names another namespace than --namespace {namespace}",
                    self.service
                )
            }
            _ => Ok(service),
        }
    }

    /// The command line of one replica's first life.
    fn enter(&self, run_dir: &Path, service: &ServiceName) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("--run-dir")
            .arg(run_dir)
            .arg("enter")
            .arg(service.to_string());
        for port in &self.ports {
            command.arg("--port").arg(port);
        }
        for port in &self.publish {
            command.arg("--publish").arg(port);
        }
        if let Some(user) = &self.user {
            command.arg("--user").arg(user);
        }
        command
    }
}

/// Runs the replicas to their end; gives the first failure's status.
pub(crate) fn run(run_dir: &Path, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let service = args.service()?;
    // What a replica leaves behind when it forks into the background comes to this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("could not become the reaper of the program's children")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Before the first child: none of its signals may be missed.
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let mut group = Group::default();
    for _ in 0..args.replicas {
        let started = group.start(
            args.enter(run_dir, &service),
            &args.command,
            args.replicas > 1,
        );
        if let Err(error) = started {
            group.signal(Signal::TERM);
            runtime.block_on(group.wait(&mut signals));
            return Err(error);
        }
    }
    let status = runtime.block_on(group.wait(&mut signals));
    group.finish_output();
    Ok(ExitCode::from(status))
}

/// The replicas, and whatever else this process is the parent of.
#[derive(Default)]
struct Group {
    /// Replicas that run.
    replicas: BTreeSet<i32>,
    first_failure: Option<u8>,
    output: Vec<JoinHandle<()>>,
}

impl Group {
    fn start(
        &mut self,
        mut enter: Command,
        program: &[String],
        several: bool,
    ) -> anyhow::Result<()> {
        if several {
            enter
                .arg("--announce")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        }
        enter.arg("--").args(program);
        let mut child = enter.spawn().context("could not start a child")?;
        self.replicas.insert(child.id() as i32);
        if several {
            self.output.extend(pass_on_output(&mut child)?);
        }
        Ok(())
    }

    /// Waits until no child is left, replica or adopted; gives the exit status to have.
    async fn wait(&mut self, signals: &mut Signals) -> u8 {
        loop {
            if !self.reap() {
                return self.first_failure.unwrap_or(0);
            }
            if let Some(signal) = signals.next().await {
                self.signal(signal);
            }
        }
    }

    /// Takes note of all children that have ended; false when none is left.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Ok(None) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) {
        let was_replica = self.replicas.remove(&pid.as_raw_nonzero().get());
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code as u8,
            (None, Some(signal)) => 128 + signal as u8,
            (None, None) => return,
        };
        if was_replica && code != 0 {
            self.first_failure.get_or_insert(code);
        }
    }

    /// Passes a signal to every child there is.
    fn signal(&self, signal: Signal) {
        for pid in children() {
            let _ended_already = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits until the last words of the replicas are written.
    fn finish_output(&mut self) {
        for thread in self.output.drain(..) {
            let _panicked = thread.join();
        }
    }
}

/// The children of this process, replicas and adopted ones (proc_pid_task_children(5)).
fn children() -> Vec<Pid> {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let pids = text.split_whitespace().filter_map(|word| word.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

/// Signals that are passed on, and the one that says that a child has ended.
struct Signals {
    streams: Vec<(Signal, tokio::signal::unix::Signal)>,
    child: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let mut passed_on = vec![
            Signal::TERM,
            Signal::HUP,
            Signal::USR1,
            Signal::USR2,
            Signal::WINCH,
        ];
        // A key typed at the terminal reaches the whole foreground group, the program included.
        let typed = [Signal::INT, Signal::QUIT];
        passed_on.extend(typed);
        let streams = passed_on
            .into_iter()
            .map(|number| Ok((number, signal(SignalKind::from_raw(number.as_raw()))?)))
            .collect::<io::Result<_>>()
            .context("could not listen for signals")?;
        let child = signal(SignalKind::child()).context("could not listen for ended children")?;
        Ok(Self { streams, child })
    }

    /// A signal to pass on; `None` when a child has ended or there is nothing to pass on.
    async fn next(&mut self) -> Option<Signal> {
        let typed = io::stdin().is_terminal();
        let next = std::future::poll_fn(|context| {
            if self.child.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(None);
            }
            for (number, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(Some(*number));
                }
            }
            std::task::Poll::Pending
        });
        next.await
            .filter(|number| !(typed && matches!(*number, Signal::INT | Signal::QUIT)))
    }
}

/// Two threads that copy a replica's output, line by line, under its name.
fn pass_on_output(child: &mut Child) -> anyhow::Result<[JoinHandle<()>; 2]> {
    let stdout = child.stdout.take().context("the child has an output")?;
    let stderr = child
        .stderr
        .take()
        .context("the child has an error output")?;
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let out = std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let name = announced_name(&mut lines);
        let _nobody_waits = tell.send(name.clone());
        copy_lines(&name, lines, io::stdout());
    });
    let err = std::thread::spawn(move || {
        let name = told.recv().unwrap_or_default();
        copy_lines(&name, BufReader::new(stderr), io::stderr());
    });
    Ok([out, err])
}

/// `enter --announce` writes the replica's name as its first line, before it becomes the program.
fn announced_name(lines: &mut BufReader<ChildStdout>) -> String {
    let mut name = String::new();
    match lines.read_line(&mut name) {
        Ok(_) => name.trim_end().to_owned(),
        Err(_) => String::new(),
    }
}

/// Longest line that is kept together; a longer one is written in pieces, each under the name.
const LINE_BOUND: u64 = 64 * 1024;

fn copy_lines(name: &str, mut from: impl BufRead, mut to: impl Write) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(LINE_BOUND).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        let mut whole = Vec::with_capacity(name.len() + 3 + line.len());
        if !name.is_empty() {
            whole.extend_from_slice(format!("{name} | ").as_bytes());
        }
        whole.extend_from_slice(&line);
        // A reader that is gone does not stop the program.
        let _reader_gone = to.write_all(&whole).and_then(|()| to.flush());
    }
}
