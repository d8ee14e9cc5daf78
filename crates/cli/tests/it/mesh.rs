//! A mesh for one test: `selvedge up` in folders of its own, and the other commands against it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use selvedge_control_plane::wire::{GraphReport, ServiceReport, StatusReport};

use crate::process::{Process, eventually};

/// The binary under test.
pub(crate) const SELVEDGE: &str = env!("CARGO_BIN_EXE_selvedge");

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One mesh. Dropping it ends its programs and removes everything.
pub(crate) struct Mesh {
    agent: Option<Process>,
    pub(crate) cgroup: String,
    private_ports: String,
    metrics: Option<String>,
    access_log: Option<PathBuf>,
    folder: tempfile::TempDir,
}

impl Mesh {
    /// A mesh without services, up and serving; `None`, with the reason printed, where it cannot be
    /// had or one of `programs` is not there.
    pub(crate) fn start(test: &str, programs: &[&str]) -> Option<Self> {
        let mut mesh = Self::prepare(test, programs)?;
        mesh.start_agent();
        Some(mesh)
    }

    /// As [`Mesh::start`], but nothing is started yet.
    pub(crate) fn prepare(test: &str, programs: &[&str]) -> Option<Self> {
        if !skip_unless(test, programs) {
            return None;
        }
        // The proxy, which is not root, must get through to the run-time folder.
        let folder = tempfile::Builder::new()
            .prefix("selvedge-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder can be made");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Many meshes start at once here: each has a part of the usual range to itself, since a port
        // that another is about to bind is seen by nobody.
        let first = 61_000 + 200 * ((std::process::id() + number) % 20);
        Some(Self {
            agent: None,
            private_ports: format!("{first}-{}", first + 199),
            cgroup: format!("selvedge-test-{}-{number}", std::process::id()),
            metrics: None,
            access_log: None,
            folder,
        })
    }

