//! Claim: what is sound is understood as the standard says, to the last byte.

use selvedge_wire::Limits;
use selvedge_wire::http1::{Answers, Decoder, Event};

use crate::script::{Reads, transcript};
use crate::table::{self, Claim};

#[track_caller]
fn check(reads: Reads, bytes: &str, want: &str) {
    let found = transcript(reads, Limits::default(), bytes.as_bytes(), &[]);
    assert_eq!(found.error, None, "{bytes:?}");
    assert_eq!(found.text, want, "{bytes:?}");
}

fn request(bytes: &str, want: &str) {
    check(Reads::Requests, bytes, want);
}

fn response(answers: Answers, bytes: &str, want: &str) {
    check(Reads::Responses(answers), bytes, want);
}

#[test]
fn requests_of_the_table_are_counted_as_it_says() {
    for case in table::taken() {
        let found = transcript(Reads::Requests, Limits::default(), &case.bytes, &[]);
        let ends = found.text.lines().filter(|line| *line == "end").count();
        assert_eq!(
            (found.error, Claim::Taken(ends)),
            (None, case.claim),
            "{case:?}"
        );
    }
}

#[test]
fn requests_end_where_they_say() {
    request(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\nfield Host: a\nEmpty, keeps true\nend\n",
    );
    request(
        "POST /a?b HTTP/1.1\r\nhost:\t a:80 \t\r\nContent-Length: 3\r\n\r\nabc",
        "POST /a?b\nfield host: a:80\nfield Content-Length: 3\nLength(3), keeps true\nbody abc\nend\n",
    );
    request(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
         3;x=\"y z\"\r\nabc\r\n0A\r\n0123456789\r\n000\r\n\r\n",
        "POST /\nfield Host: a\nfield Transfer-Encoding: Chunked\nChunked, keeps true\n\
         body abc0123456789\nend\n",
    );
    request(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\n\n\r\n0\r\nChecksum: 7\r\nX:\r\n\r\n",
        "POST /\nfield Host: a\nfield Transfer-Encoding: chunked\nChunked, keeps true\n\
         body \\n\ntrailer Checksum: 7\ntrailer X: \nend\n",
    );
}

#[test]
fn equal_lengths_are_one() {
    request(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 01\r\ncontent-length: 1\r\n\r\nx",
        "POST /\nfield Host: a\nfield Content-Length: 1, 01\nfield content-length: 1\n\
         Length(1), keeps true\nbody x\nend\n",
    );
}

#[test]
fn requests_may_follow_each_other_at_once() {
    request(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab\r\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n",
        "POST /\nfield Host: a\nfield Content-Length: 2\nLength(2), keeps true\nbody ab\nend\n\
         GET /b\nfield Host: b\nEmpty, keeps true\nend\n",
    );
}

#[test]
fn connections_are_kept_as_the_version_has_it() {
    for (version, connection, keeps) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        (
            "1.0",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        let found = transcript(Reads::Requests, Limits::default(), bytes.as_bytes(), &[]);
        assert!(
            found.text.contains(&format!("Empty, keeps {keeps}\n")),
            "{bytes:?}: {found:?}"
        );
    }
}

#[test]
fn a_request_of_http_1_0_needs_no_host() {
    request("GET / HTTP/1.0\r\n\r\n", "GET /\nEmpty, keeps false\nend\n");
}

#[test]
fn responses_end_as_what_they_answer_wants() {
    response(
        Answers::Other,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "200 OK\nfield Content-Length: 2\nLength(2), keeps true\nbody ok\nend\n",
    );
    response(
        Answers::Head,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 404 \r\n\r\n",
        "200 OK\nfield Content-Length: 2\nEmpty, keeps true\nend\n404 \nEmpty, keeps true\nend\n",
    );
    response(
        Answers::Other,
        "HTTP/1.1 200\r\n\r\nuntil the end",
        "200 \nUntilClose, keeps true\nbody until the end\nend\n",
    );
    response(
        Answers::Other,
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        "304 Not Modified\nfield Content-Length: 9\nEmpty, keeps true\nend\n",
    );
    response(
        Answers::Other,
        "HTTP/1.1 204 No Content\r\n\r\n",
        "204 No Content\nEmpty, keeps true\nend\n",
    );
    response(
        Answers::Connect,
        "HTTP/1.1 200 \u{fc}ber\r\nContent-Length: 1\r\n\r\ntunnel",
        "200 \u{fc}ber\nfield Content-Length: 1\nTunnel, keeps true\nbody tunnel\nend\n",
    );
    response(
        Answers::Connect,
        "HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nx",
        "403 No\nfield Content-Length: 1\nLength(1), keeps true\nbody x\nend\n",
    );
}

#[test]
fn interim_responses_come_before_the_final_one() {
    response(
        Answers::Other,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "100 Continue\nEmpty, keeps true\n103 Early Hints\nfield Link: x\nEmpty, keeps true\n\
         200 OK\nfield Content-Length: 0\nEmpty, keeps true\nend\n",
    );
    response(
        Answers::Other,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nother",
        "101 Switching Protocols\nfield Upgrade: x\nTunnel, keeps true\nbody other\nend\n",
    );
}

#[test]
fn a_restarted_decoder_reads_another_connection() {
    let mut decoder = Decoder::requests(Limits::default());
    let cut = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    assert_eq!(decoder.step(cut).unwrap().event, Some(Event::Head));
    assert!(decoder.step(b"bad").is_ok(), "a body may be anything");
    decoder.restart();
    assert!(decoder.step(b" GET /").is_err());
    decoder.restart();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(decoder.step(head).unwrap().event, Some(Event::Head));
    assert_eq!(decoder.step(b"").unwrap().event, Some(Event::End));
}
