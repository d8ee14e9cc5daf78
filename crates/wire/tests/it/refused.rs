//! Claim: what two programs could read in two ways is refused, with its cause.

use selvedge_wire::http1::Answers;
use selvedge_wire::{Limits, ProtocolError};

use crate::script::{Reads, transcript};
use crate::table::{self, Case};

use ProtocolError as E;

fn error(reads: Reads, limits: Limits, bytes: &[u8]) -> Option<ProtocolError> {
    transcript(reads, limits, bytes, &[]).error
}

/// Every case that is not refused as it should be, at once.
fn wrong(reads: Reads, cases: &[Case], before: &[u8]) -> Vec<String> {
    let found = cases.iter().map(|case| {
        let bytes = [before, &case.bytes].concat();
        let found = error(reads, Limits::default(), &bytes);
        (found != Some(case.cause())).then(|| format!("{found:?}: {case:?}"))
    });
    found.flatten().collect()
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    let wrong = wrong(Reads::Requests, &table::requests(), b"");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn chunks_that_could_be_read_in_two_ways_are_refused() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let wrong = wrong(Reads::Requests, &table::chunks(), head);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn responses_that_could_be_read_in_two_ways_are_refused() {
    let reads = Reads::Responses(Answers::Other);
    let wrong = wrong(reads, &table::responses(), b"");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_meets_every_cause_and_names_the_standard() {
    let too_large = [E::HeadTooLarge, E::TooManyFields, E::TrailersTooLarge];
    let cases = [table::requests(), table::chunks(), table::responses()].concat();
    let met = |cause: &E| too_large.contains(cause) || cases.iter().any(|it| it.cause() == *cause);
    let missing: Vec<_> = E::ALL.iter().filter(|cause| !met(cause)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let nameless = |case: &&Case| !case.heading.contains("(RFC ");
    assert!(!cases.iter().chain(&table::taken()).any(|it| nameless(&it)));
    assert!(cases.len() >= 150, "{}", cases.len());
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
