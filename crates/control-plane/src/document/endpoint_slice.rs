//! `discovery.k8s.io/v1/EndpointSlice`: addresses outside the mesh that answer for a service.
//!
//! As in Kubernetes the service is named by the label `kubernetes.io/service-name`, and a slice's
//! port belongs to the service's port of the same name. Read next: `compile.rs`.

use std::net::IpAddr;

use selvedge_model::{Label, Port, Protocol};
use serde_json::json;

use super::cursor::Cursor;
use super::fields::Fields;
use super::service::read_protocol;
use super::without_nulls;

/// The label that names a slice's service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What an EndpointSlice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// The service, in the slice's own namespace.
    pub service: Label,
    /// Whether the addresses are IPv6.
    pub is_ipv6: bool,
    /// Who answers.
    pub endpoints: Vec<SliceEndpoint>,
    /// On which ports.
    pub ports: Vec<SlicePort>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its addresses, each an endpoint of its own.
    pub addresses: Vec<IpAddr>,
    /// False where it must get no new connections.
    pub ready: bool,
}

/// One port of all endpoints of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the service's port it belongs to.
    pub name: Option<Label>,
    /// The number.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
}

const ENDPOINT_FIELDS: &[&str] = &[
    "addresses",
    "conditions",
    "deprecatedTopology",
    "hints",
    "hostname",
    "nodeName",
    "targetRef",
    "zone",
];

pub(super) fn read(fields: &Fields<'_>) -> Option<EndpointSlice> {
    let service = read_service_label(fields);
    let is_ipv6 = fields.required("addressType", |cursor| {
        cursor.one_of(&[("IPv4", false), ("IPv6", true)])
    });
    let endpoints = fields.list("endpoints", |cursor| read_endpoint(cursor, is_ipv6));
    let ports = fields.list("ports", read_port);
    Some(EndpointSlice {
        service: service?,
        is_ipv6: is_ipv6?,
        endpoints: endpoints?,
        ports: ports?,
    })
}

fn read_service_label(fields: &Fields<'_>) -> Option<Label> {
    let metadata = fields.field("metadata")?;
    let named = metadata.open_fields()?.field("labels").and_then(|labels| {
        let labels = labels.open_fields()?;
        let label = labels.field(SERVICE_LABEL)?;
        label.mark();
        label.label()
    });
    if named.is_none() {
        metadata.error(format!(
            "needs the label {SERVICE_LABEL}, which names its service"
        ));
    }
    named
}

fn read_endpoint(cursor: &Cursor<'_>, is_ipv6: Option<bool>) -> Option<SliceEndpoint> {
    let fields = cursor.fields(ENDPOINT_FIELDS)?;
    fields.leave_aside(&[
        "deprecatedTopology",
        "hints",
        "hostname",
        "nodeName",
        "targetRef",
        "zone",
    ]);
    let addresses = fields.required("addresses", |cursor| {
        cursor.list(|cursor| read_address(cursor, is_ipv6))
    });
    let ready = fields.optional("conditions", read_ready);
    Some(SliceEndpoint {
        addresses: addresses?,
        ready: ready?.unwrap_or(true),
    })
}

fn read_address(cursor: &Cursor<'_>, is_ipv6: Option<bool>) -> Option<IpAddr> {
    let address: IpAddr = cursor.parse("an IP address")?;
    if is_ipv6.is_some_and(|is_ipv6| is_ipv6 != address.is_ipv6()) {
        cursor.error("does not agree with addressType");
        return None;
    }
    if address.is_unspecified() || address.is_multicast() {
        cursor.error(format!("{address} is not the address of an endpoint"));
        return None;
    }
    Some(address)
}

/// Ready unless it says otherwise or is terminating.
fn read_ready(cursor: &Cursor<'_>) -> Option<bool> {
    let fields = cursor.fields(&["ready", "serving", "terminating"])?;
    let ready = fields.optional("ready", Cursor::boolean);
    let serving = fields.optional("serving", Cursor::boolean);
    let terminating = fields.optional("terminating", Cursor::boolean);
    serving?;
    Some(ready?.unwrap_or(true) && !terminating?.unwrap_or(false))
}

fn read_port(cursor: &Cursor<'_>) -> Option<SlicePort> {
    let fields = cursor.fields(&["name", "port", "protocol", "appProtocol"])?;
    fields.leave_aside(&["appProtocol"]);
    let name = fields.optional("name", |cursor| match cursor.text()?.as_str() {
        "" => Some(None),
        _ => cursor.label().map(Some),
    });
    let port = fields.required("port", Cursor::port);
    let protocol = read_protocol(&fields);
    Some(SlicePort {
        name: name?.flatten(),
        port: port?,
        protocol: protocol?,
    })
}

impl EndpointSlice {
    /// Whether one of the endpoints has this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| endpoint.addresses.contains(&address))
    }

    /// The fields that stand beside `metadata`: this kind has no `spec`.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let endpoints = self.endpoints.iter().map(|endpoint| {
            let addresses = endpoint.addresses.iter().map(IpAddr::to_string);
            json!({
                "addresses": addresses.collect::<Vec<_>>(),
                "conditions": {"ready": endpoint.ready},
            })
        });
        let ports = self.ports.iter().map(|port| {
            without_nulls(json!({
                "name": port.name.as_ref().map(Label::as_str),
                "port": port.port.get(),
                "protocol": port.protocol.to_string(),
            }))
        });
        json!({
            "addressType": if self.is_ipv6 { "IPv6" } else { "IPv4" },
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": ports.collect::<Vec<_>>(),
        })
    }
}
