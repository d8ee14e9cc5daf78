//! The proxy's listening sockets, and handing sockets to another process.
//!
//! A socket belongs to the cgroup it was made in, for good, and kernel programs look at that. So
//! the resolver's are made by a short-lived child in the proxy's cgroup ([`make_sockets`]), which
//! sends them to the agent; that for metrics ([`open_metrics`]) the agent makes itself. It keeps them
//! all and hands copies to the proxy.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use selvedge_feed::{SocketKind, SocketList};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::error::Error;

/// Who may have a port already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody: the port is ours alone or another is taken. Otherwise two meshes on one host would
    /// share a port, and each answer the other's look-ups.
    Nobody,
    /// The proxy that an earlier agent left, with that agent's sockets.
    LivingProxy,
}

/// The resolver's sockets, all on one port.
#[derive(Debug)]
pub(crate) struct ResolverSockets {
    pub(crate) port: u16,
    pub(crate) sockets: Vec<(SocketKind, OwnedFd)>,
}

const MOST: usize = SocketList::MAX_SOCKETS;

/// Sends the sockets over `stream`, descriptors and what they are for in one message (unix(7),
/// `SCM_RIGHTS`).
pub(crate) fn hand_over<'a>(
    stream: impl AsFd,
    sockets: impl IntoIterator<Item = &'a (SocketKind, OwnedFd)>,
) -> io::Result<()> {
    let sockets = sockets.into_iter().map(|(kind, fd)| (*kind, fd.as_fd()));
    let (kinds, descriptors): (Vec<_>, Vec<BorrowedFd<'_>>) = sockets.unzip();
    let message = SocketList::new(kinds).encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(
        stream,
        &[IoSlice::new(&message)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    // A unix stream takes so short a message whole.
    if sent == message.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// The other side of [`hand_over`].
fn take_over(stream: impl AsFd) -> io::Result<Vec<(SocketKind, OwnedFd)>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut message = [0; SocketList::MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut message)];
    let received = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|part| match part {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let (list, _) = SocketList::decode(&message[..received]).map_err(|_| malformed())?;
    if list.kinds().len() != descriptors.len() {
        return Err(malformed());
    }
    Ok(list.kinds().iter().copied().zip(descriptors).collect())
}

/// Runs in a child: waits on `stream` for the ports to try, makes the sockets on the first that is
/// free and sends them back.
pub fn make_sockets(mut stream: UnixStream) -> io::Result<()> {
    let mut request = [0; 8];
    stream.read_exact(&mut request)?;
    let [first, count, preferred, shared] =
        [0, 2, 4, 6].map(|at| u16::from_ne_bytes([request[at], request[at + 1]]));
    if shared != 0
        && let Ok(sockets) = open_all(preferred, Beside::LivingProxy)
    {
        return hand_over(&stream, &sockets);
    }
    let last = first.saturating_add(count);
    let preferred = (preferred != 0).then_some(preferred);
    // From the end of the range: replicas take their ports from its start.
    for port in preferred.into_iter().chain((first..last).rev()) {
        match open_all(port, Beside::Nobody) {
            Ok(sockets) => return hand_over(&stream, &sockets),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn open_all(port: u16, beside: Beside) -> io::Result<Vec<(SocketKind, OwnedFd)>> {
    let mut sockets = Vec::new();
    for kind in SocketKind::RESOLVER {
        match open_of(kind, port, beside) {
            Ok(socket) => sockets.push((kind, socket.into())),
            // A host without IPv6 has no IPv6 name servers either.
            Err(error) if is_ipv6(kind) && is_no_ipv6(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

fn open_of(kind: SocketKind, port: u16, beside: Beside) -> io::Result<Socket> {
    let address = address(kind, port);
    if kind != SocketKind::DnsUdpV4 {
        return open(address, transport(kind), beside);
    }
    // So that its senders' addresses have room for who they are; see `bpf/origin.bpf.c`.
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), port);
    match open(mapped, transport(kind), beside) {
        Err(error) if is_no_ipv6(&error) => open(address, transport(kind), beside),
        other => other,
    }
}

fn is_no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97)
}

fn is_ipv6(kind: SocketKind) -> bool {
    matches!(kind, SocketKind::DnsUdpV6 | SocketKind::DnsTcpV6)
}

fn address(kind: SocketKind, port: u16) -> SocketAddr {
    let ip: IpAddr = match is_ipv6(kind) {
        true => Ipv6Addr::LOCALHOST.into(),
        false => Ipv4Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, port)
}

fn transport(kind: SocketKind) -> (Type, Protocol) {
    match kind {
        SocketKind::DnsUdpV4 | SocketKind::DnsUdpV6 => (Type::DGRAM, Protocol::UDP),
        SocketKind::DnsTcpV4
        | SocketKind::DnsTcpV6
        | SocketKind::Metrics
        | SocketKind::Captured => (Type::STREAM, Protocol::TCP),
    }
}

/// Opens the listening socket for metrics at `address`. The error is what the kernel said of it.
pub fn open_metrics(address: SocketAddr, beside: Beside) -> io::Result<OwnedFd> {
    Ok(open(address, transport(SocketKind::Metrics), beside)?.into())
}

fn open(
    address: SocketAddr,
    (transport, protocol): (Type, Protocol),
    beside: Beside,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), transport, Some(protocol))?;
    if beside == Beside::LivingProxy {
        socket.set_reuse_port(true)?;
    }
    if transport == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // Whatever `net.ipv6.bindv6only` says: it would forbid a v4-mapped address.
        socket.set_only_v6(address.ip().to_canonical().is_ipv6())?;
    }
    socket.bind(&SockAddr::from(address))?;
    // Set after the bind, this lets only later sockets in beside ours: those of a restarted agent.
    // The kernel lets only the same user, root, open them.
    socket.set_reuse_port(true)?;
    if transport == Type::STREAM {
        socket.listen(1024)?;
    }
    Ok(socket)
}

/// The agent's side: asks the child at the other end of `stream` for sockets.
pub(crate) fn ask_for_sockets(
    mut stream: UnixStream,
    (first, count): (u16, u16),
    preferred: u16,
    beside: Beside,
) -> Result<ResolverSockets, Error> {
    let failed = || Error::system("open the resolver's sockets");
    let shared = u16::from(beside == Beside::LivingProxy);
    let request: Vec<u8> = [first, count, preferred, shared]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect();
    stream.write_all(&request).map_err(failed())?;
    let sockets = take_over(&stream).map_err(failed())?;
    let (_, any) = sockets
        .first()
        .ok_or_else(|| failed()(io::ErrorKind::AddrInUse.into()))?;
    let any = socket2::SockRef::from(any).local_addr().map_err(failed())?;
    let port = any.as_socket().map_or(0, |address| address.port());
    Ok(ResolverSockets { port, sockets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_as_what_they_are() {
        let (near, far) = UnixStream::pair().unwrap();
        let maker = std::thread::spawn(|| make_sockets(far).unwrap());
        let made = ask_for_sockets(near, (61_900, 100), 0, Beside::Nobody).unwrap();
        maker.join().unwrap();
        assert!((61_900..62_000).contains(&made.port));
        for (kind, socket) in &made.sockets {
            let socket = socket2::SockRef::from(socket);
            let address = socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(address.port(), made.port);
            assert_eq!(address.ip().to_canonical().is_ipv6(), is_ipv6(*kind));
            assert_eq!(socket.r#type().unwrap(), transport(*kind).0);
        }
        assert!(made.sockets.len() >= 2);
    }

    /// As across a restart of the agent: the proxy serves on meanwhile, so the port is never free.
    #[test]
    fn metrics_are_served_by_one_mesh_and_its_next_agent() {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let first = open_metrics(any, Beside::Nobody).unwrap();
        let address = socket2::SockRef::from(&first).local_addr().unwrap();
        let address = address.as_socket().unwrap();
        let another = open_metrics(address, Beside::Nobody).unwrap_err();
        assert_eq!(another.kind(), io::ErrorKind::AddrInUse);
        let next = open_metrics(address, Beside::LivingProxy).unwrap();
        drop(first);
        std::net::TcpStream::connect(address).unwrap();
        drop(next);
        let foreign = std::net::TcpListener::bind(address).unwrap();
        let taken = open_metrics(address, Beside::LivingProxy).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(foreign);
    }

    #[test]
    fn a_message_of_another_kind_is_refused() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"HTTP/1.1 200").unwrap();
        assert!(take_over(&near).is_err());
    }
}
