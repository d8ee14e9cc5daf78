//! Gateways, and which of their listeners routes are attached to.

use std::collections::BTreeMap;

use selvedge_model::{
    Gateway, GatewayListener, GatewayName, GatewayParent, Hostname, Label, Port, Protocol,
};

use super::{ConditionReason, Findings, Set, publications};
use crate::document::{Document, GatewaySpec};

pub(super) fn gateway_name(document: &Document) -> Option<GatewayName> {
    let namespace = document.key.namespace_or_default();
    let name = Label::new(&document.key.name).ok()?;
    Some(GatewayName { namespace, name })
}

/// The Gateways of the set.
pub(super) fn read(set: &Set<'_>, findings: &mut Findings) -> BTreeMap<GatewayName, Gateway> {
    refuse_shared_ports(set, findings);
    let gateways = set.gateways.iter();
    let gateways = gateways.map(|(name, (_, spec))| {
        let gateway = Gateway {
            name: name.clone(),
            listeners: spec.listeners.clone(),
        };
        (name.clone(), gateway)
    });
    gateways.collect()
}

/// One port of the host is one Gateway's, or leads to one service: what is asked for is compared.
fn refuse_shared_ports(set: &Set<'_>, findings: &mut Findings) {
    let mut owners: BTreeMap<Port, &Document> = BTreeMap::new();
    for instance in set.workloads.values().flatten() {
        for (_, publish) in publications(instance, Protocol::Tcp) {
            owners.entry(publish.port).or_insert(instance.document);
        }
    }
    for (document, GatewaySpec { listeners }) in set.gateways.values() {
        for (place, listener) in listeners.iter().enumerate() {
            let owner = *owners.entry(listener.port).or_insert(document);
            if owner.key == document.key {
                continue;
            }
            let message = format!(
                "TCP port {} of the host is that of {} ({}): choose another, or change that",
                listener.port, owner.key, owner.origin
            );
            findings.error(document, &format!("spec.listeners[{place}]"), message);
        }
    }
}

/// Says why a route gets nothing from a Gateway that it names; true where it gets something.
pub(super) fn is_accepted(
    set: &Set<'_>,
    document: &Document,
    path: &str,
    parent: &GatewayParent,
    hostnames: &[Hostname],
    findings: &mut Findings,
) -> bool {
    let why = refusal(set, document, parent, hostnames);
    if let Some(message) = &why {
        findings.condition(document, ConditionReason::NotAttached, path, message);
    }
    why.is_none()
}

fn refusal(
    set: &Set<'_>,
    document: &Document,
    parent: &GatewayParent,
    hostnames: &[Hostname],
) -> Option<String> {
    let gateway = &parent.gateway;
    let Some((_, spec)) = set.gateways.get(gateway) else {
        return Some(format!("there is no Gateway {gateway}"));
    };
    let own = document.key.namespace_or_default();
    if gateway.namespace != own {
        return Some(format!(
            "Gateway {gateway} takes routes of its own namespace, and this one is in {own}"
        ));
    }
    let mut meant = spec.listeners.iter().filter(|it| parent.is_about(it));
    let Some(first) = meant.next() else {
        return Some(format!("Gateway {gateway} has no such listener"));
    };
    let has_host = |listener: &GatewayListener| match &listener.hostname {
        Some(own) if !hostnames.is_empty() => hostnames.iter().any(|host| own.meets(host)),
        _ => true,
    };
    if has_host(first) || meant.any(has_host) {
        return None;
    }
    Some(format!(
        "none of its hostnames is one of the listeners of Gateway {gateway}"
    ))
}
