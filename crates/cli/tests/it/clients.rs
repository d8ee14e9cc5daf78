//! Claim: clients that nobody here wrote work through the proxy as they come. Each does the same requests as a
//! workload in a real mesh, and prints what it got. The server says what it saw, and refuses what did not
//! come by the proxy: without a route's field and a trace that no client sends.

use std::path::Path;
use std::process::Command;

use crate::mesh::Mesh;
use crate::process::{Process, eventually};

const BASE: &str = "http://web:8080";
/// What every client prints.
const WANT: &str = "200 GET /get plain 0 5
200 POST /known plain 5 5
200 POST /chunked chunked 5 5
200 GET /large plain 0 1048576
200 HEAD /head plain 0 0
200 GET /new plain 0 5
concurrent 32
";
/// What those print too that ask before they send a body.
const CONTINUED: &str = "200 POST /continue plain 5 5\n";

const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: judged}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 8080}]
  rules:
  - matches: [{path: {type: Exact, value: /old}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /new}}
  - filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: X-Route, value: judged}]}
    backendRefs: [{name: web, port: 8080}]
";

fn fixture(name: &str) -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    format!("{folder}/tests/fixtures/clients/{name}")
}

/// A mesh with the server and its routes.
struct Scene {
    mesh: Mesh,
    _server: Process,
}

impl Scene {
    fn start(test: &str, programs: &[&str]) -> Option<Self> {
        let programs = [programs, &["/usr/bin/python3"]].concat();
        let mesh = Mesh::start(test, &programs)?;
        let server = mesh.run(&[
            "web",
            "--",
            "/usr/bin/python3",
            &fixture("origin.py"),
            "8080",
        ]);
        mesh.await_listening("web", 1);
        mesh.apply(ROUTES);
        let in_force = || {
            let status = mesh.status();
            let wanted = Some(status.configuration.generation);
            status.proxy.generation == wanted && status.kernel.generation == wanted
        };
        assert!(eventually(in_force), "the routes are not in force");
        Some(Self {
            mesh,
            _server: server,
        })
    }

    /// Runs a client; it must print what all print, and then `more`, over so many connections at most.
    fn check(&self, client: &[&str], more: &str, connections: u64) {
        let arguments = [client, &[BASE]].concat();
        let (status, printed) = self.mesh.run_to_end("shop", &arguments);
        assert_eq!((status, printed), (0, WANT.to_owned() + more));
        self.check_edge(connections);
    }

    /// All went over so many connections at most, and none of them past the proxy.
    fn check_edge(&self, connections: u64) {
        let graph = self.mesh.graph();
        let mut edges = graph.edges.iter().filter(|it| it.source.contains("shop"));
        let edge = edges.next().expect("it has called");
        let made = edge.connections;
        assert!((1..=connections).contains(&made), "{made} connections");
        assert_eq!((edge.bypassed, edge.failures), (0, 0));
    }
}

#[test]
fn curl() {
    if let Some(scene) = Scene::start("curl", &["curl"]) {
        // One for each of its processes, and one for each of the concurrent requests.
        scene.check(&["sh", &fixture("curl.sh")], CONTINUED, 7 + 32);
    }
}

#[test]
fn python_http_client() {
    if let Some(scene) = Scene::start("python_http_client", &[]) {
        let program = ["/usr/bin/python3", &fixture("http_client.py")];
        scene.check(&program, "", 1 + 8);
    }
}

#[test]
fn httpx() {
    let package = "/usr/lib/python3/dist-packages/httpx/__init__.py";
    if let Some(scene) = Scene::start("httpx", &[package]) {
        let program = ["/usr/bin/python3", &fixture("httpx_client.py")];
        scene.check(&program, "", 1 + 8);
    }
}

/// It does not use a connection again after HEAD.
#[test]
fn node_fetch() {
    if let Some(scene) = Scene::start("node_fetch", &["node"]) {
        scene.check(&["node", &fixture("undici.js")], "", 2 + 32);
    }
}

/// The package as Debian has it; its name comes last, so that a shell puts the address before it.
#[test]
fn undici() {
    let package = "/usr/share/nodejs/undici/index.js";
    if let Some(scene) = Scene::start("undici", &["node", package]) {
        let script = fixture("undici.js");
        let run = "NODE_PATH=/usr/share/nodejs exec node \"$0\" \"$2\" \"$1\"";
        scene.check(&["sh", "-c", run, &script, package], "", 2 + 32);
    }
}

#[test]
fn go_net_http() {
    let Some(scene) = Scene::start("go_net_http", &["go"]) else {
        return;
    };
    let program = scene.mesh.folder().join("client");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    let mut compiler = Command::new("go");
    compiler
        .args(["build", "-o"])
        .arg(&program)
        .arg(fixture("client.go"))
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", cache)
        .current_dir(scene.mesh.folder());
    let output = compiler.output().expect("the compiler is there");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    scene.check(&[program.to_str().unwrap()], "", 1 + 32);
}

#[test]
fn java_http_client() {
    if let Some(scene) = Scene::start("java_http_client", &["java", "javac"]) {
        let options = ["-XX:TieredStopAtLevel=1", "-Xshare:auto"];
        let file = fixture("Client.java");
        let program = [&["java"], &options[..], &[&file]].concat();
        scene.check(&program, CONTINUED, 2 + 32);
    }
}

#[test]
fn wrk() {
    let Some(scene) = Scene::start("wrk", &["wrk"]) else {
        return;
    };
    let target = format!("{BASE}/get");
    let call = ["wrk", "-t1", "-c16", "-d1s", &target];
    let (status, printed) = scene.mesh.run_to_end("shop", &call);
    assert_eq!(status, 0, "{printed}");
    for bad in ["Socket errors", "Non-2xx"] {
        assert!(!printed.contains(bad), "{printed}");
    }
    let line = printed.lines().find(|line| line.contains(" requests in "));
    let count = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count > 50), "{printed}");
    // One more, by which it looks whether anybody is there.
    scene.check_edge(16 + 1);
}
