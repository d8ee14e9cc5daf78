//! Gateways, and what routes say of them.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use selvedge_model::{
    Gateway, GatewayListener, GatewayName, GatewayParent, Hostname, Label, RouteParent, ServiceName,
};

use super::{Defect, at_most, collect, port};
use crate::wire::{self, gateways};

impl From<&GatewayName> for wire::Name {
    fn from(name: &GatewayName) -> Self {
        Self {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
        }
    }
}

impl TryFrom<wire::Name> for GatewayName {
    type Error = Defect;

    fn try_from(wire: wire::Name) -> Result<Self, Defect> {
        let ServiceName { namespace, name } = wire.try_into()?;
        Ok(Self { namespace, name })
    }
}

impl From<&Gateway> for gateways::Gateway {
    fn from(gateway: &Gateway) -> Self {
        let listener = |listener: &GatewayListener| gateways::Listener {
            name: listener.name.to_string(),
            port: listener.port.get().into(),
            hostname: listener.hostname.as_ref().map(ToString::to_string),
        };
        Self {
            name: (&gateway.name).into(),
            listeners: gateway.listeners.iter().map(listener).collect(),
        }
    }
}

impl TryFrom<gateways::Gateway> for Gateway {
    type Error = Defect;

    fn try_from(wire: gateways::Gateway) -> Result<Self, Defect> {
        at_most("listeners", wire.listeners.len(), Self::MAX_LISTENERS)?;
        let listener = |wire: gateways::Listener| {
            Ok(GatewayListener {
                name: Label::new(&wire.name)?,
                port: port(wire.port)?,
                hostname: wire.hostname.map(hostname).transpose()?,
            })
        };
        Ok(Self {
            name: wire.name.try_into()?,
            listeners: collect(wire.listeners, listener)?,
        })
    }
}

impl From<&GatewayParent> for gateways::Parent {
    fn from(parent: &GatewayParent) -> Self {
        Self {
            gateway: (&parent.gateway).into(),
            section: parent.section.as_ref().map(ToString::to_string),
            port: parent.port.map(|port| port.get().into()),
        }
    }
}

pub(super) fn parents(wire: Vec<gateways::Parent>) -> Result<Vec<GatewayParent>, Defect> {
    at_most("gateways", wire.len(), RouteParent::MAX)?;
    collect(wire, |wire| {
        Ok(GatewayParent {
            gateway: wire.gateway.try_into()?,
            section: wire.section.as_deref().map(Label::new).transpose()?,
            port: wire.port.map(port).transpose()?,
        })
    })
}

pub(super) fn hostnames(wire: Vec<String>) -> Result<Vec<Hostname>, Defect> {
    at_most("hostnames", wire.len(), Hostname::MAX)?;
    collect(wire, hostname)
}

fn hostname(text: String) -> Result<Hostname, Defect> {
    let what = "hostname";
    Hostname::new(&text).ok_or(Defect::Text { what, text })
}
