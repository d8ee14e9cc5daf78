//! Datagrams: one task per socket of ours, one per flight.
//!
//! Each waits until its socket has something, then takes datagrams until there are none, so that a
//! burst costs one wake-up; after [`BURST`] of them the other sockets have their turn.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;

use super::forward::Flight;
use super::respond::Transport;
use super::server::Server;
use crate::origin::Origin;

const BURST: usize = 64;

/// Whether more is waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Empty,
    More,
}

/// Serves a socket of ours until `retired`; what is queued then is still served.
pub(crate) async fn serve(
    server: Rc<Server>,
    socket: Rc<UdpSocket>,
    mut retired: oneshot::Receiver<()>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            ready = socket.readable() => ready?,
            _ = &mut retired => break,
        }
        if take_queries(&server, &socket)? == Drained::More {
            tokio::task::yield_now().await;
        }
    }
    while take_queries(&server, &socket)? == Drained::More {}
    Ok(())
}

fn take_queries(server: &Rc<Server>, socket: &UdpSocket) -> io::Result<Drained> {
    let mut buffer = server.datagram.borrow_mut();
    // A program asks for A and AAAA in one breath, from one socket: the kernel is asked once.
    let mut last: Option<(SocketAddr, Option<Origin>)> = None;
    for _ in 0..BURST {
        let (length, client) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(Drained::Empty),
                // An answer of ours found its program gone.
                io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted => continue,
                _ => return Err(error),
            },
        };
        let origin = match last {
            Some((asked, origin)) if asked == client => origin,
            _ => server.probe.of(socket),
        };
        last = Some((client, origin));
        let message = &mut buffer[..length];
        let reply = |answer: &[u8]| server.reply(client, answer);
        if let Some(to) = server.on_query(message, origin, Transport::Udp, reply) {
            server.forward(message, client, to);
        }
    }
    Ok(Drained::More)
}

/// Sends at once or not at all.
pub(super) fn send_to(socket: &UdpSocket, message: &[u8], client: SocketAddr) -> io::Result<()> {
    rustix::net::sendto(socket, message, SendFlags::DONTWAIT, &client)?;
    Ok(())
}

/// Reads the answers that come in on a flight until it is closed.
pub(super) async fn listen(server: Rc<Server>, flight: Rc<Flight>) {
    let interest = Interest::READABLE | Interest::ERROR;
    loop {
        let ready = flight.socket.ready(interest).await;
        let taken = ready.and_then(|ready| match ready.is_error() {
            true => take_error(&flight.socket),
            false => take_answers(&server, &flight),
        });
        if let Err(error) = taken {
            server.on_flight_failure(&flight, &error);
            return;
        }
    }
}

/// What ICMP said; nothing where the last send was told already.
fn take_error(socket: &UdpSocket) -> io::Result<()> {
    let told = socket.try_io(Interest::ERROR, || match socket.take_error()? {
        Some(error) => Err(error),
        None => Err(io::ErrorKind::WouldBlock.into()),
    });
    match told {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

fn take_answers(server: &Server, flight: &Rc<Flight>) -> io::Result<()> {
    let mut buffer = server.datagram.borrow_mut();
    for _ in 0..BURST {
        match flight.socket.try_recv(&mut buffer) {
            Ok(length) => server.on_answer(flight, &mut buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
