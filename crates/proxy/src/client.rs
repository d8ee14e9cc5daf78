//! A connection that somebody made to a service.

use std::net::{IpAddr, Ipv4Addr};

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
    /// Whether nobody has said what is spoken there, and no response has told.
    pub(crate) is_unclear: bool,
}

impl Client {
    /// The address that was reached, as it stands in a URI.
    pub(crate) fn reached(&self) -> Option<String> {
        let address = match self.asked {
            Asked::Service(address, _) => IpAddr::V4(address),
            Asked::Gateway(_) => self.stream.local_addr().ok()?.ip().to_canonical(),
        };
        Some(match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        })
    }
}

/// What a connection was made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
