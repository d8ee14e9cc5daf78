//! Claim: what two programs could read in two ways is refused, with its cause.

use selvedge_wire::http1::Answers;
use selvedge_wire::{Limits, ProtocolError};

use crate::script::{Reads, transcript};

use ProtocolError as E;

/// Heads of requests, and why each is refused. A missing empty line at the end is put there.
const REQUESTS: &[(E, &[u8])] = &[
    // Start lines (RFC 9112, section 3).
    (E::StartLine, b"GET\r\n"),
    (E::StartLine, b"GET /\r\n"),
    (E::StartLine, b" GET / HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"\tGET / HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"GET  / HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"GET /  HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"GET\t/ HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"GET /\tHTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"GET /\x0bHTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"G(T / HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"G\xc3\x89T / HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"\x16\x03\x01\x02\x00"),
    (E::StartLine, b"\0GET / HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"GET /a b HTTP/1.1\r\nHost: a\r\n"),
    (E::LineEnding, b"GET / HTTP/1.1 \r\nHost: a\r\n"),
    // Versions (RFC 9112, section 2.3; RFC 9110, section 15.6.6).
    (E::Version, b"GET / HTTP/0.9\r\nHost: a\r\n"),
    (E::Version, b"GET / HTTP/1.2\r\nHost: a\r\n"),
    (E::Version, b"GET / HTTP/2.0\r\nHost: a\r\n"),
    (E::Version, b"PRI * HTTP/2.0\r\n"),
    (E::Version, b"GET / HTTP/11.1\r\nHost: a\r\n"),
    (E::Version, b"GET / HTTP/1\r\nHost: a\r\n"),
    (E::Version, b"GET / http/1.1\r\nHost: a\r\n"),
    (E::Version, b"GET / HTTPS/1.1\r\nHost: a\r\n"),
    (E::Version, b"GET / HTTP/1,1\r\nHost: a\r\n"),
    // Targets (RFC 9112, section 3.2).
    (E::Target, b"GET a HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"GET * HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"GET /a#b HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"GET http:/a HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"GET gopher://a/ HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"GET a:80 HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"CONNECT / HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"CONNECT a HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"CONNECT a:b HTTP/1.1\r\nHost: a\r\n"),
    (E::Target, b"CONNECT http://a:1/ HTTP/1.1\r\nHost: a\r\n"),
    (E::StartLine, b"GET /\xff HTTP/1.1\r\nHost: a\r\n"),
    // Line endings (RFC 9112, section 2.2).
    (E::LineEnding, b"\nGET / HTTP/1.1\r\nHost: a\r\n"),
    (E::LineEnding, b"GET / HTTP/1.1\nHost: a\r\n"),
    (E::LineEnding, b"GET / HTTP/1.1\r\nHost: a\n"),
    (E::LineEnding, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n"),
    (E::LineEnding, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    (E::LineEnding, b"GET / HTTP/1.1\nHost: a\n\n"),
    (E::LineEnding, b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n"),
    (E::LineEnding, b"GET / HTTP/1.1\rHost: a\r\n"),
    (E::LineEnding, b"GET / HTTP/1.1\r\nHost: a\r\r\n"),
    (E::LineEnding, b"GET / HTTP/1.1\r\nHost: a\r\nX:\n"),
    // Folding and white space (RFC 9112, sections 5.1 and 5.2).
    (E::Folding, b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n"),
    (E::Folding, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tContent-Length: 5\r\n"),
    (E::Folding, b"GET / HTTP/1.1\r\n Host: a\r\n"),
    (E::SpaceInName, b"GET / HTTP/1.1\r\nHost : a\r\n"),
    (E::SpaceInName, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length\t: 5\r\n"),
    (E::SpaceInName, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n"),
    // Fields (RFC 9110, sections 5.1 and 5.5).
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\nX\0: z\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa4: z\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\nX(: z\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n"),
    (E::Field, b"GET / HTTP/1.1\r\nHost: a\r\n\"X\": z\r\n"),
    // Hosts (RFC 9112, section 3.2; RFC 9110, section 7.2).
    (E::HostCount, b"GET / HTTP/1.1\r\n"),
    (E::HostCount, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n"),
    (E::HostCount, b"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n"),
    (E::HostCount, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n"),
    (E::HostCount, b"GET http://a/ HTTP/1.1\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: a b\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: a/b\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: u@a\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: a:80:80\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: a:x\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: [::1\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: ::1\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: a?b\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: a#b\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: a\\b\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: \xe4\r\n"),
    (E::Host, b"GET / HTTP/1.1\r\nHost: http://a\r\n"),
    // Lengths (RFC 9112, section 6.3; RFC 9110, section 8.6).
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 2\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1.0\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ,1\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"1\"\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1;\r\n"),
    (E::ContentLength, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2\r\n"),
    // Both, in either order (RFC 9112, section 6.1).
    (E::LengthAndCoding, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
    (E::LengthAndCoding, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n"),
    (E::LengthAndCoding, b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\ncontent-length: 0\r\n"),
    (E::LengthAndCoding, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n"),
    // Codings (RFC 9112, sections 6.1, 6.3 and 7).
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n"),
    (E::CodingNotLast, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n"),
    (E::CodingUnknown, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n"),
    (E::CodingUnknown, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
    (E::CodingUnknown, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n"),
    (E::CodingUnknown, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked\r\n"),
    (E::CodingInOldVersion, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"),
    // What Connection must not take away (RFC 9110, section 7.6.1).
    (E::ConnectionOption, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n"),
    (E::ConnectionOption, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close, content-length\r\n"),
];

/// Bodies in chunks.
const CHUNKS: &[(E, &[u8])] = &[
    (E::ChunkSize, b"\r\n"),
    (E::ChunkSize, b" 1\r\na\r\n"),
    (E::ChunkSize, b"1 \r\na\r\n"),
    (E::ChunkSize, b"1\t\r\na\r\n"),
    (E::ChunkSize, b"0x1\r\na\r\n"),
    (E::ChunkSize, b"+1\r\na\r\n"),
    (E::ChunkSize, b"-1\r\na\r\n"),
    (E::ChunkSize, b"g\r\n"),
    (E::ChunkSize, b";a\r\n"),
    (E::ChunkSize, b"1_0\r\n"),
    (E::ChunkSize, b"\xef\xbc\x91\r\na\r\n"),
    (E::ChunkSize, b"8000000000000000\r\n"),
    (E::ChunkSize, b"10000000000000001\r\n"),
    (E::ChunkSize, b"00000000000000001\r\na\r\n"),
    (E::ChunkSize, b"1 ;a\r\nb\r\n"),
    (E::LineEnding, b"1\na\r\n"),
    (E::LineEnding, b"1\rXa\r\n"),
    (E::LineEnding, b"1;a\nb\r\n"),
    (E::LineEnding, b"1\r\r\na\r\n"),
    (E::LineEnding, b"0\n\n"),
    (E::ChunkExtension, b"1;\0\r\na\r\n"),
    (E::ChunkExtension, b"1;\x7f\r\na\r\n"),
    (
        E::ChunkExtension,
        b"1;a=0123456789012345678901234567890123456789012345678901234567890123456789\r\nb\r\n",
    ),
    (E::ChunkEnd, b"1\r\nab\r\n"),
    (E::ChunkEnd, b"1\r\na\n"),
    (E::ChunkEnd, b"1\r\na0\r\n\r\n"),
    (E::ChunkEnd, b"1\r\na\r0\r\n\r\n"),
    (E::ChunkEnd, b"2\r\na\r\n0\r\n\r\n"),
    (E::LineEnding, b"0\r\n\n"),
    (E::LineEnding, b"0\r\nX: y\n\r\n"),
    (E::LineEnding, b"0\r\nX: y\r\n\n"),
    (E::Folding, b"0\r\nX: y\r\n z\r\n\r\n"),
    (E::SpaceInName, b"0\r\nX : y\r\n\r\n"),
    (E::Field, b"0\r\nX\r\n\r\n"),
    (E::Field, b"0\r\nX: \0\r\n\r\n"),
    (E::Trailer, b"0\r\nContent-Length: 5\r\n\r\n"),
    (E::Trailer, b"0\r\ntransfer-encoding: chunked\r\n\r\n"),
    (E::Trailer, b"0\r\nHost: b\r\n\r\n"),
    (E::Trailer, b"0\r\nX: y\r\nAuthorization: z\r\n\r\n"),
    (E::Trailer, b"0\r\nConnection: close\r\n\r\n"),
    (E::Trailer, b"0\r\nExpect: 100-continue\r\n\r\n"),
    (E::Trailer, b"0\r\nSet-Cookie: a\r\n\r\n"),
    (E::Trailer, b"0\r\nContent-Type: a\r\n\r\n"),
    (E::Truncated, b""),
    (E::Truncated, b"1"),
    (E::Truncated, b"1\r\n"),
    (E::Truncated, b"5\r\nab"),
    (E::Truncated, b"1\r\na\r\n"),
    (E::Truncated, b"0\r\n"),
    (E::Truncated, b"0\r\nX: y\r\n"),
];

/// Heads of responses.
const RESPONSES: &[(E, &[u8])] = &[
    (E::StartLine, b"\r\nHTTP/1.1 200 OK\r\n"),
    (E::Version, b"HTTP/1.1\r\n"),
    (E::StartLine, b"HTTP/1.1 20 OK\r\n"),
    (E::StartLine, b"HTTP/1.1 2000 OK\r\n"),
    (E::StartLine, b"HTTP/1.1 099 OK\r\n"),
    (E::StartLine, b"HTTP/1.1 600 OK\r\n"),
    (E::StartLine, b"HTTP/1.1 2x0 OK\r\n"),
    (E::StartLine, b"HTTP/1.1  200 OK\r\n"),
    (E::StartLine, b"HTTP/1.1 200 O\0K\r\n"),
    (E::Version, b"HTTP/1.2 200 OK\r\n"),
    (E::Version, b"HTTP/2 200 OK\r\n"),
    (E::Version, b"ICY 200 OK\r\n"),
    (E::LineEnding, b"HTTP/1.1 200 OK\nX: y\r\n"),
    (E::LineEnding, b"HTTP/1.1 200 OK\r\nX: y\n"),
    (E::LineEnding, b"HTTP/1.1 200\nX: y\r\n"),
    (E::Folding, b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n"),
    (E::SpaceInName, b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n"),
    (
        E::ContentLength,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n",
    ),
    (
        E::ContentLength,
        b"HTTP/1.1 204 OK\r\nContent-Length: x\r\n",
    ),
    (
        E::LengthAndCoding,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        E::LengthAndCoding,
        b"HTTP/1.1 304 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        E::CodingUnknown,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
    ),
    (
        E::CodingNotLast,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n",
    ),
    (
        E::CodingInOldVersion,
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        E::ConnectionOption,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Content-Length\r\n",
    ),
];

fn error(reads: Reads, limits: Limits, bytes: &[u8]) -> Option<ProtocolError> {
    transcript(reads, limits, bytes, &[]).error
}

/// Every case that is not refused as it should be, at once.
fn wrong(reads: Reads, cases: &[(E, &[u8])], bytes_of: impl Fn(&[u8]) -> Vec<u8>) -> Vec<String> {
    let found = cases.iter().map(|(want, case)| {
        let found = error(reads, Limits::default(), &bytes_of(case));
        (found != Some(*want)).then(|| format!("{}: {found:?}, not {want:?}", case.escape_ascii()))
    });
    found.flatten().collect()
}

fn with_empty_line(head: &[u8]) -> Vec<u8> {
    [head, b"\r\n"].concat()
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    let wrong = wrong(Reads::Requests, REQUESTS, with_empty_line);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn chunks_that_could_be_read_in_two_ways_are_refused() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let wrong = wrong(Reads::Requests, CHUNKS, |body| [head, body].concat());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn responses_that_could_be_read_in_two_ways_are_refused() {
    let reads = Reads::Responses(Answers::Other);
    let wrong = wrong(reads, RESPONSES, with_empty_line);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_cause_is_met() {
    let too_large = [E::HeadTooLarge, E::TooManyFields, E::TrailersTooLarge];
    let cases = [REQUESTS, CHUNKS, RESPONSES].concat();
    let met = |cause: &E| too_large.contains(cause) || cases.iter().any(|(met, _)| met == cause);
    let missing: Vec<_> = E::ALL.iter().filter(|cause| !met(cause)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_tables_are_as_large_as_they_should_be() {
    assert!(REQUESTS.len() + CHUNKS.len() + RESPONSES.len() >= 150);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let limits = Limits {
        head_bytes: 64,
        fields: 2,
        chunk_extension_bytes: 4,
        trailer_bytes: 16,
    };
    let refused = |bytes: &[u8]| error(Reads::Requests, limits, bytes);
    let endless = [b"GET /".as_slice(), &[b'a'; 60]].concat();
    assert_eq!(refused(&endless), Some(E::HeadTooLarge));
    let fields = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\n\r\n";
    assert_eq!(refused(fields), Some(E::TooManyFields));
    let chunked = |body: &[u8]| {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        refused(&[head, body].concat())
    };
    assert_eq!(chunked(b"0;abcd\r\n\r\n"), None);
    assert_eq!(chunked(b"0;abcde\r\n\r\n"), Some(E::ChunkExtension));
    assert_eq!(
        chunked(b"0\r\nA: 0123456789\r\n\r\n"),
        Some(E::TrailersTooLarge)
    );
}
