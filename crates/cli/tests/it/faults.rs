//! Agent, proxy or both are killed while programs connect: no connection fails, and the next agent
//! finds everything as it was.

use std::fs;

use rustix::process::Signal;

use crate::mesh::Mesh;
use crate::process::{Process, eventually};

const TALK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/talk.py");
const CONNECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/connects.py");
const PYTHON: &str = "/usr/bin/python3";

/// Two replicas and a program that connects to them for ever.
struct Traffic {
    _servers: Process,
    caller: Process,
}

impl Traffic {
    fn start(mesh: &Mesh) -> Self {
        let servers = [
            "web",
            "--replicas",
            "2",
            "--",
            PYTHON,
            TALK,
            "serve",
            "8080",
        ];
        let servers = mesh.run(&servers);
        mesh.await_listening("web", 2);
        let mut caller = mesh.run(&["shop", "--", PYTHON, CONNECTS, "web", "8080"]);
        caller.line("connected 100 times");
        Self {
            _servers: servers,
            caller,
        }
    }

    /// Waits until a few hundred more connections are made; none of all may have failed.
    fn goes_on(&mut self) {
        let before = self.caller.printed().matches("connected").count();
        self.caller.lines("connected", before + 3);
        let printed = self.caller.printed();
        assert!(!printed.contains("failed"), "{printed}");
    }
}

/// What must be the same before and after.
fn remembered(mesh: &Mesh) -> (Vec<(String, String)>, u64) {
    let services = mesh.status().services.into_iter().map(|service| {
        let ports = service.ports.into_iter().flat_map(|port| port.endpoints);
        let mut endpoints: Vec<_> = ports
            .map(|it| format!("{} {}", it.place, it.state))
            .collect();
        endpoints.sort();
        (
            format!("{} {:?}", service.name, service.address),
            endpoints.join(", "),
        )
    });
    let connections = mesh.graph().edges.iter().map(|edge| edge.connections).sum();
    (services.collect(), connections)
}

#[test]
fn a_killed_agent_is_not_missed() {
    let Some(mut mesh) = Mesh::start("a_killed_agent_is_not_missed", &["python3"]) else {
        return;
    };
    let mut traffic = Traffic::start(&mesh);
    let before = remembered(&mesh);
    mesh.kill_agent();
    traffic.goes_on();
    mesh.start_agent();
    traffic.goes_on();
    let after = remembered(&mesh);
    assert_eq!(after.0, before.0);
    assert!(
        after.1 > before.1,
        "{} connections before, {} after",
        before.1,
        after.1
    );
}

/// What happened while the state could not be stored is in no file, and still no number comes twice.
#[test]
fn generations_grow_also_when_the_last_ones_were_not_stored() {
    let test = "generations_grow_also_when_the_last_ones_were_not_stored";
    let Some(mut mesh) = Mesh::start(test, &[]) else {
        return;
    };
    let state = mesh.state_dir();
    let aside = state.with_extension("aside");
    fs::rename(&state, &aside).expect("it is there");
    fs::write(&state, "").expect("its place is free");
    for _ in 0..3 {
        assert_eq!(mesh.run_to_end("job", &["true"]).0, 0);
    }
    let before = mesh.status().configuration.generation;
    mesh.kill_agent();
    fs::remove_file(&state).expect("it is there");
    fs::rename(&aside, &state).expect("its place is free");
    mesh.start_agent();
    let after = mesh.status().configuration.generation;
    assert!(after > before, "{before}, then {after}");
}

#[test]
fn a_killed_proxy_is_replaced() {
    let Some(mesh) = Mesh::start("a_killed_proxy_is_replaced", &["python3"]) else {
        return;
    };
    let mut traffic = Traffic::start(&mesh);
    let killed = mesh.signal_proxy(Signal::KILL);
    let replaced = || {
        let proxy = mesh.status().proxy;
        proxy.state == "serving" && proxy.pid != Some(killed)
    };
    assert!(eventually(replaced), "{:?}", mesh.status().proxy);
    traffic.goes_on();
    let (status, printed) = mesh.run_to_end("shop", &["getent", "hosts", "web"]);
    assert_eq!(status, 0, "names resolve again: {printed}");
}

#[test]
fn both_are_killed_and_taken_over() {
    let Some(mut mesh) = Mesh::start("both_are_killed_and_taken_over", &["python3"]) else {
        return;
    };
    let mut traffic = Traffic::start(&mesh);
    let before = remembered(&mesh);
    for _ in 0..2 {
        mesh.kill_both();
        traffic.goes_on();
        mesh.start_agent();
        traffic.goes_on();
    }
    let after = remembered(&mesh);
    assert_eq!(after.0, before.0);
    assert!(
        after.1 > before.1,
        "{} connections before, {} after",
        before.1,
        after.1
    );
    let (status, printed) = mesh.run_to_end("shop", &["getent", "hosts", "web"]);
    assert_eq!(status, 0, "names resolve again: {printed}");
}
