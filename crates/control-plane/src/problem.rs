//! Errors as people read them: what, where, the likely cause, what to do next.

use std::fmt;

use selvedge_model::Diagnostic;
use serde::{Deserialize, Serialize};

/// Why something was not done. This is what travels over the API and what `selvedge` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The class of it, for programs.
    pub kind: ProblemKind,
    /// What was not done, and the fact that prevented it.
    pub what: String,
    /// The place, where there is one: a file, a socket, an object.
    #[serde(rename = "where", default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// The likely cause, where it is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
    /// Everything wrong with a set of documents.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub diagnostics: Box<[Finding]>,
}

/// Classes of problems; each is one HTTP status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemKind {
    /// What was sent is wrong (400).
    Invalid,
    /// The peer may not do this (403).
    Forbidden,
    /// There is no such thing (404).
    NotFound,
    /// Something else is in the way (409).
    Conflict,
    /// It is more than is taken (413).
    TooLarge,
    /// The node cannot do this at this moment (503).
    Unavailable,
    /// Something failed that should not (500).
    #[default]
    Failed,
}

impl ProblemKind {
    /// The HTTP status (RFC 9110, section 15).
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Failed => 500,
            Self::Unavailable => 503,
        }
    }
}

/// A [`Diagnostic`] on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file, or what stands for it.
    pub file: String,
    /// The line, from 1; 0 where it is not known.
    pub line: u32,
    /// The object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// The field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            file: diagnostic.origin.file.clone(),
            line: diagnostic.origin.line,
            object: diagnostic.object.clone(),
            path: diagnostic.path.clone(),
            message: diagnostic.message.clone(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        for part in [&self.object, &self.path, &self.message] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        Ok(())
    }
}

impl Problem {
    /// A problem of this class.
    pub fn new(kind: ProblemKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            ..Self::default()
        }
    }

    /// Says where.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// Says the likely cause.
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    /// Says what to do next.
    pub fn try_next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// Adds everything that is wrong with a set of documents.
    pub fn with_diagnostics(mut self, diagnostics: &[Diagnostic]) -> Self {
        self.diagnostics = diagnostics.iter().map(Finding::from).collect();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Problem {}
