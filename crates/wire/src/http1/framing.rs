//! Where a message ends (RFC 9112, section 6.3).

use super::field::FieldName;
use super::head::{Head, Version};
use super::message::Message;
use crate::ProtocolError;

/// How the end of a message is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// It has no body.
    Empty,
    /// Its body has this many bytes.
    Length(u64),
    /// Its body comes in chunks.
    Chunked,
    /// Its body ends with the connection: of responses alone.
    UntilClose,
    /// It has no end: from here on the connection belongs to another protocol.
    Tunnel,
}

/// What a response answers, as far as its framing depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// HEAD: never a body, whatever the fields say.
    Head,
    /// CONNECT: a success is a tunnel.
    Connect,
    /// Any other method.
    #[default]
    Other,
}

impl Answers {
    /// Of a request with this method.
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// Framing of a request.
pub(super) fn of_request(head: &Head, bytes: &[u8]) -> Result<Framing, ProtocolError> {
    Ok(match declared(head, bytes)? {
        Some(framing) => framing,
        None => Framing::Empty,
    })
}

/// Framing of a response. What it declares must be sound even where it has no body.
pub(super) fn of_response(
    head: &Head,
    bytes: &[u8],
    status: u16,
    answers: Answers,
) -> Result<Framing, ProtocolError> {
    let declared = declared(head, bytes)?;
    Ok(match (status, answers) {
        (101, _) | (200..=299, Answers::Connect) => Framing::Tunnel,
        (100..=199 | 204 | 304, _) | (_, Answers::Head) => Framing::Empty,
        _ => declared.unwrap_or(Framing::UntilClose),
    })
}

fn declared(head: &Head, bytes: &[u8]) -> Result<Option<Framing>, ProtocolError> {
    if !head.has(FieldName::ContentLength) && !head.has(FieldName::TransferEncoding) {
        return Ok(None);
    }
    let message = Message::new(head, bytes);
    let length = content_length(&message)?;
    let chunked = is_chunked(&message)?;
    match (length, chunked) {
        (Some(_), true) => Err(ProtocolError::LengthAndCoding),
        (None, true) if head.version() == Version::Http10 => Err(ProtocolError::CodingInOldVersion),
        (None, true) => Ok(Some(Framing::Chunked)),
        (Some(0), false) => Ok(Some(Framing::Empty)),
        (Some(length), false) => Ok(Some(Framing::Length(length))),
        (None, false) => Ok(None),
    }
}

/// Several lengths are one if they are equal, in one line or in many.
fn content_length(message: &Message<'_>) -> Result<Option<u64>, ProtocolError> {
    let mut found = None;
    for value in message.values(FieldName::ContentLength) {
        for item in value.split(|byte| *byte == b',') {
            let length = decimal(item.trim_ascii()).ok_or(ProtocolError::ContentLength)?;
            if found.is_some_and(|found| found != length) {
                return Err(ProtocolError::ContentLength);
            }
            found = Some(length);
        }
    }
    Ok(found)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    // No more than a signed number holds: peers that read one would see it negative.
    const MOST: u64 = i64::MAX.unsigned_abs();
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    value.filter(|value| !digits.is_empty() && *value <= MOST)
}

/// The one coding that is understood is chunked, once and alone.
fn is_chunked(message: &Message<'_>) -> Result<bool, ProtocolError> {
    let values = message.values(FieldName::TransferEncoding);
    let codings = values.flat_map(|value| value.split(|byte| *byte == b','));
    let (mut count, mut chunked, mut ends_chunked) = (0, 0, false);
    for coding in codings {
        ends_chunked = coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
        chunked += usize::from(ends_chunked);
        count += 1;
    }
    match (count, chunked) {
        (0, _) => Ok(false),
        (_, 1) if !ends_chunked => Err(ProtocolError::CodingNotLast),
        (1, 1) => Ok(true),
        (_, 1) => Err(ProtocolError::CodingUnknown),
        _ => Err(ProtocolError::CodingNotLast),
    }
}
