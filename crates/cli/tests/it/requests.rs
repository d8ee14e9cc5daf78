//! Requests through the real mesh: found by edge, route, status and reason in metrics, `graph` and
//! `status`, and line by line in the access log, which follows its file.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::mesh::Mesh;
use crate::process::eventually;

const TALK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/fetch.py");

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web}]
  rules:
  - matches: [{path: {value: /known}}]
    backendRefs: [{name: web, port: 8080}]
  - matches: [{path: {value: /nowhere}}]
    backendRefs: [{name: web, port: 8080, weight: 0}]
";

/// A mesh with the service `web`, behind a route, in which `shop` has asked for some paths.
fn ask(mesh: &Mesh, paths: &[&str]) -> String {
    let call = [&["/usr/bin/python3", TALK, "get", "web", "8080"], paths].concat();
    let (status, printed) = mesh.run_to_end("shop", &call);
    assert_eq!(status, 0, "{printed}");
    printed
}

fn lines(mesh: &Mesh, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(mesh.folder().join(name)).unwrap_or_default();
    let lines = text.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("it is JSON")).collect()
}

/// What idles between two requests must not use up what the limit allows.
#[test]
fn a_limit_of_connections_lets_one_request_after_the_other_through() {
    let test = "a_limit_of_connections_lets_one_request_after_the_other_through";
    let Some(mesh) = Mesh::start(test, &["python3"]) else {
        return;
    };
    let serve = ["web", "--", "/usr/bin/python3", TALK, "serve", "8080"];
    let _server = mesh.run(&serve);
    mesh.await_listening("web", 1);
    mesh.apply(
        "apiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: web}\nspec:\n  \
         targetRefs: [{kind: Service, name: web}]\n  limits: {connections: 1}\n  \
         timeouts: {request: 10s}\n",
    );
    let twenty = ["/known"; 20];
    // By detection, since nobody has said what is spoken; then as a route says.
    for round in 0..2 {
        let printed = ask(&mesh, &twenty);
        assert_eq!(printed, "200 None\n".repeat(20), "round {round}");
        mesh.apply(ROUTE);
    }
}

/// A server outside the mesh that answers `/known/slow` when it is told to; tells of each request.
fn outside(answer: Receiver<()>) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (heard, requests) = sync_channel(64);
    let answer = Arc::new(Mutex::new(answer));
    let serve =
        move |stream: TcpStream, heard: SyncSender<String>, answer: Arc<Mutex<Receiver<()>>>| {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while let Ok(1..) = reader.read_line(&mut head) {
                if !head.ends_with("\r\n\r\n") {
                    continue;
                }
                let is_slow = head.starts_with("GET /known/slow");
                // The test may be over.
                let _ = heard.send(std::mem::take(&mut head));
                if is_slow {
                    let _ = answer.lock().expect("nobody panics").recv();
                }
                let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if reader.get_mut().write_all(ok).is_err() {
                    return;
                }
            }
        };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (heard, answer) = (heard.clone(), answer.clone());
            thread::spawn(move || serve(stream, heard, answer));
        }
    });
    (address, requests)
}

/// The proxy tells the kernel for which service it connects, and counts one refusal for one request.
#[test]
fn a_limit_of_connections_holds_for_endpoints_outside() {
    let test = "a_limit_of_connections_holds_for_endpoints_outside";
    let Some(mesh) = Mesh::start(test, &["python3"]) else {
        return;
    };
    let (answer, told) = sync_channel(64);
    let (address, requests) = outside(told);
    mesh.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{{port: 8080, \
         appProtocol: http}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web, labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\n\
         ports: [{{port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n---\n\
         apiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web}}\nspec:\n  \
         targetRefs: [{{kind: Service, name: web}}]\n  limits: {{connections: 1}}\n---{ROUTE}",
        address.port(),
        address.ip(),
    ));
    // One after the other they all have their turn.
    let printed = ask(&mesh, &["/known"; 5]);
    assert_eq!(printed, "200 None\n".repeat(5));
    let first = requests.recv().expect("it was sent").to_ascii_lowercase();
    assert!(first.contains("\r\nconnection: close\r\n"), "{first}");

    let slow = [
        "shop",
        "--",
        "/usr/bin/python3",
        TALK,
        "get",
        "web",
        "8080",
        "/known/slow",
    ];
    let _slow = mesh.run(&slow);
    let is_held = |it: String| it.starts_with("GET /known/slow");
    assert!(eventually(|| requests.try_iter().any(is_held)));
    assert_eq!(ask(&mesh, &["/known"]), "503 connection_limit\n");
    let refused = || mesh.service("web").requests.unwrap_or_default().refused;
    assert!(eventually(|| !refused().is_empty()));
    assert_eq!(refused(), [("connection_limit".to_owned(), 1)].into());
    assert_eq!(mesh.status().refused, [].into());
    answer.send(()).expect("it waits");
    assert!(eventually(|| ask(&mesh, &["/known"]) == "200 None\n"));
}

