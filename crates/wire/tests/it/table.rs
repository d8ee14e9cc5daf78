//! The table of requests and responses that programs have read in different ways: `table.txt`. The
//! proxy's tests read it too.

use std::fmt;

use selvedge_wire::ProtocolError;

/// One line of the table.
#[derive(Clone)]
pub(crate) struct Case {
    /// What it is about, and where the standard says so.
    pub(crate) heading: &'static str,
    pub(crate) claim: Claim,
    pub(crate) bytes: Vec<u8>,
}

/// What comes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Refused(ProtocolError),
    /// So many requests.
    Taken(usize),
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.escape_ascii();
        write!(f, "{:?}: {bytes}, from {}", self.claim, self.heading)
    }
}

impl Case {
    /// The cause of the refusal.
    pub(crate) fn cause(&self) -> ProtocolError {
        match self.claim {
            Claim::Refused(cause) => cause,
            Claim::Taken(_) => panic!("{} is taken", self.bytes.escape_ascii()),
        }
    }
}

/// Heads of requests that are refused.
pub(crate) fn requests() -> Vec<Case> {
    let heads = section("requests").into_iter();
    heads.map(with_empty_line).collect()
}

/// Bodies in chunks that are refused.
pub(crate) fn chunks() -> Vec<Case> {
    section("chunks")
}

/// Heads of responses that are refused.
pub(crate) fn responses() -> Vec<Case> {
    let heads = section("responses").into_iter();
    heads.map(with_empty_line).collect()
}

/// Requests that are taken, one or more on a connection.
pub(crate) fn taken() -> Vec<Case> {
    section("taken")
}

fn with_empty_line(mut case: Case) -> Case {
    case.bytes.extend_from_slice(b"\r\n");
    case
}

fn section(name: &str) -> Vec<Case> {
    let (mut cases, mut inside, mut heading) = (Vec::new(), false, "");
    for line in include_str!("table.txt").lines() {
        if let Some(name_here) = line.strip_prefix('[') {
            inside = name_here.strip_suffix(']') == Some(name);
        } else if let Some(text) = line.strip_prefix("# ") {
            heading = text;
        } else if let Some((claim, bytes)) = line.split_once('|').filter(|_| inside) {
            cases.push(Case {
                heading,
                claim: parse_claim(claim.trim()),
                bytes: unescape(bytes.strip_prefix(' ').unwrap_or(bytes)),
            });
        }
    }
    assert!(!cases.is_empty(), "the table has a section [{name}]");
    cases
}

fn parse_claim(word: &str) -> Claim {
    let cause = || {
        let mut causes = ProtocolError::ALL.iter();
        causes.find(|cause| format!("{cause:?}") == word)
    };
    match word.parse() {
        Ok(count) => Claim::Taken(count),
        Err(_) => Claim::Refused(*cause().unwrap_or_else(|| panic!("`{word}` is no cause"))),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let (byte, length) = match (first, after) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'0', ..]) => (0, 2),
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            (b'\\', [b'x', digits @ ..]) => {
                let digits = std::str::from_utf8(&digits[..2]).unwrap();
                (u8::from_str_radix(digits, 16).unwrap(), 4)
            }
            (b'\\', _) => panic!("an escape that nobody knows: {text}"),
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}
