//! The Rust view of `bpf/abi.h`: what kernel programs and the agent share.
//!
//! Field for field as there, with the sizes asserted here and compared with the built objects' BTF
//! in `tests/it/abi.rs`. Ports and address words are in network order where the C file says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the layouts; part of the pin path.
pub(crate) const LAYOUT: u32 = 5;

/// Slots for refusals per edge.
pub(crate) const REASONS: usize = 16;
/// Powers of two of nanoseconds.
pub(crate) const HISTOGRAM_BUCKETS: usize = 64;

pub(crate) const SERVICE_LIMITED: u8 = 1;
pub(crate) const SERVICE_DETAILED: u8 = 2;
pub(crate) const SERVICE_PROXIED: u8 = 4;
pub(crate) const SERVICE_PROXY_ONLY: u8 = 8;
pub(crate) const WORKLOAD_SHARED_PORTS: u32 = 1;
pub(crate) const WORKLOAD_RESOLVER: u32 = 2;
pub(crate) const WORKLOAD_PUBLISHED: u32 = 4;

pub(crate) const EVENT_LISTENING: u8 = 1;
pub(crate) const EVENT_GONE: u8 = 2;

macro_rules! shared {
    ($($(#[$doc:meta])* $name:ident: $size:literal { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
            FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

shared! {
    /// `struct sv_address`: network order, IPv4 as `::ffff:a.b.c.d`.
    Address: 16 { octets: [u8; 16], }
    Config: 20 {
        network: u32,
        virtual_net: u32,
        virtual_mask: u32,
        private_first: u16,
        private_count: u16,
        resolver_port: u16,
        proxy_port: u16,
    }
    ServiceKey: 20 { address: Address, port: u16, protocol: u8, pad: u8, }
    Service: 12 { id: u32, endpoints: u32, version: u8, flags: u8, pad: u16, }
    EndpointKey: 12 { service: u32, slot: u32, port: u16, protocol: u8, version: u8, }
    Endpoint: 40 {
        cgroup: u64,
        address: Address,
        threshold: u32,
        alias: u32,
        port: u16,
        pad: [u16; 3],
    }
    Workload: 8 { service: u32, flags: u32, }
    PublishedKey: 4 { port: u16, protocol: u8, pad: u8, }
    Published: 20 { service: ServiceKey, }
    ListenerKey: 16 { cgroup: u64, port: u16, protocol: u8, ipv6: u8, pad: [u8; 4], }
    Listener: 48 {
        claimed_ns: u64,
        holders: u32,
        listening4: u32,
        listening6: u32,
        address4: u32,
        address6: Address,
        actual: u16,
        pad: [u16; 3],
    }
    OwnerKey: 4 { port: u16, protocol: u8, pad: u8, }
    Pinned: 16 { age_ns: u64, service: u32, port: u16, pad: u16, }
    Owner: 16 { cgroup: u64, asked: u16, pad: [u16; 3], }
    InFlight: 8 { now: u32, highest: u32, }
    EdgeKey: 8 { source: u32, destination: u32, }
    EdgeCounts: 152 { connections: u64, failures: u64, bypassed: u64, refused: [u64; REASONS], }
    EdgeDetail: 552 {
        opened: u64,
        closed: u64,
        bytes_sent: u64,
        bytes_received: u64,
        connect_ns: u64,
        connect_time: [u64; HISTOGRAM_BUCKETS],
    }
    Event: 16 { cgroup: u64, asked: u16, actual: u16, kind: u8, protocol: u8, pad: [u8; 2], }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let six = match address {
            IpAddr::V4(four) => four.to_ipv6_mapped(),
            IpAddr::V6(six) => six,
        };
        Self {
            octets: six.octets(),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::from(IpAddr::V4(address))
    }
}

impl Address {
    /// The address, IPv4 where it is one.
    pub(crate) fn to_ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets).to_canonical()
    }
}

/// Indices into the map `counters`, in the order of `enum sv_counter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum Counter {
    EdgesFull,
    ListenersFull,
    RecordsFailed,
    EventsLost,
    ResolverLed,
    ResolverBypassed,
    NamesHeldBack,
    PrivateDropped,
    ClaimsExpired,
    MultipathRefused,
    PublishedLed,
    PublishedUnserved,
    DetailsFull,
    PublishedFull,
    UpstreamUnserved,
    UpstreamLimited,
    GatewayLed,
    GatewayRefused,
}

impl Counter {
    pub(crate) const ALL: [Self; 18] = [
        Self::EdgesFull,
        Self::ListenersFull,
        Self::RecordsFailed,
        Self::EventsLost,
        Self::ResolverLed,
        Self::ResolverBypassed,
        Self::NamesHeldBack,
        Self::PrivateDropped,
        Self::ClaimsExpired,
        Self::MultipathRefused,
        Self::PublishedLed,
        Self::PublishedUnserved,
        Self::DetailsFull,
        Self::PublishedFull,
        Self::UpstreamUnserved,
        Self::UpstreamLimited,
        Self::GatewayLed,
        Self::GatewayRefused,
    ];
}