#[test]
fn requests_are_seen_wherever_one_looks() {
    let test = "requests_are_seen_wherever_one_looks";
    let Some(mut mesh) = Mesh::prepare(test, &["python3"]) else {
        return;
    };
    mesh.log_requests("access.log");
    mesh.start_agent();
    let serve = ["web", "--", "/usr/bin/python3", TALK, "serve", "8080"];
    let _server = mesh.run(&serve);
    mesh.await_listening("web", 1);
    mesh.apply(ROUTE);
    let printed = ask(&mesh, &["/known", "/known", "/unknown", "/nowhere"]);
    let said: Vec<_> = printed.lines().collect();
    let want = ["200 None", "200 None", "404 no_route", "500 no_backend"];
    assert_eq!(said, want);

    let seen = || {
        let graph = mesh.graph();
        let edge = graph
            .edges
            .into_iter()
            .find(|edge| edge.source == "shop.default");
        edge.and_then(|edge| edge.requests)
    };
    assert!(
        eventually(|| seen().is_some_and(|it| it.total == 4)),
        "{:?}",
        seen()
    );
    let requests = seen().expect("it was there");
    let counts = |counts: &[(&str, u64)]| {
        let counts = counts
            .iter()
            .map(|(word, count)| ((*word).to_owned(), *count));
        counts.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(
        requests.statuses,
        counts(&[("2xx", 2), ("4xx", 1), ("5xx", 1)])
    );
    assert_eq!(
        requests.refused,
        counts(&[("no_route", 1), ("no_backend", 1)])
    );
    assert_eq!(mesh.service("web").requests, Some(requests));

    let metrics = mesh.metrics();
    let edge = "source=\"shop.default\",destination=\"web.default\"";
    for (end, count) in [
        (
            "route=\"HTTPRoute/default/web/0\",backend=\"web.default:8080\",status=\"2xx\",reason=\"\"",
            2,
        ),
        (
            "route=\"\",backend=\"\",status=\"4xx\",reason=\"no_route\"",
            1,
        ),
        (
            "route=\"HTTPRoute/default/web/1\",backend=\"\",status=\"5xx\",reason=\"no_backend\"",
            1,
        ),
    ] {
        let line = format!("selvedge_requests_total{{{edge},{end}}} {count}");
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }

    assert!(eventually(|| lines(&mesh, "access.log").len() == 4));
    let mut logged = lines(&mesh, "access.log");
    // Each worker's lines are in order, and no more.
    logged.sort_by_key(|line| line["path"].to_string());
    let reasons: Vec<_> = logged.iter().map(|line| line["reason"].as_str()).collect();
    assert_eq!(reasons, [None, None, Some("no_backend"), Some("no_route")]);
    for line in &logged {
        assert_eq!(line["source"], "shop.default", "{line}");
        assert_eq!(line["source_workload"], "shop-0.default", "{line}");
        assert_eq!(line["destination"], "web.default", "{line}");
    }
    assert_eq!(logged[0]["endpoint"], "web-0.default:8080");

    // As logrotate does it.
    let log = mesh.folder().join("access.log");
    fs::rename(&log, mesh.folder().join("access.log.1")).expect("it is there");
    assert!(eventually(|| log.exists()), "the log is made anew");
    assert!(eventually(|| {
        ask(&mesh, &["/known"]);
        !lines(&mesh, "access.log").is_empty()
    }));
}
