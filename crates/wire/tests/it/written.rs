//! Claim: what goes further is what came, without what is between two neighbours.

use selvedge_wire::Limits;
use selvedge_wire::http1::{Decoder, Event, write};

#[track_caller]
fn check(fields: &str, want: &str) {
    let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut decoder = Decoder::requests(Limits::default());
    let step = decoder.step(bytes.as_bytes()).unwrap();
    assert_eq!(step.event, Some(Event::Head), "{bytes:?}");
    let mut out = Vec::new();
    write::end_to_end_fields(
        &mut out,
        &decoder.message(bytes.as_bytes(), &step),
        |field| !field.name.eq_ignore_ascii_case(b"unwanted"),
    );
    let found = String::from_utf8(out).unwrap();
    assert_eq!(found, format!("Host: a\r\n{want}"), "{bytes:?}");
}

#[test]
fn end_to_end_fields_go_further_as_they_came() {
    check("", "");
    check("X:\t y \t\r\nx: Z\r\n", "X:\t y \t\r\nx: Z\r\n");
    check("Expect: 100-continue\r\n", "Expect: 100-continue\r\n");
    check("Unwanted: 1\r\nX: 2\r\n", "X: 2\r\n");
}

#[test]
fn fields_between_neighbours_stay() {
    for field in [
        "Connection: close",
        "connection: Keep-Alive",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: x",
        "Proxy-Authenticate: x",
        "TE: trailers",
        "Transfer-Encoding: chunked",
        "Upgrade: websocket",
        "Content-Length: 1",
    ] {
        check(&format!("A: 1\r\n{field}\r\nB: 2\r\n"), "A: 1\r\nB: 2\r\n");
    }
}

#[test]
fn fields_that_connection_names_stay_too() {
    check(
        "Connection: close, X-Hop\r\nx-hop: 1\r\nX-Hop: 2\r\nX-Hopper: 3\r\n",
        "X-Hopper: 3\r\n",
    );
    check("Connection: ,\r\nX: 1\r\nConnection: x\r\n", "");
}

#[test]
fn start_lines_are_always_of_our_version() {
    let mut out = Vec::new();
    write::request_line(&mut out, b"GET", &[b"/a", b"?b"]);
    write::status_line(&mut out, 404, b"Not Found");
    write::status_line(&mut out, 200, b"");
    write::field(&mut out, b"Name", b"value");
    assert_eq!(
        out,
        b"GET /a?b HTTP/1.1\r\nHTTP/1.1 404 Not Found\r\nHTTP/1.1 200 \r\nName: value\r\n"
    );
}
