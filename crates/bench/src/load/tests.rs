//! Loads against servers that follow a script.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::*;
use crate::poll::Poller;

/// What a server does once it has read the head of a request.
#[derive(Clone, Copy)]
enum Then {
    /// Reads on, until the client closes.
    Wait,
    Close,
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Reads a request's head, which is all there is of a GET; says whether one came.
fn read_head(stream: &mut TcpStream) -> bool {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// A server that serves each connection in a thread.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn run(address: SocketAddr, change: impl FnOnce(&mut LoadOptions)) -> LoadReport {
    let mut options = LoadOptions::new(address.to_string().parse().unwrap());
    (options.connections, options.warm_up) = (1, Duration::ZERO);
    change(&mut options);
    let mut poller = Poller::new().unwrap();
    let (report, _) = drive(&options, address, &mut poller, None, &[]).unwrap();
    report
}

/// The end of one request to a server that says `script` and then does as told.
fn end_of_one(script: &'static str, then: Then) -> LoadReport {
    let address = server(move |mut stream| {
        if read_head(&mut stream) {
            let _client_gone = stream.write_all(script.as_bytes());
            if let Then::Wait = then {
                let _closed = stream.read_to_end(&mut Vec::new());
            }
        }
    });
    run(address, |options| {
        options.requests = 1;
        options.timeout = Duration::from_millis(200);
    })
}

/// Good is an answer of 200 to 299 in time, and nothing else.
#[test]
fn answers_within_the_objective_are_counted() {
    let good = |script: &'static str, objective| {
        let address = server(move |mut stream| {
            while read_head(&mut stream) {
                if stream.write_all(script.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let report = run(address, |options| {
            options.requests = 5;
            options.objective = objective;
        });
        report.good
    };
    let well = "HTTP/1.1 204 Well\r\n\r\n";
    let refused = "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(good(well, None), None);
    assert_eq!(good(well, Some(Duration::from_secs(20))), Some(5));
    assert_eq!(good(well, Some(Duration::from_nanos(1))), Some(0));
    assert_eq!(good(refused, Some(Duration::from_secs(20))), Some(0));
}

/// Each way in which one answer can end is told by its own word, and never as another.
#[test]
fn answers_end_as_they_end() {
    let closing = "HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let interim = "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for (script, then, want) in [
        (WHOLE, Then::Wait, "2xx"),
        (closing, Then::Close, "5xx"),
        (interim, Then::Wait, "2xx"),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Then::Close, "2xx"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ntoo",
            Then::Close,
            "truncated",
        ),
        ("", Then::Close, "closed"),
        ("", Then::Wait, "timeout"),
        ("SSH-2.0-OpenSSH\r\n\r\n", Then::Wait, "malformed"),
    ] {
        let measured = end_of_one(script, then).measured;
        let ends: Vec<&String> = measured
            .answers
            .keys()
            .chain(measured.errors.keys())
            .collect();
        assert_eq!(measured.requests, 1, "{script:?}");
        assert_eq!(measured.answered() + measured.failed(), 1, "{script:?}");
        assert!(ends[0].starts_with(want), "{script:?}: {ends:?}");
    }
}

/// Why the mesh refused is counted by its word; what an origin answers by itself has none.
#[test]
fn refusals_are_counted_by_reason() {
    let refusal = "HTTP/1.1 503 No\r\nSelvedge-Reason: no_endpoint\r\ncontent-length: 0\r\n\r\n";
    let report = end_of_one(refusal, Then::Wait);
    assert_eq!(report.measured.refusals["no_endpoint"], 1, "{report}");
    assert!(
        report.to_string().contains("refused: no_endpoint 1"),
        "{report}"
    );
    let own = "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n";
    assert!(end_of_one(own, Then::Wait).measured.refusals.is_empty());
}

/// Of two answers to one request neither is believed: the second might be somebody else's.
#[test]
fn a_second_answer_fails_the_request() {
    let twice =
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let measured = end_of_one(twice, Then::Wait).measured;
    assert_eq!((measured.answered(), measured.errors["unasked"]), (0, 1));
}

/// A server that closes after each answer costs connections and no request.
#[test]
fn connections_that_close_are_opened_again() {
    let address = server(|mut stream| {
        if read_head(&mut stream) {
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let report = run(address, |options| options.requests = 20);
    assert_eq!(
        (report.measured.answered(), report.measured.failed()),
        (20, 0)
    );
    assert!(report.connects >= 20, "{}", report.connects);
}

/// One answer that is held back for 100 ms delays everybody who was due meanwhile, and their latency
/// says so, although each was answered at once when it was sent.
#[test]
fn latency_counts_from_when_a_request_was_due() {
    let address = server(|mut stream| {
        let mut stall = Duration::from_millis(100);
        while read_head(&mut stream) {
            thread::sleep(stall);
            stall = Duration::ZERO;
            let _client_gone = stream.write_all(WHOLE.as_bytes());
        }
    });
    let report = run(address, |options| {
        options.duration = Duration::from_millis(300);
        options.pace = Pace::Open {
            rate: 200.0,
            arrivals: Arrivals::Even,
            queue: 100,
        };
    });
    // Even gaps of 5 ms: twenty were due during the stall, the first six of them 70 ms or more.
    assert!(report.measured.answered() >= 50, "{report}");
    assert!(report.latency.p90_us > 50_000.0, "{report}");
    assert!(report.service_time.p50_us < 50_000.0, "{report}");
}

/// What finds the queue full is counted, and every request has exactly one end.
#[test]
fn a_full_queue_is_counted() {
    let address = server(|mut stream| {
        let _closed = stream.read_to_end(&mut Vec::new());
    });
    let report = run(address, |options| {
        options.duration = Duration::from_millis(100);
        options.timeout = Duration::from_millis(50);
        options.pace = Pace::Open {
            rate: 1000.0,
            arrivals: Arrivals::Poisson,
            queue: 2,
        };
    });
    let measured = &report.measured;
    assert!(measured.unsent > 0 && measured.answered() == 0, "{report}");
    assert_eq!(
        measured.requests,
        measured.failed() + measured.unsent,
        "{report}"
    );
}
