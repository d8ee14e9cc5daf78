//! A head with its bytes: start line, fields, and what they say of the connection.

use core::ops::Range;

use super::field::FieldName;
use super::head::{Head, Line, StartLine, Version};

/// A head together with its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    head: &'a Head,
    bytes: &'a [u8],
}

/// A start line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// Of a request.
    Request {
        /// Letters of whatever case; `GET` is not `get`.
        method: &'a [u8],
        /// As it was sent.
        target: &'a [u8],
    },
    /// Of a response.
    Response {
        /// 100 to 599.
        status: u16,
        /// What is to be read by people; may be empty.
        reason: &'a [u8],
    },
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// What it means here.
    pub known: FieldName,
    /// As it was sent.
    pub name: &'a [u8],
    /// Without white space around it.
    pub value: &'a [u8],
    /// The whole line, CRLF included.
    pub line: &'a [u8],
}

impl<'a> Message<'a> {
    /// `bytes` must be those that `head` was read from, or begin with them.
    pub fn new(head: &'a Head, bytes: &'a [u8]) -> Self {
        Self { head, bytes }
    }

    /// The bytes of the head, from its start line to the empty line.
    pub fn bytes(&self) -> &'a [u8] {
        &self.bytes[..self.head.length()]
    }

    /// The version it was sent with.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The first line.
    pub fn start(&self) -> Start<'a> {
        match self.head.start {
            StartLine::Request { method, target } => Start::Request {
                method: method.get(self.bytes),
                target: target.get(self.bytes),
            },
            StartLine::Response { status, reason } => Start::Response {
                status,
                reason: reason.get(self.bytes),
            },
        }
    }

    /// Every field in its order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        self.placed_fields().map(|(_, field)| field)
    }

    /// Every field, and where its line lies.
    pub(super) fn placed_fields(
        &self,
    ) -> impl Iterator<Item = (Range<usize>, Field<'a>)> + use<'a> {
        let bytes = self.bytes;
        self.head.lines.iter().map(move |line| {
            let field = Field {
                known: line.name,
                name: line.name_at.get(bytes),
                value: line.value_at.get(bytes),
                line: line.line_at.get(bytes),
            };
            (line.line_at.range(), field)
        })
    }

    /// Values of one field, a line each.
    pub fn values(&self, name: FieldName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        let lines: &[Line] = match self.head.has(name) {
            true => &self.head.lines,
            false => &[],
        };
        lines
            .iter()
            .filter(move |line| line.name == name)
            .map(move |line| line.value_at.get(bytes))
    }

    /// What Connection lists: options and names of fields (RFC 9110, section 7.6.1).
    pub fn connection_options(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let values = self.values(FieldName::Connection);
        let options = values.flat_map(|value| value.split(|byte| *byte == b','));
        options
            .map(<[u8]>::trim_ascii)
            .filter(|option| !option.is_empty())
    }

    /// Whether the sender goes on using the connection after this message (RFC 9112, section 9.3).
    pub fn keeps_connection(&self) -> bool {
        if !self.head.has(FieldName::Connection) {
            return self.head.version == Version::Http11;
        }
        let lists = |wanted: &[u8]| {
            self.connection_options()
                .any(|option| option.eq_ignore_ascii_case(wanted))
        };
        match self.head.version {
            Version::Http11 => !lists(b"close"),
            Version::Http10 => lists(b"keep-alive") && !lists(b"close"),
        }
    }
}
