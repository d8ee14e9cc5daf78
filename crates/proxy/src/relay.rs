//! Bytes that nobody looks into, both ways until both sides have said their last.

use std::io;
use std::pin::pin;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::Inbox;
use crate::deadline::{Deadline, TimedOut};

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides have said everything.
    Whole,
    /// One side reset its connection, or could not be reached any more; the other was reset too.
    Reset,
    /// Nothing has moved for longer than was allowed; both were reset.
    Idle,
}

/// One end of a relay: a connection, and what was read from it before.
pub(crate) struct End<'a> {
    pub(crate) stream: &'a mut TcpStream,
    pub(crate) inbox: &'a mut Inbox,
}

/// Carries bytes both ways. An end that stops sending makes the other side's receiving end, and no
/// more; what is on its way is at most one buffer each way.
pub(crate) async fn relay(a: End<'_>, b: End<'_>, deadline: &Deadline) -> Ended {
    let (from_a, to_a) = a.stream.split();
    let (from_b, to_b) = b.stream.split();
    let there = carry(from_a, a.inbox, to_b, deadline);
    let back = carry(from_b, b.inbox, to_a, deadline);
    let both = async { tokio::try_join!(there, back) };
    let ended = match deadline.within(pin!(both)).await {
        Ok(Ok(_)) => return Ended::Whole,
        Ok(Err(_)) => Ended::Reset,
        Err(TimedOut::Idle | TimedOut::End) => Ended::Idle,
    };
    reset_at_close(a.stream);
    reset_at_close(b.stream);
    ended
}

/// Makes the connection end with a reset when it is closed, so that its peer does not take what it got
/// for everything.
pub(crate) fn reset_at_close(stream: &TcpStream) {
    // Fails on no TCP socket; if it did, the connection would end in the usual way.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn carry(
    mut from: ReadHalf<'_>,
    inbox: &mut Inbox,
    mut to: WriteHalf<'_>,
    deadline: &Deadline,
) -> io::Result<()> {
    loop {
        while !inbox.is_empty() {
            let count = to.write(inbox.bytes()).await?;
            inbox.consume(count);
            deadline.touch();
        }
        if inbox.fill(&mut from).await? == 0 {
            // A peer that is gone altogether says so where it is read.
            let _ = to.shutdown().await;
            return Ok(());
        }
        deadline.touch();
    }
}
