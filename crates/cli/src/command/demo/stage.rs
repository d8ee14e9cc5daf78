//! Where the demo plays: a folder, a mesh of its own, and the programs in it.
//!
//! Everything the demo starts is owned here, so that dropping the [`Stage`] ends and removes it all,
//! in whatever act the play was broken off. It must never touch a mesh it has not started.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use selvedge_control_plane::wire::{GraphReport, StatusReport};
use tempfile::TempDir;

use super::interrupt::{GLANCE, Interrupt};
use super::program::Program;
use super::{program_path, say};

/// How long anything may take to come up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Where an outside port is looked for: the first free one is taken. Programs seldom ask for these.
const OUTSIDE_PORTS: Range<u16> = 18_080..18_180;

/// What the programs read.
const ASSETS: [(&str, &str); 5] = [
    ("app.py", include_str!("../../../demo/app.py")),
    ("nginx.conf", include_str!("../../../demo/nginx.conf")),
    ("redis.conf", include_str!("../../../demo/redis.conf")),
    ("routes.yaml", include_str!("../../../demo/routes.yaml")),
    ("report.lua", include_str!("../../../demo/report.lua")),
];

/// The demo's folder, its mesh and its programs.
pub(super) struct Stage {
    pub(super) interrupt: Interrupt,
    selvedge: PathBuf,
    cgroup: String,
    agent: Option<Program>,
    /// `selvedge run` of each service, in the order they were started.
    programs: Vec<Program>,
    folder: Option<TempDir>,
}

impl Stage {
    /// An empty stage.
    pub(super) fn build() -> anyhow::Result<Self> {
        let interrupt = Interrupt::watch()?;
        // The proxy and nginx's workers, who are not root, must get through.
        let folder = tempfile::Builder::new()
            .prefix("selvedge-demo-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot make a temporary folder")?;
        for (name, text) in ASSETS {
            fs::write(folder.path().join(name), text).context("cannot write the demo's files")?;
        }
        fs::create_dir(folder.path().join("temp")).context("cannot make a folder for nginx")?;
        Ok(Self {
            interrupt,
            selvedge: std::env::current_exe().context("cannot find this program's own file")?,
            cgroup: format!("selvedge-demo-{}", std::process::id()),
            agent: None,
            programs: Vec::new(),
            folder: Some(folder),
        })
    }

    /// Where the programs' files are.
    pub(super) fn folder(&self) -> &Path {
        let folder = self.folder.as_ref();
        folder.expect("only dropping takes the folder").path()
    }

    /// Where this program is.
    pub(super) fn program_folder(&self) -> &Path {
        self.selvedge.parent().unwrap_or(Path::new("."))
    }

