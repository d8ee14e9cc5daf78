//! What the resolver looks things up in: an index over one view of the feed, never changed once made.
//!
//! Keys are names in wire form, so that a look-up compares the bytes of a query as they came.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use selvedge_feed::{Ipv6Answer, Settings, View};
use selvedge_model::{CgroupId, Label, Protocol, Service, ServiceName, Workload};

use crate::dns::Name;

/// The table in force; none until the first view has come.
pub(crate) type SharedTable = Arc<ArcSwapOption<Table>>;

/// An index over one view.
#[derive(Debug)]
pub struct Table {
    settings: Settings,
    /// `svc` and the cluster domain.
    service_domain: Name,
    cluster_domain: Name,
    soa: Vec<u8>,
    virtual_range: (Ipv4Addr, u8),
    services: HashMap<Box<[u8]>, Arc<Record>>,
    by_address: HashMap<Ipv4Addr, Arc<Record>>,
    namespaces: HashSet<Box<[u8]>>,
    askers: HashMap<CgroupId, Asker>,
    stranger: Asker,
}

/// What is answered for one service.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) address: Ipv4Addr,
    /// The full name in wire form.
    pub(crate) full_name: Box<[u8]>,
    /// Named ports.
    pub(crate) ports: Vec<(Label, Protocol, u16)>,
}

/// Who asks.
#[derive(Debug)]
pub(crate) struct Asker {
    /// Its namespace as a label in wire form.
    pub(crate) namespace: Box<[u8]>,
    /// Search suffixes for which mesh names are answered NXDOMAIN.
    pub(crate) shadowing: Vec<Name>,
    /// Names with fewer dots are tried with the suffixes first.
    pub(crate) ndots: usize,
    scoped_servers: Vec<SocketAddr>,
}

