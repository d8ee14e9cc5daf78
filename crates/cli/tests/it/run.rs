//! `run`: as the program alone would be, but for its place in the mesh.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::mesh::Mesh;
use crate::process::{Process, eventually};

const TALK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/talk.py");
const PYTHON: &str = "/usr/bin/python3";
/// A user with no rights at all, on every Linux.
const NOBODY: u32 = 65_534;

fn has_no_workload(mesh: &Mesh) -> bool {
    mesh.status().workloads.is_empty()
}

fn has_nothing(mesh: &Mesh) -> bool {
    let status = mesh.status();
    status.workloads.is_empty() && status.services.is_empty()
}

#[test]
fn a_missing_program_is_said_and_leaves_nothing() {
    let test = "a_missing_program_is_said_and_leaves_nothing";
    let Some(mesh) = Mesh::start(test, &[]) else {
        return;
    };
    let (status, printed) = mesh.run_to_end("ghost", &["/no/such/program"]);
    assert_eq!(status, 127, "{printed}");
    assert!(printed.contains("/no/such/program"), "{printed}");
    assert!(eventually(|| has_nothing(&mesh)), "{:?}", mesh.status());
    // Missing or not, who finds out is the kernel: of this one only the interpreter is not there.
    let script = mesh.folder().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").expect("the folder is there");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let script = script.to_str().expect("it is plain");
    let several = ["ghost", "--replicas", "2", "--port", "80", "--", script];
    assert_eq!(mesh.run(&several).finish().0, 127);
    assert!(eventually(|| has_nothing(&mesh)), "{:?}", mesh.status());
}

/// Callers find a service again whose program has only ended: by the same address.
#[test]
fn a_program_that_ends_leaves_its_service() {
    let Some(mesh) = Mesh::start("a_program_that_ends_leaves_its_service", &[]) else {
        return;
    };
    let address = |program: &[&str], expected: i32| {
        assert_eq!(mesh.run_to_end("job", program).0, expected);
        assert!(eventually(|| has_no_workload(&mesh)));
        let status = mesh.status();
        status.services[0].address
    };
    let first = address(&["true"], 0);
    assert_eq!(address(&["/no/such/program"], 127), first);
}

#[test]
fn the_exit_status_is_the_programs_own() {
    let Some(mesh) = Mesh::start("the_exit_status_is_the_programs_own", &[]) else {
        return;
    };
    let status = |script: &str| mesh.run_to_end("job", &["sh", "-c", script]).0;
    assert_eq!(status("exit 0"), 0);
    assert_eq!(status("exit 7"), 7);
    assert_eq!(status("kill -KILL $$"), 128 + 9);
    assert!(eventually(|| has_no_workload(&mesh)));
}

#[test]
fn signals_reach_the_program() {
    let Some(mesh) = Mesh::start("signals_reach_the_program", &[]) else {
        return;
    };
    let script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut job = mesh.run(&["job", "--", "sh", "-c", script]);
    job.line("ready");
    job.signal(Signal::TERM);
    let (status, printed) = job.finish();
    assert_eq!(status, 3);
    assert!(printed.contains("told"), "{printed}");
    let mut job = mesh.run(&["job", "--", "sh", "-c", "echo ready; exec sleep 600"]);
    job.line("ready");
    job.signal(Signal::TERM);
    assert_eq!(job.finish().0, 128 + 15);
}

#[test]
fn several_replicas_are_told_apart() {
    let Some(mesh) = Mesh::start("several_replicas_are_told_apart", &[]) else {
        return;
    };
    let script = "echo hello; echo trouble >&2; exit 4";
    let (status, printed) = mesh
        .run(&["job", "--replicas", "2", "--", "sh", "-c", script])
        .finish();
    assert_eq!(status, 4, "the first failure counts");
    // The second replica has the first one's name if that has ended already.
    let mut said: Vec<_> = printed
        .lines()
        .map(|line| {
            line.split_once(" | ")
                .expect("a name stands before each line")
        })
        .collect();
    said.sort_unstable_by_key(|(_, text)| *text);
    assert!(
        said.iter()
            .all(|(name, _)| ["job-0", "job-1"].contains(name))
    );
    let texts: Vec<_> = said.iter().map(|(_, text)| *text).collect();
    assert_eq!(texts, ["hello", "hello", "trouble", "trouble"], "{printed}");
}

