//! `up` and `down`: one mesh at a time, and no trace afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mesh::Mesh;
use crate::process::Process;

const TALK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/talk.py");

/// BPF objects of one kind, by id.
type Ids = BTreeSet<u64>;

/// Programs, maps and links, in this order.
struct Objects([Ids; 3]);

impl Objects {
    /// Those of the whole host, links by the program they attach.
    fn of_host() -> Self {
        Self([ids("prog", "id"), ids("map", "id"), ids("link", "prog_id")])
    }

    /// Those that a process holds (proc_pid_fdinfo(5)), and the links of its programs.
    fn of_process(process: u32) -> Self {
        let infos = fs::read_dir(format!("/proc/{process}/fdinfo")).expect("it is there");
        let texts = infos
            .flatten()
            .filter_map(|info| fs::read_to_string(info.path()).ok());
        let texts: String = texts.collect();
        let held = |name: &str| -> Ids {
            let ids = texts.lines().filter_map(|line| line.strip_prefix(name));
            ids.filter_map(|id| id.trim().parse().ok()).collect()
        };
        let programs = held("prog_id:");
        let links = ids("link", "prog_id")
            .intersection(&programs)
            .copied()
            .collect();
        Self([programs, held("map_id:"), links])
    }

    fn both(&self, other: &Self) -> usize {
        let pairs = self.0.iter().zip(&other.0);
        pairs
            .map(|(these, those)| these.intersection(those).count())
            .sum()
    }
}

/// What `bpftool` lists of `kind`, by `field`.
fn ids(kind: &str, field: &str) -> Ids {
    let output = Command::new("bpftool").args(["-j", kind, "show"]).output();
    let output = output.expect("bpftool is there");
    let listed: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).expect("bpftool prints a list");
    listed
        .iter()
        .filter_map(|entry| entry[field].as_u64())
        .collect()
}

/// The sockets a process holds, by inode.
fn sockets(process: u32) -> BTreeSet<String> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("the process is there");
    let links = descriptors
        .flatten()
        .filter_map(|it| fs::read_link(it.path()).ok());
    let inode = |link: std::path::PathBuf| {
        let text = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(text.to_owned())
    };
    links.filter_map(inode).collect()
}

