//! Messages put together at random.

use proptest::prelude::*;

/// Pieces of messages in any order: most are nonsense, some only just.
pub(crate) fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"3\r\nabc\r\n",
        b"0\r\n",
        b"abc",
        b":",
        b"\0",
    ];
    let piece = prop::sample::select(PIECES);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}