    /// The mesh's run-time folder.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.folder().join("run")
    }

    /// The command `selvedge ARGUMENTS` for this mesh.
    pub(super) fn selvedge(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.selvedge);
        command
            .args(arguments)
            .env("SELVEDGE_RUN_DIR", self.run_dir())
            .stdin(Stdio::null());
        command
    }

    /// A program that finds the demo's files where it starts, and leaves none beside them.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("PATH", program_path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(self.folder());
        command
    }

    /// Runs `selvedge ARGUMENTS` to its end and gives what it prints.
    pub(super) fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.selvedge(arguments).output();
        let output = output.context("cannot start this program again")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "selvedge {}: {}",
            arguments.join(" "),
            errors.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts the agent, which starts the proxy; gives the time until the mesh answers.
    pub(super) fn start_mesh(&mut self) -> anyhow::Result<Duration> {
        let mut up = self.selvedge(&["up", "--cgroup", &self.cgroup]);
        up.arg("--state-dir").arg(self.folder().join("state"));
        let since = Instant::now();
        let mut agent = Program::start("agent", self.folder(), up)?;
        let is_serving = |status: StatusReport| status.proxy.state == "serving";
        let serves = || self.status().is_ok_and(is_serving);
        let answers = || agent.ended().is_some() || serves();
        let ready = self.interrupt.until(PATIENCE, answers)?;
        if !ready || agent.ended().is_some() {
            return Err(agent.failure("did not come up"));
        }
        self.agent = Some(agent);
        Ok(since.elapsed())
    }

    /// The processes of the mesh: agent and proxy.
    pub(super) fn processes(&self) -> anyhow::Result<[i32; 2]> {
        let agent = self.agent.as_ref().context("the agent is not running")?;
        let proxy = self.status()?.proxy.pid;
        let proxy = proxy.context("the proxy is not running")?;
        // Process ids are below 2^22.
        Ok([agent.pid(), proxy as i32])
    }

    /// `kill -9` of agent and proxy.
    pub(super) fn kill_mesh(&mut self) -> anyhow::Result<()> {
        let [_, proxy] = self.processes()?;
        let mut agent = self.agent.take().context("the agent is not running")?;
        agent.kill()?;
        selvedge_node::end(proxy);
        Ok(())
    }

    /// How the node is.
    pub(super) fn status(&self) -> anyhow::Result<StatusReport> {
        // It fails where something is not well, and says what all the same.
        let output = self.selvedge(&["status", "-o", "json"]).output();
        let output = output.context("cannot start this program again")?;
        serde_json::from_slice(&output.stdout).context("the status cannot be read")
    }

    /// Who calls whom.
    pub(super) fn graph(&self) -> anyhow::Result<GraphReport> {
        let text = self.ask(&["graph", "-o", "json"])?;
        serde_json::from_str(&text).context("the graph cannot be read")
    }

    /// Runs a program as a workload, and shows the command.
    pub(super) fn run(&mut self, service: &str, command: &str) -> anyhow::Result<()> {
        say!("   $ selvedge run {command}");
        let words: Vec<_> = std::iter::once("run")
            .chain(command.split_whitespace())
            .collect();
        let program = Program::start(service, self.folder(), self.selvedge(&words))?;
        self.programs.push(program);
        Ok(())
    }

    /// Waits until `holds`; an error with `what`, or with what a program that has ended printed.
    pub(super) fn await_that(
        &mut self,
        what: &str,
        holds: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            for program in &mut self.programs {
                if program.ended().is_some() {
                    return Err(program.failure("has ended"));
                }
            }
            ensure!(
                Instant::now() < end,
                "waited {PATIENCE:?} in vain for {what}"
            );
            self.interrupt.pause(GLANCE)?;
        }
        Ok(())
    }

    /// Ends everything and says what is left, if anything is.
    pub(super) fn clear(mut self) -> anyhow::Result<()> {
        self.strike()?;
        let folder = self.folder.take().expect("taken only here and by drop");
        let path = folder.path().to_owned();
        folder.close().context("cannot remove the demo's folder")?;
        ensure!(!path.exists(), "{} is still there", path.display());
        Ok(())
    }

    /// Ends the mesh with its workloads; what `down` cannot end is killed when dropped.
    fn strike(&mut self) -> anyhow::Result<()> {
        let down = match self.run_dir().exists() {
            true => self.ask(&["down", "--stop"]).map(drop),
            false => Ok(()),
        };
        self.programs.clear();
        self.agent = None;
        down
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.folder.is_none() {
            return;
        }
        if let Err(error) = self.strike() {
            eprintln!("while cleaning up: {error:#}");
        }
    }
}

/// A port for callers from outside: nobody listens there, and no mesh has published it.
pub(super) fn outside_port() -> anyhow::Result<u16> {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    let is_silent = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err();
    OUTSIDE_PORTS
        .filter(is_free)
        .find(is_silent)
        .with_context(|| format!("every port of {OUTSIDE_PORTS:?} is taken"))
}

/// The answer to a request from outside; `None` unless it is a good one.
pub(super) fn fetch(port: u16) -> Option<String> {
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--max-time", "5"])
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}
