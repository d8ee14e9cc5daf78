//! Request targets and hosts (RFC 9112, section 3.2; RFC 3986, section 3.2).

use crate::ProtocolError;

/// What a request is about, in one of four forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Path and query, as to a server.
    Origin(&'a [u8]),
    /// A whole URI, as to a proxy. Its authority stands above the Host field.
    Absolute {
        /// Host and, with a colon, port.
        authority: &'a [u8],
        /// Path and query; empty where the URI has neither.
        path: &'a [u8],
    },
    /// Host and port, of CONNECT alone.
    Authority(&'a [u8]),
    /// The server itself, of OPTIONS alone.
    Asterisk,
}

impl<'a> Target<'a> {
    /// Reads the target of a request with this method.
    pub fn parse(method: &[u8], target: &'a [u8]) -> Result<Self, ProtocolError> {
        // A fragment never leaves the client; a server that cuts it sees another path than we do.
        let is_allowed = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
        if target.is_empty() || !target.iter().all(is_allowed) {
            return Err(ProtocolError::Target);
        }
        if method == b"CONNECT" {
            return match is_authority(target, Port::Required) {
                true => Ok(Self::Authority(target)),
                false => Err(ProtocolError::Target),
            };
        }
        match target {
            [b'/', ..] => Ok(Self::Origin(target)),
            b"*" if method == b"OPTIONS" => Ok(Self::Asterisk),
            _ => absolute(target).ok_or(ProtocolError::Target),
        }
    }
}

fn absolute(target: &[u8]) -> Option<Target<'_>> {
    let after_scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find_map(|scheme| {
            let (head, rest) = target.split_at_checked(scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then_some(rest)
        })?;
    let end = after_scheme
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(after_scheme.len());
    let (authority, path) = after_scheme.split_at(end);
    is_authority(authority, Port::Optional).then_some(Target::Absolute { authority, path })
}

/// Whether a port has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Required,
    Optional,
}

/// Whether this is the value of a Host field: a host and perhaps a port, or nothing at all.
pub(super) fn is_host(value: &[u8]) -> bool {
    value.is_empty() || is_authority(value, Port::Optional)
}

/// A host that is not empty. User names are refused: they serve to deceive (RFC 9110, section 4.2.4).
fn is_authority(authority: &[u8], port: Port) -> bool {
    let (host_is_sound, after_host) = match authority {
        [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => (is_address(&rest[..end]), &rest[end + 1..]),
            None => return false,
        },
        _ => {
            let end = authority
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(authority.len());
            (is_name(&authority[..end]), &authority[end..])
        }
    };
    let port_is_sound = match after_host {
        [] => port == Port::Optional,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    };
    host_is_sound && port_is_sound
}

fn is_name(host: &[u8]) -> bool {
    !host.is_empty() && host.iter().all(|byte| OF_NAMES[usize::from(*byte)])
}

/// Unreserved, sub-delims and the sign of an encoded byte (RFC 3986, section 3.2.2).
const OF_NAMES: [bool; 256] = {
    let signs = b"-._~!$&'()*+,;=%";
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut sign = 0;
    while sign < signs.len() {
        table[signs[sign] as usize] = true;
        sign += 1;
    }
    table
};

/// An IPv6 address or one of the future, as far as its characters go.
fn is_address(literal: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_hexdigit() || b":.vV".contains(byte);
    !literal.is_empty() && literal.iter().all(is_allowed)
}

fn is_port(digits: &[u8]) -> bool {
    let value = digits.iter().try_fold(0_u32, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        Some((value * 10 + digit).min(1 << 20))
    });
    !digits.is_empty() && value.is_some_and(|value| value <= 65_535)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_are_told_apart() {
        let absolute = |authority: &'static [u8], path: &'static [u8]| {
            Ok(Target::Absolute { authority, path })
        };
        let refused = Err(ProtocolError::Target);
        for (method, target, want) in [
            ("GET", "/", Ok(Target::Origin(b"/"))),
            ("GET", "/a?b=c|d", Ok(Target::Origin(b"/a?b=c|d"))),
            ("GET", "//evil/x", Ok(Target::Origin(b"//evil/x"))),
            ("OPTIONS", "*", Ok(Target::Asterisk)),
            ("GET", "*", refused),
            ("GET", "http://a/b", absolute(b"a", b"/b")),
            ("GET", "HTTPS://[::1]:8?x", absolute(b"[::1]:8", b"?x")),
            ("GET", "http://a", absolute(b"a", b"")),
            ("GET", "http://u@a/", refused),
            ("GET", "http:///b", refused),
            ("GET", "ftp://a/b", refused),
            ("GET", "a/b", refused),
            ("GET", "/a#b", refused),
            ("GET", "/a\x7f", refused),
            ("GET", "/a\u{e9}", refused),
            ("CONNECT", "a:80", Ok(Target::Authority(b"a:80"))),
            ("CONNECT", "[::1]:80", Ok(Target::Authority(b"[::1]:80"))),
            ("CONNECT", "a", refused),
            ("CONNECT", "a:65536", refused),
            ("CONNECT", "/a", refused),
            ("connect", "a:80", refused),
        ] {
            let found = Target::parse(method.as_bytes(), target.as_bytes());
            assert_eq!(found, want, "{method} {target}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in ["", "a", "A.b-c:1", "127.0.0.1", "[::1]", "[v1.a]:2"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b", "a,b:x", "a/b", "a@b", "a:", "a:-1", "a:b", "[::1", "::1", "[]", "[::1]x",
            "a\\b", ":80", "a:99999",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
