//! A mesh of the bench's own, driven as a user drives one: by the binary's commands.
//!
//! Its folders and cgroup are its own, so that it stands beside any other mesh of the host. Dropping
//! it removes it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::crew::{Crew, Worker};
use crate::interrupt;
use crate::process::{self, Process};

/// How long agent and proxy may take to be ready, and to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(5);

/// What a mesh is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The binary that becomes agent and proxy.
    pub(crate) program: PathBuf,
    /// A copy of it that `selvedge run` and the workers are: another file, so that its pages are not
    /// counted as shared by agent and proxy.
    pub(crate) copy: PathBuf,
    /// Folder for everything of this mesh; made by it.
    pub(crate) folder: PathBuf,
    pub(crate) cgroup: String,
    /// Private ports, distinct among meshes of one host.
    pub(crate) private_ports: (u16, u16),
    /// The one CPU that agent and proxy run on, if it is to be one.
    pub(crate) cpu: Option<usize>,
}

/// One mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    plan: Plan,
    agent: Option<Process>,
    documents: u32,
}

impl Mesh {
    /// A mesh that is up: both processes serve.
    pub(crate) fn start(plan: Plan) -> anyhow::Result<Self> {
        fs::create_dir(&plan.folder)
            .with_context(|| format!("cannot create {}", plan.folder.display()))?;
        let mut mesh = Self {
            plan,
            agent: None,
            documents: 0,
        };
        mesh.up()?;
        Ok(mesh)
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.file("run")
    }

