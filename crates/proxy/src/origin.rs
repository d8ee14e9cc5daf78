//! Who sent a query, and to which server: asked of the kernel.
//!
//! The programs that led the query here keep a record of it, and answer `getsockopt` with it: on the
//! accepted socket of a connection, on a spare socket connected to the sender for a datagram. No
//! record, no service. The answer is an IPv6 socket address: server and port as the program asked
//! (IPv4 as v4-mapped), flow information and scope the lower and upper half of the workload's cgroup
//! id. See `crates/node/bpf/origin.bpf.c` for the other end.

use std::cell::OnceCell;
use std::io;
use std::net::{IpAddr, SocketAddr};

use selvedge_model::CgroupId;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

/// Where a query was meant to go, and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The server the program addressed.
    pub server: SocketAddr,
    /// The workload it runs in.
    pub workload: CgroupId,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginSource {
    /// The kernel.
    Kernel,
    /// Nobody: every query has this origin. For tests without kernel programs.
    Fixed(Origin),
    /// The kernel, and this where it has no record. For measurements without kernel programs, which
    /// are to pay for the asking.
    KernelOr(Origin),
}

/// Asks.
#[derive(Debug)]
pub(crate) struct OriginProbe {
    source: OriginSource,
    /// Spare sockets, connected to one sender after the other. `None` where the host lacks the
    /// family; nobody can then have sent a datagram of it. Made at the first query and no sooner:
    /// the kernel answers sockets made in the proxy's cgroup, and the agent moves this process there
    /// before it hands over what queries come through.
    v4: OnceCell<Option<Socket>>,
    v6: OnceCell<Option<Socket>>,
}

impl OriginProbe {
    pub(crate) fn new(source: OriginSource) -> Self {
        Self {
            source,
            v4: OnceCell::new(),
            v6: OnceCell::new(),
        }
    }

    /// Of a datagram from `client`.
    pub(crate) fn of_datagram(&self, client: SocketAddr) -> Option<Origin> {
        self.ask(|| {
            let (spare, domain) = match client {
                SocketAddr::V4(_) => (&self.v4, Domain::IPV4),
                SocketAddr::V6(_) => (&self.v6, Domain::IPV6),
            };
            let make = || Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).ok();
            let spare = spare.get_or_init(make);
            let spare = spare.as_ref().ok_or(io::ErrorKind::Unsupported)?;
            spare.connect(&client.into())?;
            recorded(&SockRef::from(spare))
        })
    }

    /// Of an accepted connection.
    pub(crate) fn of_connection(&self, connection: &TcpStream) -> Option<Origin> {
        self.ask(|| recorded(&SockRef::from(connection)))
    }

    fn ask(&self, kernel: impl FnOnce() -> io::Result<Origin>) -> Option<Origin> {
        match self.source {
            OriginSource::Kernel => kernel().ok(),
            OriginSource::Fixed(origin) => Some(origin),
            OriginSource::KernelOr(origin) => Some(kernel().unwrap_or(origin)),
        }
    }
}

fn recorded(socket: &SockRef<'_>) -> io::Result<Origin> {
    let answer = socket.original_dst_v6()?;
    let answer = answer.as_socket_ipv6().ok_or(io::ErrorKind::InvalidData)?;
    let workload = u64::from(answer.flowinfo()) | u64::from(answer.scope_id()) << 32;
    let server: IpAddr = match answer.ip().to_ipv4_mapped() {
        Some(v4) => v4.into(),
        None => (*answer.ip()).into(),
    };
    Ok(Origin {
        server: SocketAddr::new(server, answer.port()),
        workload: CgroupId(workload),
    })
}
