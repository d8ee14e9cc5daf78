//! Which texts may stand in which place of a request or response. Documents and the feed ask here,
//! so that nothing which ends a line or a path early ever reaches a head that the proxy writes.

/// Fields that say how a message is framed, or that belong to one connection: changing them is the
/// business of whoever owns the connection (RFC 9110, section 7.6.1; RFC 9112, section 6).
const OF_THE_CONNECTION: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
];

/// Longest path of a match or of a change to one in bytes, as Gateway API has it.
pub const MAX_PATH_BYTES: usize = 1024;
/// Longest name of a field or of a parameter in bytes, as Gateway API has it.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest value of a field in bytes, as Gateway API has it.
pub const MAX_FIELD_VALUE_BYTES: usize = 4096;
/// Longest value of a parameter in bytes, as Gateway API has it.
pub const MAX_PARAMETER_VALUE_BYTES: usize = 1024;

/// Whether this is a path that routes may name: absolute, of the characters of RFC 3986, section
/// 3.3, and without what servers read in different ways: an empty element, `.`, `..`, and a slash
/// that is encoded.
pub fn is_path(text: &str) -> bool {
    let dots = |element: &str| element == "." || element == "..";
    text.len() <= MAX_PATH_BYTES
        && text.starts_with('/')
        && !text.contains("//")
        && !text.split('/').any(dots)
        && !text.to_ascii_lowercase().contains("%2f")
        && of_characters(text, |byte| {
            is_unreserved(byte) || b"/!$&'()*+,;=:@".contains(&byte)
        })
}

/// Whether every byte is one that `allowed` knows or begins a triplet such as `%20`.
fn of_characters(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let is_triplet = |at: usize| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let mut all = bytes.iter().enumerate();
    all.all(|(at, byte)| allowed(*byte) || (*byte == b'%' && is_triplet(at)))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether this is the name of a parameter, or its value, as it may be sent (RFC 3986, section 3.4):
/// nothing that ends it. A name has no `=` either.
pub fn is_parameter_text(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'&' && byte != b'#')
}

/// Whether this is the name of a field (RFC 9110, section 5.1: a token), of any case.
pub fn is_field_name(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(is_token)
}

/// Whether this is the value of a field: visible ASCII, with spaces and tabs inside only (RFC 9110,
/// section 5.5).
pub fn is_field_value(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
    (1..=MAX_FIELD_VALUE_BYTES).contains(&text.len())
        && text.trim_ascii().len() == text.len()
        && text.bytes().all(is_inside)
}

/// Whether routes may set, add or remove the field of this name, which is in lower case.
pub fn may_be_changed(name: &str) -> bool {
    !OF_THE_CONNECTION.contains(&name) && !is_of_the_mesh(name)
}

/// Whether a field, in lower case, is of the mesh alone: nobody else's reaches anybody.
pub fn is_of_the_mesh(name: &str) -> bool {
    name.starts_with("selvedge-")
}

/// Whether this is the name of a host: lower-case labels (RFC 1123, section 2.1), and no address.
pub fn is_host_name(text: &str) -> bool {
    let labels = || text.split('.');
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 253
        && labels().all(|label| crate::Label::new(label).is_ok())
        && labels().next_back().is_some_and(|last| !is_number(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in ["/", "/a", "/a/", "/a/b.c/..d", "/%20~", "/a:b@c", "/a=b;c"] {
            assert!(is_path(good), "{good}");
        }
        for bad in [
            "", "a", "//", "/a//b", "/./a", "/a/..", "/a/.", "/%2Fa", "/%2fa", "/%2", "/a?b",
        ] {
            assert!(!is_path(bad), "{bad}");
        }
        for bad in ["/a#b", "/a b", "/ä", "/a\r\n", "/%zz"] {
            assert!(!is_path(bad), "{bad}");
        }
    }

    #[test]
    fn fields_and_hosts() {
        assert!(is_field_name("X-Canary") && !is_field_name("") && !is_field_name("a b"));
        assert!(!is_field_name("a:") && !is_field_name(&"a".repeat(257)));
        for (value, want) in [
            ("a b", true),
            ("", false),
            (" a", false),
            ("a\r\nb: c", false),
        ] {
            assert_eq!(is_field_value(value), want, "{value:?}");
        }
        for (host, want) in [
            ("a.b", true),
            ("10.0.0.1", false),
            ("*.a", false),
            ("A", false),
        ] {
            assert_eq!(is_host_name(host), want, "{host}");
        }
        assert!(may_be_changed("x-canary") && !may_be_changed("content-length"));
        assert!(!may_be_changed("selvedge-reason"));
        assert!(
            is_parameter_text("a=%20") && !is_parameter_text("a&b") && !is_parameter_text("a b")
        );
    }
}
