//! `selvedge.dev/v1alpha1/Workload`: an instance of a service, by cgroup, systemd unit or address.
//!
//! `selvedge run` writes these for the programs it places; people write them for what runs already.
//! Read next: `compile.rs`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use selvedge_model::{Label, Port, PortMode, Protocol};
use serde_json::json;

use super::cursor::Cursor;
use super::fields::Fields;
use super::service::read_protocol;
use super::without_nulls;

/// Most search suffixes of a resolver, as glibc and the mesh's DNS have it.
const MAX_SEARCH: usize = 32;
/// Most dots that `ndots` may ask for (RES_MAXNDOTS of resolv.h).
pub(crate) const MAX_NDOTS: u8 = 15;
/// Most name servers; resolvers use three.
const MAX_NAMESERVERS: usize = 8;

/// What a Workload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// The service it is an instance of, in its own namespace.
    pub service: Label,
    /// Where it is.
    pub place: WorkloadPlace,
    /// What happens to the ports it binds.
    pub port_mode: PortMode,
    /// Ports it calls by name.
    pub ports: Vec<WorkloadPort>,
    /// Ports on which callers outside the mesh reach its service.
    pub publish: Vec<Publish>,
    /// How its look-ups are answered.
    pub resolver: ResolverSpec,
}

/// Where a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadPlace {
    /// A cgroup of this host.
    Cgroup(CgroupRef),
    /// An address outside the mesh.
    Address(IpAddr),
}

/// What names a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CgroupRef {
    /// Its path below the cgroup2 mount, with a leading `/`.
    Path(String),
    /// The systemd unit it belongs to, as `nginx.service`.
    Unit(String),
}

impl fmt::Display for CgroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "cgroup {path}"),
            Self::Unit(unit) => write!(f, "systemd unit {unit}"),
        }
    }
}

/// A port of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadPort {
    /// What a Service's `targetPort` may call it.
    pub name: Option<Label>,
    /// The number its program listens on.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A port on which callers outside the mesh reach all replicas of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The port outside callers use. For UDP this is the port that the program binds: answers leave
    /// from there.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// For TCP, the service's port it leads to; `None` is the one of the same number, or else its
    /// first.
    pub service_port: Option<Port>,
}

/// How look-ups of a workload are answered. `None` leaves it to the policy of its service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverSpec {
    /// Search suffixes, lower case, without a final dot.
    pub search: Vec<String>,
    /// Names with fewer dots are tried with the suffixes first.
    pub ndots: Option<u8>,
    /// Where outside names go that came without a server's address.
    pub nameservers: Vec<SocketAddr>,
    /// Whether a mesh name with a search suffix is NXDOMAIN.
    pub shadow_search: Option<bool>,
}

const FIELDS: &[&str] = &[
    "service",
    "cgroup",
    "systemdUnit",
    "address",
    "portMode",
    "ports",
    "publish",
    "resolver",
];

pub(super) fn read(cursor: &Cursor<'_>) -> Option<WorkloadSpec> {
    let fields = cursor.fields(FIELDS)?;
    let service = fields.required("service", |cursor| {
        cursor.mark();
        cursor.label()
    });
    let place = read_place(cursor, &fields);
    let modes = [("Shared", PortMode::Shared), ("Kept", PortMode::Kept)];
    let port_mode = fields.optional("portMode", |cursor| cursor.one_of(&modes));
    let ports = fields.list("ports", read_port);
    let shared = port_mode == Some(Some(PortMode::Shared));
    let publish = fields.list("publish", |cursor| read_publish(cursor, shared));
    let resolver = fields.optional("resolver", read_resolver);
    Some(WorkloadSpec {
        service: service?,
        place: place?,
        // Programs that were not started by the mesh keep their ports, since others may know them.
        port_mode: port_mode?.unwrap_or(PortMode::Kept),
        ports: ports?,
        publish: publish?,
        resolver: resolver?.unwrap_or_default(),
    })
}

