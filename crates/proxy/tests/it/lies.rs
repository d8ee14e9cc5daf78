//! Claim: of a response that could be read in two ways, or that breaks off, nothing that may be another's
//! comes to the client, and the connection that it came on is not used again. The cases are the table's.

use selvedge_wire::ProtocolError;

use crate::origin::Origin;
use crate::path::Path;
use crate::table;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
/// What the next client must not get.
const FORGED: &[u8] = b"forgedHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";

/// Answers the first request on each connection so, and writes down a second.
fn liar(answer: Vec<u8>) -> Origin {
    Origin::start(move |connection| {
        connection.request();
        connection.send_bytes(&answer);
        connection.finish();
        connection.request();
    })
}

/// The first bytes of the request that came, on how many connections.
fn requests(origin: &Origin) -> usize {
    let all = origin.rest();
    assert!(all.iter().all(|it| it.starts_with("GET / ")), "{all:?}");
    all.len()
}

#[test]
fn a_head_that_could_be_read_in_two_ways_is_not_passed_on() {
    for case in table::responses() {
        let origin = liar([&case.bytes, FORGED].concat());
        let path = Path::to(&[origin.address]);
        for _ in 0..2 {
            let response = path.get(GET);
            let seen = (response.status, response.reason());
            assert_eq!(seen, (502, "malformed_response"), "{case:?}");
            assert!(!response.body.contains("forged"), "{case:?}");
        }
        assert_eq!(requests(&origin), 2, "each came once: {case:?}");
    }
}

#[test]
fn a_body_that_could_be_read_in_two_ways_breaks_off() {
    for case in table::chunks() {
        // What is cut short is so by the connection's end.
        let behind = match case.cause() {
            ProtocolError::Truncated => b"",
            _ => FORGED,
        };
        let origin = liar([CHUNKED, &case.bytes, behind].concat());
        let path = Path::to(&[origin.address]);
        for _ in 0..2 {
            let mut client = path.connect();
            client.send(GET);
            let seen = client.until_reset();
            assert!(!seen.contains("forged"), "{case:?}: {seen}");
            assert!(!seen.ends_with("0\r\n\r\n"), "it looks whole: {case:?}");
        }
        assert_eq!(requests(&origin), 2, "each came once: {case:?}");
    }
}
