//! Heads: start line and fields, as places in the bytes they were read from.

use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ops::Range;

use super::fault::{Is, cause};
use super::field::FieldName;
use super::message::{Field, Message};
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
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part`, a slice of `whole`, lies in it.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        Self::between(start, start + part.len())
    }

    fn between(start: usize, end: usize) -> Self {
        debug_assert!(end < 1 << 32, "heads are bounded far below 4 GiB");
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(super) fn get(self, whole: &[u8]) -> &[u8] {
        &whole[self.range()]
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: FieldName,
    pub(super) name_at: Span,
    pub(super) value_at: Span,
    /// From the name to the line's end, CRLF included.
    pub(super) line_at: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartLine {
    Request { method: Span, target: Span },
    Response { status: u16, reason: Span },
}

/// Where the parts of a head lie. Keeps its memory from one message to the next.
#[derive(Clone, Debug)]
pub struct Head {
    pub(super) start: StartLine,
    pub(super) version: Version,
    pub(super) lines: Vec<Line>,
    /// One bit for each name that is among them.
    names: u32,
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
            names: 0,
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

    /// Whether there is a line of this name: most are not there, and need not be looked for.
    pub(super) fn has(&self, name: FieldName) -> bool {
        self.names & name.bit() != 0
    }

    /// Its length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Reads the head of a request, which `input` begins with: [`Self::length`] bytes of it.
    pub(super) fn read_request(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let mut fields: Parsed<'_> = [const { MaybeUninit::uninit() }; Limits::MOST_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(input, &mut fields);
        let bytes = whole(parsed, input, Is::Request)?;
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

    /// Reads the head of a response, which `input` begins with: [`Self::length`] bytes of it.
    pub(super) fn read_response(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let mut fields: Parsed<'_> = [const { MaybeUninit::uninit() }; Limits::MOST_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, input, &mut fields);
        let bytes = whole(parsed, input, Is::Response)?;
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
            Ok(httparse::Status::Complete((length, fields))) if length == bytes.len() => {
                whole(Ok(httparse::Status::Complete(length)), bytes, Is::Trailers)?;
                fields
            }
            Ok(httparse::Status::Complete(_)) => return Err(ProtocolError::LineEnding),
            Ok(httparse::Status::Partial) => return Err(ProtocolError::LineEnding),
            Err(error) => return Err(cause(error, bytes, Is::Trailers)),
        };
        self.length = bytes.len();
        self.lines.clear();
        self.names = 0;
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
        self.names = 0;
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
            let blanks = match after {
                [b'\r', b'\n', ..] => 0,
                _ => blanks_before_line_end(after)?,
            };
            let end = value_at.end as usize + blanks + 2;
            let name = FieldName::of(field.name.as_bytes());
            self.names |= name.bit();
            self.lines.push(Line {
                name,
                name_at,
                value_at,
                line_at: Span::between(name_at.start as usize, end),
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
        if !self.has(FieldName::Connection) {
            return Ok(());
        }
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

fn blanks_before_line_end(bytes: &[u8]) -> Result<usize, ProtocolError> {
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let blanks = bytes.iter().take_while(is_blank).count();
    match bytes.get(blanks..blanks + 2) {
        Some(b"\r\n") => Ok(blanks),
        _ => Err(ProtocolError::LineEnding),
    }
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

/// The head that was read, which `input` begins with, and why there is none.
fn whole(
    parsed: Result<httparse::Status<usize>, httparse::Error>,
    input: &[u8],
    is: Is,
) -> Result<&[u8], ProtocolError> {
    let bytes = match parsed {
        Ok(httparse::Status::Complete(length)) => &input[..length],
        Ok(httparse::Status::Partial) => return Err(ProtocolError::LineEnding),
        Err(error) => return Err(cause(error, input, is)),
    };
    match bytes.ends_with(b"\r\n\r\n") || bytes == b"\r\n" {
        true => Ok(bytes),
        false => Err(ProtocolError::LineEnding),
    }
}
