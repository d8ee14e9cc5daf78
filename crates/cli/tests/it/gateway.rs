//! Callers outside the mesh come through the proxy where rules want it: at a published port, and at a
//! Gateway's by the host they name.

use std::process::Command;

use crate::mesh::Mesh;
use crate::process::eventually;
use crate::run::free_port;

/// Answers every request with the number it was given.
const SERVER: &str = "import http.server, sys\n\
    class Handler(http.server.BaseHTTPRequestHandler):\n    \
        protocol_version = 'HTTP/1.1'\n    \
        def do_GET(self):\n        \
            body = (sys.argv[2] + ' ' + self.path + ' ' + self.headers.get('x-way', '-')).encode()\n        \
            self.send_response(200)\n        \
            self.send_header('content-length', str(len(body)))\n        \
            self.end_headers()\n        \
            self.wfile.write(body)\n\
    http.server.ThreadingHTTPServer(('0.0.0.0', int(sys.argv[1])), Handler).serve_forever()\n";

/// What curl gets, as `STATUS BODY`; `refused` where nobody takes the connection.
fn curl(port: u16, host: &str, path: &str) -> String {
    let output = Command::new("curl")
        .args(["-s", "--noproxy", "*", "-w", "\n%{http_code}"])
        .args(["-H", &format!("Host: {host}")])
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .expect("curl is there");
    /// curl(1), "Failed to connect to host".
    const NO_CONNECTION: i32 = 7;
    if output.status.code() == Some(NO_CONNECTION) {
        return "refused".to_owned();
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status is printed");
    match status {
        "200" => format!("200 {body}"),
        other => other.to_owned(),
    }
}

fn rules(port: u16, gateway: u16) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: own}}
spec:
  parentRefs: [{{group: '', kind: Service, name: one}}]
  rules:
  - matches: [{{path: {{value: /own}}}}]
    filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-way, value: route}}]}}}}]
    backendRefs: [{{name: one, port: {port}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: selvedge
  listeners: [{{name: http, port: {gateway}, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: exact}}
spec:
  parentRefs: [{{name: edge, sectionName: http}}]
  hostnames: [one.example.com]
  rules: [{{backendRefs: [{{name: one, port: {port}}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: wide}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: ['*.example.com']
  rules: [{{matches: [{{path: {{value: /two}}}}], backendRefs: [{{name: two, port: {port}}}]}}]
"
    )
}

#[test]
fn rules_hold_for_callers_outside_at_published_ports_and_gateways() {
    let test = "rules_hold_for_callers_outside_at_published_ports_and_gateways";
    let Some(mut mesh) = Mesh::start(test, &["python3", "curl"]) else {
        return;
    };
    // The first replica really has the port that it publishes.
    let (port, gateway) = (free_port(), free_port());
    let number = port.to_string();
    let python = "/usr/bin/python3";
    let _one = mesh.run(&[
        "one",
        "--publish",
        &number,
        "--",
        python,
        "-c",
        SERVER,
        &number,
        "one",
    ]);
    let _two = mesh.run(&["two", "--", python, "-c", SERVER, &number, "two"]);
    mesh.await_listening("one", 1);
    mesh.await_listening("two", 1);
    assert_eq!(curl(port, "a", "/own"), "200 one /own -");
    assert_eq!(curl(gateway, "one.example.com", "/"), "refused");

    mesh.apply(&rules(port, gateway));
    assert!(eventually(
        || curl(port, "a", "/own") == "200 one /own route"
    ));
    assert_eq!(curl(port, "a", "/other"), "404");
    assert!(eventually(
        || curl(gateway, "one.example.com", "/") == "200 one / -"
    ));
    for (host, path, want) in [
        ("ONE.example.com:80", "/two", "200 one /two -"),
        ("else.example.com", "/two/x", "200 two /two/x -"),
        ("else.example.com", "/", "404"),
        ("example.com", "/two", "404"),
        ("127.0.0.1", "/two", "404"),
    ] {
        assert_eq!(curl(gateway, host, path), want, "{host}{path}");
    }
    let listener = &mesh.status().gateways[0].listeners[0];
    assert_eq!(
        (listener.port, listener.state.as_str()),
        (gateway, "serving")
    );
    let taken = mesh.refused(&[
        "run",
        "three",
        "--publish",
        &gateway.to_string(),
        "--",
        "true",
    ]);
    assert!(taken.1.contains("Gateway edge.default"), "{}", taken.1);

    // Without an agent both are served on, and by the next one too.
    mesh.kill_agent();
    assert_eq!(curl(gateway, "one.example.com", "/"), "200 one / -");
    mesh.start_agent();
    assert_eq!(curl(gateway, "one.example.com", "/"), "200 one / -");
    assert_eq!(curl(port, "a", "/own"), "200 one /own route");
    mesh.ask(&["delete", "gateway", "edge"]);
    assert!(eventually(
        || curl(gateway, "one.example.com", "/") == "refused"
    ));
}
