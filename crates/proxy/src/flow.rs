//! The one place that moves bodies: bytes of one connection are decoded, framed anew and written to
//! another, from the buffer they were read into.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use selvedge_wire::ProtocolError;
use selvedge_wire::http1::{Decoder, Event};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::batch::{Batch, Coding};
use crate::buffer::{BUFFER_BYTES, Inbox};
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
    /// Whether the message's end was met and taken. Where it was before, in an earlier attempt, only
    /// `head` is sent: the decoder would read the next message.
    pub(crate) ended: &'a Cell<bool>,
    /// Whether it waits for bytes to come: else for those that came to be taken.
    pub(crate) starves: &'a Cell<bool>,
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
            self.starves.set(true);
            let read = self.inbox.fill(&mut self.from).await;
            self.starves.set(false);
            self.deadline.touch();
            if !matches!(read, Ok(1..)) {
                self.end(read.is_ok())?;
                return self.pass().await.map_err(|_| FlowFault::Write);
            }
        }
    }

    /// Waits until the peer that has sent everything goes away. What it sends meanwhile belongs to
    /// its next message and is kept, up to one buffer. Its end is taken for its going, whatever it has
    /// asked for: whoever closes a connection says no more than that.
    pub(crate) async fn watch(&mut self) {
        while self.inbox.bytes().len() < BUFFER_BYTES {
            if !matches!(self.inbox.fill(&mut self.from).await, Ok(1..)) {
                return;
            }
        }
        let _reset = self.from.as_ref().ready(Interest::ERROR).await;
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
        // Also where it was in vain: the decoder is behind these bytes. Where this is dropped before, they
        // are still there and the message has no end: what follows must not be taken for the next.
        self.inbox.consume(self.batch.consumed());
        self.ended.set(self.ended.get() || self.batch.has_ended());
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use selvedge_wire::Limits;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::buffer::Buffers;
    use crate::clock::Clock;
    use crate::receiving::read_head;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// Whoever finds that the message has ended goes on to the next: nothing may be left of this one.
    #[tokio::test]
    async fn a_message_that_was_given_up_has_not_ended() {
        let (mut client, mut from) = pair().await;
        let (mut to, _taker) = pair().await;
        // It takes nothing, so that there is no room.
        to.writable().await.unwrap();
        while to.try_write(&[0; 4096]).is_ok() {}
        let body = "x".repeat(60_000);
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all((head + &body).as_bytes()).await.unwrap();
        let mut inbox = Inbox::new(Rc::new(Buffers::default()));
        let mut decoder = Decoder::requests(Limits::default());
        while inbox.bytes().len() < body.len() {
            inbox.fill(&mut from).await.unwrap();
        }
        let read = read_head(&mut inbox, &mut decoder, &mut Vec::new());
        assert!(read.unwrap().is_some());
        let (ended, starves, moved) = (Cell::new(false), Cell::new(false), Cell::new(0));
        let deadline = Deadline::new(Clock::start());
        let mut flow = Flow {
            from: from.split().0,
            inbox: &mut inbox,
            decoder: &mut decoder,
            to: to.split().1,
            head: b"",
            coding: Coding::Plain,
            ended: &ended,
            starves: &starves,
            replay: None,
            moved: &moved,
            deadline: &deadline,
            batch: &mut Batch::default(),
        };
        let soon = Duration::from_millis(50);
        let given_up = tokio::time::timeout(soon, flow.run()).await;
        assert!(given_up.is_err(), "the taker has room for all of it");
        assert_eq!(moved.get(), body.len() as u64, "it was the last batch");
        assert!(!ended.get() && !inbox.is_empty());
    }
}