fn read_place(cursor: &Cursor<'_>, fields: &Fields<'_>) -> Option<WorkloadPlace> {
    let cgroup = fields.optional("cgroup", read_cgroup);
    let unit = fields.optional("systemdUnit", read_unit);
    let address = fields.optional("address", |cursor| {
        cursor.mark();
        cursor.parse("an IP address").map(WorkloadPlace::Address)
    });
    let mut places = [cgroup?, unit?, address?].into_iter().flatten();
    match (places.next(), places.next()) {
        (Some(place), None) => Some(place),
        _ => {
            cursor.error("needs exactly one of cgroup, systemdUnit and address");
            None
        }
    }
}

fn read_cgroup(cursor: &Cursor<'_>) -> Option<WorkloadPlace> {
    cursor.mark();
    let path = cursor.text()?;
    let is_clean = |part: &str| !part.is_empty() && part != "." && part != "..";
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(is_clean) && !path.contains('\0') => {
            Some(WorkloadPlace::Cgroup(CgroupRef::Path(path)))
        }
        _ => {
            cursor.error("expected a path below the cgroup2 mount, as /system.slice/cart.service");
            None
        }
    }
}

fn read_unit(cursor: &Cursor<'_>) -> Option<WorkloadPlace> {
    cursor.mark();
    let unit = cursor.text()?;
    let has_suffix = [".service", ".scope", ".slice"]
        .iter()
        .any(|suffix| unit.ends_with(suffix));
    if !has_suffix || unit.contains(['/', '\0']) {
        cursor.error("expected the name of a unit with processes, as cart.service");
        return None;
    }
    Some(WorkloadPlace::Cgroup(CgroupRef::Unit(unit)))
}

fn read_port(cursor: &Cursor<'_>) -> Option<WorkloadPort> {
    let fields = cursor.fields(&["name", "port", "protocol"])?;
    let name = fields.optional("name", Cursor::label);
    let port = fields.required("port", Cursor::port);
    let protocol = read_protocol(&fields);
    Some(WorkloadPort {
        name: name?,
        port: port?,
        protocol: protocol?,
    })
}

fn read_publish(cursor: &Cursor<'_>, shared: bool) -> Option<Publish> {
    let fields = cursor.fields(&["port", "protocol", "servicePort"])?;
    let port = fields.required("port", Cursor::port);
    let protocol = read_protocol(&fields);
    let service_port = fields.optional("servicePort", Cursor::port);
    if protocol == Some(Protocol::Udp) {
        refuse_unanswerable(&fields, shared);
    }
    Some(Publish {
        port: port?,
        protocol: protocol?,
        service_port: service_port?,
    })
}

/// Answers over UDP leave from the port that the program has bound, and a caller outside the mesh
/// takes them from no other: replicas must share the very port that is published.
fn refuse_unanswerable(fields: &Fields<'_>, shared: bool) {
    if let Some(cursor) = fields.field("servicePort") {
        cursor.error(
            "a UDP port leads to no other, since answers leave from the port that the program binds: \
             leave servicePort out and make `port` that one",
        );
    }
    if let Some(cursor) = fields.field("protocol").filter(|_| !shared) {
        cursor.error(
            "replicas share a UDP port only with `portMode: Shared`; with `Kept` callers outside \
             reach the program on the port it binds, with nothing published",
        );
    }
}

