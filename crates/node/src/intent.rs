//! From a [`model::Snapshot`] to the entries of the intent maps. Pure: the same snapshot gives the same entries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use selvedge_model as model;

use crate::abi;

/// What the intent maps are to hold. Endpoint sets carry no version yet: `apply` gives each set a
/// new one when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) services: BTreeMap<abi::ServiceKey, ServiceIntent>,
    pub(crate) workloads: BTreeMap<u64, abi::Workload>,
    pub(crate) limits: BTreeMap<u32, u32>,
    pub(crate) published: BTreeMap<abi::PublishedKey, abi::Published>,
    pub(crate) mesh_names: BTreeMap<u64, u8>,
}

/// One service port and its alias table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceIntent {
    pub(crate) id: u32,
    pub(crate) flags: u8,
    pub(crate) endpoints: Vec<abi::Endpoint>,
}

/// The domain under which all mesh names stand.
const CLUSTER_DOMAIN: &str = "cluster.local";

impl Intent {
    /// The entries for `snapshot`, where Gateways can have the ports that `is_held` says.
    pub(crate) fn of(snapshot: &model::Snapshot, is_held: impl Fn(model::Port) -> bool) -> Self {
        let mut intent = Self::default();
        for service in snapshot.services.values() {
            intent.add_service(service);
        }
        for workload in snapshot.workloads.values() {
            intent.add_workload(snapshot, workload);
        }
        for port in gateway_ports(snapshot).filter(|port| is_held(*port)) {
            let gateway = abi::Published { service: GATEWAY };
            let key = published_key(port, model::Protocol::Tcp);
            intent.published.insert(key, gateway);
        }
        intent.add_names(snapshot);
        intent
    }

    fn add_service(&mut self, service: &model::Service) {
        let mut flags = 0;
        if let Some(limit) = service.connection_limit {
            self.limits.insert(service.id(), limit);
            flags |= abi::SERVICE_LIMITED;
        }
        if service.detailed_counters {
            flags |= abi::SERVICE_DETAILED;
        }
        // The service itself: its address is known even where no port is.
        let itself = abi::ServiceKey {
            address: service.address.into(),
            port: 0,
            protocol: 0,
            pad: 0,
        };
        let no_endpoints = ServiceIntent {
            id: service.id(),
            ..ServiceIntent::default()
        };
        self.services.insert(itself, no_endpoints);
        for port in &service.ports {
            self.services.insert(
                service_key(service, port.port, port.protocol),
                ServiceIntent {
                    id: service.id(),
                    flags: flags | way_flags(port),
                    endpoints: alias_table(&port.endpoints),
                },
            );
        }
        let tcp = service.published.iter();
        let tcp = tcp.map(|(outside, inside)| (model::Protocol::Tcp, *outside, *inside));
        // Of a UDP port only whose it is matters: no datagram is led anywhere.
        let udp = service.published_udp.iter();
        let udp = udp.map(|port| (model::Protocol::Udp, *port, *port));
        for (protocol, outside, inside) in tcp.chain(udp) {
            let key = published_key(outside, protocol);
            let service = service_key(service, inside, protocol);
            self.published.insert(key, abi::Published { service });
        }
    }

    fn add_workload(&mut self, snapshot: &model::Snapshot, workload: &model::Workload) {
        let service = snapshot.services.get(&workload.service);
        let mut flags = abi::WORKLOAD_RESOLVER;
        if workload.ports == model::PortMode::Shared {
            flags |= abi::WORKLOAD_SHARED_PORTS;
        }
        if service.is_some_and(|service| !service.published.is_empty()) {
            flags |= abi::WORKLOAD_PUBLISHED;
        }
        let service = service.map_or(0, model::Service::id);
        self.workloads
            .insert(workload.cgroup.0, abi::Workload { service, flags });
    }

