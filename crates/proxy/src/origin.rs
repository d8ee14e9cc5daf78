//! Who sent a query, and to which server: told by the kernel.
//!
//! The programs that led the query here keep a record of it. No record, no service.
//!
//! - Of a datagram over IPv4 on an IPv6 socket it comes with the sender's address, which costs
//!   nothing more: the first 8 bytes are the workload's cgroup id in the machine's order, then 4 each
//!   of the server and of the sender. Without a record, or where it names a server of IPv6, they are
//!   v4-mapped as usual, which begins like cgroup 0, and that does not exist: then it is asked for.
//! - Of others `getsockopt` is asked, on the accepted socket of a connection or, about the datagram
//!   that was read last, on its socket. The answer is an IPv6 socket address: server and port as the
//!   program asked (IPv4 as v4-mapped), flow information and scope the lower and upper half of the
//!   cgroup id.
//!
//! See `crates/node/bpf/origin.bpf.c` for the other end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
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

/// Who tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginSource {
    /// The kernel.
    Kernel,
    /// Nobody: every query has this origin. For tests and measurements without kernel programs.
    Fixed(Origin),
}

impl OriginSource {
    /// Of the connection that `socket` is, or of the datagram that was read from it last.
    pub(crate) fn of(self, socket: &impl AsFd) -> Option<Origin> {
        match self {
            Self::Kernel => recorded(&SockRef::from(socket)).ok(),
            Self::Fixed(origin) => Some(origin),
        }
    }

    /// Of a datagram over IPv4 that was read from an IPv6 socket; and whom an answer goes to.
    pub(crate) fn told(self, address: SocketAddrV6) -> (SocketAddrV4, Option<Origin>) {
        let (sender, origin) = told(address);
        match self {
            Self::Kernel => (sender, origin),
            Self::Fixed(origin) => (sender, Some(origin)),
        }
    }
}

/// The one port from which look-ups are led away.
const DNS_PORT: u16 = 53;

fn told(address: SocketAddrV6) -> (SocketAddrV4, Option<Origin>) {
    let [
        l0,
        l1,
        l2,
        l3,
        u0,
        u1,
        u2,
        u3,
        s0,
        s1,
        s2,
        s3,
        c0,
        c1,
        c2,
        c3,
    ] = address.ip().octets();
    let lower = u32::from_ne_bytes([l0, l1, l2, l3]);
    let upper = u32::from_ne_bytes([u0, u1, u2, u3]);
    let sender = SocketAddrV4::new([c0, c1, c2, c3].into(), address.port());
    let origin = Origin {
        server: (Ipv4Addr::from([s0, s1, s2, s3]), DNS_PORT).into(),
        workload: cgroup_id(lower, upper),
    };
    let recorded = origin.workload != CgroupId(0);
    (sender, recorded.then_some(origin))
}

fn cgroup_id(lower: u32, upper: u32) -> CgroupId {
    CgroupId(u64::from(lower) | u64::from(upper) << 32)
}

fn recorded(socket: &SockRef<'_>) -> io::Result<Origin> {
    let answer = socket.original_dst_v6()?;
    let answer = answer.as_socket_ipv6().ok_or(io::ErrorKind::InvalidData)?;
    Ok(Origin {
        server: SocketAddr::new(answer.ip().to_canonical(), answer.port()),
        workload: cgroup_id(answer.flowinfo(), answer.scope_id()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: [u8; 16]) -> (SocketAddrV4, Option<Origin>) {
        OriginSource::Kernel.told(SocketAddrV6::new(address.into(), 40_000, 0, 0))
    }

    #[test]
    fn a_rewritten_address_says_who_asked_whom() {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&0x89ab_cdef_u32.to_ne_bytes());
        address[4..8].copy_from_slice(&0x0123_4567_u32.to_ne_bytes());
        address[8..12].copy_from_slice(&[192, 0, 2, 1]);
        address[12..].copy_from_slice(&[127, 0, 0, 9]);
        let origin = Origin {
            server: "192.0.2.1:53".parse().unwrap(),
            workload: CgroupId(0x0123_4567_89ab_cdef),
        };
        let sender = "127.0.0.9:40000".parse().unwrap();
        assert_eq!(from(address), (sender, Some(origin)));
    }

    #[test]
    fn an_address_that_nobody_rewrote_says_who_is_answered_alone() {
        let mapped = Ipv4Addr::new(127, 0, 0, 9).to_ipv6_mapped();
        let sender = "127.0.0.9:40000".parse().unwrap();
        assert_eq!(from(mapped.octets()), (sender, None));
    }
}
