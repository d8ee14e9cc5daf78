//! Domain names in wire form (RFC 1035, section 3.1), lower case.

use std::fmt;

/// Longest name in wire form, with the root's empty label (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 255;
const MAX_LABEL_BYTES: usize = 63;

/// A whole name. Upper-case ASCII letters are made lower case (RFC 4343), nothing else is touched.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    bytes: [u8; MAX_NAME_BYTES],
    /// Without the root's empty label.
    length: u8,
}

impl Name {
    /// Reads a name that is written out, as names in questions are: there is nothing before them
    /// that they could point to. Gives the bytes it took too.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut name = Self {
            bytes: [0; MAX_NAME_BYTES],
            length: 0,
        };
        let mut at = 0;
        loop {
            let label = usize::from(*bytes.get(at)?);
            if label == 0 {
                break;
            }
            let end = at + 1 + label;
            // One byte more is needed for the root.
            if label > MAX_LABEL_BYTES || end >= MAX_NAME_BYTES {
                return None;
            }
            let source = bytes.get(at..end)?;
            name.bytes[at..end].copy_from_slice(source);
            name.bytes[at + 1..end].make_ascii_lowercase();
            at = end;
        }
        name.length = u8::try_from(at).ok()?;
        Some((name, at + 1))
    }

    /// Reads text like `corp.example`, with or without a final dot. No escapes.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.').filter(|_| !text.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|n| *n > 0)?;
            wire.push(length);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        Self::parse(&wire).map(|(name, _)| name)
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> Labels<'_> {
        Labels(&self.bytes[..usize::from(self.length)])
    }

    /// The wire form with the root's empty label.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.bytes[..=usize::from(self.length)]
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.labels())
    }
}

/// Some labels of a name: whole ones, next to each other, without the root's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Labels<'a>(&'a [u8]);

impl Labels<'static> {
    pub(crate) const EMPTY: Self = Self(b"");
    pub(crate) const SVC: Self = Self(b"\x03svc");
    pub(crate) const IN_ADDR_ARPA: Self = Self(b"\x07in-addr\x04arpa");
    pub(crate) const IP6_ARPA: Self = Self(b"\x03ip6\x04arpa");
}

impl<'a> Labels<'a> {
    /// The wire form without the root's empty label.
    pub(crate) fn wire(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes they take.
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    /// The first label, without its length, and those after it.
    pub(crate) fn split_first(self) -> Option<(&'a [u8], Self)> {
        let (length, rest) = self.0.split_first()?;
        let (label, rest) = rest.split_at_checked((*length).into())?;
        Some((label, Self(rest)))
    }

    /// How many there are.
    pub(crate) fn count(self) -> usize {
        self.iter().count()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self;
        std::iter::from_fn(move || {
            let (label, after) = rest.split_first()?;
            rest = after;
            Some(label)
        })
    }

    /// The first `count` labels and the others.
    pub(crate) fn split_at(self, count: usize) -> (Self, Self) {
        let taken: usize = self.iter().take(count).map(|label| label.len() + 1).sum();
        let (first, others) = self.0.split_at(taken);
        (Self(first), Self(others))
    }

    /// What comes before `suffix`, if these labels end with it.
    pub(crate) fn strip_suffix(self, suffix: Self) -> Option<Self> {
        let before = self.len().checked_sub(suffix.len())?;
        if &self.0[before..] != suffix.0 {
            return None;
        }
        // Bytes that look alike may begin amid a label.
        let mut rest = self;
        while rest.len() > suffix.len() {
            rest = rest.split_first()?.1;
        }
        (rest.len() == suffix.len()).then(|| Self(&self.0[..before]))
    }
}

/// The text form; bytes that are no printable ASCII, and dots within a label, as `\DDD`
/// (RFC 1035, section 5.1).
impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str(".");
        }
        for (index, label) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    #[test]
    fn names_are_lower_case_and_read_back() {
        let (parsed, taken) = Name::parse(b"\x04CaRt\x07default\0rest").unwrap();
        assert_eq!(taken, 14);
        assert_eq!(parsed.labels().to_string(), "cart.default");
        assert_eq!(parsed.wire(), b"\x04cart\x07default\0");
        assert_eq!(name("cart.default.").wire(), parsed.wire());
        assert_eq!(name("").wire(), b"\0");
        assert_eq!(
            Name::parse(b"\x03a.\x01\0").unwrap().0.labels().to_string(),
            "a\\.\\001"
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = [&b"\x3f"[..], &[b'a'; 63]].concat().repeat(4);
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x01a",
            b"\x02a\0",
            b"\xc0\x0c",
            b"\x40a\0",
            b"\x80a\0",
            &[&long[..], b"\0"].concat(),
        ] {
            assert!(Name::parse(bytes).is_none(), "{bytes:?}");
        }
        // 255 bytes are the most: three labels of 63 and one of 61.
        let most = [&long[..192], &b"\x3d"[..], &[b'a'; 61], b"\0"].concat();
        assert_eq!(most.len(), 255);
        assert_eq!(Name::parse(&most).unwrap().1, 255);
        assert!(Name::from_text("a..b").is_none());
    }

    #[test]
    fn a_suffix_ends_at_a_label() {
        let full = name("a.corp.example");
        let before = |suffix: &str| {
            let suffix = name(suffix);
            full.labels()
                .strip_suffix(suffix.labels())
                .map(|l| l.to_string())
        };
        assert_eq!(before("corp.example").as_deref(), Some("a"));
        assert_eq!(before("a.corp.example").as_deref(), Some("."));
        assert_eq!(before("orp.example"), None);
        assert_eq!(before("b.a.corp.example"), None);
        // The last bytes are "\x01b", but the byte that looks like a length is part of a label.
        let (tricky, _) = Name::parse(b"\x03a\x01b\0").unwrap();
        assert_eq!(tricky.labels().strip_suffix(name("b").labels()), None);
    }
}