    /// Every spelling of a mesh name that a program may send, so that none leaks while the resolver
    /// is away.
    fn add_names(&mut self, snapshot: &model::Snapshot) {
        // Which names come with which suffixes: `zone.rs` of the proxy has the rule.
        let mut suffixes: BTreeSet<(&model::Label, u8, &str)> = BTreeSet::new();
        for workload in snapshot.workloads.values() {
            let dns = &workload.dns;
            if dns.shadow_search {
                let with = |suffix| (&workload.name.namespace, dns.ndots, String::as_str(suffix));
                suffixes.extend(dns.search.iter().map(with));
            }
        }
        for name in snapshot.services.keys() {
            let (short, namespace) = (name.name.as_str(), name.namespace.as_str());
            let qualified = format!("{short}.{namespace}");
            let full = format!("{qualified}.svc.{CLUSTER_DOMAIN}");
            let in_svc = format!("{qualified}.svc");
            let mut add = |spelling: &str| {
                self.mesh_names.insert(name_hash(spelling), 1);
            };
            for spelling in [short, &qualified, &in_svc, &full] {
                add(spelling);
            }
            for (of, ndots, suffix) in &suffixes {
                let spellings = [
                    (short, **of == name.namespace),
                    (&*qualified, *ndots > 1),
                    (&*in_svc, *ndots > 2),
                    (&*full, true),
                ];
                for (spelling, _) in spellings.iter().filter(|(_, comes)| *comes) {
                    add(&format!("{spelling}.{suffix}"));
                }
            }
        }
    }
}

/// What a Gateway's port leads to: no service, since that depends on the request.
const GATEWAY: abi::ServiceKey = abi::ServiceKey {
    address: abi::Address { octets: [0; 16] },
    port: 0,
    protocol: 0,
    pad: 0,
};

/// The ports that Gateways are to have; one may come several times.
pub(crate) fn gateway_ports(snapshot: &model::Snapshot) -> impl Iterator<Item = model::Port> {
    let listeners = snapshot.gateways.values().flat_map(|it| &it.listeners);
    listeners.map(|listener| listener.port)
}

pub(crate) fn published_key(port: model::Port, protocol: model::Protocol) -> abi::PublishedKey {
    abi::PublishedKey {
        port: port.get().to_be(),
        protocol: protocol.number(),
        pad: 0,
    }
}

/// Of a datagram there is nothing that the proxy could understand.
fn way_flags(port: &model::ServicePort) -> u8 {
    match (port.protocol, port.way) {
        (model::Protocol::Udp, _) | (_, model::Way::Direct) => 0,
        (_, model::Way::ProxyOrDirect) => abi::SERVICE_PROXIED,
        (_, model::Way::ProxyOnly) => abi::SERVICE_PROXIED | abi::SERVICE_PROXY_ONLY,
    }
}

fn service_key(
    service: &model::Service,
    port: model::Port,
    protocol: model::Protocol,
) -> abi::ServiceKey {
    abi::ServiceKey {
        address: service.address.into(),
        port: port.get().to_be(),
        protocol: protocol.number(),
        pad: 0,
    }
}

/// FNV-1a, 64 bits, over the name in wire form and lower case, without the root's zero byte
/// (G. Fowler, L. C. Noll, K.-P. Vo; draft-eastlake-fnv). `bpf/resolver.bpf.c` computes the same.
pub(crate) fn name_hash(name: &str) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash = OFFSET;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    for label in name.split('.') {
        add(label.len() as u8);
        label
            .bytes()
            .for_each(|byte| add(byte.to_ascii_lowercase()));
    }
    hash
}

/// The endpoints that may take connections, as an alias table: drawing a slot evenly and then
/// keeping it or taking its alias draws each endpoint by its weight, in constant time (M. D. Vose,
/// 1991). Thresholds are 32-bit, so a weight is met within 2^-32 of its share.
fn alias_table(endpoints: &[model::Endpoint]) -> Vec<abi::Endpoint> {
    let able: Vec<&model::Endpoint> = endpoints
        .iter()
        .filter(|endpoint| endpoint.ready && endpoint.weight > 0)
        .collect();
    let total: u64 = able.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    let mut slots: Vec<abi::Endpoint> = able.iter().map(|endpoint| slot(endpoint)).collect();
    // Shares scaled so that an even one is `total`.
    let mut shares: Vec<u64> = able
        .iter()
        .map(|endpoint| u64::from(endpoint.weight) * able.len() as u64)
        .collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..slots.len()).partition(|&i| shares[i] < total);
    while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
        slots[less].threshold = threshold(shares[less], total);
        slots[less].alias = more as u32;
        shares[more] -= total - shares[less];
        if shares[more] < total {
            large.pop();
            small.push(more);
        }
    }
    slots
}

