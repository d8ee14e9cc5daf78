//! What is compared with other programs that read HTTP.

use selvedge_wire::Limits;
use selvedge_wire::http1::{Decoder, Event, Start};

/// Connections that everybody should read.
pub(crate) const SOUND: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        b"\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    ];

/// A request as far as both tell: method, target, fields in any order, body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// What we make of it, and how many bytes that took: those of whole requests, up to one that ends the
/// connection.
pub(crate) fn ours(bytes: &[u8]) -> (Vec<Seen>, usize) {
    let mut decoder = Decoder::requests(Limits::default());
    let (mut whole, mut current) = (Vec::new(), Seen::default());
    let (mut at, mut taken, mut keeps) = (0, 0, true);
    while let Ok(step) = decoder.step(&bytes[at..]) {
        let input = &bytes[at..];
        match &step.event {
            Some(Event::Head) => {
                let message = decoder.message(input, &step);
                let Start::Request { method, .. } = message.start() else {
                    unreachable!("this decoder reads requests")
                };
                keeps = message.keeps_connection();
                current.method = String::from_utf8_lossy(method).into_owned();
                let fields = message.fields().map(|field| {
                    let name = String::from_utf8_lossy(field.name).to_lowercase();
                    (name, field.value.to_vec())
                });
                current.fields = fields.collect();
                current.fields.sort();
            }
            Some(Event::Data(range)) => current.body.extend_from_slice(&input[range.clone()]),
            Some(Event::Trailers) => {}
            Some(Event::End) => {
                whole.push(std::mem::take(&mut current));
                taken = at + step.consumed;
                if !keeps {
                    break;
                }
            }
            None => break,
        }
        at += step.consumed;
    }
    (whole, taken)
}

/// What the two disagree about. The other may refuse what we take, but never count differently. It is
/// shown what we took, and says whether it was content.
pub(crate) fn dispute(
    bytes: &[u8],
    other: impl FnOnce(&[u8]) -> (Vec<Seen>, bool),
) -> Option<String> {
    let (ours, taken) = ours(bytes);
    let (others, content) = other(&bytes[..taken]);
    let agreed = match content {
        true => ours == others,
        false => ours.starts_with(&others),
    };
    (!agreed).then(|| {
        let bytes = bytes[..taken].escape_ascii();
        format!("{bytes}\nours {ours:#?}\nthe other {content} {others:#?}")
    })
}

#[test]
fn what_is_sound_is_taken_whole() {
    for bytes in SOUND {
        assert_eq!(ours(bytes).1, bytes.len(), "{}", bytes.escape_ascii());
    }
}