fn read_resolver(cursor: &Cursor<'_>) -> Option<ResolverSpec> {
    let fields = cursor.fields(&["search", "ndots", "nameservers", "shadowSearch"])?;
    let bounded = |cursor: &Cursor<'_>, length: usize, most: usize| {
        if length > most {
            cursor.error(format!("has {length} entries; at most {most} are used"));
        }
        (length <= most).then_some(())
    };
    let search = fields.optional("search", |cursor| {
        let search = cursor.list(read_suffix)?;
        bounded(cursor, search.len(), MAX_SEARCH).map(|()| search)
    });
    let ndots = fields.optional("ndots", |cursor| cursor.integer(0..=MAX_NDOTS));
    let nameservers = fields.optional("nameservers", |cursor| {
        let servers = cursor.list(read_nameserver)?;
        bounded(cursor, servers.len(), MAX_NAMESERVERS).map(|()| servers)
    });
    let shadow_search = fields.optional("shadowSearch", Cursor::boolean);
    Some(ResolverSpec {
        search: search?.unwrap_or_default(),
        ndots: ndots?,
        nameservers: nameservers?.unwrap_or_default(),
        shadow_search: shadow_search?,
    })
}

fn read_suffix(cursor: &Cursor<'_>) -> Option<String> {
    let suffix = search_suffix(&cursor.text()?);
    if suffix.is_none() {
        cursor.error("expected a domain name");
    }
    suffix
}

/// A search suffix as it is kept: lower case, without a final dot. `None` for what is no domain
/// name, and for the root, which systemd-resolved writes where there is nothing to search.
pub(crate) fn search_suffix(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let fits = |label: &str| {
        (1..=Label::MAX_BYTES).contains(&label.len())
            && label.bytes().all(|it| it.is_ascii_graphic())
    };
    (text.len() <= 253 && text.split('.').all(fits)).then(|| text.to_owned())
}

/// `1.2.3.4`, `1.2.3.4:53`, `fe80::1` or `[fe80::1]:53`.
fn read_nameserver(cursor: &Cursor<'_>) -> Option<SocketAddr> {
    let text = cursor.text()?;
    let bare = text
        .parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, 53));
    match text.parse().or(bare) {
        Ok(address) => Some(address),
        Err(_) => {
            cursor.error("expected the address of a name server, as 10.0.0.1 or [fd00::1]:53");
            None
        }
    }
}

impl WorkloadSpec {
    pub(super) fn to_json(&self) -> serde_json::Value {
        let (mut cgroup, mut unit, mut address) = (None, None, None);
        match &self.place {
            WorkloadPlace::Cgroup(CgroupRef::Path(path)) => cgroup = Some(path),
            WorkloadPlace::Cgroup(CgroupRef::Unit(name)) => unit = Some(name),
            WorkloadPlace::Address(outside) => address = Some(outside.to_string()),
        }
        let ports = self.ports.iter().map(|port| {
            without_nulls(json!({
                "name": port.name.as_ref().map(Label::as_str),
                "port": port.port.get(),
                "protocol": port.protocol.to_string(),
            }))
        });
        let ports: Vec<_> = ports.collect();
        let publish = self.publish.iter().map(|publish| {
            without_nulls(json!({
                "port": publish.port.get(),
                "protocol": (publish.protocol == Protocol::Udp).then_some("UDP"),
                "servicePort": publish.service_port.map(Port::get),
            }))
        });
        let publish: Vec<_> = publish.collect();
        let has_resolver = self.resolver != ResolverSpec::default();
        without_nulls(json!({
            "service": self.service.as_str(),
            "cgroup": cgroup,
            "systemdUnit": unit,
            "address": address,
            "portMode": match self.port_mode {
                PortMode::Shared => "Shared",
                PortMode::Kept => "Kept",
            },
            "ports": (!ports.is_empty()).then_some(ports),
            "publish": (!publish.is_empty()).then_some(publish),
            "resolver": has_resolver.then(|| self.resolver.to_json()),
        }))
    }
}

impl ResolverSpec {
    fn to_json(&self) -> serde_json::Value {
        let servers: Vec<_> = self.nameservers.iter().map(SocketAddr::to_string).collect();
        without_nulls(json!({
            "search": (!self.search.is_empty()).then_some(&self.search),
            "ndots": self.ndots,
            "nameservers": (!servers.is_empty()).then_some(servers),
            "shadowSearch": self.shadow_search,
        }))
    }
}
