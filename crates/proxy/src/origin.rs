//! Who sent a query, and to which server: asked of the kernel.
//!
//! The programs that led the query here keep a record of it, and answer `getsockopt` with it: on the
//! accepted socket of a connection, and on a socket for datagrams about the one that was read last.
//! No record, no service. The answer is an IPv6 socket address: server and port as the program asked
//! (IPv4 as v4-mapped), flow information and scope the lower and upper half of the workload's cgroup
//! id. See `crates/node/bpf/origin.bpf.c` for the other end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use selvedge_model::CgroupId;
use socket2::SockRef;

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
}

impl OriginProbe {
    pub(crate) fn new(source: OriginSource) -> Self {
        Self { source }
    }

    /// Of the connection that `socket` is, or of the datagram that was read from it last.
    pub(crate) fn of(&self, socket: &impl AsFd) -> Option<Origin> {
        let kernel = || recorded(&SockRef::from(socket));
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
