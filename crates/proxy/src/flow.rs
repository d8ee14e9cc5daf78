//! The one place that moves bodies: bytes of one connection are decoded, framed anew and written to
//! another, from the buffer they were read into.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_wire::ProtocolError;
use selvedge_wire::http1::{Decoder, Event};
use tokio::io::AsyncWrite;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::batch::{Batch, Coding};
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
    /// Counts the bytes of the body.
    pub(crate) moved: &'a Cell<u64>,
    /// Is told that something has moved.
    pub(crate) deadline: &'a Deadline,
    /// Room for what is on its way: lent, so that whoever waits is small.
    pub(crate) batch: &'a mut Batch,
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
            self.decode().map_err(FlowFault::Malformed)?;
            self.pass().await.map_err(|_| FlowFault::Write)?;
            if self.ended.get() {
                return Ok(());
            }
            if self.batch.is_full() {
                continue;
            }
            let read = self.inbox.fill(&mut self.from).await;
            self.deadline.touch();
            if !matches!(read, Ok(1..)) {
                self.end(read.is_ok())?;
                return self.pass().await.map_err(|_| FlowFault::Write);
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

    /// Makes a batch of what is there of the message, as far as it fits.
    fn decode(&mut self) -> Result<(), ProtocolError> {
        self.batch.clear();
        if self.ended.get() {
            return Ok(());
        }
        let bytes = self.inbox.bytes();
        while !self.batch.is_full() {
            let rest = &bytes[self.batch.consumed()..];
            let step = self.decoder.step(rest)?;
            match &step.event {
                Some(Event::Data(range)) => self.batch.push(range),
                Some(Event::Trailers) => {
                    self.batch
                        .push_trailers(&self.decoder.trailers(rest, &step));
                }
                Some(Event::End) => self.batch.end(),
                Some(Event::Head) => debug_assert!(false, "a flow stops at its message's end"),
                None => {}
            }
            self.batch.take(step.consumed);
            if step.event.is_none() || self.batch.has_ended() {
                break;
            }
        }
        self.batch.frame(self.coding);
        self.ended.set(self.batch.has_ended());
        Ok(())
    }

    /// The sender says nothing more: that may be the end, which is a batch too.
    fn end(&mut self, orderly: bool) -> Result<(), FlowFault> {
        let left = self.inbox.bytes().len();
        match self.decoder.on_eof(left) {
            Ok(Some(Event::End)) if orderly => {
                self.batch.clear();
                self.batch.end();
                self.batch.frame(self.coding);
                self.ended.set(true);
                Ok(())
            }
            _ => Err(FlowFault::Cut),
        }
    }

    /// Sends the batch, and the head before it.
    async fn pass(&mut self) -> io::Result<()> {
        let length = self.head.len() + self.batch.length();
        if let Some(replay) = self.replay {
            self.batch
                .parts(self.inbox.bytes(), |part| replay.keep(part));
            replay.set_torn(true);
        }
        self.moved.set(self.moved.get() + self.batch.data_bytes());
        let is_joined = self.batch.join(self.head, self.inbox.bytes());
        let mut written = 0;
        let mut result = Ok(());
        while written < length {
            let sent = poll_fn(|cx| match is_joined {
                true => Pin::new(&mut self.to).poll_write(cx, &self.batch.joined()[written..]),
                false => self.poll_write_parts(cx, written),
            });
            match sent.await.and_then(some) {
                Ok(count) => written += count,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            self.deadline.touch();
        }
        // Also where it was in vain: the decoder is behind these bytes.
        self.inbox.consume(self.batch.consumed());
        self.head = &[];
        if let Some(replay) = self.replay {
            replay.set_torn(false);
        }
        result
    }

    /// Has the kernel gather what lies in several places.
    fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        written: usize,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); Batch::PARTS + 1];
        let mut count = 0;
        let mut add = |part| {
            slices[count] = IoSlice::new(part);
            count += usize::from(!part.is_empty());
        };
        add(self.head);
        self.batch.parts(self.inbox.bytes(), add);
        let mut left = &mut slices[..count];
        IoSlice::advance_slices(&mut left, written);
        Pin::new(&mut self.to).poll_write_vectored(cx, left)
    }
}

/// A socket that takes nothing takes nothing any more.
fn some(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}
