//! Heads: start line and fields, as places in the bytes they were read from.

use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ops::Range;

use super::field::FieldName;
use super::target::{Target, is_host};
use crate::{Limits, ProtocolError};

/// Of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// A range of the bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part`, a slice of `whole`, lies in it.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        let place = |index| u32::try_from(index).expect("heads are bounded far below 4 GiB");
        Self {
            start: place(start),
            end: place(start + part.len()),
        }
    }

    fn get(self, whole: &[u8]) -> &[u8] {
        &whole[self.range()]
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    name: FieldName,
    name_at: Span,
    value_at: Span,
    /// From the name to the line's end, CRLF included.
    line_at: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartLine {
    Request { method: Span, target: Span },
    Response { status: u16, reason: Span },
}

/// Where the parts of a head lie. Keeps its memory from one message to the next.
#[derive(Clone, Debug)]
pub struct Head {
    start: StartLine,
    version: Version,
    lines: Vec<Line>,
    length: usize,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            start: StartLine::Response {
                status: 0,
                reason: Span::default(),
            },
            version: Version::Http11,
            lines: Vec::new(),
            length: 0,
        }
    }
}

type Parsed<'b> = [MaybeUninit<httparse::Header<'b>>; Limits::MOST_FIELDS];

impl Head {
    /// The protocol version the message was sent with.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Reads the head of a request, which `bytes` is.
    pub(super) fn read_request(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let mut fields: Parsed<'_> = [const { MaybeUninit::uninit() }; Limits::MOST_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(bytes, &mut fields);
        check(parsed, bytes, Is::Request)?;
        let (Some(method), Some(target), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Err(ProtocolError::StartLine);
        };
        self.start = StartLine::Request {
            method: Span::of(method.as_bytes(), bytes),
            target: Span::of(target.as_bytes(), bytes),
        };
        self.version = version_of(version);
        let after_target = Span::of(target.as_bytes(), bytes).end as usize;
        // " HTTP/1.1"
        let first_line = after_target + 9;
        self.read_lines(request.headers, bytes, first_line, limits)?;
        Target::parse(method.as_bytes(), target.as_bytes())?;
        self.check_host(bytes)?;
        self.check_connection(bytes)
    }

    /// Reads the head of a response, which `bytes` is.
    pub(super) fn read_response(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let mut fields: Parsed<'_> = [const { MaybeUninit::uninit() }; Limits::MOST_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
        check(parsed, bytes, Is::Response)?;
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(ProtocolError::StartLine);
        };
        if !(100..=599).contains(&status) {
            return Err(ProtocolError::StartLine);
        }
        let line_end = end_of_first_line(bytes)?;
        // "HTTP/1.1 200 " and what follows, obsolete bytes included: httparse gives none of those.
        let reason = &bytes[line_end.min(13)..line_end];
        self.start = StartLine::Response {
            status,
            reason: Span::of(reason, bytes),
        };
        self.version = version_of(version);
        self.read_lines(response.headers, bytes, line_end, limits)?;
        self.check_connection(bytes)
    }

    /// Reads the lines of a trailer section, which `bytes` is.
    pub(super) fn read_trailers(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let mut fields = [httparse::EMPTY_HEADER; Limits::MOST_FIELDS];
        let fields = match httparse::parse_headers(bytes, &mut fields) {
            Ok(httparse::Status::Complete((length, fields))) => {
                check(Ok(httparse::Status::Complete(length)), bytes, Is::Trailers)?;
                fields
            }
            Ok(httparse::Status::Partial) => return Err(ProtocolError::LineEnding),
            Err(error) => return Err(cause(error, bytes, Is::Trailers)),
        };
        self.length = bytes.len();
        self.lines.clear();
        self.read_fields(fields, bytes, limits)?;
        let message = Message::new(self, bytes);
        let forbidden = |field: Field<'_>| super::field::is_forbidden_in_trailers(field.name);
        match message.fields().any(forbidden) {
            true => Err(ProtocolError::Trailer),
            false => Ok(()),
        }
    }

    fn read_lines(
        &mut self,
        fields: &[httparse::Header<'_>],
        bytes: &[u8],
        first_line_end: usize,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        if bytes.get(first_line_end..first_line_end + 2) != Some(b"\r\n") {
            return Err(ProtocolError::LineEnding);
        }
        self.length = bytes.len();
        self.lines.clear();
        self.read_fields(fields, bytes, limits)
    }

    fn read_fields(
        &mut self,
        fields: &[httparse::Header<'_>],
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        if fields.len() > limits.fields {
            return Err(ProtocolError::TooManyFields);
        }
        for field in fields {
            let name_at = Span::of(field.name.as_bytes(), bytes);
            let value_at = match field.value {
                // An empty value may be anywhere: it is put behind the colon.
                [] => Span {
                    start: name_at.end + 1,
                    end: name_at.end + 1,
                },
                value => Span::of(value, bytes),
            };
            let after = &bytes[value_at.end as usize..];
            let blanks = after
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t'))
                .count();
            if after.get(blanks..blanks + 2) != Some(b"\r\n") {
                return Err(ProtocolError::LineEnding);
            }
            let end = value_at.end as usize + blanks + 2;
            self.lines.push(Line {
                name: FieldName::of(field.name.as_bytes()),
                name_at,
                value_at,
                line_at: Span::of(&bytes[name_at.start as usize..end], bytes),
            });
        }
        Ok(())
    }

    fn check_host(&self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let message = Message::new(self, bytes);
        let mut hosts = message.values(FieldName::Host);
        let host = hosts.next();
        let several = hosts.next().is_some();
        match host {
            _ if several => Err(ProtocolError::HostCount),
            None if self.version == Version::Http11 => Err(ProtocolError::HostCount),
            Some(host) if !is_host(host) => Err(ProtocolError::Host),
            _ => Ok(()),
        }
    }

    /// Connection must not take away what every recipient needs: its neighbour would frame or route
    /// the message in another way than we do.
    fn check_connection(&self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let message = Message::new(self, bytes);
        let needed = |option: &[u8]| {
            matches!(
                FieldName::of(option),
                FieldName::Host | FieldName::ContentLength | FieldName::Trailer
            )
        };
        match message.connection_options().any(needed) {
            true => Err(ProtocolError::ConnectionOption),
            false => Ok(()),
        }
    }
}

/// What a section is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Request,
    Response,
    Trailers,
}

