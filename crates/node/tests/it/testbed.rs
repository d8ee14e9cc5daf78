//! A mesh for one test, and its workloads.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use selvedge_model::{
    CgroupId, DnsSettings, Edge, EdgeCounters, Endpoint, FeatureState, Generation, Label, Place,
    Port, PortMode, Protocol, Service, ServiceName, ServicePort, Snapshot, Workload, WorkloadName,
};
use selvedge_node::{Node, Options, Remains};

use crate::child::{ENVIRONMENT, Host, MAKER};

/// One mesh. Dropping it ends its programs and removes everything.
pub(crate) struct Testbed {
    pub(crate) node: Option<Node>,
    pub(crate) options: Options,
    pub(crate) snapshot: Snapshot,
    _folder: tempfile::TempDir,
}

thread_local! {
    static HAS_OWN_NETWORK: Cell<bool> = const { Cell::new(false) };
}

/// Moves this thread, and with it the test and its programs, into a network namespace of its own:
/// whatever port a test names is free there, and nobody else's is touched. It ends with the thread.
fn enter_own_network() {
    if HAS_OWN_NETWORK.replace(true) {
        return;
    }
    let thread = rustix::thread::gettid().as_raw_nonzero();
    let name = format!("sv{}-{thread}", std::process::id());
    run(&format!("ip netns add {name}"));
    let network = File::open(format!("/run/netns/{name}")).expect("it was just made");
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter it");
    // It needs no name any more.
    run(&format!("ip netns del {name}"));
    run("ip link set lo up");
}

/// Runs a command line, which must not fail.
pub(crate) fn run(line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let status = Command::new(words[0]).args(&words[1..]).status();
    assert!(status.is_ok_and(|status| status.success()), "{line}");
}

/// A number no other test of any process has at this moment; its first user is shown by a cgroup.
static NEXT: AtomicU16 = AtomicU16::new(0);

impl Testbed {
    /// A mesh with nothing in it; `None`, with the reason printed, where it cannot be had.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if let Some(reason) = missing() {
            skip(test, reason);
            return None;
        }
        enter_own_network();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut options = Options::new(folder.path().join("run"));
        options.cgroup = format!("selvedge-test-{}-{number}", std::process::id());
        options.private_ports = (61_000 + 200 * (number % 20), 200);
        let node = Node::start(options.clone()).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let mut snapshot = Snapshot::empty();
        snapshot.virtual_range = (Ipv4Addr::new(127, 96, number as u8, 0), 24);
        Some(Self {
            node: Some(node),
            options,
            snapshot,
            _folder: folder,
        })
    }

    pub(crate) fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("the node is up")
    }

    /// The agent is gone, as after `kill -9`: what it held is dropped and nothing is removed.
    pub(crate) fn lose_agent(&mut self) {
        self.node = None;
    }

    /// A new agent adopts what is there.
    pub(crate) fn start_agent(&mut self) {
        let node = Node::start(self.options.clone());
        self.node = Some(node.unwrap_or_else(|error| panic!("{}", chain(&error))));
        self.apply();
    }

    /// A service with one port and no endpoints yet; gives its virtual address.
    pub(crate) fn service(&mut self, name: &str, port: u16, protocol: Protocol) -> Ipv4Addr {
        let number = self.snapshot.services.len() as u32 + 1;
        let address = Ipv4Addr::from_bits(self.snapshot.virtual_range.0.to_bits() + number);
        let name = ServiceName::new(Label::default_namespace(), Label::new(name).unwrap());
        let port = ServicePort {
            name: None,
            port: Port::new(port).unwrap(),
            protocol,
            app_protocol: None,
            endpoints: Vec::new(),
            way: selvedge_model::Way::Direct,
        };
        let service = Service {
            name: name.clone(),
            address,
            ports: vec![port],
            published: Vec::new(),
            published_udp: Vec::new(),
            connection_limit: None,
            detailed_counters: false,
            requests: None,
        };
        self.snapshot.services.insert(name, service);
        address
    }

    pub(crate) fn service_mut(&mut self, name: &str) -> &mut Service {
        self.snapshot
            .services
            .get_mut(&name.parse().unwrap())
            .expect("the service is there")
    }

    /// Adds an endpoint to the service's only port.
    pub(crate) fn endpoint(&mut self, service: &str, place: Place, port: u16, weight: u16) {
        let port = Port::new(port).unwrap();
        let endpoint = Endpoint {
            place,
            port,
            weight,
            ready: true,
        };
        self.service_mut(service).ports[0].endpoints.push(endpoint);
    }

    /// A running program that is a workload of the service.
    pub(crate) fn program(&mut self, service: &str, name: &str) -> Program {
        self.program_with(service, name, PortMode::Shared)
    }

    pub(crate) fn program_with(&mut self, service: &str, name: &str, ports: PortMode) -> Program {
        let name = WorkloadName {
            namespace: Label::default_namespace(),
            name: Label::new(name).unwrap(),
        };
        let cgroup = self
            .node()
            .add_workload(&name)
            .expect("a cgroup can be made");
        let workload = Workload {
            name: name.clone(),
            service: service.parse().unwrap(),
            cgroup,
            ports,
            dns: DnsSettings::default(),
        };
        self.snapshot.workloads.insert(cgroup, workload);
        self.apply();
        let mut program = Program::start(cgroup, &[]);
        let pid = program.pid();
        self.node()
            .place(pidfd(pid), pid, &name)
            .expect("a child can be placed");
        assert_eq!(program.tell("hello"), "hello");
        program
    }

    /// Applies the snapshot as it stands.
    pub(crate) fn apply(&mut self) {
        self.snapshot.generation = Generation(self.snapshot.generation.0 + 1);
        let snapshot = self.snapshot.clone();
        self.node()
            .apply(&snapshot)
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
    }

    /// The counters of one edge.
    pub(crate) fn edge(
        &mut self,
        source: Option<Ipv4Addr>,
        destination: impl Into<Option<Ipv4Addr>>,
    ) -> EdgeCounters {
        let destination = destination.into();
        let edges: BTreeMap<Edge, EdgeCounters> = self.node().observe().unwrap().edges;
        edges
            .get(&Edge {
                source,
                destination,
            })
            .cloned()
            .unwrap_or_default()
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.node = None;
        let remains = Remains::of(self.options.clone()).expect("cgroup2 is there");
        remains.kill();
        let ended = eventually(|| remains.running().is_ok_and(|left| left.is_empty()));
        // A cgroup is busy for a moment after its last process.
        if !ended || !eventually(|| remains.clear().is_ok()) {
            eprintln!("left behind: {:?}", remains.clear().err());
        }
    }
}