/// A program that forks into the background is a workload until its last process ends.
#[test]
fn daemons_are_followed() {
    let Some(mesh) = Mesh::start("daemons_are_followed", &["python3", "setsid"]) else {
        return;
    };
    let script = format!("setsid {PYTHON} {TALK} serve 8080 & echo daemon $!");
    let mut run = mesh.run(&["web", "--", "sh", "-c", &script]);
    mesh.await_listening("web", 1);
    assert!(!run.ended(), "its parent has ended, the workload has not");
    let call = [PYTHON, TALK, "call", "web", "8080", "1"];
    let (status, printed) = mesh.run_to_end("shop", &call);
    assert_eq!(status, 0, "{printed}");
    let answering = printed.split(' ').nth(4).and_then(|it| it.parse().ok());
    let daemon = answering
        .and_then(Pid::from_raw)
        .expect("a process has answered");
    kill_process(daemon, Signal::KILL).expect("it is there");
    assert_eq!(run.finish().0, 0, "the program itself succeeded");
    assert!(eventually(|| has_no_workload(&mesh)));
}

/// Users other than root run programs by leave only, which the refusal says how to give, and then
/// with their own rights.
#[test]
fn users_run_by_leave() {
    let Some(mesh) = Mesh::start("users_run_by_leave", &[]) else {
        return;
    };
    let run = |service: &str| {
        let mut command = mesh.command(&["run", service, "--", "id", "-u"]);
        command.uid(NOBODY).gid(NOBODY);
        Process::start(mesh.folder(), command).finish()
    };
    let (status, printed) = run("shop");
    assert_ne!(status, 0);
    assert!(
        printed.contains("RunPermission"),
        "it says how to be allowed: {printed}"
    );
    assert!(has_no_workload(&mesh));
    mesh.apply(&format!(
        "apiVersion: selvedge.dev/v1alpha1\n\
         kind: RunPermission\n\
         metadata: {{name: default}}\n\
         spec:\n\
         \x20 rules:\n\
         \x20 - subjects: [{{uid: {NOBODY}}}]\n\
         \x20   services: [{{name: shop}}]\n\
         \x20   shedLimits: true\n"
    ));
    assert_eq!(run("shop"), (0, format!("{NOBODY}\n")));
    assert_ne!(run("cart").0, 0, "leave is for one service");
}

/// Callers outside the mesh reach every replica on a published port.
#[test]
fn a_published_port_leads_to_every_replica() {
    let Some(mesh) = Mesh::start("a_published_port_leads_to_every_replica", &["python3"]) else {
        return;
    };
    let port = free_port();
    let publish = port.to_string();
    let _servers = mesh.run(&[
        "web",
        "--replicas",
        "2",
        "--publish",
        &publish,
        "--",
        PYTHON,
        TALK,
        "serve",
        "8080",
    ]);
    mesh.await_listening("web", 2);
    let mut processes = BTreeSet::new();
    let both = eventually(|| {
        if let Ok(connection) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            let mut line = String::new();
            let read = BufReader::new(connection).read_line(&mut line);
            read.expect("the server says a line");
            processes.extend(line.split(' ').next().map(str::to_owned));
        }
        processes.len() == 2
    });
    assert!(both, "only {processes:?} answer");
}

/// Replicas share a published UDP port, so that their answers come from there.
#[test]
fn a_published_udp_port_is_every_replicas() {
    let Some(mesh) = Mesh::start("a_published_udp_port_is_every_replicas", &["python3"]) else {
        return;
    };
    let answer = "import os, socket, sys\n\
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        own.bind((\"0.0.0.0\", int(sys.argv[1])))\n\
        while True:\n    _, caller = own.recvfrom(9)\n    own.sendto(str(os.getpid()).encode(), caller)\n";
    let port = free_port();
    let publish = format!("{port}/udp");
    let number = port.to_string();
    let words = ["dns", "--replicas", "2", "--publish", &publish, "--"];
    let _servers = mesh.run(&[&words[..], &[PYTHON, "-c", answer, &number]].concat());
    mesh.await_listening("dns", 2);
    let mut processes = BTreeSet::new();
    let both = eventually(|| {
        let caller = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Connected: it takes answers from the port it asked only.
        caller.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        caller
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        caller.send(b"?").unwrap();
        let mut buffer = [0; 16];
        let length = caller.recv(&mut buffer).expect("the server answers");
        processes.insert(buffer[..length].to_vec());
        processes.len() == 2
    });
    assert!(both, "only {processes:?} answer");
}

/// A port that nobody has, and from which nothing calls.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .expect("/proc is mounted");
    let first: u16 = range
        .split_whitespace()
        .next()
        .and_then(|it| it.parse().ok())
        .expect("it is a number");
    // Tests that run side by side look in different places.
    let start = 10_000 + (std::process::id() % 200) as u16 * 100;
    let start = start + 10 * NEXT.fetch_add(1, Ordering::Relaxed);
    (start..first)
        .find(|port| {
            let every = (Ipv4Addr::UNSPECIFIED, *port);
            TcpListener::bind(every).is_ok() && UdpSocket::bind(every).is_ok()
        })
        .expect("one of many ports is free")
}

