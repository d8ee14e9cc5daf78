//! A whole mesh for tests: an agent that feeds a proxy, and a program that asks.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::agent::{Agent, DEADLINE, Feed, Proxy, Sockets};
use crate::answers::{SHOPPER, snapshot};

/// Everything at once, serving.
pub(crate) struct Mesh {
    pub(crate) agent: Agent,
    pub(crate) sockets: Sockets,
    pub(crate) feed: Feed,
    pub(crate) proxy: Proxy,
}

impl Mesh {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let mut mesh = Self::start_empty(server);
        mesh.feed.publish(snapshot(1));
        mesh
    }

    /// Nothing is published so far.
    pub(crate) fn start_empty(server: SocketAddr) -> Self {
        Self::start_with(server, Sockets::new())
    }

    pub(crate) fn start_with(server: SocketAddr, sockets: Sockets) -> Self {
        let agent = Agent::new();
        let proxy = Proxy::start(&agent.path(), server, SHOPPER);
        let feed = agent.accept(&sockets);
        Self {
            agent,
            sockets,
            feed,
            proxy,
        }
    }

    /// A program's socket, connected to the resolver.
    pub(crate) fn client(&self) -> UdpSocket {
        client(self.sockets.udp.local_addr().unwrap())
    }
}

/// A program's socket, connected to `resolver`.
pub(crate) fn client(resolver: SocketAddr) -> UdpSocket {
    let resolver = SocketAddr::new(resolver.ip().to_canonical(), resolver.port());
    let local: SocketAddr = match resolver {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let socket = UdpSocket::bind(local).unwrap();
    socket.connect(resolver).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// The next datagram.
pub(crate) fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).expect("an answer in time");
    buffer.truncate(length);
    buffer
}

pub(crate) fn ask(socket: &UdpSocket, message: &[u8]) -> Vec<u8> {
    socket.send(message).unwrap();
    receive(socket)
}