    /// The test's folder, which every user can read.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.folder().join("run")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// Writes a file into the test's folder; gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder().join(name);
        fs::write(&path, text).expect("the test's folder can be written");
        path.to_str().expect("our names are plain").to_owned()
    }

    /// The command `selvedge ARGUMENTS` against this mesh.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SELVEDGE);
        command
            .args(arguments)
            .env("SELVEDGE_RUN_DIR", self.run_dir())
            .stdin(Stdio::null())
            .current_dir(self.folder());
        command
    }

    /// `selvedge up` for this mesh.
    pub(crate) fn up(&self) -> Command {
        self.up_with(&self.cgroup, &self.state_dir())
    }

    /// `selvedge up` with this cgroup and state.
    pub(crate) fn up_with(&self, cgroup: &str, state_dir: &Path) -> Command {
        let mut up = self.command(&["up", "--cgroup", cgroup]);
        up.args(["--private-ports", &self.private_ports]);
        up.arg("--state-dir").arg(state_dir);
        if let Some(address) = &self.metrics {
            up.args(["--metrics", address]);
        }
        if let Some(path) = &self.access_log {
            up.arg("--access-log").arg(path);
        }
        up
    }

    /// The next agent serves metrics over TCP at `address`.
    pub(crate) fn serve_metrics(&mut self, address: &str) {
        self.metrics = Some(address.to_owned());
    }

    /// The next agent has requests logged to this file of the test's folder.
    pub(crate) fn log_requests(&mut self, name: &str) {
        self.access_log = Some(self.folder().join(name));
    }

    /// All metrics, over the API's socket.
    pub(crate) fn metrics(&self) -> String {
        let mut api = UnixStream::connect(self.run_dir().join("api.sock")).expect("it is up");
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        api.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        api.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// The next agent serves no metrics over TCP.
    pub(crate) fn serve_no_metrics(&mut self) {
        self.metrics = None;
    }

    /// `selvedge down ARGUMENTS` for this mesh.
    pub(crate) fn down(&self, arguments: &[&str]) -> Output {
        let mut down = self.command(&["down"]);
        down.args(arguments).output().expect("the binary is there")
    }

    /// Starts the agent, or the next one, and waits until agent and proxy serve.
    pub(crate) fn start_agent(&mut self) {
        let mut agent = Process::start(self.folder(), self.up());
        let serves = || agent.ended() || self.is_serving();
        let up = eventually(serves) && !agent.ended();
        assert!(up, "the mesh did not come up:\n{}", agent.printed());
        self.agent = Some(agent);
    }

    fn is_serving(&self) -> bool {
        let serving = |status: StatusReport| status.proxy.state == "serving";
        self.try_status().is_some_and(serving)
    }

    /// How the node is; `status` fails where something is not well, and says what all the same.
    fn try_status(&self) -> Option<StatusReport> {
        let output = self.command(&["status", "-o", "json"]).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    pub(crate) fn agent(&mut self) -> &mut Process {
        self.agent.as_mut().expect("the agent is up")
    }

    /// As `kill -9` of the agent.
    pub(crate) fn kill_agent(&mut self) {
        self.agent().kill();
        self.agent = None;
    }

    /// As `kill -9` of agent and proxy, the agent first, so that it does not start another proxy.
    pub(crate) fn kill_both(&mut self) {
        let pid = self.status().proxy.pid.expect("the proxy is there");
        self.kill_agent();
        let proxy = Pid::from_raw(pid as i32).expect("it is not zero");
        kill_process(proxy, Signal::KILL).expect("the proxy is there");
    }

    /// Sends a signal to the proxy; gives its process id.
    pub(crate) fn signal_proxy(&self, signal: Signal) -> u32 {
        let pid = self.status().proxy.pid.expect("the proxy is there");
        let process = Pid::from_raw(pid as i32).expect("it is not zero");
        kill_process(process, signal).expect("the proxy is there");
        pid
    }

    /// Runs `selvedge ARGUMENTS` to its end and gives what it prints; it must not fail.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = self
            .command(arguments)
            .output()
            .expect("the binary is there");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "selvedge {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("what it prints is text")
    }

    /// Runs `selvedge ARGUMENTS`, which must fail; gives the status and the message.
    pub(crate) fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self
            .command(arguments)
            .output()
            .expect("the binary is there");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "selvedge {arguments:?} succeeded");
        (output.status.code().expect("it was not killed"), errors)
    }

    pub(crate) fn status(&self) -> StatusReport {
        self.try_status().expect("the agent answers")
    }

    pub(crate) fn graph(&self) -> GraphReport {
        serde_json::from_str(&self.ask(&["graph", "-o", "json"])).expect("the graph is JSON")
    }

    /// The state of a service in namespace `default`.
    pub(crate) fn service(&self, name: &str) -> ServiceReport {
        let mut services = self.status().services.into_iter();
        let service = services.find(|it| it.name == name && it.namespace == "default");
        service.unwrap_or_else(|| panic!("there is no service {name}"))
    }

    /// Starts `selvedge run ARGUMENTS`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Process {
        let mut command = self.command(&["run"]);
        command.args(arguments);
        Process::start(self.folder(), command)
    }

    /// Runs a program as a workload of `service` to its end; exit status and what it printed.
    pub(crate) fn run_to_end(&self, service: &str, program: &[&str]) -> (i32, String) {
        let arguments = [&[service, "--"], program].concat();
        self.run(&arguments).finish()
    }

    /// Applies configuration.
    pub(crate) fn apply(&self, yaml: &str) {
        let file = self.file("applied.yaml", yaml);
        self.ask(&["apply", "-f", &file]);
    }

    /// Waits until `count` endpoints of a service listen.
    pub(crate) fn await_listening(&self, service: &str, count: usize) {
        let listening = || {
            let services = self.status().services.into_iter();
            let ports = services
                .filter(|it| it.name == service)
                .flat_map(|it| it.ports);
            let endpoints = ports.flat_map(|port| port.endpoints);
            endpoints.filter(|it| it.state == "listening").count()
        };
        assert!(
            eventually(|| listening() >= count),
            "{} of {count} endpoints of {service} listen",
            listening()
        );
    }

    /// The cgroups of the mesh, for a look at what is left of them.
    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroup
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if !self.run_dir().exists() {
            return;
        }
        let output = self.down(&["--stop"]);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let agent = self
                .agent
                .as_ref()
                .map(Process::printed)
                .unwrap_or_default();
            eprintln!("left behind: {errors}\nthe agent said:\n{agent}");
        }
    }
}

/// Whether what every mesh needs, and `programs`, are there; what is missing is said.
pub(crate) fn skip_unless(test: &str, programs: &[&str]) -> bool {
    let reason = missing(programs);
    if let Some(reason) = &reason {
        skip(test, reason);
    }
    reason.is_none()
}

/// Says that a test did not run, where the run counts it.
fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {reason}");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("SELVEDGE_SKIP_LOG") {
        let file = File::options().create(true).append(true).open(log);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.expect("SELVEDGE_SKIP_LOG names a file that can be written");
    }
}

/// Why the test cannot run here, if so.
fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounts.contains(" - cgroup2 ") {
        return Some("no cgroup2 file system is mounted".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let is_there = |program: &str| folders.iter().any(|it| it.join(program).is_file());
    let absent = programs.iter().find(|program| !is_there(program))?;
    Some(format!("{absent} is not installed"))
}
