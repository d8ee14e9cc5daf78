//! `v1/Service`: a name others call, as Kubernetes writes it.
//!
//! Accepted is what means the same without a cluster; the rest is refused with the reason. Endpoints
//! come from workloads and EndpointSlices, never from a selector. Read next: `compile.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use selvedge_model::{AppProtocol, Label, Port, Protocol};
use serde_json::json;

use super::cursor::Cursor;
use super::fields::Fields;
use super::text::Value;
use super::without_nulls;

/// What a Service says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its virtual address; `None` until the control plane has chosen one.
    pub cluster_ip: Option<Ipv4Addr>,
    /// Its ports. Empty only where `selvedge run` made the object and nothing listens yet.
    pub ports: Vec<ServiceSpecPort>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpecPort {
    /// Its name; required where there are several.
    pub name: Option<Label>,
    /// The number callers use.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port of the endpoints.
    pub target: TargetPort,
    /// What is spoken on it.
    pub app_protocol: Option<AppProtocol>,
}

/// Which port of an endpoint a Service's port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// That number.
    Number(Port),
    /// The port that the workload itself calls so.
    Name(Label),
}

impl fmt::Display for TargetPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(port) => write!(f, "{port}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

const FIELDS: &[&str] = &[
    "type",
    "clusterIP",
    "clusterIPs",
    "ports",
    "selector",
    "sessionAffinity",
    "ipFamilies",
    "ipFamilyPolicy",
    "internalTrafficPolicy",
    "publishNotReadyAddresses",
];

const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "allocateLoadBalancerNodePorts",
        "there is no load balancer in front of the node",
    ),
    (
        "externalIPs",
        "use `selvedge run --publish` to be reached from outside the mesh",
    ),
    (
        "externalName",
        "call the outside name itself; it is resolved as ever",
    ),
    ("externalTrafficPolicy", "there are no node ports"),
    (
        "healthCheckNodePort",
        "there is no load balancer in front of the node",
    ),
    (
        "loadBalancerClass",
        "there is no load balancer in front of the node",
    ),
    (
        "loadBalancerIP",
        "there is no load balancer in front of the node",
    ),
    (
        "loadBalancerSourceRanges",
        "there is no load balancer in front of the node",
    ),
    (
        "sessionAffinityConfig",
        "connections are spread one by one; affinity is not kept",
    ),
    (
        "trafficDistribution",
        "all endpoints of a node are equally near",
    ),
];

const PORT_FIELDS: &[&str] = &[
    "name",
    "port",
    "protocol",
    "targetPort",
    "appProtocol",
    "nodePort",
];

pub(super) fn read(cursor: &Cursor<'_>) -> Option<ServiceSpec> {
    let known: Vec<_> = FIELDS
        .iter()
        .copied()
        .chain(UNSUPPORTED.iter().map(|(f, _)| *f))
        .collect();
    let fields = cursor.fields(&known)?;
    fields.refuse(UNSUPPORTED);
    let fixed = read_fixed(&fields);
    let cluster_ip = read_cluster_ip(&fields);
    let ports = fields.list("ports", read_port);
    let ports = ports?;
    check_ports(&fields, &ports)?;
    fixed?;
    Some(ServiceSpec {
        cluster_ip: cluster_ip?,
        ports,
    })
}

/// Fields that have only one value that means something here.
fn read_fixed(fields: &Fields<'_>) -> Option<()> {
    let one = |name: &str, accepted: &'static [&'static str], why: &'static str| {
        fields.optional(name, |cursor| {
            let text = cursor.text()?;
            if accepted.contains(&text.as_str()) {
                return Some(());
            }
            cursor.error(format!("{text:?} is not supported: {why}"));
            None
        })
    };
    let kind = one(
        "type",
        &["ClusterIP"],
        "a service has a virtual address; only ClusterIP is",
    );
    let affinity = one(
        "sessionAffinity",
        &["None"],
        "connections are spread one by one",
    );
    let policy = one(
        "ipFamilyPolicy",
        &["SingleStack", "PreferDualStack"],
        "virtual addresses are IPv4; programs that ask for IPv6 get them v4-mapped",
    );
    let traffic = one(
        "internalTrafficPolicy",
        &["Cluster"],
        "all endpoints of a service are used, wherever they are",
    );
    let families = fields.list("ipFamilies", |cursor| cursor.one_of(&[("IPv4", ())]));
    let not_ready = fields.optional("publishNotReadyAddresses", |cursor| {
        if cursor.boolean()? {
            cursor
                .error("`true` is not supported: endpoints that are not ready get no connections");
            return None;
        }
        Some(())
    });
    let selector = fields.optional("selector", |cursor| match cursor.value() {
        Value::Map(labels) if labels.is_empty() => Some(()),
        _ => {
            cursor.error(
                "is not supported: a selector picks pods, and there are none here. Leave it out \
                 and start the programs with `selvedge run`, or write Workload objects whose \
                 spec.service is this service",
            );
            None
        }
    });
    families?;
    let read = [kind, affinity, policy, traffic, not_ready, selector];
    read.iter().all(Option::is_some).then_some(())
}

