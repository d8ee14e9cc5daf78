//! An origin and clients that send what they like.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::*;

/// Serves until the client is done; gives what the client gave, and what the origin saw.
fn with_client<T: Send + 'static>(
    record: Option<Record>,
    client: impl FnOnce(SocketAddr) -> T + Send + 'static,
) -> (T, OriginReport) {
    let mut poller = Poller::new().unwrap();
    let mut origin = Origin::new(4, record);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = origin.listen(any, &poller).unwrap();
    let client = thread::spawn(move || client(address));
    let mut ready = Vec::new();
    while !client.is_finished() {
        poller.wait(None, &mut ready).unwrap();
        for ready in &ready {
            origin.on_ready(*ready, &poller).unwrap();
        }
        origin.answer().unwrap();
    }
    (client.join().unwrap(), origin.report())
}

/// Sends, and reads until the origin closes.
fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    heard
}

/// Requests that come together, with and without bodies, get an answer each, and are on record by
/// their id or their target.
#[test]
fn every_request_gets_one_answer_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record");
    let record = Record::create(&path).unwrap();
    let (heard, report) = with_client(Some(record), |address| {
        let requests = "GET /a HTTP/1.1\r\nhost: x\r\n\r\n\
             HEAD /b HTTP/1.1\r\nhost: x\r\n\r\n\
             POST /c HTTP/1.1\r\nhost: x\r\nX-Bench-Id: 7\r\ncontent-length: 3\r\n\r\nabc\
             GET /d HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n\
             GET /never HTTP/1.1\r\nhost: x\r\n\r\n";
        say(address, requests.as_bytes())
    });
    assert_eq!(heard.matches("HTTP/1.1 200 OK\r\n").count(), 4, "{heard}");
    assert_eq!(
        heard.matches("....").count(),
        3,
        "HEAD has no body: {heard}"
    );
    assert_eq!((report.requests, report.safe, report.malformed), (4, 3, 0));
    let record = std::fs::read_to_string(path).unwrap();
    assert_eq!(record, "GET /a\nHEAD /b\nPOST 7\nGET /d\n");
}

/// What is no HTTP is answered by the cause and ends its connection, and counts as no request.
#[test]
fn what_is_malformed_ends_its_connection() {
    let (heard, report) = with_client(None, |address| say(address, b"GET / HTTP/1.1\r\n\r\n"));
    assert!(
        heard.starts_with("HTTP/1.1 400 ") && heard.contains("Host"),
        "{heard}"
    );
    assert_eq!(
        (report.requests, report.malformed, report.connections),
        (0, 1, 1)
    );
}

/// A client that asks first is told to go on.
#[test]
fn a_body_that_awaits_leave_gets_it() {
    let (heard, report) = with_client(None, |address| {
        let head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\
             connection: close\r\ncontent-length: 2\r\n\r\n";
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head).unwrap();
        let mut leave = [0; 25];
        stream.read_exact(&mut leave).unwrap();
        stream.write_all(b"ab").unwrap();
        let mut heard = String::from_utf8(leave.to_vec()).unwrap();
        stream.read_to_string(&mut heard).unwrap();
        heard
    });
    let want = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n";
    assert!(heard.starts_with(want), "{heard}");
    assert_eq!(report.requests, 1);
}

/// A client that goes away amid a request is counted, and is no request.
#[test]
fn half_a_request_is_none() {
    let ((), report) = with_client(None, |address| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    assert_eq!((report.requests, report.truncated), (0, 1));
}

/// A client that sends thousands of requests before it reads an answer is held back, not forgotten:
/// it gets every answer.
#[test]
fn a_client_that_does_not_read_is_held_back() {
    const REQUESTS: usize = 20_000;
    let (heard, report) = with_client(None, |address| {
        let stream = TcpStream::connect(address).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let write = thread::spawn(move || {
            let requests = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(REQUESTS - 1);
            let last = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            writer.write_all((requests + last).as_bytes()).unwrap();
        });
        let mut reader = stream;
        reader
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut heard = String::new();
        reader.read_to_string(&mut heard).unwrap();
        write.join().unwrap();
        heard
    });
    assert_eq!(heard.matches("HTTP/1.1 200 OK\r\n").count(), REQUESTS);
    assert_eq!((report.requests, report.broken), (REQUESTS as u64, 0));
}
