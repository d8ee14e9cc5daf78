//! The one place that moves bodies: bytes of one connection are decoded, framed anew and written to
//! another, from the buffer they were read into.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use selvedge_wire::ProtocolError;
use selvedge_wire::http1::{Decoder, Event, write};
use tokio::io::AsyncWrite;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::Inbox;
use crate::deadline::Deadline;
use crate::replay::Replay;

/// One direction of an exchange, from behind a message's head to its end.
pub(crate) struct Flow<'a> {
    pub(crate) from: ReadHalf<'a>,
    pub(crate) inbox: &'a mut Inbox,
    /// Has read the head.
    pub(crate) decoder: &'a mut Decoder,
    pub(crate) to: WriteHalf<'a>,
    /// Goes out before the body.
    pub(crate) head: &'a [u8],
    pub(crate) coding: Coding,
    /// Whether the message's end was met. Where it was met before, in an earlier attempt, only `head`
    /// is sent: the decoder would read the next message.
    pub(crate) ended: &'a Cell<bool>,
    /// Where to keep what was sent, in case it has to be sent again.
    pub(crate) replay: Option<&'a Replay>,
    /// Is told that something has moved.
    pub(crate) deadline: &'a Deadline,
}

/// How a body is framed where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// As it is: its length is known, or it ends with the connection.
    Plain,
    Chunked,
}

/// Why a body did not get through.
#[derive(Debug)]
pub(crate) enum FlowFault {
    /// Where it comes from: the connection broke, or ended before the message did.
    Cut,
    /// Where it comes from: it is none.
    Malformed(ProtocolError),
    /// Where it goes: the connection broke.
    Write,
}

impl Flow<'_> {
    /// Passes on what is left of the message.
    pub(crate) async fn run(&mut self) -> Result<(), FlowFault> {
        loop {
            let batch = self.decode().map_err(FlowFault::Malformed)?;
            self.pass(&batch).await.map_err(|_| FlowFault::Write)?;
            if self.ended.get() {
                return Ok(());
            }
            if batch.is_full() {
                continue;
            }
            let read = self.inbox.fill(&mut self.from).await;
            self.deadline.touch();
            if !matches!(read, Ok(1..)) {
                return self.end(read.is_ok()).await;
            }
        }
    }

    /// Waits until the peer that has sent everything goes away. What it sends meanwhile belongs to
    /// its next message and is kept, up to one buffer.
    pub(crate) async fn watch(&mut self) {
        if !self.inbox.is_empty() {
            return std::future::pending().await;
        }
        match self.inbox.fill(&mut self.from).await {
            Ok(1..) => std::future::pending().await,
            _gone => (),
        }
    }

    /// What is there of the message, as far as it fits into a batch.
    fn decode(&mut self) -> Result<Batch, ProtocolError> {
        let mut batch = Batch::default();
        if self.ended.get() {
            return Ok(batch);
        }
        let bytes = self.inbox.bytes();
        while !batch.is_full() {
            let rest = &bytes[batch.consumed..];
            let step = self.decoder.step(rest)?;
            match &step.event {
                Some(Event::Data(range)) => batch.push(range),
                Some(Event::Trailers) => {
                    let trailers = self.decoder.trailers(rest, &step);
                    write::end_to_end_fields(&mut batch.trailers, &trailers, |_| true);
                }
                Some(Event::End) => batch.ended = true,
                Some(Event::Head) => debug_assert!(false, "a flow stops at its message's end"),
                None => {}
            }
            batch.consumed += step.consumed;
            if step.event.is_none() || batch.ended {
                break;
            }
        }
        self.ended.set(batch.ended);
        Ok(batch)
    }

    /// The sender says nothing more.
    async fn end(&mut self, orderly: bool) -> Result<(), FlowFault> {
        let left = self.inbox.bytes().len();
        match self.decoder.on_eof(left) {
            Ok(Some(Event::End)) if orderly => {
                let last = Batch {
                    ended: true,
                    ..Batch::default()
                };
                self.ended.set(true);
                self.pass(&last).await.map_err(|_| FlowFault::Write)
            }
            _ => Err(FlowFault::Cut),
        }
    }

    async fn pass(&mut self, batch: &Batch) -> io::Result<()> {
        let frame = Frame::of(batch, self.coding);
        let length = self.head.len() + frame.length(batch);
        if let Some(replay) = self.replay {
            frame.slices(batch, self.inbox.bytes(), &mut |part| replay.keep(part));
            replay.set_torn(true);
        }
        let mut written = 0;
        let mut result = Ok(());
        while written < length {
            match poll_fn(|cx| self.poll_write(cx, batch, &frame, written)).await {
                Ok(count) => written += count,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            self.deadline.touch();
        }
        // Also where it was in vain: the decoder is behind these bytes.
        self.inbox.consume(batch.consumed);
        self.head = &[];
        if let Some(replay) = self.replay {
            replay.set_torn(false);
        }
        result
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        batch: &Batch,
        frame: &Frame,
        written: usize,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); Batch::PIECES + 5];
        let mut count = 0;
        let mut add = |part| {
            slices[count] = IoSlice::new(part);
            count += usize::from(!part.is_empty());
        };
        add(self.head);
        frame.slices(batch, self.inbox.bytes(), &mut add);
        let mut left = &mut slices[..count];
        IoSlice::advance_slices(&mut left, written);
        let to = Pin::new(&mut self.to);
        let sent = match left {
            [one] => to.poll_write(cx, one),
            several => to.poll_write_vectored(cx, several),
        };
        match ready!(sent) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            sent => Poll::Ready(sent),
        }
    }
}

