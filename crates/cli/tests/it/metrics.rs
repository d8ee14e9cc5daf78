//! Metrics over TCP: served by the proxy at a loopback port, if asked for, over the death of each of
//! the two processes.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::mesh::Mesh;
use crate::process::eventually;

const TALK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/talk.py");
const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Where a mesh serves metrics on a port that the kernel chose.
fn start(test: &str, programs: &[&str]) -> Option<(Mesh, SocketAddr)> {
    let mut mesh = Mesh::prepare(test, programs)?;
    mesh.serve_metrics("127.0.0.1:0");
    mesh.start_agent();
    let line = mesh.agent().line("metrics are at");
    let (_, rest) = line.split_once("http://").expect("it is a URL");
    let address = rest.trim_end_matches("/metrics");
    mesh.serve_metrics(address);
    Some((mesh, address.parse().expect("it is an address")))
}

/// What is answered; nothing where nobody listens.
fn ask(address: SocketAddr, request: &str) -> String {
    let answer = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        stream.shutdown(Shutdown::Both).map(|()| answer)
    });
    answer.unwrap_or_default()
}

/// The value of a sample.
fn value(answer: &str, sample: &str) -> Option<f64> {
    let lines = answer.lines();
    let mut values = lines.filter_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
    values.next()
}

/// Waits for an answer with a sample of at least this value.
fn await_value(address: SocketAddr, sample: &str, least: f64) -> String {
    let mut answer = String::new();
    let holds = eventually(|| {
        answer = ask(address, GET);
        value(&answer, sample) >= Some(least)
    });
    assert!(holds, "{sample} of {least} is awaited:\n{answer}");
    answer
}

#[test]
fn metrics_outlive_either_process() {
    let Some((mut mesh, address)) = start("metrics_outlive_either_process", &["python3"]) else {
        return;
    };
    let serve = ["web", "--", "/usr/bin/python3", TALK, "serve", "8080"];
    let _server = mesh.run(&serve);
    mesh.await_listening("web", 1);
    let call = ["/usr/bin/python3", TALK, "call", "web", "8080", "1"];
    assert_eq!(mesh.run_to_end("shop", &call).0, 0);
    let edge = "selvedge_connections_total{source=\"shop.default\",destination=\"web.default\"}";
    let answer = await_value(address, edge, 1.0);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(value(&answer, "selvedge_proxy_up"), Some(1.0));

    // A connection that is made while the proxy is away waits for the next one.
    mesh.signal_proxy(Signal::KILL);
    let answer = await_value(address, "selvedge_proxy_connections_total", 2.0);
    assert!(value(&answer, edge) >= Some(1.0), "{answer}");

    mesh.kill_agent();
    let answer = ask(address, GET);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("the agent is away"), "{answer}");

    mesh.start_agent();
    await_value(address, edge, 1.0);

    // Both gone, and what scrapers then find is the next ones.
    mesh.kill_both();
    mesh.start_agent();
    await_value(address, edge, 1.0);

    let down = mesh.down(&["--stop"]);
    assert!(down.status.success(), "{down:?}");
    let refused = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// The next agent may serve them elsewhere, or not at all.
#[test]
fn metrics_end_with_the_agent_that_was_asked_for_them() {
    let test = "metrics_end_with_the_agent_that_was_asked_for_them";
    let Some((mut mesh, address)) = start(test, &[]) else {
        return;
    };
    let _workload = mesh.run(&["idle", "--", "sleep", "1000"]);
    assert!(eventually(|| mesh.status().services.len() == 1));
    mesh.kill_agent();
    mesh.serve_no_metrics();
    mesh.start_agent();
    assert!(eventually(|| TcpStream::connect(address).is_err()));
}

/// An agent that does not come up is not the one whose address the living proxy serves.
#[test]
fn a_start_that_fails_forgets_no_address() {
    let Some((mut mesh, address)) = start("a_start_that_fails_forgets_no_address", &[]) else {
        return;
    };
    let _workload = mesh.run(&["idle", "--", "sleep", "1000"]);
    assert!(eventually(|| mesh.status().services.len() == 1));
    mesh.kill_agent();
    let aside = mesh.folder().join("aside");
    fs::rename(mesh.state_dir(), &aside).unwrap();
    fs::create_dir(mesh.state_dir()).unwrap();
    let unreadable = mesh
        .state_dir()
        .join("generation-00000000000000000001.state");
    fs::write(unreadable, "of another version").unwrap();
    mesh.serve_metrics("127.0.0.1:0");
    let output = mesh.up().output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    fs::remove_dir_all(mesh.state_dir()).unwrap();
    fs::rename(aside, mesh.state_dir()).unwrap();
    mesh.serve_metrics(&address.to_string());
    mesh.start_agent();
    await_value(address, "selvedge_proxy_connections_total", 1.0);
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let Some(mut mesh) = Mesh::prepare("a_port_that_is_taken_is_said_to_be", &[]) else {
        return;
    };
    // Another mesh's, as it were, which lets its own next agent in beside it.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&other).set_reuse_port(true).unwrap();
    let address = other.local_addr().unwrap().to_string();
    let check = |mesh: &mut Mesh| {
        mesh.serve_metrics(&address);
        let output = mesh.up().output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        for part in [&address[..], "in use", "choose another port with --metrics"] {
            assert!(errors.contains(part), "{part}: {errors}");
        }
    };
    check(&mut mesh);
    assert!(!mesh.run_dir().exists(), "nothing was set up");

    mesh.serve_no_metrics();
    mesh.start_agent();
    let _workload = mesh.run(&["idle", "--", "sleep", "1000"]);
    assert!(eventually(|| mesh.status().services.len() == 1));
    mesh.kill_agent();
    check(&mut mesh);
}

#[test]
fn metrics_are_for_this_host_alone() {
    let Some(mut mesh) = Mesh::prepare("metrics_are_for_this_host_alone", &[]) else {
        return;
    };
    for address in [
        "0.0.0.0:9100",
        "[::]:9100",
        "192.0.2.1:9100",
        "9100",
        "localhost",
    ] {
        mesh.serve_metrics(address);
        let output = mesh.up().output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{address}: {errors}");
        assert!(errors.contains("like 127.0.0.1:9100"), "{errors}");
    }
}
