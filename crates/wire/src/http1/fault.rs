//! What is wrong with a section that could not be read.

use crate::ProtocolError;

/// What a section is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Request,
    Response,
    Trailers,
}

/// httparse says little about what it met; a second look says more.
pub(super) fn cause(error: httparse::Error, bytes: &[u8], is: Is) -> ProtocolError {
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
