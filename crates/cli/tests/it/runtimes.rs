//! Programs of every runtime resolve, listen, connect and see the addresses they asked for.
//!
//! Each test runs two replicas of a small program on the same port, and a caller of the same runtime
//! that knows the service by name alone. nginx and Redis are told the same by their configuration.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mesh::Mesh;
use crate::process::eventually;

/// The port that all replicas ask for.
const PORT: &str = "8080";
/// Calls that are made, so that both replicas answer some.
const CALLS: &str = "20";

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn build(command: &mut Command) {
    let output = command.output().expect("the compiler is there");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// One call as the caller printed it: `called FOUND OWN PEER PROCESS OWN-OF-SERVER PEER-OF-SERVER`.
struct Call {
    found: String,
    own: SocketAddr,
    peer: SocketAddr,
    process: u32,
    server_own: SocketAddr,
    server_peer: SocketAddr,
}

impl Call {
    fn read(line: &str) -> Self {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, found, own, peer, process, server_own, server_peer] = words[..] else {
            panic!("`{line}` is not a call");
        };
        Self {
            found: found.to_owned(),
            own: address(own),
            peer: address(peer),
            process: process.parse().expect("it is a number"),
            server_own: address(server_own),
            server_peer: address(server_peer),
        }
    }
}

/// An address as a program printed it; sockets of both families show IPv4 in its mapped form.
fn address(text: &str) -> SocketAddr {
    let text = text.strip_prefix("::ffff:").unwrap_or(text);
    text.parse()
        .unwrap_or_else(|error| panic!("`{text}`: {error}"))
}

/// Runs two replicas and a caller of `program` and checks what each of them saw.
fn check(mesh: &Mesh, program: &[&str]) {
    let replicas = ["web", "--replicas", "2", "--"];
    let arguments = [&replicas[..], program, &["serve", PORT]].concat();
    let mut servers = mesh.run(&arguments);
    for line in servers.lines("listening", 2) {
        assert!(
            line.ends_with(":8080"),
            "a replica thinks it has another port: {line}"
        );
    }
    mesh.await_listening("web", 2);
    let call = [program, &["call", "web", PORT, CALLS]].concat();
    let (status, printed) = mesh.run_to_end("shop", &call);
    assert_eq!(status, 0, "{printed}");

    let virtual_address = mesh.service("web").address.expect("it has one");
    let calls: Vec<_> = printed.lines().map(Call::read).collect();
    assert_eq!(calls.len().to_string(), CALLS);
    for call in &calls {
        assert_eq!(call.found, virtual_address.to_string());
        assert_eq!(call.peer, SocketAddr::new(virtual_address.into(), 8080));
        assert_eq!(call.server_own.port(), 8080);
        assert_eq!(
            call.own, call.server_peer,
            "both ends agree about the caller"
        );
    }
    let replicas: BTreeSet<_> = calls.iter().map(|call| call.process).collect();
    assert_eq!(replicas.len(), 2, "both replicas answer");
}

#[test]
fn glibc() {
    let Some(mesh) = Mesh::start("glibc", &["cc"]) else {
        return;
    };
    let program = mesh.folder().join("talk");
    build(
        Command::new("cc")
            .args([&fixture("talk.c"), "-o"])
            .arg(&program),
    );
    check(&mesh, &[program.to_str().unwrap()]);
}

#[test]
fn musl() {
    let Some(mesh) = Mesh::start("musl", &["musl-gcc"]) else {
        return;
    };
    let program = mesh.folder().join("talk");
    let mut compiler = Command::new("musl-gcc");
    build(
        compiler
            .args(["-static", &fixture("talk.c"), "-o"])
            .arg(&program),
    );
    check(&mesh, &[program.to_str().unwrap()]);
}

/// Go without C: it asks the resolver by itself, and listens with multipath TCP where it can.
#[test]
fn go() {
    let Some(mesh) = Mesh::start("go", &["go"]) else {
        return;
    };
    let program = mesh.folder().join("talk");
    // Building the standard library takes ten seconds: once is enough.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    let mut compiler = Command::new("go");
    compiler
        .args(["build", "-o"])
        .args([&program, &PathBuf::from(fixture("talk.go"))])
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", cache)
        .current_dir(mesh.folder());
    build(&mut compiler);
    check(&mesh, &[program.to_str().unwrap()]);
}

#[test]
fn node() {
    let Some(mesh) = Mesh::start("node", &["node"]) else {
        return;
    };
    check(&mesh, &["node", &fixture("talk.js")]);
}