/// One child process with a script: see `child`.
pub(crate) struct Program {
    pub(crate) cgroup: CgroupId,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// A program outside any workload.
    pub(crate) fn outside() -> Self {
        Self::start(CgroupId(0), &[])
    }

    /// A program in the network namespace `name`, outside any workload.
    pub(crate) fn in_namespace(name: &str) -> Self {
        Self::start(CgroupId(0), &["ip", "netns", "exec", name])
    }

    /// Makes the program, so far outside any workload, one of this cgroup.
    pub(crate) fn belongs_to(mut self, cgroup: CgroupId) -> Self {
        self.cgroup = cgroup;
        self
    }

    /// `wrapper` is a command that becomes the one behind it.
    fn start(cgroup: CgroupId, wrapper: &[&str]) -> Self {
        let this = std::env::current_exe().expect("this binary has a path");
        let mut words = wrapper.iter().map(OsStr::new).chain([this.as_os_str()]);
        let mut child = Command::new(words.next().expect("there is a program"))
            .args(words)
            .args(["child::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(ENVIRONMENT, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary can be started again");
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            cgroup,
            child,
            stdin,
            stdout,
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Has the program do something; gives its answer.
    pub(crate) fn tell(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").expect("the child reads");
        let mut answer = String::new();
        loop {
            answer.clear();
            let read = self
                .stdout
                .read_line(&mut answer)
                .expect("the child writes");
            assert!(read > 0, "the child ended at `{line}`");
            if let Some(answer) = answer.strip_prefix("> ") {
                return answer.trim_end().to_owned();
            }
        }
    }

    /// As `kill -9`, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

/// How long a slow machine may need for something.
pub(crate) fn patience() -> Duration {
    let factor = std::env::var("SELVEDGE_TEST_SLOW").ok();
    let factor = factor.and_then(|it| it.parse().ok()).unwrap_or(1);
    Duration::from_secs(20) * factor
}

/// Waits until `holds`, for as long as a slow machine may need; whether it came to hold.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience();
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// Waits until `bind` has its port, and lets go of it. A program that another test is just starting has
/// a copy of each socket of this process until it executes: what was closed here may have its port a
/// while longer.
pub(crate) fn once_free<T>(mut bind: impl FnMut() -> io::Result<T>) {
    assert!(eventually(|| bind().is_ok()), "the port stays in use");
}

/// The command that makes the proxy's sockets.
pub(crate) fn maker() -> Command {
    maker_on(Host::Usual)
}

pub(crate) fn maker_on(host: Host) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(ENVIRONMENT, "1")
        .env(MAKER, host.word())
        .stdout(Stdio::null());
    command
}

/// A child of this process, as a pidfd.
pub(crate) fn pidfd(pid: i32) -> OwnedFd {
    let pid = Pid::from_raw(pid).expect("children have numbers");
    pidfd_open(pid, PidfdFlags::empty()).expect("a child is there until it is waited for")
}

/// The local address that the place `place` is.
pub(crate) fn local(program: &Program) -> Place {
    Place::Local(program.cgroup)
}

impl Testbed {
    /// Whether the kernel forbids root to load an iterator, as some that run in virtual machines do; then the
    /// test is counted as skipped.
    pub(crate) fn lacks_iterators(&mut self, test: &str) -> bool {
        let features = self.node().status().unwrap().features;
        let reason = features.into_iter().find_map(|it| match it.state {
            FeatureState::Missing { reason } if it.name == "pinned" => Some(reason),
            _ => None,
        });
        let refused = reason.filter(|reason| reason.contains("EPERM"));
        if let Some(reason) = &refused {
            // The kernel's words have lines, and a skip has one.
            skip(test, reason.lines().next().unwrap_or_default());
        }
        refused.is_some()
    }
}

/// Says that a test did not run, where the run counts it.
pub(crate) fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {reason}");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("SELVEDGE_SKIP_LOG").map(PathBuf::from) {
        let file = fs::OpenOptions::new().create(true).append(true).open(log);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.expect("SELVEDGE_SKIP_LOG names a file that can be written");
    }
}

/// Why the kernel path cannot be had here, if so.
fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounts.contains(" - cgroup2 ") {
        return Some("no cgroup2 file system is mounted");
    }
    if !PathBuf::from("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF");
    }
    if Command::new("ip").arg("-V").output().is_err() {
        return Some("ip (iproute2) is not installed");
    }
    None
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