/// `share / total` of the 32-bit range.
fn threshold(share: u64, total: u64) -> u32 {
    ((u128::from(share) << 32) / u128::from(total)).min(u128::from(u32::MAX - 1)) as u32
}

fn slot(endpoint: &model::Endpoint) -> abi::Endpoint {
    let (cgroup, address) = match endpoint.place {
        model::Place::Local(cgroup) => (cgroup.0, abi::Address { octets: [0; 16] }),
        model::Place::Outside(address) => (0, address.into()),
    };
    abi::Endpoint {
        cgroup,
        address,
        threshold: u32::MAX,
        alias: 0,
        port: endpoint.port.get().to_be(),
        pad: [0; 3],
    }
}

/// The address of a service key as people write it.
pub(crate) fn shown(key: &abi::ServiceKey) -> String {
    let port = u16::from_be(key.port);
    match key.address.to_ip() {
        IpAddr::V4(four) => format!("{four}:{port}/{}", key.protocol),
        IpAddr::V6(six) => format!("[{six}]:{port}/{}", key.protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(weight: u16) -> model::Endpoint {
        model::Endpoint {
            place: model::Place::Outside(IpAddr::from([127, 0, 0, 1])),
            port: model::Port::new(weight.max(1)).unwrap(),
            weight,
            ready: true,
        }
    }

    /// The exact share of each port under the table's law.
    fn shares(table: &[abi::Endpoint]) -> BTreeMap<u16, f64> {
        let mut shares = BTreeMap::new();
        for slot in table {
            let kept = match slot.threshold {
                u32::MAX => 1.0,
                threshold => (f64::from(threshold) + 1.0) / 4_294_967_296.0,
            };
            let each = 1.0 / table.len() as f64;
            *shares.entry(u16::from_be(slot.port)).or_insert(0.0) += each * kept;
            let alias = u16::from_be(table[slot.alias as usize].port);
            *shares.entry(alias).or_insert(0.0) += each * (1.0 - kept);
        }
        shares
    }

    #[test]
    fn alias_tables_draw_by_weight() {
        for weights in [
            &[1u16][..],
            &[1, 1, 1],
            &[1, 2, 3, 4],
            &[1, 65535],
            &[7, 1, 1, 500, 90, 3],
        ] {
            let endpoints: Vec<_> = weights.iter().map(|weight| endpoint(*weight)).collect();
            // Equal weights share a port number here; their shares then add up.
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (port, share) in shares(&alias_table(&endpoints)) {
                let weight = port;
                let many = weights.iter().filter(|w| **w == weight).count() as f64;
                let want = many * f64::from(weight) / total;
                assert!(
                    (share - want).abs() < 1e-8,
                    "{weights:?}: {share} for {want}"
                );
            }
        }
    }

    #[test]
    fn endpoints_that_must_not_be_chosen_are_not_in_the_table() {
        let mut unready = endpoint(5);
        unready.ready = false;
        assert_eq!(alias_table(&[endpoint(0), unready]), []);
        assert_eq!(alias_table(&[endpoint(0), endpoint(3)]).len(), 1);
    }

    #[test]
    fn streams_go_through_the_proxy_as_their_service_says_and_datagrams_never() {
        use model::{Protocol, Way};
        let led = |protocol, way| {
            way_flags(&model::ServicePort {
                name: None,
                port: model::Port::MIN,
                protocol,
                app_protocol: None,
                endpoints: Vec::new(),
                way,
            })
        };
        let or_direct = abi::SERVICE_PROXIED;
        let only = abi::SERVICE_PROXIED | abi::SERVICE_PROXY_ONLY;
        let ways = [Way::Direct, Way::ProxyOrDirect, Way::ProxyOnly];
        assert_eq!(
            ways.map(|way| led(Protocol::Tcp, way)),
            [0, or_direct, only]
        );
        assert_eq!(ways.map(|way| led(Protocol::Udp, way)), [0; 3]);
    }

    #[test]
    fn name_hashes_ignore_case_and_keep_labels_apart() {
        assert_eq!(name_hash("Cart.Default"), name_hash("cart.default"));
        assert_ne!(name_hash("cart.default"), name_hash("cartdefault"));
        assert_ne!(name_hash("a"), name_hash("b"));
    }
}
