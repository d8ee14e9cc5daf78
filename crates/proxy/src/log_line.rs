//! One line of the access log: a JSON object, with what is known and nothing else.

use std::io::Write as _;

use selvedge_model::{CgroupId, Place, TrafficPath, TrafficUnit};
use selvedge_telemetry::log::Timestamp;
use selvedge_wire::http1::{FieldName, Message};

use crate::client::Client;
use crate::clock;
use crate::head::{self, Parts};
use crate::pool::Destination;
use crate::record::Record;

/// Puts the line about a record. `request` is its head where one could be read.
pub(crate) fn write(
    out: &mut Vec<u8>,
    record: &Record,
    client: &Client,
    path: &TrafficPath,
    request: Option<&Message<'_>>,
    has_query: bool,
) {
    let mut line = Line {
        out,
        is_begun: false,
    };
    let took = record.ended.since(record.began);
    let began = clock::calendar().checked_sub(took);
    line.text(
        "time",
        format_args!("{}", Timestamp(began.unwrap_or_else(clock::calendar))),
    );
    ends(&mut line, record, client, path);
    if let Some(request) = request {
        asked(&mut line, request, has_query);
    }
    if record.status != 0 {
        line.number("status", record.status);
    }
    if let Some(reason) = record.reason {
        line.bytes("reason", reason.word().as_bytes());
    }
    if let Some(why) = record.withheld {
        line.bytes("withheld", why.word().as_bytes());
    }
    line.number("attempts", record.attempts);
    let us = took.as_micros();
    line.number(
        "duration_ms",
        format_args!("{}.{:03}", us / 1000, us % 1000),
    );
    if path.unit == TrafficUnit::Request {
        let [received, sent] = &record.bytes;
        line.number("bytes_received", received.get());
        line.number("bytes_sent", sent.get());
    }
    ids(&mut line, record, request);
    line.end();
}

/// Who asks whom, and what led there.
fn ends(line: &mut Line<'_>, record: &Record, client: &Client, path: &TrafficPath) {
    let protocol = match path.unit {
        TrafficUnit::Request => "http",
        TrafficUnit::Connection => "tcp",
    };
    line.bytes("protocol", protocol.as_bytes());
    if let Some(source) = &path.edge.source {
        line.text("source", format_args!("{source}"));
    }
    if let Some(workload) = client.source.and_then(|it| workload(record, it)) {
        line.bytes("source_workload", workload.as_bytes());
    }
    if let Some(destination) = &path.edge.destination {
        line.text("destination", format_args!("{destination}"));
    }
    line.number("port", client.asked.port());
    if let Some(route) = &path.route {
        line.bytes("route", route.as_bytes());
    }
    if let Some(backend) = &path.backend {
        line.text(
            "backend",
            format_args!("{}:{}", backend.service, backend.port),
        );
    }
    if let Some(endpoint) = &record.endpoint {
        line.bytes("endpoint", place(record, endpoint).as_bytes());
    }
}

fn workload(record: &Record, cgroup: CgroupId) -> Option<String> {
    let workload = record.routing.as_ref()?.workload(cgroup)?;
    Some(workload.name.to_string())
}

fn place(record: &Record, (place, port): &Destination) -> String {
    match place {
        Place::Outside(address) => std::net::SocketAddr::new(*address, port.get()).to_string(),
        Place::Local(cgroup) => match workload(record, *cgroup) {
            Some(name) => format!("{name}:{port}"),
            None => format!("cgroup {}:{port}", cgroup.0),
        },
    }
}

fn asked(line: &mut Line<'_>, request: &Message<'_>, has_query: bool) {
    let parts = Parts::of(request);
    line.bytes("method", head::method(request));
    line.bytes("host", parts.host(request));
    match parts.query.filter(|_| has_query) {
        Some(query) => line.bytes("path", &[parts.path, b"?", query].concat()),
        None => line.bytes("path", parts.path),
    }
}

/// What other logs know the request by.
fn ids(line: &mut Line<'_>, record: &Record, request: Option<&Message<'_>>) {
    let came = request.and_then(|it| it.values(FieldName::XRequestId).next());
    let made = record.request_id.as_ref().map(<[u8; 36]>::as_slice);
    if let Some(id) = made.or(came) {
        line.bytes("request_id", id);
    }
    if let Some(trace) = &record.trace {
        line.text("trace_id", format_args!("{:032x}", trace.id()));
    }
}

/// A JSON object that is being written (RFC 8259).
struct Line<'a> {
    out: &'a mut Vec<u8>,
    is_begun: bool,
}

/// Writing to a vector does not fail, so that its outcome is left aside below.
impl Line<'_> {
    fn name(&mut self, name: &str) {
        let begin: &[u8] = if self.is_begun { b",\"" } else { b"{\"" };
        self.is_begun = true;
        self.out.extend_from_slice(begin);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn number(&mut self, name: &str, number: impl std::fmt::Display) {
        self.name(name);
        let _ = write!(self.out, "{number}");
    }

    /// Of what needs no escapes.
    fn text(&mut self, name: &str, text: std::fmt::Arguments<'_>) {
        self.name(name);
        let _ = write!(self.out, "\"{text}\"");
    }

    /// Of what a stranger may have chosen: it stays one string of one line, and bytes that are no UTF-8
    /// show as U+FFFD.
    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                let _ = match c {
                    '"' | '\\' => write!(self.out, "\\{c}"),
                    c if c.is_control() => write!(self.out, "\\u{:04x}", u32::from(c)),
                    c => write!(self.out, "{c}"),
                };
            }
            if !chunk.invalid().is_empty() {
                let _ = write!(self.out, "{}", char::REPLACEMENT_CHARACTER);
            }
        }
        self.out.push(b'"');
    }

    fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_choose_stays_one_string() {
        let mut out = Vec::new();
        let mut line = Line {
            out: &mut out,
            is_begun: false,
        };
        line.bytes("a", b"\"\\\n\x1b\x7f\xff\xc3\xa4,\"b\":1");
        line.number("c", 7);
        line.end();
        let want = "{\"a\":\"\\\"\\\\\\u000a\\u001b\\u007f\u{fffd}\u{e4},\\\"b\\\":1\",\"c\":7}\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
