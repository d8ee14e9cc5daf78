//! The node as the control plane's API sees it, and the proxy's sockets as its supervisor does.

mod publication;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use selvedge_control_plane::{
    CgroupRef, Hint, Host, HostPlacement, Peer, PlacedCgroup, Problem, ProblemKind,
};
use selvedge_feed::SocketKind;
use selvedge_model::{Generation, KernelStatus, Observation, Pinned, Port, Snapshot, WorkloadName};
use selvedge_node::{Beside, Node, Sockets};
use selvedge_telemetry::log;
use tokio::sync::watch;

/// The node, shared by those who ask it. Every use is short.
#[derive(Clone)]
pub(crate) struct SharedNode(Arc<Mutex<Node>>);

impl SharedNode {
    pub(crate) fn new(node: Node) -> Self {
        Self(Arc::new(Mutex::new(node)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Node> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Host`].
pub(crate) struct NodeHost {
    pub(crate) node: SharedNode,
    pub(crate) applied: watch::Receiver<Generation>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Whether the mesh is going down, and takes no workload any more.
    pub(crate) closed: AtomicBool,
}

impl Host for NodeHost {
    fn place(&self, placement: &HostPlacement<'_>) -> Result<PlacedCgroup, Problem> {
        let node = self.node.lock();
        if self.closed.load(Ordering::SeqCst) {
            let what = "the mesh is going down and takes no workload any more";
            return Err(Problem::new(ProblemKind::Unavailable, what)
                .try_next("start the mesh again, then the workload"));
        }
        publication::check(&node, &self.snapshots.borrow(), placement)?;
        let id = node
            .add_workload(placement.name)
            .map_err(|error| failed(&error))?;
        let peer = placement.peer;
        match node.place(&*peer.process, peer.pid, placement.name) {
            Ok(()) => {
                let reference = CgroupRef::Path(node.workload_path(placement.name));
                Ok(PlacedCgroup { reference, id })
            }
            Err(error) => {
                drop(node);
                self.abandon(placement.name);
                Err(failed(&error))
            }
        }
    }

    fn abandon(&self, name: &WorkloadName) {
        // Where the process has not ended yet, the cgroup goes when it becomes empty.
        if let Err(error) = self.node.lock().remove_workload(name) {
            log::write(log::Level::Debug, format_args!("{}", log::chain(&error)));
        }
    }

    fn limits_of(&self, peer: &Peer) -> Result<Vec<String>, Problem> {
        limits_of(peer.pid, &self.node.lock().cgroup_file_system())
            .map_err(|error| no_cgroup(peer, &error))
    }

    fn cgroup_of(&self, peer: &Peer) -> Result<CgroupRef, Problem> {
        let path = cgroup_of(peer.pid).map_err(|error| no_cgroup(peer, &error))?;
        Ok(CgroupRef::Path(path))
    }

    fn is_populated(&self, cgroup: &CgroupRef) -> bool {
        match cgroup {
            CgroupRef::Path(path) => self.node.lock().is_populated(Path::new(path)),
            // A unit has its ports as long as it is configured, running or not.
            CgroupRef::Unit(_) => true,
        }
    }

    fn kernel(&self) -> Result<KernelStatus, Problem> {
        self.node.lock().status().map_err(|error| failed(&error))
    }

    fn gateway_ports(&self) -> BTreeMap<Port, Result<(), String>> {
        self.node.lock().gateway_ports()
    }

    fn pinned(&self) -> Result<Vec<Pinned>, Problem> {
        self.node.lock().pinned().map_err(|error| failed(&error))
    }

    fn observe(&self) -> Result<Observation, Problem> {
        self.node.lock().observe().map_err(|error| failed(&error))
    }

    fn applied(&self) -> watch::Receiver<Generation> {
        self.applied.clone()
    }

    fn hints(&self) -> Vec<Hint> {
        hints(Path::new("/"))
    }
}

fn failed(error: &selvedge_node::Error) -> Problem {
    let what = log::chain(error).to_string();
    let kind = match error {
        selvedge_node::Error::Ended { .. } => ProblemKind::Conflict,
        _ => ProblemKind::Failed,
    };
    Problem {
        kind,
        what,
        ..Problem::default()
    }
}

fn no_cgroup(peer: &Peer, error: &io::Error) -> Problem {
    Problem {
        kind: ProblemKind::Failed,
        what: format!("the cgroup of process {} cannot be read: {error}", peer.pid),
        ..Problem::default()
    }
}

/// The path of the process's cgroup below the cgroup2 file system's root.
fn cgroup_of(pid: i32) -> io::Result<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = table.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(path.unwrap_or("/").to_owned())
}

/// Limits of the cgroup2 controllers that hold for the process where it is.
fn limits_of(pid: i32, file_system: &Path) -> io::Result<Vec<String>> {
    let path = cgroup_of(pid)?;
    let mut limits = Vec::new();
    for ancestor in Path::new(&path).ancestors() {
        let relative = ancestor.strip_prefix("/").unwrap_or(ancestor);
        for file in ["memory.max", "memory.high", "pids.max", "cpu.max"] {
            let Ok(value) = fs::read_to_string(file_system.join(relative).join(file)) else {
                continue;
            };
            let value = value.trim();
            if !value.starts_with("max") {
                limits.push(format!("{file} {value} in {}", ancestor.display()));
            }
        }
    }
    Ok(limits)
}

/// Look-ups that never touch a socket of the program cannot be led to the resolver.
fn hints(root: &Path) -> Vec<Hint> {
    let mut hints = Vec::new();
    if ["run/nscd/socket", "var/run/nscd/socket"]
        .iter()
        .any(|path| root.join(path).exists())
    {
        hints.push(Hint {
            about: "host".to_owned(),
            what: "nscd answers look-ups over its own socket, where mesh names cannot be led"
                .to_owned(),
            next: "stop nscd, or set `enable-cache hosts no` in /etc/nscd.conf".to_owned(),
        });
    }
    let switch = fs::read_to_string(root.join("etc/nsswitch.conf")).unwrap_or_default();
    let asks_resolved = switch
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("hosts:"))
        .any(|sources| sources.split_whitespace().any(|word| word == "resolve"));
    if asks_resolved && root.join("run/systemd/resolve/io.systemd.Resolve").exists() {
        hints.push(Hint {
            about: "host".to_owned(),
            what: "nss-resolve asks systemd-resolved over its own socket, where mesh names cannot be led"
                .to_owned(),
            next: "put `dns` before `resolve` in the hosts line of /etc/nsswitch.conf".to_owned(),
        });
    }
    hints
}

/// The proxy's sockets: see [`Sockets`].
pub(crate) struct ProxySockets {
    node: SharedNode,
    program: PathBuf,
    /// Those that programs are led to, while they are open.
    led: Vec<(SocketKind, OwnedFd)>,
    /// Who may have their ports when they are opened next.
    beside: Beside,
    /// For metrics. Open as long as the agent lives: somebody else could take the port meanwhile, and
    /// a scraper that finds no proxy has nowhere else to go.
    metrics: Option<(SocketKind, OwnedFd)>,
}

impl ProxySockets {
    pub(crate) fn new(node: SharedNode, beside: Beside, metrics: Option<OwnedFd>) -> Self {
        Self {
            node,
            program: PathBuf::from("/proc/self/exe"),
            led: Vec::new(),
            beside,
            metrics: metrics.map(|socket| (SocketKind::Metrics, socket)),
        }
    }
}

impl Sockets for ProxySockets {
    fn hand_over(&mut self, stream: &UnixStream) -> Result<(), selvedge_node::Error> {
        if self.led.is_empty() {
            let mut maker = Command::new(&self.program);
            maker.arg("make-sockets");
            self.led = self.node.lock().open_sockets(maker, self.beside)?;
            self.beside = Beside::Nobody;
        }
        Node::hand_over(stream, self.led.iter().chain(&self.metrics))
    }

    fn close(&mut self) {
        self.led.clear();
    }

    fn adopt(&mut self, pid: i32) -> Result<(), selvedge_node::Error> {
        self.node.lock().place_proxy(pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_answer_look_ups_elsewhere_are_named() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(hints(root.path()), []);
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("run/nscd/socket", "");
        write(
            "etc/nsswitch.conf",
            "passwd: files\nhosts: files resolve [!UNAVAIL=return] dns\n",
        );
        assert_eq!(hints(root.path()).len(), 1);
        write("run/systemd/resolve/io.systemd.Resolve", "");
        let found = hints(root.path());
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|hint| !hint.next.is_empty()));
    }

    #[test]
    fn limits_are_read_up_to_the_root() {
        let root = tempfile::tempdir().unwrap();
        let table = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = table
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap();
        let folder = root.path().join(own.trim_start_matches('/'));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("memory.max"), "max\n").unwrap();
        fs::write(folder.join("pids.max"), "33\n").unwrap();
        let limits = limits_of(std::process::id() as i32, root.path()).unwrap();
        assert_eq!(limits, [format!("pids.max 33 in {own}")]);
    }
}