    /// Starts the agent, and with it the proxy; gives the time until both serve.
    pub(crate) fn up(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let (first, last) = self.plan.private_ports;
        let mut command = self.command(&self.plan.program, "up");
        command
            .arg("--state-dir")
            .arg(self.file("state"))
            .args(["--cgroup", &self.plan.cgroup])
            .args(["--private-ports", &format!("{first}-{last}")]);
        let log = self.agent_log();
        let start = || Process::start("selvedge up", &mut command, log);
        self.agent = Some(match self.plan.cpu {
            Some(cpu) => process::start_pinned(cpu, start)?,
            None => start()?,
        });
        self.wait_until("serve", |mesh| mesh.proxy_pid().is_ok())?;
        Ok(began.elapsed())
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            interrupt::check()?;
            if let Some(agent) = &mut self.agent {
                agent.check()?;
                if Instant::now() > deadline {
                    bail!("the mesh did not {what} in time{}", agent.last_words());
                }
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Kills agent and proxy, as nothing else can.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let proxy = self.proxy_pid()?;
        let mut agent = self.agent.take().context("no agent runs")?;
        process::signal(proxy, Signal::KILL)?;
        agent.kill()?;
        let deadline = Instant::now() + PATIENCE;
        while process::is_alive(proxy) {
            ensure!(Instant::now() < deadline, "the killed proxy does not end");
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Kills the agent alone; the proxy and the kernel's part go on.
    pub(crate) fn kill_agent(&mut self) -> anyhow::Result<()> {
        let mut agent = self.agent.take().context("no agent runs")?;
        agent.kill()?;
        Ok(())
    }

    /// Whether there is an agent, as far as nothing but the bench ends one.
    pub(crate) const fn has_agent(&self) -> bool {
        self.agent.is_some()
    }

    pub(crate) fn agent_pid(&self) -> anyhow::Result<u32> {
        Ok(self.agent.as_ref().context("no agent runs")?.pid())
    }

    /// The proxy that serves.
    pub(crate) fn proxy_pid(&self) -> anyhow::Result<u32> {
        let status = self.get("/v1/status")?;
        let proxy = &status["proxy"];
        ensure!(proxy["state"] == "serving", "the proxy does not serve");
        let pid = proxy["pid"].as_u64().context("the proxy has no pid")?;
        Ok(u32::try_from(pid)?)
    }

    /// Applies documents by `selvedge apply`; gives the time that took.
    pub(crate) fn apply(&mut self, documents: &str) -> anyhow::Result<Duration> {
        self.documents += 1;
        let file = self.file(&format!("{}.yaml", self.documents));
        fs::write(&file, documents)?;
        let began = Instant::now();
        let output = self
            .command(&self.plan.copy, "apply")
            .arg("-f")
            .arg(&file)
            .output()
            .context("cannot start selvedge apply")?;
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "selvedge apply: {}", said.trim());
        Ok(took)
    }

    /// Runs a worker as a replica of a service.
    pub(crate) fn run(
        &self,
        crew: &mut Crew,
        service: &str,
        ports: &[&str],
    ) -> anyhow::Result<Worker> {
        let mut workers = self.run_many(crew, service, ports, 1)?;
        workers.pop().context("no worker was started")
    }

    /// Runs several, by one `selvedge run`.
    pub(crate) fn run_many(
        &self,
        crew: &mut Crew,
        service: &str,
        ports: &[&str],
        count: usize,
    ) -> anyhow::Result<Vec<Worker>> {
        let mut command = self.command(&self.plan.copy, "run");
        command.arg(service);
        for port in ports {
            command.args(["--port", port]);
        }
        if count > 1 {
            command.args(["--replicas", &count.to_string()]);
        }
        crew.start_by(service, command, count)
    }

    /// The command that runs a program as a replica of a service; the program is appended.
    pub(crate) fn run_command(&self, service: &str, ports: &[u16]) -> Command {
        let mut command = self.command(&self.plan.copy, "run");
        command.arg(service);
        for port in ports {
            command.args(["--port", &port.to_string()]);
        }
        command.arg("--");
        command
    }

    /// The command that runs this binary itself as a replica of a service; its arguments are appended.
    pub(crate) fn run_own_command(&self, service: &str, ports: &[u16]) -> Command {
        let mut command = self.run_command(service, ports);
        command.arg(&self.plan.copy);
        command
    }

    /// A file of this mesh's folder, gone with it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.plan.folder.join(name)
    }

    /// What the agent prints.
    pub(crate) fn agent_log(&self) -> PathBuf {
        self.file("agent.log")
    }

    /// Virtual addresses by service name.
    pub(crate) fn virtual_addresses(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let objects = self.get("/v1/objects?kind=Service")?;
        let mut found = BTreeMap::new();
        collect_addresses(&objects, &mut found);
        Ok(found)
    }

    /// Every counter of every edge.
    pub(crate) fn edge_counters(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let text = self.ask("/metrics")?;
        let counters = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_counter =
                series.starts_with("selvedge_connection") && series.contains("_total{");
            Some((series.to_owned(), value.parse().ok()?)).filter(|_| is_counter)
        });
        Ok(counters.collect())
    }

    /// Gets `path` of the control API, as JSON.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let body = self.ask(path)?;
        serde_json::from_str(&body).with_context(|| format!("GET {path} gave no JSON: {body}"))
    }

    /// Gets `path` of the control API (HTTP/1.0 in effect: the answer ends with the connection).
    fn ask(&self, path: &str) -> anyhow::Result<String> {
        let socket = self.run_dir().join("api.sock");
        let mut stream = UnixStream::connect(&socket).context("the agent does not answer")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: selvedge\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.contains(" 200 "), "GET {path}: {head}\n{body}");
        ensure!(
            !head.to_ascii_lowercase().contains("transfer-encoding"),
            "GET {path} was answered in chunks, which the bench does not read"
        );
        Ok(body.to_owned())
    }

    fn command(&self, program: &Path, subcommand: &str) -> Command {
        let mut command = Command::new(program);
        command.arg(subcommand).arg("--run-dir").arg(self.run_dir());
        command
    }

    /// Stops the mesh and whatever runs in it, and leaves nothing.
    pub(crate) fn down(mut self) -> anyhow::Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> anyhow::Result<()> {
        if !self.run_dir().exists() {
            return Ok(());
        }
        let output = self
            .command(&self.plan.copy, "down")
            .arg("--stop")
            .output()
            .context("cannot start selvedge down")?;
        if let Some(mut agent) = self.agent.take() {
            if !output.status.success() {
                agent.terminate();
            }
            agent.wait()?;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "selvedge down: {}", said.trim());
        // Everything of the mesh is gone from it; what is left are our own files.
        fs::remove_dir_all(&self.plan.folder)
            .with_context(|| format!("cannot remove {}", self.plan.folder.display()))
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("selvedge bench: could not remove its mesh: {error:#}");
        }
    }
}

/// Finds `metadata.name` and `spec.clusterIP` of every object in an answer, however it is wrapped.
fn collect_addresses(value: &Value, found: &mut BTreeMap<String, String>) {
    let name = value["metadata"]["name"].as_str();
    let address = value["spec"]["clusterIP"].as_str();
    match (value, name.zip(address)) {
        (_, Some((name, address))) => {
            found.insert(name.to_owned(), address.to_owned());
        }
        (Value::Array(items), None) => items.iter().for_each(|it| collect_addresses(it, found)),
        (Value::Object(fields), None) => {
            fields.values().for_each(|it| collect_addresses(it, found))
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_lists_of_objects() {
        let answer = serde_json::json!({"items": [
            {"object": {"metadata": {"name": "cart"}, "spec": {"clusterIP": "127.96.0.7"}}},
            {"object": {"metadata": {"name": "none"}, "spec": {}}},
        ]});
        let mut found = BTreeMap::new();
        collect_addresses(&answer, &mut found);
        assert_eq!(found, [("cart".to_owned(), "127.96.0.7".to_owned())].into());
    }
}