/// The host's sockets, by inode.
fn all_sockets() -> BTreeSet<String> {
    let tables = ["tcp", "tcp6", "udp", "udp6", "unix"].into_iter();
    let texts =
        tables.map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
    texts
        .flat_map(|text| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn network_configuration() -> String {
    let print = |words: &[&str]| {
        let output = Command::new("ip")
            .args(words)
            .output()
            .expect("ip is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    [
        print(&["address", "show", "dev", "lo"]),
        print(&["rule"]),
        print(&["route", "show", "table", "all"]),
        print(&["-6", "route", "show", "table", "all"]),
    ]
    .join("\n")
}

/// The first cgroup2 mount.
fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let mut mounts = mounts.lines().filter(|line| line.contains(" cgroup2 "));
    let root = mounts.find_map(|line| line.split(' ').nth(1));
    root.expect("a mesh needs one").into()
}

pub(crate) fn cgroup_exists(cgroup: &str) -> bool {
    cgroup_root().join(cgroup).exists()
}

/// Everything that a mesh with traffic has put into the kernel and the file system is gone after
/// `down`. Other meshes may come and go meanwhile, so what is looked for is what was this one's.
#[test]
fn down_leaves_nothing() {
    let Some(mut mesh) = Mesh::prepare("down_leaves_nothing", &["bpftool", "ip", "python3"]) else {
        return;
    };
    let network = network_configuration();
    mesh.start_agent();
    let serve = ["/usr/bin/python3", TALK, "serve", "8080"];
    let mut servers = mesh.run(&[&["web", "--replicas", "2", "--"], &serve[..]].concat());
    mesh.await_listening("web", 2);
    let call = ["/usr/bin/python3", TALK, "call", "web", "8080", "1"];
    assert_eq!(mesh.run_to_end("shop", &call).0, 0);

    let status = mesh.status();
    let agent = status.agent.pid;
    let proxy = status.proxy.pid.expect("the proxy is there");
    let ours = Objects::of_process(agent);
    assert!(ours.0.iter().all(|ids| !ids.is_empty()), "{:?}", ours.0);
    assert!(ours.both(&Objects::of_host()) > 0);
    let our_sockets: BTreeSet<_> = sockets(agent).union(&sockets(proxy)).cloned().collect();
    assert!(!our_sockets.is_disjoint(&all_sockets()), "{our_sockets:?}");
    assert!(cgroup_exists(mesh.cgroup()));

    let refusal = mesh.down(&[]);
    let errors = String::from_utf8_lossy(&refusal.stderr);
    assert!(!refusal.status.success(), "workloads run");
    assert!(
        errors.contains("web-0") && errors.contains("web-1"),
        "they are listed: {errors}"
    );

    let down = mesh.down(&["--stop"]);
    assert!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );
    servers.finish();
    let left = || {
        let sockets = our_sockets.intersection(&all_sockets()).count();
        ours.both(&Objects::of_host()) + sockets
    };
    // The kernel frees programs and maps a moment after their last user is gone.
    assert!(
        crate::process::eventually(|| left() == 0),
        "{} things are left",
        left()
    );
    assert!(!cgroup_exists(mesh.cgroup()), "the cgroups are gone");
    assert!(!mesh.run_dir().exists(), "the run-time folder is gone");
    assert!(!mesh.state_dir().exists(), "the state is gone");
    for process in [agent, proxy] {
        assert!(!Path::new(&format!("/proc/{process}")).exists() || mesh.agent().ended());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    assert!(
        !mounts.contains(mesh.folder().to_str().expect("it is plain")),
        "{mounts}"
    );
    assert_eq!(network_configuration(), network);
}

#[test]
fn a_second_agent_says_who_is_there() {
    let Some(mesh) = Mesh::start("a_second_agent_says_who_is_there", &[]) else {
        return;
    };
    let second = mesh.up().output().expect("the binary is there");
    let errors = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{errors}");
    let first = mesh.status().agent.pid.to_string();
    assert!(
        errors.contains(&first),
        "process {first} is named: {errors}"
    );
}

/// A second mesh on the first one's state or cgroup would write over the one and end what runs in the
/// other; its own run folder does not make it another mesh.
#[test]
fn meshes_share_neither_state_nor_cgroup() {
    let Some(mut mesh) = Mesh::start("meshes_share_neither_state_nor_cgroup", &[]) else {
        return;
    };
    let own_run = mesh.folder().join("second-run");
    let own_state = mesh.folder().join("second-state");
    let refused = |mut second: Command, named: &Path| {
        let output = second.env("SELVEDGE_RUN_DIR", &own_run).output();
        let output = output.expect("the binary is there");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let named = named.to_str().expect("our names are plain");
        assert!(errors.contains(named), "{named} is named: {errors}");
        assert!(!own_run.exists() && !own_state.exists(), "nothing is left");
    };
    let other_cgroup = format!("{}-second", mesh.cgroup);
    let second = mesh.up_with(&other_cgroup, &mesh.state_dir());
    refused(second, &mesh.state_dir());
    let run_dir = mesh.run_dir();
    refused(mesh.up_with(&mesh.cgroup, &own_state), &run_dir);
    // One that is nobody's mesh is not taken, and not emptied at the end.
    let foreign = format!("{}-foreign", mesh.cgroup);
    let folder = cgroup_root().join(&foreign);
    fs::create_dir_all(folder.join("unit")).expect("root makes cgroups");
    refused(mesh.up_with(&foreign, &own_state), &folder);
    fs::remove_dir(folder.join("unit")).expect("it is still there");
    fs::remove_dir(folder).expect("it is still there");
    // The cgroup outlives the agent, and so does the claim.
    mesh.kill_both();
    refused(mesh.up_with(&mesh.cgroup, &own_state), &run_dir);
    mesh.start_agent();
}

/// A program with a child, which both say when they are asked to end. The program leaves once the file
/// that is named exists, without its child.
const FAMILY: &str = r#"
import os, signal, sys, time
program = os.getpid()
def say(line):
    os.write(1, line.encode() + b"\n")
def ask_child(*_):
    say("child asked first" if os.getppid() == program else "child asked last")
    os._exit(0)
def ask_program(*_):
    say("program asked")
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    os._exit(0)
signal.signal(signal.SIGTERM, ask_program if os.fork() else ask_child)
say("ready")
while True:
    signal.pause()
"#;

/// [`FAMILY`] as a workload, and the file that it waits for.
fn start_family(mesh: &Mesh) -> (Process, PathBuf) {
    let gate = mesh.folder().join("gate");
    let gate_path = gate.to_str().expect("our names are plain");
    let mut family = mesh.run(&["family", "--", "/usr/bin/python3", "-c", FAMILY, gate_path]);
    family.lines("ready", 2);
    (family, gate)
}

/// A prefork server ends its workers itself; but whoever it leaves behind is asked too.
#[test]
fn programs_are_asked_to_end_before_what_they_started() {
    let Some(mesh) = Mesh::start("programs_are_asked_to_end_first", &["python3"]) else {
        return;
    };
    let (mut family, gate) = start_family(&mesh);
    let mut down = Process::start(mesh.folder(), mesh.command(&["down", "--stop"]));
    family.line("program asked");
    // The agent does one thing after another: whoever is asked with the program was asked by now.
    mesh.status();
    fs::write(gate, "").expect("the test's folder can be written");
    assert_eq!(down.finish().0, 0);
    let (_, printed) = family.finish();
    assert!(printed.contains("child asked last"), "{printed}");
}

/// Whatever is started again and again would keep a mesh up for ever.
#[test]
fn a_mesh_that_goes_down_takes_no_workload() {
    let Some(mesh) = Mesh::start("a_mesh_that_goes_down_takes_no_workload", &["python3"]) else {
        return;
    };
    let (mut family, gate) = start_family(&mesh);
    // One that is refused leaves the mesh as it was.
    assert!(!mesh.down(&[]).status.success());
    assert_eq!(mesh.run_to_end("early", &["/bin/true"]).0, 0);
    let mut down = Process::start(mesh.folder(), mesh.command(&["down", "--stop"]));
    family.line("program asked");
    let (_, message) = mesh.refused(&["run", "late", "--", "/bin/true"]);
    assert!(message.contains("going down"), "{message}");
    fs::write(gate, "").expect("the test's folder can be written");
    let (code, printed) = down.finish();
    assert_eq!(code, 0, "{printed}");
    assert!(!printed.contains("late"), "{printed}");
}

/// A shell that starts one program after another has always one that ends, or begins, as it is moved.
#[test]
fn what_forks_can_be_detached() {
    let Some(mesh) = Mesh::start("what_forks_can_be_detached", &["sh"]) else {
        return;
    };
    let forking = "echo ready; while /bin/true; do :; done";
    let mut shell = mesh.run(&["busy", "--", "/bin/sh", "-c", forking]);
    shell.line("ready");
    let down = mesh.down(&["--detach"]);
    assert!(down.status.success(), "{down:?}");
    assert!(!cgroup_exists(mesh.cgroup()), "the cgroups are gone");
    assert!(!shell.ended(), "it runs on");
}

/// Whoever types `selvedge up &` goes on at once; and a mesh is not pulled from under an agent that
/// is about to come up.
#[test]
fn an_agent_that_starts_is_waited_for() {
    let Some(mesh) = Mesh::prepare("an_agent_that_starts_is_waited_for", &[]) else {
        return;
    };
    let settings = mesh.run_dir().join("settings.json");
    let mut agent = Process::start(mesh.folder(), mesh.up());
    assert!(crate::process::eventually(|| settings.exists()));
    assert_eq!(mesh.run_to_end("job", &["/bin/true"]).0, 0);
    assert!(mesh.down(&[]).status.success());
    assert_eq!(agent.finish().0, 0);

    let mut agent = Process::start(mesh.folder(), mesh.up());
    assert!(crate::process::eventually(|| settings.exists()));
    let down = mesh.down(&["--keep-state"]);
    assert!(down.status.success(), "{down:?}");
    let (code, printed) = agent.finish();
    assert_eq!(code, 0, "{printed}");
}

/// What `down` leaves behind would be in the way of the next `up`.
#[test]
fn a_mesh_can_be_had_twice() {
    let Some(mut mesh) = Mesh::prepare("a_mesh_can_be_had_twice", &["python3"]) else {
        return;
    };
    for _ in 0..2 {
        mesh.start_agent();
        let _server = mesh.run(&["web", "--", "/usr/bin/python3", TALK, "serve", "8080"]);
        mesh.await_listening("web", 1);
        let down = mesh.down(&["--stop"]);
        assert!(
            down.status.success(),
            "{}",
            String::from_utf8_lossy(&down.stderr)
        );
    }
}
