//! What is spoken on a connection about which nobody has said anything, by its first bytes.

/// What the first bytes of a client show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// A request of HTTP/1.
    Http,
    /// Something else, HTTP/2 among it.
    Other,
    /// Not enough has come.
    Unclear,
}

/// Longest method that is taken for one; the longest that is registered has 17 letters.
const LONGEST_METHOD: usize = 20;

/// A method in capitals and a target behind one space. `PRI * HTTP/2.0` is how HTTP/2 begins, made so
/// that it looks like a request of HTTP/1 (RFC 9113, section 3.4).
pub(crate) fn spoken(first: &[u8]) -> Spoken {
    let letters = first
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-');
    let method = letters.count();
    match &first[method..] {
        [] if method <= LONGEST_METHOD => Spoken::Unclear,
        [b' '] if (1..=LONGEST_METHOD).contains(&method) => Spoken::Unclear,
        [b' ', b'/' | b'*' | b'h' | b'H', ..] if (1..=LONGEST_METHOD).contains(&method) => {
            match &first[..method] {
                b"PRI" => Spoken::Other,
                _ => Spoken::Http,
            }
        }
        // Host and port.
        [b' ', ..] if &first[..method] == b"CONNECT" => Spoken::Http,
        _ => Spoken::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_from_other_protocols() {
        for (first, want) in [
            (&b""[..], Spoken::Unclear),
            (b"GE", Spoken::Unclear),
            (b"GET ", Spoken::Unclear),
            (b"GET /", Spoken::Http),
            (b"OPTIONS *", Spoken::Http),
            (b"VERSION-CONTROL /a", Spoken::Http),
            (b"GET http://a/", Spoken::Http),
            (b"CONNECT a:1", Spoken::Http),
            (b"PRI * HTTP/2.0\r\n", Spoken::Other),
            (b"\x16\x03\x01", Spoken::Other),
            (b"\r\n", Spoken::Other),
            (b"get /", Spoken::Other),
            (b"EHLO a", Spoken::Other),
            (b"AAAAAAAAAAAAAAAAAAAAAAAA", Spoken::Other),
            (b" /", Spoken::Other),
        ] {
            assert_eq!(spoken(first), want, "{first:?}");
        }
    }
}
