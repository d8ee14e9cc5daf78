//! What of a body goes out in one write: pieces that lie in an inbox, and what stands around them.

use std::ops::Range;

use selvedge_wire::http1::{Message, write};

use crate::head::is_own;

/// How a body is framed where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As it is: its length is known, or it ends with the connection.
    Plain,
    Chunked,
}

/// Pieces of a body that lie in an inbox, and their frame.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pieces: [(u32, u32); Self::PIECES],
    count: usize,
    data: usize,
    /// Bytes of the inbox that all of it took.
    consumed: usize,
    ended: bool,
    /// The line before a chunk; sixteen digits and CRLF at most.
    line: [u8; 18],
    line_length: usize,
    /// Behind the pieces, and behind the trailers.
    tail: &'static [u8],
    end: &'static [u8],
    trailers: Vec<u8>,
    /// A copy of everything, where that is short.
    joined: Vec<u8>,
}

impl Batch {
    /// Small chunks come in numbers: what does not fit goes with the next batch.
    const PIECES: usize = 8;

    /// Most parts there are.
    pub(crate) const PARTS: usize = Self::PIECES + 4;

    /// Up to so many bytes it costs less to copy the parts together than to have the kernel gather them.
    const SHORT: usize = 4 << 10;

    /// Begins with nothing; keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.data = 0;
        self.consumed = 0;
        self.ended = false;
        self.line_length = 0;
        self.tail = b"";
        self.end = b"";
        self.trailers.clear();
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == Self::PIECES
    }

    /// Bytes of the inbox that were taken.
    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }

    /// Bytes of the body among it.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data as u64
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Adds a piece of the body, as a range of what is behind the bytes taken so far.
    pub(crate) fn push(&mut self, range: &Range<usize>) {
        let place = |at: usize| u32::try_from(self.consumed + at).expect("a buffer is small");
        self.pieces[self.count] = (place(range.start), place(range.end));
        self.count += 1;
        self.data += range.len();
    }

    /// Adds what goes further of a trailer section.
    pub(crate) fn push_trailers(&mut self, trailers: &Message<'_>) {
        write::end_to_end_fields(&mut self.trailers, trailers, |field| !is_own(field.name));
    }

    pub(crate) fn take(&mut self, consumed: usize) {
        self.consumed += consumed;
    }

    /// The body ends with this.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Puts around the pieces what the coding wants there.
    pub(crate) fn frame(&mut self, coding: Coding) {
        if coding == Coding::Plain {
            self.trailers.clear();
            return;
        }
        if self.data > 0 {
            self.line_length = write::chunk_line(&mut self.line, self.data);
        }
        self.tail = match (self.data > 0, self.ended) {
            (true, true) => b"\r\n0\r\n",
            (false, true) => b"0\r\n",
            (true, false) => b"\r\n",
            (false, false) => b"",
        };
        self.end = if self.ended { b"\r\n" } else { b"" };
    }

    /// Bytes of all parts.
    pub(crate) fn length(&self) -> usize {
        let around = self.tail.len() + self.trailers.len() + self.end.len();
        self.line_length + self.data + around
    }

    /// Copies everything together, `head` first, if that is short.
    pub(crate) fn join(&mut self, head: &[u8], bytes: &[u8]) -> bool {
        let is_short = head.len() + self.length() <= Self::SHORT;
        if is_short {
            let mut joined = std::mem::take(&mut self.joined);
            joined.clear();
            joined.extend_from_slice(head);
            self.parts(bytes, |part| joined.extend_from_slice(part));
            self.joined = joined;
        }
        is_short
    }

    /// What was copied together.
    pub(crate) fn joined(&self) -> &[u8] {
        &self.joined
    }

    /// Gives all parts in their order, some of them empty; `bytes` is the inbox.
    pub(crate) fn parts<'a>(&'a self, bytes: &'a [u8], mut add: impl FnMut(&'a [u8])) {
        add(&self.line[..self.line_length]);
        for (start, end) in &self.pieces[..self.count] {
            add(&bytes[*start as usize..*end as usize]);
        }
        add(self.tail);
        add(&self.trailers);
        add(self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(coding: Coding, pieces: &[Range<usize>], ended: bool, want: &str) {
        let mut batch = Batch::default();
        pieces.iter().for_each(|piece| batch.push(piece));
        if ended {
            batch.end();
        }
        batch.frame(coding);
        let mut out = Vec::new();
        batch.parts(b"abcdefghijklmnopqrstuvwxyz", |part| {
            out.extend_from_slice(part)
        });
        assert_eq!(out, want.as_bytes());
        assert_eq!(batch.length(), want.len());
    }

    #[test]
    fn pieces_become_one_chunk() {
        check(Coding::Plain, &[0..3, 5..7], true, "abcfg");
        check(Coding::Plain, &[], true, "");
        check(Coding::Chunked, &[0..3, 5..7], false, "5\r\nabcfg\r\n");
        check(
            Coding::Chunked,
            &[0..9, 9..17],
            true,
            "11\r\nabcdefghijklmnopq\r\n0\r\n\r\n",
        );
        check(Coding::Chunked, &[], true, "0\r\n\r\n");
        check(Coding::Chunked, &[], false, "");
    }
}
