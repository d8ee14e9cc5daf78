//! Services and their endpoints.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::num::NonZeroU16;
use core::str::FromStr;

use crate::{CgroupId, Label, RequestPolicy, ServiceName};

/// A transport port, 1 to 65535.
pub type Port = NonZeroU16;

/// The transports the kernel path understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Protocol {
    /// Assigned Internet protocol number, as the kernel reports it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol with this number, if it is one of ours.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            _ => Err(()),
        }
    }
}

/// What is spoken on a port, as `appProtocol` of Kubernetes says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppProtocol(pub String);

impl AppProtocol {
    /// Whether one connection carries many requests at once for its whole life (HTTP/2, gRPC), so
    /// that balancing per connection spreads connections and not load.
    pub fn multiplexes(&self) -> bool {
        matches!(
            self.0.as_str(),
            "grpc" | "h2c" | "http2" | "kubernetes.io/h2c" | "kubernetes.io/grpc"
        )
    }

    /// Whether no HTTP/1.1 request can be seen in it: it is another protocol, or encrypted.
    pub fn hides_requests(&self) -> bool {
        let is_other = matches!(
            self.0.as_str(),
            "tcp" | "tls" | "ssl" | "https" | "kubernetes.io/wss"
        );
        is_other || self.multiplexes()
    }

    /// Whether HTTP/1.1 requests are all there is in it.
    pub fn is_http1(&self) -> bool {
        matches!(self.0.as_str(), "http" | "kubernetes.io/ws")
    }
}

/// A port that callers of a service connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, for SRV records and for selecting it; unique within the service.
    pub name: Option<Label>,
    /// The number callers use.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What is spoken on it, where the user said so.
    pub app_protocol: Option<AppProtocol>,
    /// Who answers, in a fixed order. Endpoints of local workloads are listed whether or not they
    /// listen at this moment: the kernel knows which do.
    pub endpoints: Vec<Endpoint>,
    /// How callers in the mesh get there.
    pub way: Way,
}

/// How connections to a port of a service go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// The kernel leads them to an endpoint.
    #[default]
    Direct,
    /// Through the proxy; the kernel leads them to an endpoint while that is away.
    ProxyOrDirect,
    /// Through the proxy; refused while that is away, since a rule would not be kept.
    ProxyOnly,
}

/// One place a connection to a service port may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub place: Place,
    /// The port it was asked to listen on (the program's own view of it).
    pub port: Port,
    /// Share of new connections, relative to its siblings; 0 takes none.
    pub weight: u16,
    /// False where its EndpointSlice says so: it then gets no new connections.
    pub ready: bool,
}

/// Where an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A workload of this host: its liveness and real port are known to the kernel.
    Local(CgroupId),
    /// An address outside the mesh, taken as alive while `ready`.
    Outside(IpAddr),
}

impl Place {
    /// Where the proxy connects to reach `port` there; `limited` is the virtual address of the service
    /// for which it does, where that has a connection limit.
    ///
    /// Only the kernel knows where a workload of this host listens at this moment. Its address is made
    /// up: 100::/64, which routers discard (RFC 6666), and the number of its cgroup; kernel programs on the
    /// proxy's cgroup lead a connection there to the workload (`crates/node/bpf/upstream.bpf.c`, the other
    /// half of this). They need an IPv6 socket that is not for IPv6 only, since the workload may have
    /// either family. They refuse with ECONNREFUSED where nothing listens, and with EDQUOT where the
    /// connection limit of the workload's service is reached.
    ///
    /// An IPv4 endpoint outside is reached at its own address, but where connections to it are limited:
    /// then by one of 100:0:0:1::/64, which nobody forwards either (RFC 9780), that has the service and
    /// the endpoint in it. Connections to IPv6 endpoints outside take no slot.
    pub fn upstream_address(self, port: Port, limited: Option<Ipv4Addr>) -> SocketAddr {
        /// As `SV_UPSTREAM_PREFIX` in `crates/node/bpf/abi.h`.
        const WORKLOADS: u128 = 0x0100 << 112;
        /// As `SV_UPSTREAM_OUTSIDE` there.
        const OUTSIDE: u128 = WORKLOADS | 1 << 64;
        let address = match (self, limited) {
            (Self::Local(cgroup), _) => {
                Ipv6Addr::from_bits(WORKLOADS | u128::from(cgroup.0)).into()
            }
            (Self::Outside(IpAddr::V4(address)), Some(service)) => {
                let low = u64::from(service.to_bits()) << 32 | u64::from(address.to_bits());
                Ipv6Addr::from_bits(OUTSIDE | u128::from(low)).into()
            }
            (Self::Outside(address), _) => address,
        };
        SocketAddr::new(address, port.get())
    }
}

/// A name others call, with everything that decides where its connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its virtual address: stable for the life of the service and unique in a [`crate::Snapshot`].
    /// As a big-endian number it is also the service's identity in kernel maps.
    pub address: Ipv4Addr,
    /// The ports it has.
    pub ports: Vec<ServicePort>,
    /// TCP ports on which callers outside the mesh reach it, and the service port each leads to.
    pub published: Vec<(Port, Port)>,
    /// UDP ports that its replicas share where they bind them, so that callers outside the mesh reach
    /// them all.
    pub published_udp: Vec<Port>,
    /// Most connections open at once from this node; `None` is unlimited. One more is refused.
    pub connection_limit: Option<u32>,
    /// Whether bytes, connect times and open connections are counted too (a kernel callback per
    /// state change of each connection).
    pub detailed_counters: bool,
    /// What is said about requests to it, if anything is.
    pub requests: Option<RequestPolicy>,
}

impl Service {
    /// The service's identity in kernel maps.
    pub fn id(&self) -> u32 {
        self.address.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_reached_by_its_cgroup_and_others_by_their_address() {
        let port = Port::new(80).unwrap();
        let service = Some([127, 96, 0, 1].into());
        let local = Place::Local(CgroupId(0x0123_4567_89ab_cdef));
        let outside = Place::Outside([192, 0, 2, 1].into());
        let outside6 = Place::Outside("2001:db8::1".parse().unwrap());
        for (place, limited, want) in [
            (local, None, "[100::123:4567:89ab:cdef]:80"),
            (local, service, "[100::123:4567:89ab:cdef]:80"),
            (outside, None, "192.0.2.1:80"),
            (outside, service, "[100:0:0:1:7f60:1:c000:201]:80"),
            (outside6, service, "[2001:db8::1]:80"),
        ] {
            let address = place.upstream_address(port, limited);
            assert_eq!(address, want.parse().unwrap(), "{place:?}");
        }
    }
}
