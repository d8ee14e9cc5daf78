//! Gateways: ports of the host at which callers outside the mesh are served as HTTPRoutes say.

use alloc::vec::Vec;
use core::fmt;

use crate::{Hostname, Label, Port};

/// The full name of a Gateway. Text form: `edge.default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayName {
    /// Its namespace.
    pub namespace: Label,
    /// Its own name.
    pub name: Label,
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// A Gateway (Gateway API, `gateway.networking.k8s.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub name: GatewayName,
    /// Where it takes connections, in their order.
    pub listeners: Vec<GatewayListener>,
}

impl Gateway {
    /// Most listeners of one, as Gateway API has it.
    pub const MAX_LISTENERS: usize = 64;
}

/// Requests over HTTP/1.1 at one port, to some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayListener {
    /// Its name, unique in its Gateway.
    pub name: Label,
    /// The port of the host, on every address. Listeners of one Gateway may share it.
    pub port: Port,
    /// The hosts it is about; `None` is all that no other listener of the port is about.
    pub hostname: Option<Hostname>,
}

/// What a HTTPRoute is about, beside services: what comes in at a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayParent {
    /// The Gateway.
    pub gateway: GatewayName,
    /// Only its listener of this name.
    pub section: Option<Label>,
    /// Only its listeners at this port.
    pub port: Option<Port>,
}

impl GatewayParent {
    /// Whether it means this listener of its Gateway.
    pub fn is_about(&self, listener: &GatewayListener) -> bool {
        let is_section = |name: &Label| *name == listener.name;
        self.section.as_ref().is_none_or(is_section)
            && self.port.is_none_or(|port| port == listener.port)
    }
}
