//! Heads as they come, and what is left when nobody wants them any more.

use std::cell::Cell;

use selvedge_wire::ProtocolError;
use selvedge_wire::http1::{Decoder, Event, Message, Start};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::{Inbox, Readable};
use crate::head;

/// Why no head of a response came.
#[derive(Debug)]
pub(crate) enum AnswerFault {
    /// The connection ended or broke.
    Cut {
        /// Whether any byte had come before.
        any: bool,
    },
    /// What came is no response.
    Malformed,
    /// An interim response could not be passed on.
    ClientGone,
}

/// The response's side of an exchange, up to the head of the final one.
pub(crate) struct Receiving<'a, 's> {
    pub(crate) from: &'a mut ReadHalf<'s>,
    pub(crate) inbox: &'a mut Inbox,
    pub(crate) decoder: &'a mut Decoder,
    /// Where interim responses go as they come.
    pub(crate) to_client: &'a mut WriteHalf<'s>,
    /// Whether the client knows them: HTTP/1.0 has none (RFC 9110, section 15.2).
    pub(crate) takes_interim: bool,
    /// Where the head is put: see [`Decoder::head`].
    pub(crate) head: &'a mut Vec<u8>,
    /// Room for interim responses.
    pub(crate) interim: &'a mut Vec<u8>,
    /// Whether anything has come.
    pub(crate) any: &'a Cell<bool>,
    /// Whether an interim response has come.
    pub(crate) any_interim: &'a Cell<bool>,
}

impl Receiving<'_, '_> {
    /// Waits for the head of the final response and gives its status. Where it is given up and asked
    /// again, it goes on.
    pub(crate) async fn head(&mut self) -> Result<u16, AnswerFault> {
        loop {
            let read = read_head(self.inbox, self.decoder, self.head);
            if let Some(status) = read.map_err(|_| AnswerFault::Malformed)? {
                if status == 101 || status >= 200 {
                    return Ok(status);
                }
                self.any_interim.set(true);
                if self.takes_interim {
                    self.pass_interim().await?;
                }
                continue;
            }
            match self.inbox.fill(self.from).await {
                Ok(1..) => self.any.set(true),
                Ok(0) | Err(_) => {
                    let any = self.any.get();
                    return Err(AnswerFault::Cut { any });
                }
            }
        }
    }

    async fn pass_interim(&mut self) -> Result<(), AnswerFault> {
        self.interim.clear();
        head::write_interim(self.interim, &Message::new(self.decoder.head(), self.head));
        let passed = self.to_client.write_all(self.interim).await;
        passed.map_err(|_| AnswerFault::ClientGone)
    }
}

/// Takes a head from the inbox if it is whole; gives the status of a response, 0 of a request.
pub(crate) fn read_head(
    inbox: &mut Inbox,
    decoder: &mut Decoder,
    head: &mut Vec<u8>,
) -> Result<Option<u16>, ProtocolError> {
    let step = decoder.step(inbox.bytes())?;
    let found = match step.event {
        Some(Event::Head) => {
            let message = decoder.message(inbox.bytes(), &step);
            head.clear();
            head.extend_from_slice(message.bytes());
            Some(match message.start() {
                Start::Response { status, .. } => status,
                Start::Request { .. } => 0,
            })
        }
        _ => None,
    };
    inbox.consume(step.consumed);
    Ok(found)
}

/// Reads and forgets what still comes, up to a bound, so that closing does not destroy what was just
/// sent: a connection closed with bytes unread is reset (RFC 9112, section 9.6).
pub(crate) async fn drain(stream: &mut impl Readable, inbox: &mut Inbox) {
    const MOST_BYTES: usize = 256 << 10;
    let mut left = MOST_BYTES;
    inbox.clear();
    while let Ok(count @ 1..) = inbox.fill(stream).await {
        inbox.clear();
        left = left.saturating_sub(count);
        if left == 0 {
            return;
        }
    }
}
