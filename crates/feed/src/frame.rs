//! Framing: a length of four bytes, big-endian, then that many bytes of message.
//!
//! The decoder is fed bytes cut anywhere and never holds more than one frame and the last chunk it
//! was given. It knows nothing of what is in a frame.

use alloc::vec::Vec;

const PREFIX_BYTES: usize = 4;

/// Buffers that grew beyond this are given back once they are empty.
const KEPT_BYTES: usize = 64 << 10;

/// Cuts a stream of bytes into messages of at most a given length.
///
/// After each [`Decoder::push`] take messages until [`Decoder::next_message`] says `None`; otherwise
/// they pile up.
#[derive(Debug)]
pub struct Decoder {
    max_bytes: usize,
    buffer: Vec<u8>,
    consumed: usize,
}

impl Decoder {
    /// Refuses messages longer than `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            buffer: Vec::new(),
            consumed: 0,
        }
    }

    /// Takes more bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there. After an error the stream cannot be followed any
    /// longer: close it.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let pending = &self.buffer[self.consumed..];
        let Some((prefix, rest)) = pending.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let announced = u32::from_be_bytes(*prefix);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length > self.max_bytes {
            return Err(FrameError {
                announced,
                max_bytes: self.max_bytes,
            });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.consumed + PREFIX_BYTES;
        self.consumed = start + length;
        Ok(Some(&self.buffer[start..self.consumed]))
    }
}

/// A message longer than this direction allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {announced} bytes was announced, at most {max_bytes} are allowed")]
pub struct FrameError {
    /// The length its prefix says.
    pub announced: u32,
    /// The bound.
    pub max_bytes: usize,
}

/// Puts the prefix before a message.
pub(crate) fn encode(message: &impl prost::Message) -> Vec<u8> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).expect("senders keep messages far below 4 GiB");
    let mut frame = Vec::with_capacity(PREFIX_BYTES + length);
    frame.extend_from_slice(&prefix.to_be_bytes());
    message
        .encode(&mut frame)
        .expect("a Vec has room for whatever is written to it");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(max_bytes: usize, chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut decoder = Decoder::new(max_bytes);
        let mut found = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(message) = decoder.next_message()? {
                found.push(message.to_vec());
            }
        }
        Ok(found)
    }

    #[test]
    fn a_prefix_cut_anywhere_gives_the_same_messages() {
        let stream = [0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1, 9];
        let want: Vec<Vec<u8>> = [&[7, 8][..], &[], &[9]].map(<[u8]>::to_vec).into();
        for cut in 0..=stream.len() {
            let (left, right) = stream.split_at(cut);
            assert_eq!(frames(8, &[left, right]).unwrap(), want, "cut at {cut}");
        }
    }

    #[test]
    fn too_long_is_an_error_before_a_byte_of_it_is_kept() {
        let error = frames(8, &[&[0, 0, 0, 9]]).unwrap_err();
        assert_eq!((error.announced, error.max_bytes), (9, 8));
        assert_eq!(frames(8, &[&[0xff; 4]]).unwrap_err().announced, u32::MAX);
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let mut decoder = Decoder::new(KEPT_BYTES * 4);
        let mut stream = alloc::vec![0; PREFIX_BYTES + KEPT_BYTES * 2];
        let length = u32::try_from(KEPT_BYTES * 2).unwrap();
        stream[..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        decoder.push(&stream);
        assert!(decoder.next_message().unwrap().is_some());
        decoder.push(&[0]);
        assert!(decoder.buffer.capacity() <= KEPT_BYTES);
    }
}
