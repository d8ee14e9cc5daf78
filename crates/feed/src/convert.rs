//! Model types to their wire twins and back.
//!
//! The way out cannot fail. The way in checks everything, one resource at a time, and says in words
//! what is wrong with it.

mod gateways;
pub(crate) mod journal;
mod requests;
mod routes;
pub(crate) mod traffic;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::time::Duration;

use selvedge_model::{
    AppProtocol, CgroupId, DnsSettings, Endpoint, Label, NameError, PatternError, Place, Port,
    PortMode, Protocol, Service, ServiceName, ServicePort, Way, Workload, WorkloadName,
};

use crate::settings::{Ipv6Answer, Settings};
use crate::wire;

/// Leaves room for two labels and `svc` before it within the 255 bytes of a name.
const MAX_DOMAIN_BYTES: usize = 120;
const MAX_TTL_S: u32 = 24 * 60 * 60;
const MAX_FORWARD_TIMEOUT_MS: u32 = 60_000;

/// Why a resource cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Defect {
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("port {0} is not between 1 and 65535")]
    Port(u32),
    #[error("protocol number {0} is neither TCP nor UDP")]
    Protocol(u32),
    #[error("weight {0} is above 65535")]
    Weight(u32),
    #[error("an address of {0} bytes is neither IPv4 nor IPv6")]
    Address(usize),
    #[error("an endpoint is nowhere")]
    Nowhere,
    #[error("0.0.0.0 cannot be a virtual address")]
    NoAddress,
    #[error("the virtual address {address} belongs to {holder}")]
    AddressTaken {
        address: Ipv4Addr,
        holder: ServiceName,
    },
    #[error("two ports are named {0}")]
    PortName(Label),
    #[error("{0:?} is no domain of lower-case labels")]
    Domain(String),
    #[error("a prefix of {0} bits is longer than an address")]
    Prefix(u32),
    #[error("way number {0} is not known")]
    Way(u32),
    #[error("{0}")]
    Pattern(#[from] PatternError),
    #[error("the {what} {text:?} cannot be taken")]
    Text { what: &'static str, text: String },
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{count} {what} are more than {bound}")]
    TooMany {
        what: &'static str,
        count: usize,
        bound: usize,
    },
    #[error("{what} of {value} is out of range")]
    Range { what: &'static str, value: u32 },
}

impl From<&ServiceName> for wire::Name {
    fn from(name: &ServiceName) -> Self {
        Self {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
        }
    }
}

impl TryFrom<wire::Name> for ServiceName {
    type Error = Defect;

    fn try_from(wire: wire::Name) -> Result<Self, Defect> {
        Ok(Self::new(
            Label::new(&wire.namespace)?,
            Label::new(&wire.name)?,
        ))
    }
}

impl From<&Service> for wire::Service {
    fn from(service: &Service) -> Self {
        Self {
            name: (&service.name).into(),
            address: service.address.to_bits(),
            ports: service.ports.iter().map(Into::into).collect(),
            published: service
                .published
                .iter()
                .map(|(host_port, service_port)| wire::Published {
                    host_port: host_port.get().into(),
                    service_port: service_port.get().into(),
                })
                .collect(),
            connection_limit: service.connection_limit,
            detailed_counters: service.detailed_counters,
            published_udp: service
                .published_udp
                .iter()
                .map(|port| port.get().into())
                .collect(),
            requests: service.requests.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Service> for Service {
    type Error = Defect;

    fn try_from(wire: wire::Service) -> Result<Self, Defect> {
        let address = Ipv4Addr::from_bits(wire.address);
        if address.is_unspecified() {
            return Err(Defect::NoAddress);
        }
        let published = |pair: wire::Published| -> Result<(Port, Port), Defect> {
            Ok((port(pair.host_port)?, port(pair.service_port)?))
        };
        Ok(Self {
            name: wire.name.try_into()?,
            address,
            ports: ports(wire.ports)?,
            published: collect(wire.published, published)?,
            connection_limit: wire.connection_limit,
            detailed_counters: wire.detailed_counters,
            requests: wire.requests.map(TryInto::try_into).transpose()?,
            published_udp: collect(wire.published_udp, port)?,
        })
    }
}

fn ports(wire: Vec<wire::ServicePort>) -> Result<Vec<ServicePort>, Defect> {
    let mut ports: Vec<ServicePort> = Vec::with_capacity(wire.len());
    for next in wire {
        let next = ServicePort::try_from(next)?;
        if let Some(name) = &next.name
            && ports.iter().any(|other| other.name.as_ref() == Some(name))
        {
            return Err(Defect::PortName(name.clone()));
        }
        ports.push(next);
    }
    Ok(ports)
}

impl From<&ServicePort> for wire::ServicePort {
    fn from(port: &ServicePort) -> Self {
        Self {
            name: port.name.as_ref().map(ToString::to_string),
            port: port.port.get().into(),
            protocol: port.protocol.number().into(),
            app_protocol: port.app_protocol.as_ref().map(|app| app.0.clone()),
            endpoints: port.endpoints.iter().map(Into::into).collect(),
            way: match port.way {
                Way::Direct => 0,
                Way::ProxyOrDirect => 1,
                Way::ProxyOnly => 2,
            },
        }
    }
}

impl TryFrom<wire::ServicePort> for ServicePort {
    type Error = Defect;

    fn try_from(wire: wire::ServicePort) -> Result<Self, Defect> {
        let protocol = u8::try_from(wire.protocol)
            .ok()
            .and_then(Protocol::from_number)
            .ok_or(Defect::Protocol(wire.protocol))?;
        Ok(Self {
            name: wire.name.as_deref().map(Label::new).transpose()?,
            port: port(wire.port)?,
            protocol,
            app_protocol: wire.app_protocol.map(AppProtocol),
            endpoints: collect(wire.endpoints, Endpoint::try_from)?,
            way: match wire.way {
                0 => Way::Direct,
                1 => Way::ProxyOrDirect,
                2 => Way::ProxyOnly,
                other => return Err(Defect::Way(other)),
            },
        })
    }
}

impl From<&Endpoint> for wire::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            place: Some(place_out(endpoint.place)),
            port: endpoint.port.get().into(),
            weight: endpoint.weight.into(),
            ready: endpoint.ready,
        }
    }
}

impl TryFrom<wire::Endpoint> for Endpoint {
    type Error = Defect;

    fn try_from(wire: wire::Endpoint) -> Result<Self, Defect> {
        Ok(Self {
            place: place_in(wire.place)?,
            port: port(wire.port)?,
            weight: u16::try_from(wire.weight).map_err(|_| Defect::Weight(wire.weight))?,
            ready: wire.ready,
        })
    }
}

impl From<&Workload> for wire::Workload {
    fn from(workload: &Workload) -> Self {
        Self {
            name: wire::Name {
                namespace: workload.name.namespace.to_string(),
                name: workload.name.name.to_string(),
            },
            service: (&workload.service).into(),
            cgroup: workload.cgroup.0,
            keeps_ports: workload.ports == PortMode::Kept,
            search: workload.dns.search.clone(),
            nameservers: workload.dns.nameservers.iter().map(Into::into).collect(),
            shadow_search: workload.dns.shadow_search,
            ndots: workload.dns.ndots.into(),
        }
    }
}

impl TryFrom<wire::Workload> for Workload {
    type Error = Defect;

    fn try_from(wire: wire::Workload) -> Result<Self, Defect> {
        Ok(Self {
            name: WorkloadName {
                namespace: Label::new(&wire.name.namespace)?,
                name: Label::new(&wire.name.name)?,
            },
            service: wire.service.try_into()?,
            cgroup: CgroupId(wire.cgroup),
            ports: if wire.keeps_ports {
                PortMode::Kept
            } else {
                PortMode::Shared
            },
            dns: DnsSettings {
                search: wire.search,
                ndots: u8::try_from(wire.ndots).unwrap_or(u8::MAX),
                nameservers: collect(wire.nameservers, SocketAddr::try_from)?,
                shadow_search: wire.shadow_search,
            },
        })
    }
}

impl From<&SocketAddr> for wire::SocketAddress {
    fn from(address: &SocketAddr) -> Self {
        Self {
            address: octets(address.ip()),
            port: address.port().into(),
            scope: match address {
                SocketAddr::V4(_) => 0,
                SocketAddr::V6(v6) => v6.scope_id(),
            },
        }
    }
}

impl TryFrom<wire::SocketAddress> for SocketAddr {
    type Error = Defect;

    fn try_from(wire: wire::SocketAddress) -> Result<Self, Defect> {
        let port = port(wire.port)?.get();
        Ok(match ip(&wire.address)? {
            IpAddr::V4(v4) => Self::new(v4.into(), port),
            IpAddr::V6(v6) => Self::V6(SocketAddrV6::new(v6, port, 0, wire.scope)),
        })
    }
}

impl From<&Settings> for wire::Settings {
    fn from(settings: &Settings) -> Self {
        let ttl_s = u32::try_from(settings.ttl.as_secs()).unwrap_or(MAX_TTL_S);
        let timeout_ms = u32::try_from(settings.forward_timeout.as_millis());
        Self {
            cluster_domain: settings.cluster_domain.clone(),
            ttl_s,
            ipv6_no_data: settings.ipv6 == Ipv6Answer::NoData,
            max_in_flight: settings.max_in_flight,
            forward_timeout_ms: timeout_ms.unwrap_or(MAX_FORWARD_TIMEOUT_MS),
        }
    }
}

impl TryFrom<wire::Settings> for Settings {
    type Error = Defect;

    fn try_from(wire: wire::Settings) -> Result<Self, Defect> {
        let domain = &wire.cluster_domain;
        if domain.len() > MAX_DOMAIN_BYTES || domain.split('.').any(|l| Label::new(l).is_err()) {
            return Err(Defect::Domain(wire.cluster_domain));
        }
        let within = |what, value: u32, least, most| {
            if (least..=most).contains(&value) {
                return Ok(value);
            }
            Err(Defect::Range { what, value })
        };
        let ttl_s = within("a TTL in seconds", wire.ttl_s, 0, MAX_TTL_S)?;
        let timeout_ms = within(
            "a time-out in milliseconds",
            wire.forward_timeout_ms,
            1,
            MAX_FORWARD_TIMEOUT_MS,
        )?;
        Ok(Self {
            ttl: Duration::from_secs(ttl_s.into()),
            ipv6: if wire.ipv6_no_data {
                Ipv6Answer::NoData
            } else {
                Ipv6Answer::Mapped
            },
            max_in_flight: within("a bound in flight", wire.max_in_flight, 1, u32::MAX)?,
            forward_timeout: Duration::from_millis(timeout_ms.into()),
            cluster_domain: wire.cluster_domain,
        })
    }
}

/// The range virtual addresses come from.
pub(crate) fn range(address: u32, prefix: u32) -> Result<(Ipv4Addr, u8), Defect> {
    match u8::try_from(prefix) {
        Ok(bits @ 0..=32) => Ok((Ipv4Addr::from_bits(address), bits)),
        _ => Err(Defect::Prefix(prefix)),
    }
}

fn port(number: u32) -> Result<Port, Defect> {
    u16::try_from(number)
        .ok()
        .and_then(Port::new)
        .ok_or(Defect::Port(number))
}

/// A number that fits into fewer bits than it travels in.
fn small<T: TryFrom<u32>>(what: &'static str, value: u32) -> Result<T, Defect> {
    T::try_from(value).map_err(|_| Defect::Range { what, value })
}

fn at_most(what: &'static str, count: usize, bound: usize) -> Result<(), Defect> {
    if count > bound {
        return Err(Defect::TooMany { what, count, bound });
    }
    Ok(())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn ip(octets: &[u8]) -> Result<IpAddr, Defect> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(octets)
        .map(|v6| Ipv6Addr::from(v6).into())
        .map_err(|_| Defect::Address(octets.len()))
}

fn place_out(place: Place) -> wire::Place {
    match place {
        Place::Local(cgroup) => wire::Place::Cgroup(cgroup.0),
        Place::Outside(address) => wire::Place::Address(octets(address)),
    }
}

fn place_in(wire: Option<wire::Place>) -> Result<Place, Defect> {
    Ok(match wire.ok_or(Defect::Nowhere)? {
        wire::Place::Cgroup(cgroup) => Place::Local(CgroupId(cgroup)),
        wire::Place::Address(octets) => Place::Outside(ip(&octets)?),
    })
}

fn collect<W, M>(
    wire: Vec<W>,
    mut convert: impl FnMut(W) -> Result<M, Defect>,
) -> Result<Vec<M>, Defect> {
    wire.into_iter().map(&mut convert).collect()
}
