//! The sockets that programs send their queries to, as datagrams.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recvfrom, sendto, shutdown, sockopt};

use crate::origin::{Origin, OriginSource};

/// A socket that programs send their queries to.
#[derive(Debug)]
pub(crate) struct QuerySocket {
    socket: OwnedFd,
    /// Never v4-mapped.
    address: SocketAddr,
    /// An IPv6 socket for IPv4.
    is_mapped: bool,
    is_retired: AtomicBool,
}

/// What a look at the socket brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A datagram.
    Query(Query),
    /// Nothing is there.
    Nothing,
    /// Nothing is there, and nothing more is to be served.
    Retired,
}

/// A datagram that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) length: usize,
    pub(super) client: SocketAddr,
    pub(super) origin: Option<Origin>,
}

/// Whether to wait for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// For as long as it takes, or [as was set](QuerySocket::set_longest_wait); nothing else is
    /// looked after meanwhile.
    Wait,
    /// Not at all.
    Now,
}

impl QuerySocket {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(false)?;
        let bound = socket.local_addr()?;
        let address = SocketAddr::new(bound.ip().to_canonical(), bound.port());
        Ok(Self {
            socket: socket.into(),
            address,
            is_mapped: bound != address,
            is_retired: AtomicBool::new(false),
        })
    }

    /// Where it is bound.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether both are descriptors of one socket.
    pub(super) fn is(&self, other: &Self) -> bool {
        let cookie = |this: &Self| sockopt::socket_cookie(&this.socket);
        matches!((cookie(self), cookie(other)), (Ok(ours), Ok(theirs)) if ours == theirs)
    }

    /// How long to wait for a datagram; none is without end.
    pub(super) fn set_longest_wait(&self, wait: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(
            &self.socket,
            sockopt::Timeout::Recv,
            wait,
        )?)
    }

    /// Reads a datagram.
    pub(super) fn receive(
        &self,
        buffer: &mut [u8],
        patience: Patience,
        origins: OriginSource,
    ) -> io::Result<Received> {
        let flags = match patience {
            Patience::Wait => RecvFlags::empty(),
            Patience::Now => RecvFlags::DONTWAIT,
        };
        // Looked at first: what comes between a read that finds nothing and the end is read as well.
        let is_retired = self.is_retired.load(Ordering::Acquire);
        match recvfrom(&self.socket, buffer, flags) {
            Ok((_, length, Some(from))) => {
                let (client, origin) = self.sender(from.try_into()?, origins);
                Ok(Received::Query(Query {
                    length,
                    client,
                    origin,
                }))
            }
            // Without a sender it is no datagram but the end.
            Ok((_, _, None)) if self.is_retired.load(Ordering::Acquire) => Ok(Received::Retired),
            Ok((_, _, None)) => Err(io::Error::other("another process shut the socket down")),
            Err(Errno::AGAIN) if is_retired => Ok(Received::Retired),
            // The last: an answer of ours found its program gone.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNREFUSED) => Ok(Received::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    fn sender(&self, from: SocketAddr, origins: OriginSource) -> (SocketAddr, Option<Origin>) {
        match from {
            SocketAddr::V6(from) if self.is_mapped => {
                let (client, told) = origins.told(from);
                (client.into(), told.or_else(|| origins.of(&self.socket)))
            }
            client => (client, origins.of(&self.socket)),
        }
    }

    /// Sends at once or not at all.
    pub(super) fn send(&self, message: &[u8], client: SocketAddr) -> io::Result<()> {
        let to = match client {
            SocketAddr::V4(client) if self.is_mapped => {
                (client.ip().to_ipv6_mapped(), client.port()).into()
            }
            client => client,
        };
        sendto(&self.socket, message, SendFlags::DONTWAIT, &to)?;
        Ok(())
    }

    /// Whoever waits for a datagram is told that none will come, once those that are queued are read.
    /// So is every process that has this socket.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        // It fails, since the socket has no peer; the kernel wakes who waits all the same
        // (`inet_shutdown` in net/ipv4/af_inet.c).
        let _ = shutdown(&self.socket, Shutdown::Read);
    }
}

impl AsFd for QuerySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;

    use super::*;
    use selvedge_model::CgroupId;

    const ORIGIN: Origin = Origin {
        server: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 53),
        workload: CgroupId(1),
    };

    fn receive(socket: &QuerySocket, patience: Patience) -> Received {
        let received = socket.receive(&mut [0; 9], patience, OriginSource::Fixed(ORIGIN));
        received.unwrap()
    }

    fn socket() -> (UdpSocket, QuerySocket) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ours = QuerySocket::new(socket.try_clone().unwrap().into()).unwrap();
        (socket, ours)
    }

    #[test]
    fn a_retired_socket_gives_what_is_queued_and_then_the_end() {
        for patience in [Patience::Wait, Patience::Now] {
            let (_, ours) = socket();
            let program = UdpSocket::bind("127.0.0.1:0").unwrap();
            program.send_to(b"", ours.address()).unwrap();
            program.send_to(b"last", ours.address()).unwrap();
            ours.retire();
            for length in [0, 4] {
                let query = Query {
                    length,
                    client: program.local_addr().unwrap(),
                    origin: Some(ORIGIN),
                };
                assert_eq!(receive(&ours, patience), Received::Query(query));
            }
            assert_eq!(receive(&ours, patience), Received::Retired);
        }
    }

    #[test]
    fn who_waits_is_woken_by_the_end() {
        let (_, ours) = socket();
        let ours = Arc::new(ours);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn({
            let ours = ours.clone();
            move || tell.send(receive(&ours, Patience::Wait))
        });
        ours.retire();
        let received = told.recv_timeout(Duration::from_secs(20));
        assert_eq!(received, Ok(Received::Retired));
        assert_eq!(receive(&socket().1, Patience::Now), Received::Nothing);
    }

    #[test]
    fn a_socket_that_somebody_else_shut_down_cannot_be_read() {
        let (other, ours) = socket();
        let _ = shutdown(&other, Shutdown::Read);
        let origins = OriginSource::Fixed(ORIGIN);
        assert!(ours.receive(&mut [0; 9], Patience::Wait, origins).is_err());
    }

    #[test]
    fn a_socket_is_known_by_whatever_descriptor() {
        let (socket, ours) = socket();
        assert!(ours.is(&QuerySocket::new(socket.into()).unwrap()));
        let (_, other) = self::socket();
        assert!(!ours.is(&other));
    }
}
