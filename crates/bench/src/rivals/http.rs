//! For HTTP: nginx, HAProxy and Envoy, with the settings that stand in `rivals/`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use rustix::process::Signal;

use crate::options::Proxy;
use crate::process::{Process, family, find, is_alive, signal};

const NGINX: &str = include_str!("../../rivals/nginx.conf");
const HAPROXY: &str = include_str!("../../rivals/haproxy.cfg");
const HAPROXY_MAP: &str = include_str!("../../rivals/haproxy.map");
const ENVOY: &str = include_str!("../../rivals/envoy.yaml");
/// Where `scripts/envoy` puts Envoy, from the folder of the release binary.
const ENVOY_BUILT: &str = "../envoy/envoy/_bin/envoy";

/// Hosts that each of them serves, with ten routes.
const HOSTS: u32 = 50;
/// The lines around what settings have for each host.
const EACH_HOST: [&str; 2] = ["# each host", "# end of each host"];

/// The name of a host.
pub(crate) fn host(number: u32) -> String {
    format!("s{number}.example")
}

/// Settings with what stands there for each host, for all of them.
fn with_hosts(template: &str) -> String {
    let lines: Vec<&str> = template.split_inclusive('\n').collect();
    let place = |mark: &str| lines.iter().position(|line| line.trim() == mark);
    let [Some(begin), Some(end)] = EACH_HOST.map(place) else {
        return template.to_owned();
    };
    let block = lines[begin + 1..end].concat();
    let blocks = (0..HOSTS).map(|number| block.replace("@HOST@", &host(number)));
    [
        lines[..begin].concat(),
        blocks.collect(),
        lines[end + 1..].concat(),
    ]
    .concat()
}

/// Where a proxy is to stand.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) listen: SocketAddr,
    pub(crate) backend: SocketAddr,
    /// For its settings, logs and temporary files.
    pub(crate) folder: PathBuf,
}

/// A proxy that runs.
#[derive(Debug)]
pub(crate) struct Contender {
    process: Process,
}

impl Contender {
    /// Starts a rival.
    pub(crate) fn rival(proxy: Proxy, spot: &Spot, bench: &Path) -> anyhow::Result<Self> {
        let name = proxy.name();
        let mut command = match proxy {
            Proxy::Nginx => {
                let mut command = program("nginx", None)?;
                let file = spot.settings("nginx.conf", NGINX)?;
                // Otherwise it complains of a log it may not write, before it has read its settings.
                command.args(["-e", "stderr", "-c"]).arg(file);
                command
            }
            Proxy::Haproxy => {
                let mut command = program("haproxy", None)?;
                spot.settings("haproxy.map", HAPROXY_MAP)?;
                let file = spot.settings("haproxy.cfg", HAPROXY)?;
                command.args(["-db", "-f"]).arg(file);
                command
            }
            Proxy::Envoy => {
                let file = spot.settings("envoy.yaml", ENVOY)?;
                return Self::envoy(&file, &spot.folder, bench);
            }
        };
        Self::start(name, &mut command, &spot.folder)
    }

    /// Starts Envoy with settings and one worker; `bench` is the binary that measures.
    pub(crate) fn envoy(settings: &Path, folder: &Path, bench: &Path) -> anyhow::Result<Self> {
        let built = bench.parent().map(|folder| folder.join(ENVOY_BUILT));
        let mut command = program("envoy", built)?;
        command.args(["--concurrency", "1", "--disable-hot-restart"]);
        command.args(["-l", "error", "-c"]).arg(settings);
        Self::start("envoy", &mut command, folder)
    }

    /// Starts whatever listens where it is told to and forwards to the backend; its log is in `folder`.
    pub(crate) fn start(name: &str, command: &mut Command, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let process = Process::start(name, command, log)?;
        Ok(Self { process })
    }

    /// All its processes.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        family(self.process.pid())
    }

    /// An error, with the last it said, when it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }

    /// The last it printed, for messages.
    pub(crate) fn last_words(&self) -> String {
        self.process.last_words()
    }
}

impl Drop for Contender {
    /// Asks it to end: a proxy whose first process is killed leaves the others behind.
    fn drop(&mut self) {
        let family = self.pids().unwrap_or_default();
        self.process.terminate();
        // What does not end in time is killed.
        let _ended = self.process.wait();
        for pid in family.into_iter().filter(|pid| is_alive(*pid)) {
            let _gone = signal(pid, Signal::KILL);
        }
    }
}

impl Spot {
    /// A place on an address of this run alone, on a port that is free there.
    pub(crate) fn new(
        address: SocketAddr,
        backend: SocketAddr,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        // Taken again by the proxy at once; nobody else binds to this address.
        let probe = TcpListener::bind(address).context("cannot find a free port")?;
        Ok(Self {
            listen: probe.local_addr()?,
            backend,
            folder: folder.to_owned(),
        })
    }

    /// Fills settings in, and writes them.
    fn settings(&self, name: &str, template: &str) -> anyhow::Result<PathBuf> {
        let text = with_hosts(template)
            .replace("@LISTEN@", &self.listen.to_string())
            .replace("@LISTEN_IP@", &self.listen.ip().to_string())
            .replace("@LISTEN_PORT@", &self.listen.port().to_string())
            .replace("@BACKEND@", &self.backend.to_string())
            .replace("@BACKEND_IP@", &self.backend.ip().to_string())
            .replace("@BACKEND_PORT@", &self.backend.port().to_string())
            .replace("@FOLDER@", &self.folder.to_string_lossy());
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

fn program(name: &str, built: Option<PathBuf>) -> anyhow::Result<Command> {
    let built = built.filter(|path| path.is_file());
    let path = built.or_else(|| find(name));
    let path = path.with_context(|| format!("{name} is not installed; try: make bench"))?;
    Ok(Command::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(folder: &Path) -> Spot {
        Spot {
            listen: "127.1.2.3:8001".parse().unwrap(),
            backend: "127.1.2.4:8002".parse().unwrap(),
            folder: folder.to_owned(),
        }
    }

    #[test]
    fn settings_have_no_place_left_to_fill() {
        let folder = tempfile::tempdir().unwrap();
        for template in [NGINX, HAPROXY, HAPROXY_MAP, ENVOY] {
            let file = spot(folder.path()).settings("settings", template).unwrap();
            let text = fs::read_to_string(file).unwrap();
            let has_hosts = text.contains("s0.example") && text.contains("s49.example");
            assert!(has_hosts || template == HAPROXY, "{text}");
            if template == HAPROXY_MAP {
                continue;
            }
            let is_place = |word: &str| {
                word.len() > 1 && word.bytes().all(|it| it == b'_' || it.is_ascii_uppercase())
            };
            let places: Vec<_> = text.split('@').filter(|part| is_place(part)).collect();
            assert!(places.is_empty(), "{places:?}");
            assert!(
                text.contains("8001") && text.contains("127.1.2.4"),
                "{text}"
            );
        }
    }
}
