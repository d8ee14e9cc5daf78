//! The configuration as a whole, compiled.

use alloc::collections::BTreeMap;
use core::fmt;
use core::net::Ipv4Addr;

use crate::{
    CgroupId, Gateway, GatewayName, HttpRoute, RouteName, Service, ServiceName, TcpRoute, Workload,
};

/// Version of the whole configuration; grows by one with every accepted change and never shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Everything the kernel path and the proxy act on, at one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which version this is.
    pub generation: Generation,
    /// First address and prefix length of the range that virtual addresses come from.
    pub virtual_range: (Ipv4Addr, u8),
    /// Services by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Workloads of this host by cgroup.
    pub workloads: BTreeMap<CgroupId, Workload>,
    /// Routes of requests by name.
    pub http_routes: BTreeMap<RouteName, HttpRoute>,
    /// Routes of connections by name.
    pub tcp_routes: BTreeMap<RouteName, TcpRoute>,
    /// Gateways by name. A port is one Gateway's, and no service publishes it.
    pub gateways: BTreeMap<GatewayName, Gateway>,
}

impl Snapshot {
    /// Nothing at all, before any configuration.
    pub fn empty() -> Self {
        Self {
            generation: Generation(0),
            virtual_range: (Ipv4Addr::new(127, 96, 0, 0), 12),
            services: BTreeMap::new(),
            workloads: BTreeMap::new(),
            http_routes: BTreeMap::new(),
            tcp_routes: BTreeMap::new(),
            gateways: BTreeMap::new(),
        }
    }

    /// The service with this virtual address. Linear: for messages, not for traffic.
    pub fn service_at(&self, address: Ipv4Addr) -> Option<&Service> {
        self.services
            .values()
            .find(|service| service.address == address)
    }
}
