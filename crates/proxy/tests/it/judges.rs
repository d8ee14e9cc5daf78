//! Claim: proxy and server never count a different number of requests, whoever wrote the server. Each case
//! of the table goes through the real proxy to servers of others, a marked request behind it on the same
//! connection. The server writes down what it got: nothing that the proxy refused, nothing that
//! nobody sent, nothing twice, and everything that was answered.

mod record;
mod server;

use std::io::{Read, Write};

use record::{Record, answers};
use server::{Server, Software};

use crate::path::Path;
use crate::table::{self, Case, Claim};

/// Stands before the chunks of the table.
const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn nginx_counts_the_same_requests() {
    check("nginx_counts_the_same_requests", Software::Nginx);
}

#[test]
fn apache_counts_the_same_requests() {
    check("apache_counts_the_same_requests", Software::Apache);
}

#[test]
fn gunicorn_counts_the_same_requests() {
    check("gunicorn_counts_the_same_requests", Software::Gunicorn);
}

#[test]
fn node_counts_the_same_requests() {
    check("node_counts_the_same_requests", Software::Node);
}

#[test]
fn uvicorn_counts_the_same_requests() {
    check("uvicorn_counts_the_same_requests", Software::Uvicorn);
}

fn check(test: &str, software: Software) {
    let Some(server) = Server::start(test, software) else {
        return;
    };
    let path = Path::to(&[server.address]);
    let mut record = Record::default();
    for case in table::requests() {
        let sent = Sent::new(&mut record, &[&case.bytes], true);
        let got = sent.through(&path);
        let want = case.cause().status();
        let only = matches!(&got[..], [it] if it.is_refusal() && it.status == want);
        record.expect(only, &case, &got);
    }
    for case in table::chunks() {
        check_chunks(&path, &mut record, &case);
    }
    for case in table::taken() {
        check_taken(&path, &mut record, &case);
    }
    let last = Sent::new(&mut record, &[b""], true);
    let got = last.through(&path);
    record.answered(&last.marks, &got);
    record.settle(&server, &last.marks[0]);
}

/// The head went out before the chunk was met, so that the server may have counted it, and answered.
fn check_chunks(path: &Path, record: &mut Record, case: &Case) {
    // What ends too early ends with the connection.
    let whole = case.cause() != selvedge_wire::ProtocolError::Truncated;
    let sent = Sent::new(record, &[CHUNKED, &case.bytes], whole);
    let got = sent.through(path);
    let as_stated = match &got[..] {
        [it] if it.is_refusal() => it.status == case.cause().status(),
        [it] => it.saw.as_ref() == Some(&sent.marks[0]) || it.saw.is_none(),
        [] => true,
        _ => false,
    };
    record.expect(as_stated, case, &got);
    record.begun(&sent.marks[0]);
}

/// All is answered, up to a request that ends the connection, each by what it asked for.
fn check_taken(path: &Path, record: &mut Record, case: &Case) {
    let sent = Sent::new(record, &[&case.bytes], true);
    let got = sent.through(path);
    let Claim::Taken(count) = case.claim else {
        panic!("{case:?} is refused");
    };
    let enough = got.len() == count || got.len() == count + 1;
    let right = got.iter().zip(&sent.marks).all(|(answer, mark)| {
        let server_refuses = answer.saw.is_none() && answer.status >= 400;
        answer.saw.as_ref() == Some(mark) || (server_refuses && !answer.is_refusal())
    });
    record.expect(enough && right, case, &got);
    record.answered(&sent.marks, &got);
}

/// What goes through one connection.
struct Sent {
    bytes: Vec<u8>,
    /// What the targets of its requests are, in order: nobody else has them.
    marks: Vec<String>,
    /// Whether everything was said.
    whole: bool,
}

impl Sent {
    /// Marks each request in `parts` whose target ends with a slash, and adds one, unless the client ends
    /// its connection there.
    fn new(record: &mut Record, parts: &[&[u8]], whole: bool) -> Self {
        const PLACE: &[u8] = b"/ HTTP/";
        let connection = record.next_connection();
        let mut all = parts.concat();
        if whole {
            all.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        }
        let (mut bytes, mut marks, mut rest) = (Vec::new(), Vec::new(), &all[..]);
        while let Some(at) = rest.windows(PLACE.len()).position(|it| it == PLACE) {
            let mark = format!("mark-{connection}-{}-", marks.len());
            bytes.extend_from_slice(&rest[..=at]);
            bytes.extend_from_slice(mark.as_bytes());
            marks.push(mark);
            rest = &rest[at + 1..];
        }
        bytes.extend_from_slice(rest);
        Self {
            bytes,
            marks,
            whole,
        }
    }

    /// What the client gets until the connection ends, in whatever way.
    fn through(&self, path: &Path) -> Vec<record::Answer> {
        let client = path.connect();
        (&client.stream).write_all(&self.bytes).unwrap();
        if !self.whole {
            client.finish();
        }
        let (mut got, mut chunk) = (Vec::new(), [0; 65_536]);
        loop {
            match (&client.stream).read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => got.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error} behind {}", self.bytes.escape_ascii()),
            }
        }
        answers(&got)
    }
}