/// A replica that publishes a port is up; another service's that asks for the port is refused at
/// once, and neither it nor the port's owner notices more than that.
#[test]
fn a_port_that_another_service_publishes_is_refused() {
    let test = "a_port_that_another_service_publishes_is_refused";
    let Some(mesh) = Mesh::start(test, &["python3"]) else {
        return;
    };
    let (port, served) = (free_port(), free_port().to_string());
    let publish = format!("{port}:{served}");
    let serve = ["--", PYTHON, TALK, "serve", &served];
    let run = |service, publish: &str| {
        let words = [service, "--publish", publish];
        mesh.run(&[&words[..], &serve].concat())
    };
    let mut server = run("first", &publish);
    mesh.await_listening("first", 1);
    let (status, printed) = run("second", &format!("{port}:8081")).finish();
    assert_eq!(status, 1, "{printed}");
    for part in [
        &format!("TCP port {port}"),
        "service second.default",
        "service first.default",
        "Workload default/first-0",
        "  cause ",
        "  next ",
    ] {
        assert!(printed.contains(part), "{part} is not in: {printed}");
    }
    let services = mesh.status().services;
    let names: Vec<_> = services.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["first"]);
    // The port that it serves is its own too.
    let (status, printed) = run("second", &served).finish();
    assert_eq!(status, 1, "{printed}");
    assert!(
        printed.contains("first-0.default of service first.default"),
        "{printed}"
    );
    // Whoever has seen the first end may go on at once.
    server.signal(Signal::TERM);
    server.finish();
    let mut second = run("second", &publish);
    mesh.await_listening("second", 1);
    let written = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: aaa}}\nspec: {{ports: [{{port: 80}}]}}\n\
         ---\napiVersion: selvedge.dev/v1alpha1\nkind: Workload\nmetadata: {{name: aaa}}\n\
         spec: {{service: aaa, cgroup: /not-there, publish: [{{port: {port}}}]}}\n"
    );
    let written = mesh.file("written.yaml", &written);
    let (_, refusal) = mesh.refused(&["apply", "-f", &written]);
    assert!(
        refusal.contains("Workload default/aaa: spec.publish[0]"),
        "{refusal}"
    );
    assert!(
        refusal.contains("leads to service second.default"),
        "{refusal}"
    );
    second.signal(Signal::TERM);
    second.finish();
    mesh.ask(&["apply", "-f", &written]);
    // Over UDP the number is another port.
    let _server = run("third", &format!("{port}/udp"));
    mesh.await_listening("third", 1);
}

/// Both would lead callers of the port, and neither has a listener there that the other could see.
#[test]
fn a_port_that_another_mesh_publishes_is_refused() {
    let test = "a_port_that_another_mesh_publishes_is_refused";
    let (Some(mesh), Some(other)) = (Mesh::start(test, &["python3"]), Mesh::start(test, &[]))
    else {
        return;
    };
    let publish = free_port().to_string();
    let words = ["web", "--publish", &publish, "--"];
    let _server = mesh.run(&[&words[..], &[PYTHON, TALK, "serve", "8080"]].concat());
    mesh.await_listening("web", 1);
    let mut refused = other.run(&[&words[..], &["sleep", "600"]].concat());
    let (status, printed) = refused.finish();
    assert_eq!(status, 1, "{printed}");
    for part in [&publish[..], "another mesh", "  cause ", "  next "] {
        assert!(printed.contains(part), "{part} is not in: {printed}");
    }
    assert!(eventually(|| has_no_workload(&other)));
}

#[test]
fn a_taken_port_is_not_published() {
    let Some(mesh) = Mesh::start("a_taken_port_is_not_published", &[]) else {
        return;
    };
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tcp = taken.local_addr().unwrap().port();
    let taken_too = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp = taken_too.local_addr().unwrap().port();
    for (publish, named) in [
        (format!("{tcp}"), format!("TCP port {tcp}")),
        (format!("{udp}/udp"), format!("UDP port {udp}")),
    ] {
        let (status, printed) = mesh
            .run(&["web", "--publish", &publish, "--", "sleep", "600"])
            .finish();
        assert_eq!(status, 1, "{printed}");
        for part in [&named[..], "outside the mesh", "  next "] {
            assert!(printed.contains(part), "{part} is not in: {printed}");
        }
        assert!(eventually(|| has_no_workload(&mesh)));
    }
}
