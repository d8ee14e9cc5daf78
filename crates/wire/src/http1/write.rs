//! What leaves: heads made of ranges of those that came, and the lines of chunks.

use alloc::vec::Vec;

use super::field::FieldName;
use super::message::{Field, Message};

/// Puts a request line, with a target that may come in parts. The version is always ours.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[&[u8]]) {
    out.extend_from_slice(method);
    out.push(b' ');
    for part in target {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Puts a status line.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let digits = [status / 100 % 10, status / 10 % 10, status % 10];
    out.extend(digits.map(|digit| b'0' + digit as u8));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Puts one field line.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Puts the field lines that go further, as they came: none that is between two neighbours, none that
/// Connection names, none of those that say how the body is framed, which the caller puts anew, and
/// none that it does not want to `keep`.
pub fn end_to_end_fields(
    out: &mut Vec<u8>,
    message: &Message<'_>,
    mut keep: impl FnMut(&Field<'_>) -> bool,
) {
    let names_fields = message
        .connection_options()
        .any(|option| !option.eq_ignore_ascii_case(b"close"));
    // Lines that go further together are copied together.
    let bytes = message.bytes();
    let mut run = 0..0;
    for (line, field) in message.placed_fields() {
        let is_named = || {
            message
                .connection_options()
                .any(|option| option.eq_ignore_ascii_case(field.name))
        };
        let stays = field.known.is_hop_by_hop()
            || field.known == FieldName::ContentLength
            || names_fields && is_named();
        if stays || !keep(&field) {
            continue;
        }
        if line.start != run.end {
            out.extend_from_slice(&bytes[run]);
            run = line.start..line.start;
        }
        run.end = line.end;
    }
    out.extend_from_slice(&bytes[run]);
}

/// Puts the line before a chunk of this many bytes, which must not be 0, and says how long it is.
pub fn chunk_line(out: &mut [u8; 18], length: usize) -> usize {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let width = (length.max(1).ilog2() / 4 + 1) as usize;
    for (place, digit) in out[..width].iter_mut().rev().enumerate() {
        *digit = DIGITS[length >> (4 * place) & 0xf];
    }
    out[width..width + 2].copy_from_slice(b"\r\n");
    width + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_chunks_are_hexadecimal() {
        for (length, want) in [
            (1, "1"),
            (15, "f"),
            (16, "10"),
            (0xabc, "abc"),
            (1 << 20, "100000"),
            (usize::MAX, "ffffffffffffffff"),
        ] {
            let mut out = [0; 18];
            let line = chunk_line(&mut out, length);
            assert_eq!(out[..line], [want.as_bytes(), b"\r\n"].concat(), "{length}");
        }
    }
}
