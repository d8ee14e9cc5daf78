//! Claim: a request that is logged is one JSON object on one line, with what its client got; those that
//! are refused are logged whatever is drawn.

use std::fs::File;
use std::num::NonZeroU32;

use selvedge_feed::AccessLog;
use tempfile::TempDir;

use crate::agent::until;
use crate::origin::{Origin, ok};
use crate::path::Path;

fn content(one_of: u32, has_query: bool) -> AccessLog {
    AccessLog {
        one_of: NonZeroU32::new(one_of).unwrap(),
        has_query,
    }
}

/// A path that logs to a file of its own.
struct Logged {
    path: Path,
    folder: TempDir,
}

impl Logged {
    fn start(origin: &Origin, content: AccessLog) -> Self {
        let mut path = Path::to(&[origin.address]);
        let folder = TempDir::new().unwrap();
        let file = File::create(folder.path().join("log")).unwrap();
        path.mesh.feed.log_to(&file, content);
        Self { path, folder }
    }

    /// The lines once there are so many.
    fn lines(&self, name: &str, count: usize) -> Vec<String> {
        until("lines of the access log", || {
            let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    }
}

/// The text behind a name in a line, up to the next name.
fn value<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    let end = rest.find(",\"").unwrap_or(rest.len() - 1);
    Some(rest[..end].trim_matches('"'))
}

#[test]
fn a_line_says_what_became_of_a_request() {
    let origin = Origin::answering(|_| ok("hello"));
    let logged = Logged::start(&origin, content(1, false));
    let mut client = logged.path.connect();
    client.send(
        "POST /a%22?secret=1 HTTP/1.1\r\nHost: cart\r\nContent-Length: 4\r\n\
         traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
         X-Request-Id: a\"b\r\n\r\nbody",
    );
    assert_eq!(client.response().status, 200);
    let lines = logged.lines("log", 1);
    let line = &lines[0];
    let endpoint = origin.address.to_string();
    for (name, want) in [
        ("protocol", "http"),
        ("destination", "cart.default"),
        ("port", "80"),
        ("route", "Service/default/cart/80"),
        ("backend", "cart.default:80"),
        ("endpoint", &endpoint),
        ("method", "POST"),
        ("host", "cart"),
        ("path", "/a%22"),
        ("status", "200"),
        ("attempts", "1"),
        ("bytes_received", "4"),
        ("bytes_sent", "5"),
        ("request_id", "a\\\"b"),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ] {
        assert_eq!(value(line, name), Some(want), "{name}: {line}");
    }
    assert!(
        line.starts_with("{\"time\":\"2") && line.ends_with('}'),
        "{line}"
    );
    let duration: f64 = value(line, "duration_ms").unwrap().parse().unwrap();
    assert!(duration > 0.0, "{line}");
    assert!(
        value(line, "reason").is_none() && !line.contains("secret"),
        "{line}"
    );
}

#[test]
fn ids_that_are_made_are_those_that_endpoints_see() {
    let origin = Origin::answering(|_| ok(""));
    let logged = Logged::start(&origin, content(1, true));
    logged.path.get("GET /a?b=c HTTP/1.1\r\nHost: cart\r\n\r\n");
    let seen = origin.next();
    let field = |name: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim_start_matches(": ").to_owned()
    };
    let lines = logged.lines("log", 1);
    assert_eq!(
        value(&lines[0], "request_id"),
        Some(&*field("x-request-id"))
    );
    let trace = field("traceparent");
    assert_eq!(value(&lines[0], "trace_id"), trace.split('-').nth(1));
    assert_eq!(value(&lines[0], "path"), Some("/a?b=c"));
}

#[test]
fn refusals_are_logged_whatever_is_drawn() {
    let origin = Origin::answering(|_| ok(""));
    let logged = Logged::start(&origin, content(1_000_000, false));
    for _ in 0..20 {
        let response = logged.path.get("GET / HTTP/1.1\r\nHost: cart\r\n\r\n");
        assert_eq!(response.status, 200);
        let refused = logged.path.get("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(refused.reason(), "malformed_request");
    }
    let lines = logged.lines("log", 20);
    assert_eq!(lines.len(), 20, "{lines:#?}");
    for line in lines {
        assert_eq!(value(&line, "reason"), Some("malformed_request"), "{line}");
        assert_eq!(value(&line, "status"), Some("400"), "{line}");
    }
}

#[test]
fn the_agent_may_exchange_the_file() {
    let origin = Origin::answering(|_| ok(""));
    let mut logged = Logged::start(&origin, content(1, false));
    let get = |name: &str| format!("GET /{name} HTTP/1.1\r\nHost: cart\r\n\r\n");
    logged.path.get(&get("first"));
    let first = logged.lines("log", 1);
    let next = File::create(logged.folder.path().join("next")).unwrap();
    logged.path.mesh.feed.log_to(&next, content(1, false));
    logged.path.get(&get("second"));
    let second = logged.lines("next", 1);
    assert_eq!(value(&first[0], "path"), Some("/first"));
    assert_eq!(value(&second[0], "path"), Some("/second"));
    assert_eq!(logged.lines("log", 1).len(), 1);
}
