//! The same programs without the mesh: every address and port written into their configuration.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::program::Program;
use super::stage::{PATIENCE, Stage, fetch};

/// How many processes answer, here as in the mesh.
const REPLICAS: usize = 3;

/// The programs; dropping them ends them.
pub(super) struct Plain {
    /// Where the front is reached.
    pub(super) port: u16,
    _programs: Vec<Program>,
}

impl Plain {
    /// Starts them, on ports that are free.
    pub(super) fn start(stage: &Stage) -> anyhow::Result<Self> {
        let ports = free_ports(REPLICAS + 2)?;
        let (front, redis, replicas) = (ports[0], ports[1], &ports[2..]);
        let folder = stage.folder();
        let mut programs = vec![Program::start("plain-redis", folder, store(stage, redis))?];
        for (number, port) in replicas.iter().enumerate() {
            let name = format!("plain-web-{number}");
            programs.push(Program::start(&name, folder, app(stage, *port, redis))?);
        }
        // nginx leaves alone for ten seconds what has not answered it: it comes when all are there.
        let all_answer = || replicas.iter().all(|port| fetch(*port).is_some());
        let replicas_are_up = stage.interrupt.until(PATIENCE, all_answer)?;
        ensure!(
            replicas_are_up,
            "the web app does not answer without the mesh"
        );
        write_front(folder, front, replicas)?;
        let mut nginx = Program::start("plain-front", folder, nginx(stage))?;
        let answers = || nginx.ended().is_some() || fetch(front).is_some();
        if !stage.interrupt.until(PATIENCE, answers)? || nginx.ended().is_some() {
            return Err(nginx.failure("does not answer"));
        }
        programs.push(nginx);
        Ok(Self {
            port: front,
            _programs: programs,
        })
    }
}

/// Ports on which nobody listens at this moment.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: Vec<_> = (0..count).map(bind).collect::<Result<_, _>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr);
    let ports = addresses.map(|address| Ok(address?.port()));
    ports.collect()
}

fn store(stage: &Stage, port: u16) -> Command {
    let mut command = stage.command("redis-server");
    command
        .args(["redis.conf", "--bind", "127.0.0.1", "--port"])
        .arg(port.to_string());
    command
}

fn app(stage: &Stage, port: u16, redis: u16) -> Command {
    let mut command = stage.command("gunicorn");
    command
        .args(["--bind", &format!("127.0.0.1:{port}"), "app:app"])
        .env("REDIS_HOST", "127.0.0.1")
        .env("REDIS_PORT", redis.to_string());
    command
}

fn nginx(stage: &Stage) -> Command {
    let mut command = stage.command("nginx");
    command.args(["-e", "stderr", "-c", "nginx-plain.conf", "-p", "."]);
    command
}

/// The mesh's nginx.conf with addresses in place of the name.
fn write_front(folder: &Path, port: u16, replicas: &[u16]) -> anyhow::Result<()> {
    let path = folder.join("nginx.conf");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let servers: String = replicas
        .iter()
        .map(|port| format!("        server 127.0.0.1:{port};\n"))
        .collect();
    let text = text
        .replace("pid nginx.pid", "pid nginx-plain.pid")
        .replace("listen 80;", &format!("listen 127.0.0.1:{port};"))
        .replace("http://web:8000", "http://web")
        .replace(
            "http {\n",
            &format!("http {{\n    upstream web {{\n{servers}    }}\n"),
        );
    fs::write(folder.join("nginx-plain.conf"), text).context("cannot write nginx's configuration")
}
