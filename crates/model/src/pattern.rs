//! Regular expressions of a bounded size, matched over whole texts.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use core::cmp::Ordering;
use core::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// A regular expression in the syntax of the `regex` crate, without look-around and references back,
/// so that matching takes time linear in the text. It is matched against bytes: `.` is any byte but
/// a line feed, `\d` and `\w` are those of ASCII.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    whole: Regex,
}

impl Pattern {
    /// Longest expression in bytes, as Gateway API bounds paths.
    pub const MAX_BYTES: usize = 1024;
    /// Most memory of an expression made ready, in bytes: it bounds the time per byte of text too.
    const MAX_PROGRAM_BYTES: usize = 128 << 10;

    /// Makes `text` ready to be matched.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > Self::MAX_BYTES {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        // By itself first: `a)|(b` is wrong, and must not become right in parentheses.
        compile(text)?;
        Ok(Self {
            text: text.to_owned(),
            whole: compile(&alloc::format!(r"\A(?:{text})\z"))?,
        })
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of `text`, from its first byte to its last, is matched.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }
}

fn compile(text: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(text)
        .unicode(false)
        .size_limit(Pattern::MAX_PROGRAM_BYTES)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
        other => PatternError::Syntax(last_line(&other.to_string())),
    })
}

/// The line that says what is wrong; those before it draw the expression.
fn last_line(message: &str) -> String {
    let last = message.lines().last().unwrap_or("unknown");
    last.trim_start_matches("error: ").to_owned()
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

/// Why a text is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Longer than [`Pattern::MAX_BYTES`].
    #[error(
        "a regular expression has at most {} bytes, this one has {bytes}",
        Pattern::MAX_BYTES
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not of the syntax.
    #[error("not a regular expression: {0}")]
    Syntax(String),
    /// Short, but of a large meaning.
    #[error(
        "the regular expression needs more than {} KiB of memory; use smaller counts",
        Pattern::MAX_PROGRAM_BYTES >> 10
    )]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts_are_matched() {
        for (pattern, text, want) in [
            ("/a/[0-9]+", "/a/12", true),
            ("/a/[0-9]+", "/a/12/b", false),
            ("/a/[0-9]+", "x/a/12", false),
            ("a|ab", "ab", true),
            ("(?m)a$", "a\nb", false),
            (r"\d", "٣", false),
            ("", "", true),
            ("", "a", false),
        ] {
            let matches = Pattern::new(pattern).unwrap().matches(text.as_bytes());
            assert_eq!(matches, want, "{pattern} {text}");
        }
        assert!(Pattern::new(".+").unwrap().matches(b"\xff\x80"));
    }

    #[test]
    fn what_is_wrong_or_too_large_is_said() {
        let error = |text: &str| Pattern::new(text).unwrap_err();
        assert!(matches!(error("a)|(b"), PatternError::Syntax(_)));
        assert!(matches!(error("(?=a)"), PatternError::Syntax(_)));
        assert_eq!(error("((a{99}){99}){99}"), PatternError::TooLarge);
        assert_eq!(
            error(&"a".repeat(1025)),
            PatternError::TooLong { bytes: 1025 }
        );
        assert_eq!(
            error("(").to_string(),
            "not a regular expression: unclosed group"
        );
    }
}
