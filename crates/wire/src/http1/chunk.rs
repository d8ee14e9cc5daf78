//! Bodies in chunks (RFC 9112, section 7.1), one byte after the other wherever they are cut.

use core::ops::Range;

use crate::{Limits, ProtocolError};

/// Where in a body of chunks the next byte belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        bytes: usize,
    },
    /// Behind the CR of a size line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// Behind the data.
    DataCr,
    DataLf,
}

impl Default for State {
    fn default() -> Self {
        Self::Size {
            value: 0,
            digits: 0,
        }
    }
}

/// What was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// A piece of the body.
    Data(Range<usize>),
    /// The line of the last chunk: the trailer section follows.
    Last,
}

/// Enough for any size that is allowed, and as many zeros before it.
const MOST_DIGITS: u8 = 16;

impl Chunks {
    /// Takes bytes until something is met. Says how many.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Met>), ProtocolError> {
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            if let State::Data { left } = &mut self.state {
                let rest = input.len() - at;
                let taken = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                return Ok((at + taken, Some(Met::Data(at..at + taken))));
            }
            at += 1;
            self.state = match self.take(*byte, limits)? {
                Some(state) => state,
                None => {
                    self.state = State::default();
                    return Ok((at, Some(Met::Last)));
                }
            };
        }
        Ok((at, None))
    }

    /// The state behind `byte`; none behind the line of the last chunk.
    fn take(&self, byte: u8, limits: &Limits) -> Result<Option<State>, ProtocolError> {
        Ok(Some(match (self.state, byte) {
            (State::Size { digits: 0, .. }, b'\r' | b';') => return Err(ProtocolError::ChunkSize),
            (State::Size { value, .. }, b'\r') => State::SizeEnd { size: value },
            (State::Size { value, .. }, b';') => State::Extension {
                size: value,
                bytes: 0,
            },
            (State::Size { .. }, b'\n') => return Err(ProtocolError::LineEnding),
            (State::Size { value, digits }, _) => {
                let digit = char::from(byte).to_digit(16);
                let digit = digit.ok_or(ProtocolError::ChunkSize)?;
                // No more than a signed number holds: peers that read one would see it negative.
                if digits == MOST_DIGITS || value >> 59 != 0 {
                    return Err(ProtocolError::ChunkSize);
                }
                State::Size {
                    value: value << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Extension { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Extension { .. }, b'\n') => return Err(ProtocolError::LineEnding),
            (State::Extension { size, bytes }, byte) => {
                let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                if !is_text || bytes == limits.chunk_extension_bytes {
                    return Err(ProtocolError::ChunkExtension);
                }
                State::Extension {
                    size,
                    bytes: bytes + 1,
                }
            }
            (State::SizeEnd { size: 0 }, b'\n') => return Ok(None),
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::SizeEnd { .. }, _) => return Err(ProtocolError::LineEnding),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::default(),
            (State::DataCr | State::DataLf | State::Data { .. }, _) => {
                return Err(ProtocolError::ChunkEnd);
            }
        }))
    }
}
