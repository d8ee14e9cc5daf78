//! The proxy's listening sockets, and handing sockets to another process.
//!
//! A socket belongs to the cgroup it was made in, for good, and kernel programs look at that. So those
//! that programs are led to, the resolver's and those for connections to services, are made by a
//! short-lived child in the proxy's cgroup ([`make_sockets`]), which sends them to the agent; that for
//! metrics ([`open_metrics`]) the agent makes itself. It keeps them all and hands copies to the proxy.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::available_parallelism;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use selvedge_feed::{SocketKind, SocketList};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

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

/// Sockets and what they are for.
pub(crate) type Opened = Vec<(SocketKind, OwnedFd)>;

/// What the agent asks of the maker of sockets.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Request {
    /// First of the ports that may be taken.
    pub(crate) first: u16,
    /// How many these are.
    pub(crate) count: u16,
    /// The resolver's port with an earlier agent; 0 where there was none.
    pub(crate) resolver_port: u16,
    /// The port for connections to services with an earlier agent; 0 where there was none.
    pub(crate) proxy_port: u16,
    /// 1 where a living proxy may have these two, else 0.
    pub(crate) shared: u16,
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
fn take_over(stream: impl AsFd) -> io::Result<Opened> {
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

/// Runs in a child: waits on `stream` for the ports to try, makes the sockets on the first that are
/// free and sends them back.
pub fn make_sockets(mut stream: UnixStream) -> io::Result<()> {
    let mut request = [0; size_of::<Request>()];
    stream.read_exact(&mut request)?;
    let request: Request = zerocopy::transmute!(request);
    let mut sockets = request.open_on(request.resolver_port, open_resolver)?;
    sockets.extend(request.open_on(request.proxy_port, open_captured)?);
    // Nobody is led to its port, so that any does.
    sockets.extend(request.open_on(0, open_outside)?);
    hand_over(&stream, &sockets)
}

impl Request {
    /// Opens sockets on the port of an earlier agent where it can be had, else on another.
    fn open_on(
        &self,
        preferred: u16,
        open: fn(u16, Beside) -> io::Result<Opened>,
    ) -> io::Result<Opened> {
        let preferred = (preferred != 0).then_some(preferred);
        if self.shared != 0
            && let Some(port) = preferred
            && let Ok(sockets) = open(port, Beside::LivingProxy)
        {
            return Ok(sockets);
        }
        let range = self.first..self.first.saturating_add(self.count);
        // From the end of the range: replicas take their ports from its start.
        for port in preferred.into_iter().chain(range.rev()) {
            match open(port, Beside::Nobody) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

fn open_resolver(port: u16, beside: Beside) -> io::Result<Opened> {
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

fn open_captured(port: u16, beside: Beside) -> io::Result<Opened> {
    open_group(SocketKind::Captured, port, beside)
}

fn open_outside(port: u16, beside: Beside) -> io::Result<Opened> {
    open_group(SocketKind::Outside, port, beside)
}

/// One for each thread that the proxy has processors for.
fn open_group(kind: SocketKind, port: u16, beside: Beside) -> io::Result<Opened> {
    // The proxy's own connections to workloads need such sockets: `Place::upstream_address`.
    if Socket::new(Domain::IPV6, Type::STREAM, None).is_err_and(|error| is_no_ipv6(&error)) {
        return Ok(Vec::new());
    }
    let threads = available_parallelism().map_or(1, usize::from);
    let open = |nth| {
        // The first has the port for all.
        let beside = if nth == 0 {
            beside
        } else {
            Beside::LivingProxy
        };
        Ok((kind, open_of(kind, port, beside)?.into()))
    };
    (0..threads.min(kind.most())).map(open).collect()
}

/// What is told apart from a stranger's socket by a mark must not be found before it has that: beside
/// a living proxy it listens only once the agent [says so](listen). Otherwise nobody is led there yet,
/// and the port is ours only once something listens.
fn open_of(kind: SocketKind, port: u16, beside: Beside) -> io::Result<Socket> {
    let address = address(kind, port);
    // So that its senders' addresses have room for who they are; see `bpf/origin.bpf.c`.
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), port);
    let socket = match kind {
        // The kernel leads callers over IPv6 to it too: `bpf/inbound.bpf.c`.
        SocketKind::Outside => open(mapped, transport(kind), beside),
        SocketKind::DnsUdpV4 => match open(mapped, transport(kind), beside) {
            Err(error) if is_no_ipv6(&error) => open(address, transport(kind), beside),
            other => other,
        },
        _ => open(address, transport(kind), beside),
    }?;
    if transport(kind).0 == Type::STREAM && beside == Beside::Nobody {
        socket.listen(backlog(kind))?;
    }
    Ok(socket)
}

/// Has connections come to those that take any.
pub(crate) fn listen(sockets: &[(SocketKind, OwnedFd)]) -> io::Result<()> {
    let mut streams = sockets
        .iter()
        .filter(|(kind, _)| transport(*kind).0 == Type::STREAM);
    streams.try_for_each(|(kind, socket)| SockRef::from(socket).listen(backlog(*kind)))
}

/// Connections that may wait to be accepted. Beyond it a SYN is dropped, which the kernel counts
/// (`TcpExtListenOverflows`) and the caller's repeats.
fn backlog(kind: SocketKind) -> i32 {
    match kind {
        SocketKind::Captured | SocketKind::Outside => 4096,
        _ => 1024,
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
        | SocketKind::Captured
        | SocketKind::Outside => (Type::STREAM, Protocol::TCP),
    }
}

/// Opens the listening socket for metrics at `address`. The error is what the kernel said of it.
pub fn open_metrics(address: SocketAddr, beside: Beside) -> io::Result<OwnedFd> {
    let socket = open(address, transport(SocketKind::Metrics), beside)?;
    socket.listen(backlog(SocketKind::Metrics))?;
    Ok(socket.into())
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
    Ok(socket)
}

/// The agent's side: asks the child at the other end of `stream` for sockets.
pub(crate) fn ask_for_sockets(mut stream: UnixStream, request: Request) -> Result<Opened, Error> {
    let failed = || Error::system("open the proxy's sockets");
    stream.write_all(request.as_bytes()).map_err(failed())?;
    take_over(&stream).map_err(failed())
}

/// The port that the sockets of these kinds share; 0 where there is none.
pub(crate) fn port_of(sockets: &[(SocketKind, OwnedFd)], kinds: &[SocketKind]) -> u16 {
    let found = sockets.iter().find(|(kind, _)| kinds.contains(kind));
    let address = found.and_then(|(_, socket)| SockRef::from(socket).local_addr().ok());
    let address = address.and_then(|address| address.as_socket());
    address.map_or(0, |address| address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Request = Request {
        first: 61_900,
        count: 100,
        resolver_port: 0,
        proxy_port: 0,
        shared: 0,
    };

    fn made(request: Request) -> Opened {
        let (near, far) = UnixStream::pair().unwrap();
        let maker = std::thread::spawn(|| make_sockets(far).unwrap());
        let made = ask_for_sockets(near, request).unwrap();
        maker.join().unwrap();
        made
    }

    fn ports(sockets: &Opened) -> [u16; 2] {
        let resolver = port_of(sockets, &SocketKind::RESOLVER);
        [resolver, port_of(sockets, &[SocketKind::Captured])]
    }

    fn is_listening(socket: &OwnedFd) -> bool {
        rustix::net::sockopt::socket_acceptconn(socket).unwrap()
    }

    #[test]
    fn sockets_arrive_as_what_they_are() {
        let made = made(FRESH);
        let [resolver, proxy] = ports(&made);
        assert!((61_900..62_000).contains(&resolver) && (61_900..62_000).contains(&proxy));
        assert_ne!(resolver, proxy);
        for (kind, socket) in &made {
            let socket = SockRef::from(socket);
            let address = socket.local_addr().unwrap().as_socket().unwrap();
            let want = match kind {
                SocketKind::Captured => proxy,
                SocketKind::Outside => port_of(&made, &[SocketKind::Outside]),
                _ => resolver,
            };
            assert_eq!(address.port(), want);
            assert_eq!(address.ip().to_canonical().is_ipv6(), is_ipv6(*kind));
            assert_eq!(socket.r#type().unwrap(), transport(*kind).0);
        }
        let threads = available_parallelism().map_or(1, usize::from);
        for group in [SocketKind::Captured, SocketKind::Outside] {
            let of_group = made.iter().filter(|(kind, _)| *kind == group);
            assert_eq!(of_group.count(), threads.min(16));
        }
    }

    /// A socket that has no mark yet would be taken for a stranger's.
    #[test]
    fn beside_a_living_proxy_nothing_listens_before_the_agent_says_so() {
        let first = made(FRESH);
        listen(&first).unwrap();
        let [resolver_port, proxy_port] = ports(&first);
        let again = made(Request {
            resolver_port,
            proxy_port,
            shared: 1,
            ..FRESH
        });
        assert_eq!(ports(&again), ports(&first));
        let streams = || {
            // Nobody finds those for outside by their port.
            let is_told_apart = |kind| kind != SocketKind::Outside;
            again
                .iter()
                .filter(move |(kind, _)| transport(*kind).0 == Type::STREAM && is_told_apart(*kind))
        };
        assert!(streams().all(|(_, socket)| !is_listening(socket)));
        listen(&again).unwrap();
        assert!(streams().all(|(_, socket)| is_listening(socket)));
        let elsewhere = made(FRESH);
        let [one, other] = ports(&elsewhere);
        assert!(![one, other].contains(&resolver_port) && ![one, other].contains(&proxy_port));
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
        // A program that another test is just starting has a copy of it until it executes.
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let foreign = std::iter::repeat_with(|| std::net::TcpListener::bind(address))
            .find(|bound| bound.is_ok() || std::time::Instant::now() > patience);
        let foreign = foreign.unwrap().unwrap();
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