fn read_cluster_ip(fields: &Fields<'_>) -> Option<Option<Ipv4Addr>> {
    let one = fields.optional("clusterIP", read_address);
    let many = fields.optional("clusterIPs", |cursor| {
        let addresses = cursor.list(read_address)?;
        if addresses.len() > 1 {
            cursor.error("expected at most one address: virtual addresses are IPv4");
            return None;
        }
        Some(addresses.into_iter().next().flatten())
    });
    let (one, many) = (one?.flatten(), many?.flatten());
    if let (Some(one), Some(many)) = (one, many)
        && one != many
    {
        fields
            .field("clusterIPs")?
            .error(format!("does not agree with clusterIP {one}"));
        return None;
    }
    Some(one.or(many))
}

fn read_address(cursor: &Cursor<'_>) -> Option<Option<Ipv4Addr>> {
    cursor.mark();
    match cursor.text()?.as_str() {
        "" => Some(None),
        "None" => {
            cursor.error(
                "a headless service is not supported: a service has one virtual address, and its \
                 connections are spread in the kernel. Leave clusterIP out to get one",
            );
            None
        }
        _ => cursor
            .parse("an IPv4 address of the virtual range")
            .map(Some),
    }
}

fn read_port(cursor: &Cursor<'_>) -> Option<ServiceSpecPort> {
    let fields = cursor.fields(PORT_FIELDS)?;
    fields.refuse(&[(
        "nodePort",
        "use `selvedge run --publish` to be reached from outside",
    )]);
    let name = fields.optional("name", Cursor::label);
    let port = fields.required("port", Cursor::port);
    let protocol = read_protocol(&fields);
    let target = fields.optional("targetPort", |cursor| match cursor.value() {
        Value::Text(_) => cursor.label().map(TargetPort::Name),
        _ => cursor.port().map(TargetPort::Number),
    });
    let app_protocol = fields.optional("appProtocol", Cursor::text);
    let port = port?;
    Some(ServiceSpecPort {
        name: name?,
        port,
        protocol: protocol?,
        target: target?.unwrap_or(TargetPort::Number(port)),
        app_protocol: app_protocol?.map(AppProtocol),
    })
}

/// TCP where nothing is said, as in Kubernetes.
pub(super) fn read_protocol(fields: &Fields<'_>) -> Option<Protocol> {
    let words = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp)];
    Some(
        fields
            .optional("protocol", |cursor| cursor.one_of(&words))?
            .unwrap_or(Protocol::Tcp),
    )
}

fn check_ports(fields: &Fields<'_>, ports: &[ServiceSpecPort]) -> Option<()> {
    let mut numbers = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut wrong = Vec::new();
    for port in ports {
        if !numbers.insert((port.protocol, port.port)) {
            wrong.push(format!("has port {}/{} twice", port.port, port.protocol));
        }
        match &port.name {
            Some(name) if !names.insert(name) => wrong.push(format!("has the name {name:?} twice")),
            None if ports.len() > 1 => {
                wrong.push(format!(
                    "port {} needs a name, since there are several",
                    port.port
                ));
            }
            _ => {}
        }
    }
    for message in &wrong {
        fields.field("ports")?.error(message);
    }
    wrong.is_empty().then_some(())
}

impl ServiceSpec {
    pub(super) fn to_json(&self) -> serde_json::Value {
        without_nulls(json!({
            "type": "ClusterIP",
            "clusterIP": self.cluster_ip.map(|address| address.to_string()),
            "ports": self.ports.iter().map(ServiceSpecPort::to_json).collect::<Vec<_>>(),
        }))
    }
}

impl ServiceSpecPort {
    fn to_json(&self) -> serde_json::Value {
        let target = match &self.target {
            TargetPort::Number(port) => json!(port.get()),
            TargetPort::Name(name) => json!(name.as_str()),
        };
        without_nulls(json!({
            "name": self.name.as_ref().map(Label::as_str),
            "port": self.port.get(),
            "protocol": self.protocol.to_string(),
            "targetPort": target,
            "appProtocol": self.app_protocol.as_ref().map(|protocol| &protocol.0),
        }))
    }
}
