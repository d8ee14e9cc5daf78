//! `gateway.networking.k8s.io/v1/Gateway`: ports of the host at which HTTPRoutes serve callers outside
//! the mesh.
//!
//! Of Gateway API that which one node does without encryption: listeners of protocol HTTP, on every
//! address, for routes of the Gateway's own namespace. The class is `selvedge`, and needs no object.

use std::collections::BTreeSet;

use selvedge_model::{Gateway, GatewayListener, Hostname};
use serde_json::{Value, json};

use super::cursor::Cursor;
use super::fields::Fields;
use super::without_nulls;

/// The only class there is.
const CLASS: &str = "selvedge";

/// What a Gateway says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySpec {
    /// Where it takes connections.
    pub listeners: Vec<GatewayListener>,
}

pub(super) fn read(cursor: &Cursor<'_>) -> Option<GatewaySpec> {
    let fields = cursor.fields(&[
        "gatewayClassName",
        "listeners",
        "addresses",
        "allowedListeners",
        "backendTLS",
        "defaultScope",
        "infrastructure",
        "tls",
    ])?;
    fields.refuse(&[
        (
            "addresses",
            "a Gateway listens on every address of the host",
        ),
        ("allowedListeners", "every listener stands in its Gateway"),
        ("backendTLS", "connections to workloads are not encrypted"),
        ("defaultScope", "a route names its Gateways in parentRefs"),
        (
            "infrastructure",
            "the node itself serves; nothing is made for a Gateway",
        ),
        ("tls", "only plain HTTP is served"),
    ]);
    let class = fields.required("gatewayClassName", |cursor| {
        let class = cursor.text()?;
        if class != CLASS {
            cursor.error(format!(
                "expected {CLASS:?}, which needs no GatewayClass object, found {class:?}"
            ));
            return None;
        }
        Some(())
    });
    let listeners = fields.required("listeners", |cursor| {
        let listeners = cursor.list(read_listener)?;
        check_listeners(cursor, &listeners)?;
        Some(listeners)
    });
    class?;
    Some(GatewaySpec {
        listeners: listeners?,
    })
}

fn check_listeners(cursor: &Cursor<'_>, listeners: &[GatewayListener]) -> Option<()> {
    let (found, most) = (listeners.len(), Gateway::MAX_LISTENERS);
    if found == 0 || found > most {
        cursor.error(format!("needs 1 to {most} listeners, found {found}"));
        return None;
    }
    let mut names = BTreeSet::new();
    let mut hosts = BTreeSet::new();
    for GatewayListener {
        name,
        port,
        hostname,
    } in listeners
    {
        if !names.insert(name) {
            cursor.error(format!("two listeners are named {name}"));
            return None;
        }
        if !hosts.insert((port, hostname)) {
            cursor.error(format!(
                "listener {name} has port and hostname of another: tell them apart by hostname"
            ));
            return None;
        }
    }
    Some(())
}

fn read_listener(cursor: &Cursor<'_>) -> Option<GatewayListener> {
    cursor.mark();
    let fields = cursor.fields(&[
        "name",
        "port",
        "protocol",
        "hostname",
        "allowedRoutes",
        "tls",
    ])?;
    fields.refuse(&[("tls", "only plain HTTP is served")]);
    let name = fields.required("name", Cursor::label);
    let port = fields.required("port", Cursor::port);
    let protocol = fields.required("protocol", |cursor| cursor.one_of(&[("HTTP", ())]));
    let hostname = fields.optional("hostname", read_hostname);
    let routes = fields.optional("allowedRoutes", read_allowed_routes);
    protocol?;
    routes?;
    Some(GatewayListener {
        name: name?,
        port: port?,
        hostname: hostname?,
    })
}

/// What may be said is what holds anyway.
fn read_allowed_routes(cursor: &Cursor<'_>) -> Option<()> {
    let fields = cursor.fields(&["namespaces", "kinds"])?;
    let namespaces = fields.optional("namespaces", |cursor| {
        let fields = cursor.fields(&["from"])?;
        fields.optional("from", |cursor| cursor.one_of(&[("Same", ())]))
    });
    let kinds = fields.list("kinds", |cursor| {
        let fields = cursor.fields(&["group", "kind"])?;
        let group = [("gateway.networking.k8s.io", ())];
        let group = fields.optional("group", |cursor| cursor.one_of(&group));
        fields.required("kind", |cursor| cursor.one_of(&[("HTTPRoute", ())]))?;
        group.map(|_| ())
    });
    namespaces?;
    kinds.map(|_| ())
}

/// Reads `hostnames` of a route.
pub(super) fn read_hostnames(fields: &Fields<'_>) -> Option<Vec<Hostname>> {
    let hostnames = fields.optional("hostnames", |cursor| {
        let hostnames = cursor.list(read_hostname)?;
        let (found, most) = (hostnames.len(), Hostname::MAX);
        if found > most {
            cursor.error(format!("takes at most {most} hostnames, found {found}"));
            return None;
        }
        Some(hostnames)
    });
    hostnames.map(Option::unwrap_or_default)
}

fn read_hostname(cursor: &Cursor<'_>) -> Option<Hostname> {
    let text = cursor.text()?;
    let hostname = Hostname::new(&text);
    if hostname.is_none() {
        cursor.error(format!(
            "expected the name of a host in lower case, as `shop.example.com` or `*.example.com`, \
             without port, found {text:?}"
        ));
    }
    hostname
}

impl GatewaySpec {
    pub(super) fn to_json(&self) -> Value {
        let listener = |listener: &GatewayListener| {
            without_nulls(json!({
                "name": listener.name.as_str(),
                "port": listener.port.get(),
                "protocol": "HTTP",
                "hostname": listener.hostname.as_ref().map(ToString::to_string),
            }))
        };
        json!({
            "gatewayClassName": CLASS,
            "listeners": self.listeners.iter().map(listener).collect::<Vec<_>>(),
        })
    }
}
