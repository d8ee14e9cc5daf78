//! Heads as they come, and what is left when nobody wants them any more.

use selvedge_wire::ProtocolError;
use selvedge_wire::http1::{Decoder, Event, Message, Start};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::Inbox;
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

/// Waits for the head of the final response and gives its status. The head itself is put into `head`:
/// see [`Decoder::head`]. Interim responses go to the client as they come.
pub(crate) async fn receive(
    from: &mut ReadHalf<'_>,
    inbox: &mut Inbox,
    decoder: &mut Decoder,
    to_client: &mut WriteHalf<'_>,
    head: &mut Vec<u8>,
    interim: &mut Vec<u8>,
) -> Result<u16, AnswerFault> {
    let mut any = false;
    loop {
        if let Some(status) = read_head(inbox, decoder, head).map_err(|_| AnswerFault::Malformed)? {
            if status == 101 || status >= 200 {
                return Ok(status);
            }
            interim.clear();
            head::write_interim(interim, &Message::new(decoder.head(), head));
            let passed = to_client.write_all(interim).await;
            passed.map_err(|_| AnswerFault::ClientGone)?;
            continue;
        }
        match inbox.fill(from).await {
            Ok(1..) => any = true,
            Ok(0) | Err(_) => return Err(AnswerFault::Cut { any }),
        }
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
pub(crate) async fn drain(stream: &mut (impl AsyncRead + Unpin), inbox: &mut Inbox) {
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