#[test]
fn java() {
    let Some(mesh) = Mesh::start("java", &["java", "javac"]) else {
        return;
    };
    // Two replicas start at once on few processors: the quick compiler is enough for them.
    check(
        &mesh,
        &[
            "java",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            &fixture("Talk.java"),
        ],
    );
}

#[test]
fn python_asyncio() {
    let Some(mesh) = Mesh::start("python_asyncio", &["python3"]) else {
        return;
    };
    check(&mesh, &["/usr/bin/python3", &fixture("talk.py")]);
}

/// nginx writes both addresses of each connection, and reaches other nginxes by their service's name.
#[test]
fn nginx() {
    let Some(mesh) = Mesh::start("nginx", &["nginx", "curl"]) else {
        return;
    };
    let run = |service: &str, replicas: &str, location: &str| {
        let mut all = Vec::new();
        for number in 0..replicas.parse().unwrap() {
            let folder = mesh.folder().join(format!("{service}-{number}"));
            fs::create_dir(&folder).unwrap();
            let text = fs::read_to_string(fixture("nginx.conf")).unwrap();
            fs::write(
                folder.join("nginx.conf"),
                text.replace("LOCATION", location),
            )
            .unwrap();
            let folder = folder.to_str().unwrap();
            let command = ["nginx", "-e", "stderr", "-c", "nginx.conf", "-p", folder];
            all.push(mesh.run(&[&[service, "--"], &command[..]].concat()));
            mesh.await_listening(service, number + 1);
        }
        all
    };
    let said = "return 200 \"$pid $server_port $remote_addr:$remote_port\\n\";";
    let _servers = run("web", "2", said);
    let passed_on = "proxy_pass http://web:8080; add_header X-Upstream $upstream_addr;";
    let _front = run("front", "1", passed_on);

    let virtual_address = mesh.service("web").address.expect("it has one");
    let mut processes = BTreeSet::new();
    let call = ["curl", "-si", "http://front:8080/"];
    let both = eventually(|| {
        let (status, printed) = mesh.run_to_end("shop", &call);
        assert_eq!(status, 0, "{printed}");
        // With or without brackets and the prefix of the v4-mapped form.
        let upstream = printed
            .lines()
            .find(|line| line.starts_with("X-Upstream: "));
        let upstream = upstream.expect("it was passed on").replace(']', "");
        assert!(
            upstream.ends_with(&format!("{virtual_address}:8080")),
            "{printed}"
        );
        let words: Vec<_> = printed.lines().last().unwrap().split(' ').collect();
        assert_eq!(words[1], "8080", "{printed}");
        assert!(words[2].starts_with("127.0.0.1:"), "{printed}");
        processes.insert(words[0].to_owned());
        processes.len() == 2
    });
    assert!(both, "one of two replicas answers everything");
}

/// Redis follows a leader that it knows by name, and says what both ends of a connection are.
#[test]
fn redis() {
    let Some(mesh) = Mesh::start("redis", &["redis-server", "redis-cli"]) else {
        return;
    };
    let server = [
        "redis-server",
        "--save",
        "",
        "--dir",
        mesh.folder().to_str().unwrap(),
    ];
    let _leader = mesh.run(&[&["leader", "--"], &server[..]].concat());
    mesh.await_listening("leader", 1);
    let follow = ["--replicaof", "leader", "6379"];
    let follower = [&["follower", "--replicas", "2", "--"], &server[..], &follow].concat();
    let _followers = mesh.run(&follower);
    mesh.await_listening("follower", 2);

    let ask = |service: &str, words: &[&str]| {
        let call = [&["redis-cli", "-h", service], words].concat();
        let (status, printed) = mesh.run_to_end("shop", &call);
        assert_eq!(status, 0, "{printed}");
        printed
    };
    let following = || ask("leader", &["INFO", "replication"]).contains("connected_slaves:2");
    assert!(
        eventually(following),
        "two servers on one port follow the leader"
    );
    let client = ask("leader", &["CLIENT", "INFO"]);
    assert!(client.contains(" laddr=127.0.0.1:6379 "), "{client}");
    assert!(client.contains(" addr=127.0.0.1:"), "{client}");
    let processes = || ask("follower", &["INFO", "server"]);
    let first = processes();
    assert!(
        eventually(|| process_id(&processes()) != process_id(&first)),
        "both answer"
    );
}

fn process_id(info: &str) -> Option<&str> {
    info.lines().find(|line| line.starts_with("process_id:"))
}
