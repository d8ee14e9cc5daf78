//! Claim: it does not matter where the bytes of a connection are cut.

use proptest::prelude::*;
use selvedge_wire::Limits;
use selvedge_wire::http1::Answers;

use crate::pieces::pieces;
use crate::script::{Reads, transcript};

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\r\nc",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nabcde\r\n1\r\n\n\r\n0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\nZ: \r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab",
];

const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
];

fn same_wherever_cut(reads: Reads, bytes: &[u8]) {
    let whole = transcript(reads, Limits::default(), bytes, &[]);
    for cut in 0..=bytes.len() {
        let parts = transcript(reads, Limits::default(), bytes, &[cut]);
        assert_eq!(parts, whole, "{} cut at {cut}", bytes.escape_ascii());
    }
    let every: Vec<_> = (0..=bytes.len()).collect();
    let parts = transcript(reads, Limits::default(), bytes, &every);
    assert_eq!(parts, whole, "{} byte by byte", bytes.escape_ascii());
}

#[test]
fn a_pair_of_messages_is_the_same_cut_at_any_byte() {
    for first in REQUESTS {
        for second in REQUESTS {
            same_wherever_cut(Reads::Requests, &[*first, second].concat());
        }
    }
    for first in RESPONSES {
        for second in RESPONSES {
            let bytes = [*first, second].concat();
            for answers in [Answers::Other, Answers::Head, Answers::Connect] {
                same_wherever_cut(Reads::Responses(answers), &bytes);
            }
        }
    }
}

proptest! {
    #[test]
    fn anything_is_the_same_in_any_pieces(
        bytes in pieces(),
        mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        responses in any::<bool>(),
    ) {
        let reads = match responses {
            true => Reads::Responses(Answers::Other),
            false => Reads::Requests,
        };
        let mut cuts: Vec<_> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = transcript(reads, Limits::default(), &bytes, &[]);
        prop_assert_eq!(transcript(reads, Limits::default(), &bytes, &cuts), whole);
    }
}
