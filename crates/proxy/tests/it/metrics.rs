//! Claim: scrapers get the agent's text, a clear word where there is none, and cannot make the agent
//! work more than once for all of them. Shown by requests of every kind, byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use selvedge_feed::{Counter, MAX_METRICS_BYTES};

use crate::agent::{DEADLINE, Proxy};
use crate::answers::SHOPPER;
use crate::mesh::Mesh;

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n";
const TEXT: &str = "# TYPE selvedge_generation gauge\nselvedge_generation 1\n";
/// Places there are.
const PLACES: usize = 16;

/// No look-up is sent on in these tests.
fn mesh() -> Mesh {
    Mesh::start(([127, 0, 0, 1], 1).into())
}

fn send(to: SocketAddr, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request).unwrap();
    stream
}

/// All that is said until the connection is closed.
fn hear(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn ask(to: SocketAddr, request: &[u8]) -> String {
    hear(send(to, request))
}

/// Status and body.
fn split(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status, body)
}

#[test]
fn a_scraper_gets_the_agents_text() {
    let mut mesh = mesh();
    // Several parts, and more than a socket holds.
    let long = TEXT.repeat(40_000);
    for text in [TEXT, &long] {
        let scraper = send(mesh.sockets.metrics(), GET);
        mesh.feed.await_metrics_request();
        mesh.feed.send_metrics(text);
        let answer = hear(scraper);
        assert!(split(&answer) == ("200", text), "{} bytes", answer.len());
        assert!(answer.contains("content-type: text/plain; version=0.0.4"));
    }
    let scraper = send(mesh.sockets.metrics(), b"HEAD /metrics HTTP/1.1\r\n\r\n");
    mesh.feed.await_metrics_request();
    mesh.feed.send_metrics(TEXT);
    let answer = hear(scraper);
    assert_eq!(split(&answer), ("200", ""));
    assert!(answer.contains(&format!("content-length: {}", TEXT.len())));
}

#[test]
fn what_is_no_request_for_metrics_is_told_so() {
    let mut mesh = mesh();
    let long_head = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    let many_headers = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    let cases: [(&[u8], &str); 12] = [
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
        (b"GET /metrics/../v1/status HTTP/1.1\r\n\r\n", "404"),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", "404"),
        (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n\r\n", "404"),
        (
            b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            "405",
        ),
        (b"BREW /metrics HTTP/1.1\r\n\r\n", "405"),
        (
            b"GET /metrics HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            "400",
        ),
        (b"GET /metrics\r\n\r\n", "400"),
        (b"GET /metrics HTTP/7.7\r\n\r\n", "400"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            "400",
        ),
        (long_head.as_bytes(), "431"),
        (many_headers.as_bytes(), "431"),
    ];
    for (request, status) in cases {
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]);
        let answer = ask(mesh.sockets.metrics(), request);
        assert_eq!(split(&answer).0, status, "{shown}: {answer}");
        assert_eq!(
            status == "405",
            answer.contains("allow: GET, HEAD"),
            "{shown}"
        );
    }
    // None of it has reached the agent, and it does no harm.
    let scraper = send(mesh.sockets.metrics(), GET);
    let requests = mesh.feed.answer_metrics(TEXT, |report| {
        report.counters.get(&Counter::MetricsScrapes) == Some(&1)
    });
    assert_eq!(requests, 1);
    assert_eq!(split(&hear(scraper)), ("200", TEXT));
}

#[test]
fn a_silent_scraper_is_cut_off() {
    let mut mesh = mesh();
    let begun = [&b""[..], b"GET /metrics HT"].map(|it| send(mesh.sockets.metrics(), it));
    assert_eq!(begun.map(hear), ["", ""]);
    mesh.feed
        .report(|report| report.counters.get(&Counter::MetricsConnectionsCut) == Some(&2));
}

