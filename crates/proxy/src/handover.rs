//! Taking over the listening sockets that the agent sends at the start of a feed connection.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use selvedge_feed::{SocketKind, SocketList, SocketListError};
use tokio::io::Interest;
use tokio::net::{TcpListener, UnixStream};

/// Sockets of one handover, by kind.
pub(crate) type Sockets = Vec<(SocketKind, OwnedFd)>;

/// Reads the first message of a connection. Gives the sockets and what came of the first frame.
pub(crate) async fn receive(stream: &UnixStream) -> Result<(Sockets, Vec<u8>), HandoverError> {
    let (bytes, descriptors) = stream
        .async_io(Interest::READABLE, || receive_now(stream))
        .await?;
    if bytes.is_empty() {
        return Err(HandoverError::Refused);
    }
    let (list, taken) = SocketList::decode(&bytes)?;
    if list.kinds().len() != descriptors.len() {
        return Err(HandoverError::Count {
            listed: list.kinds().len(),
            received: descriptors.len(),
        });
    }
    let sockets = list.kinds().iter().copied().zip(descriptors).collect();
    Ok((sockets, bytes[taken..].to_vec()))
}

fn receive_now(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = [0; SocketList::MAX_BYTES];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SocketList::MAX_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(
            "more descriptors came than there are kinds",
        ));
    }
    let bytes = bytes[..received.bytes].to_vec();
    Ok((bytes, descriptors(&mut ancillary)))
}

/// Reads what comes on a feed connection; with it the descriptors that travelled beside these bytes.
pub(crate) async fn read(
    stream: &UnixStream,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    stream
        .async_io(Interest::READABLE, || read_now(stream, bytes))
        .await
}

fn read_now(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(bytes)];
    let received = recvmsg(stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    Ok((received.bytes, descriptors(&mut ancillary)))
}

fn descriptors(ancillary: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    rights.flatten().collect()
}

/// A listening socket for this thread's runtime.
pub(crate) fn tcp(descriptor: OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(descriptor);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Why a connection does not begin as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    #[error("the agent hung up at once: it accepts its own proxy's user alone")]
    Refused,
    #[error("cannot receive the sockets")]
    Receive(#[from] io::Error),
    #[error("the agent sent no sockets")]
    List(#[from] SocketListError),
    #[error("{listed} sockets are listed, {received} came")]
    Count { listed: usize, received: usize },
}
