//! A connection that somebody made to a service.

use std::net::Ipv4Addr;

use selvedge_model::{CgroupId, Port};
use tokio::net::TcpStream;

use crate::buffer::Inbox;
use crate::deadline::Deadline;

/// An accepted connection, and what the kernel says of it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Inbox,
    pub(crate) deadline: Deadline,
    /// The workload that connected; `None` is outside the mesh.
    pub(crate) source: Option<CgroupId>,
    /// What it asked for.
    pub(crate) asked: Asked,
}

/// What a connection was made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    /// A service, by its virtual address and port.
    Service(Ipv4Addr, Port),
    /// A Gateway, by its port of the host.
    Gateway(Port),
}

impl Asked {
    /// The port, of the service or of the host.
    pub(crate) fn port(self) -> Port {
        match self {
            Self::Service(_, port) | Self::Gateway(port) => port,
        }
    }
}