impl Table {
    /// Indexes a view. Search suffixes that are no domain names are left out: no query ends with
    /// them.
    pub fn build(view: &View) -> Self {
        let settings = view.settings.clone();
        let domain = settings.cluster_domain.as_str();
        let under = |labels: &str| {
            Name::from_text(&format!("{labels}{domain}")).expect("settings hold a short domain")
        };
        let records = view.snapshot.services.values().map(|service| {
            let record = Arc::new(Record::new(service, domain));
            (service_key(&service.name), record)
        });
        let services: HashMap<_, _> = records.collect();
        let names = view.snapshot.services.keys();
        let askers = view.snapshot.workloads.values();
        Self {
            by_address: services
                .values()
                .map(|record| (record.address, record.clone()))
                .collect(),
            namespaces: names.map(|name| label_key(&name.namespace)).collect(),
            askers: askers.map(|w| (w.cgroup, Asker::new(w))).collect(),
            stranger: Asker::stranger(),
            service_domain: under("svc."),
            cluster_domain: under(""),
            soa: soa(&under("ns.dns."), &under("hostmaster."), view),
            virtual_range: view.snapshot.virtual_range,
            services,
            settings,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How long answers may be kept, in seconds.
    pub(crate) fn ttl_s(&self) -> u32 {
        u32::try_from(self.settings.ttl.as_secs()).unwrap_or(u32::MAX >> 1)
    }

    pub(crate) fn service_domain(&self) -> &Name {
        &self.service_domain
    }

    pub(crate) fn cluster_domain(&self) -> &Name {
        &self.cluster_domain
    }

    /// Data of the SOA record that goes with every negative answer.
    pub(crate) fn soa(&self) -> &[u8] {
        &self.soa
    }

    /// The service with this name: two labels in wire form, its own and its namespace.
    pub(crate) fn service(&self, key: &[u8]) -> Option<&Record> {
        self.services.get(key).map(|record| &**record)
    }

    pub(crate) fn service_at(&self, address: Ipv4Addr) -> Option<&Record> {
        self.by_address.get(&address).map(|record| &**record)
    }

    /// Whether an address can only be that of a service.
    pub(crate) fn is_virtual(&self, address: Ipv4Addr) -> bool {
        let (first, prefix) = self.virtual_range;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        (address.to_bits() ^ first.to_bits()) & mask == 0 || self.by_address.contains_key(&address)
    }

    /// Whether there are services in this namespace, a label in wire form.
    pub(crate) fn has_namespace(&self, label: &[u8]) -> bool {
        self.namespaces.contains(label)
    }

    /// The service's IPv6 address, if it is to have one.
    pub(crate) fn ipv6(&self, record: &Record) -> Option<Ipv6Addr> {
        match self.settings.ipv6 {
            Ipv6Answer::Mapped => Some(record.address.to_ipv6_mapped()),
            Ipv6Answer::NoData => None,
        }
    }

    /// Who asks from this cgroup. One that is not known yet is in namespace `default`.
    pub(crate) fn asker(&self, workload: CgroupId) -> &Asker {
        self.askers.get(&workload).unwrap_or(&self.stranger)
    }
}

impl Record {
    fn new(service: &Service, domain: &str) -> Self {
        let full = format!("{}.svc.{domain}", service.name);
        let named = service.ports.iter().filter_map(|port| {
            let name = port.name.clone()?;
            Some((name, port.protocol, port.port.get()))
        });
        Self {
            address: service.address,
            full_name: Name::from_text(&full)
                .expect("two labels and a short domain are a name")
                .wire()
                .into(),
            ports: named.collect(),
        }
    }
}

impl Asker {
    fn new(workload: &Workload) -> Self {
        let suffixes = workload.dns.search.iter();
        let suffixes = suffixes.filter_map(|suffix| Name::from_text(suffix));
        let scoped =
            |server: &&SocketAddr| matches!(server, SocketAddr::V6(v6) if v6.scope_id() != 0);
        Self {
            namespace: label_key(&workload.name.namespace),
            shadowing: match workload.dns.shadow_search {
                true => suffixes.filter(|name| !name.labels().is_empty()).collect(),
                false => Vec::new(),
            },
            ndots: workload.dns.ndots.max(1).into(),
            scoped_servers: workload
                .dns
                .nameservers
                .iter()
                .filter(scoped)
                .copied()
                .collect(),
        }
    }

    fn stranger() -> Self {
        Self {
            namespace: label_key(&Label::default_namespace()),
            shadowing: Vec::new(),
            ndots: 1,
            scoped_servers: Vec::new(),
        }
    }

    /// The server with the interface that belongs to a link-local address; the kernel's record has
    /// no room for it, `resolv.conf` does.
    pub(crate) fn with_scope(&self, server: SocketAddr) -> SocketAddr {
        let IpAddr::V6(ip) = server.ip() else {
            return server;
        };
        if !ip.is_unicast_link_local() {
            return server;
        }
        let known = self.scoped_servers.iter();
        known
            .copied()
            .find(|known| known.ip() == server.ip() && known.port() == server.port())
            .unwrap_or(server)
    }
}

fn service_key(name: &ServiceName) -> Box<[u8]> {
    [label_key(&name.name), label_key(&name.namespace)]
        .concat()
        .into()
}

fn label_key(label: &Label) -> Box<[u8]> {
    let text = label.as_str().as_bytes();
    let length = u8::try_from(text.len()).expect("a label has at most 63 bytes");
    [&[length], text].concat().into()
}

/// RFC 1035, section 3.3.13; the last field bounds how long "no" may be kept (RFC 2308, section 4).
fn soa(primary: &Name, mailbox: &Name, view: &View) -> Vec<u8> {
    const REFRESH_S: u32 = 7200;
    const RETRY_S: u32 = 1800;
    const EXPIRE_S: u32 = 86_400;
    let minimum_s = u32::try_from(view.settings.ttl.as_secs()).unwrap_or(u32::MAX >> 1);
    // Serial numbers wrap around by definition (RFC 1982).
    let serial = (view.snapshot.generation.0 & u64::from(u32::MAX)) as u32;
    let mut data = [primary.wire(), mailbox.wire()].concat();
    for number in [serial, REFRESH_S, RETRY_S, EXPIRE_S, minimum_s] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data
}