/// Pieces of a body that lie in an inbox.
#[derive(Debug, Default)]
struct Batch {
    pieces: [(u32, u32); Self::PIECES],
    count: usize,
    data: usize,
    /// Bytes of the inbox that all of it took.
    consumed: usize,
    trailers: Vec<u8>,
    ended: bool,
}

impl Batch {
    /// Small chunks come in numbers: what does not fit goes with the next batch.
    const PIECES: usize = 8;

    fn is_full(&self) -> bool {
        self.count == Self::PIECES
    }

    fn push(&mut self, range: &Range<usize>) {
        let place = |at: usize| u32::try_from(self.consumed + at).expect("a buffer is small");
        self.pieces[self.count] = (place(range.start), place(range.end));
        self.count += 1;
        self.data += range.len();
    }
}

/// What stands around the pieces of a batch.
struct Frame {
    line: [u8; Self::LINE],
    line_length: usize,
    tail: &'static [u8],
    end: &'static [u8],
}

impl Frame {
    /// Sixteen digits and CRLF.
    const LINE: usize = 18;

    fn of(batch: &Batch, coding: Coding) -> Self {
        let mut frame = Self {
            line: [0; Self::LINE],
            line_length: 0,
            tail: b"",
            end: b"",
        };
        if coding == Coding::Plain {
            return frame;
        }
        if batch.data > 0 {
            frame.line_length = write::chunk_line(&mut frame.line, batch.data);
        }
        let (tail, end): (&[u8], &[u8]) = match (batch.data > 0, batch.ended) {
            (true, true) => (b"\r\n0\r\n", b"\r\n"),
            (false, true) => (b"0\r\n", b"\r\n"),
            (true, false) => (b"\r\n", b""),
            (false, false) => (b"", b""),
        };
        (frame.tail, frame.end) = (tail, end);
        frame
    }

    fn length(&self, batch: &Batch) -> usize {
        let trailers = if self.end.is_empty() {
            0
        } else {
            batch.trailers.len()
        };
        self.line_length + batch.data + self.tail.len() + trailers + self.end.len()
    }

    /// Gives all parts in their order, some of them empty.
    fn slices<'a>(&'a self, batch: &'a Batch, bytes: &'a [u8], add: &mut impl FnMut(&'a [u8])) {
        add(&self.line[..self.line_length]);
        for (start, end) in &batch.pieces[..batch.count] {
            add(&bytes[*start as usize..*end as usize]);
        }
        add(self.tail);
        if !self.end.is_empty() {
            add(&batch.trailers);
        }
        add(self.end);
    }
}