#[test]
fn many_scrapers_share_an_answer_and_too_many_are_turned_away() {
    let mut mesh = mesh();
    let scrapers: Vec<_> = (0..PLACES)
        .map(|_| send(mesh.sockets.metrics(), GET))
        .collect();
    mesh.feed.await_metrics_request();
    let one_more = TcpStream::connect(mesh.sockets.metrics()).unwrap();
    assert_eq!(hear(one_more), "", "closed at once");
    mesh.feed.send_metrics(TEXT);
    let more = mesh.feed.answer_metrics(TEXT, |report| {
        report.counters.get(&Counter::MetricsScrapes) == Some(&(PLACES as u64))
            && report.counters.get(&Counter::MetricsConnectionsRefused) == Some(&1)
    });
    assert!(more <= 1, "those that came late share another: {more}");
    for scraper in scrapers {
        assert_eq!(split(&hear(scraper)), ("200", TEXT));
    }
}

#[test]
fn without_an_agent_scrapers_are_told_so_until_there_is_one() {
    let mut mesh = mesh();
    let address = mesh.sockets.metrics();
    let waiting = send(address, GET);
    mesh.feed.await_metrics_request();
    drop(mesh.feed);
    let agent = mesh.agent.replace();
    for answer in [hear(waiting), ask(address, GET)] {
        assert_eq!(split(&answer).0, "503", "{answer}");
        assert!(split(&answer).1.contains("the agent is away"), "{answer}");
    }
    let sockets = mesh.sockets.beside();
    drop(mesh.sockets);
    let mut feed = agent.accept(&sockets);
    // The old socket is closed once the new one is served; nobody is answered from nothing.
    let scraper = send(address, GET);
    feed.await_metrics_request();
    feed.send_metrics(TEXT);
    assert_eq!(split(&hear(scraper)), ("200", TEXT));
}

#[test]
fn an_agent_that_does_not_answer_is_not_waited_for() {
    let mut mesh = mesh();
    let address = mesh.sockets.metrics();
    let answer = ask(address, GET);
    assert_eq!(split(&answer).0, "503", "{answer}");
    assert!(answer.contains("has not answered"), "{answer}");
    // What it says at last is for those who wait then.
    let scraper = send(address, GET);
    mesh.feed.answer_metrics(TEXT, |report| {
        report.counters.get(&Counter::MetricsScrapes) == Some(&1)
    });
    assert_eq!(split(&hear(scraper)), ("200", TEXT));
}

#[test]
fn what_is_too_long_is_said_to_be() {
    let mut mesh = mesh();
    let scraper = send(mesh.sockets.metrics(), GET);
    mesh.feed.await_metrics_request();
    mesh.feed.send_metrics(&"a".repeat(MAX_METRICS_BYTES + 1));
    let answer = hear(scraper);
    assert_eq!(split(&answer).0, "503");
    assert!(answer.contains("more than 16 MiB"), "{answer}");
}

#[test]
fn a_killed_proxy_keeps_no_scraper_from_the_next() {
    let mut mesh = mesh();
    mesh.proxy.kill();
    let scraper = send(mesh.sockets.metrics(), GET);
    mesh.proxy = Proxy::start(&mesh.agent.path(), ([127, 0, 0, 1], 1).into(), SHOPPER);
    mesh.feed = mesh.agent.accept(&mesh.sockets);
    mesh.feed.await_metrics_request();
    mesh.feed.send_metrics(TEXT);
    assert_eq!(split(&hear(scraper)), ("200", TEXT));
}

#[test]
fn an_agent_without_metrics_ends_them() {
    let mut mesh = mesh();
    let address = mesh.sockets.metrics();
    drop(mesh.feed);
    let agent = mesh.agent.replace();
    mesh.sockets.metrics = None;
    let mut feed = agent.accept(&mesh.sockets);
    feed.probe(1);
    crate::agent::until("the port to be free", || {
        TcpStream::connect(address).is_err().then_some(())
    });
}