fn version_of(minor: u8) -> Version {
    match minor {
        0 => Version::Http10,
        _ => Version::Http11,
    }
}

fn end_of_first_line(bytes: &[u8]) -> Result<usize, ProtocolError> {
    let lf = bytes.iter().position(|byte| *byte == b'\n');
    let end = lf.and_then(|lf| lf.checked_sub(1));
    end.ok_or(ProtocolError::StartLine)
}

/// Whether `bytes` was read as one whole head, and why not.
fn check(
    parsed: Result<httparse::Status<usize>, httparse::Error>,
    bytes: &[u8],
    is: Is,
) -> Result<(), ProtocolError> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        // An empty line where none should be ends the head before its end.
        Ok(_) => return Err(ProtocolError::LineEnding),
        Err(error) => return Err(cause(error, bytes, is)),
    }
    match bytes.ends_with(b"\r\n\r\n") || bytes == b"\r\n" {
        true => Ok(()),
        false => Err(ProtocolError::LineEnding),
    }
}

/// httparse says little about what it met; a second look says more.
fn cause(error: httparse::Error, bytes: &[u8], is: Is) -> ProtocolError {
    match error {
        httparse::Error::Version if is == Is::Request && !has_three_words(bytes) => {
            ProtocolError::StartLine
        }
        httparse::Error::Version => ProtocolError::Version,
        httparse::Error::TooManyHeaders => ProtocolError::TooManyFields,
        httparse::Error::NewLine => ProtocolError::LineEnding,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => {
            field_fault(bytes, usize::from(is != Is::Trailers))
        }
        _ => ProtocolError::StartLine,
    }
}

fn has_three_words(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    words.all(|word| !word.is_empty()) && line.iter().filter(|byte| **byte == b' ').count() == 2
}

fn field_fault(bytes: &[u8], start_lines: usize) -> ProtocolError {
    for line in bytes.split(|byte| *byte == b'\n').skip(start_lines) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.contains(&b'\r') {
            return ProtocolError::LineEnding;
        }
        if let [b' ' | b'\t', ..] = line {
            return ProtocolError::Folding;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        if let [.., b' ' | b'\t'] = line[..colon.unwrap_or(0)] {
            return ProtocolError::SpaceInName;
        }
    }
    ProtocolError::Field
}

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
        let bytes = self.bytes;
        self.head.lines.iter().map(move |line| Field {
            known: line.name,
            name: line.name_at.get(bytes),
            value: line.value_at.get(bytes),
            line: line.line_at.get(bytes),
        })
    }

    /// Values of one field, a line each.
    pub fn values(&self, name: FieldName) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        let lines = self.head.lines.iter();
        lines
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
