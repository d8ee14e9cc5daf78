//! Gateways, and what becomes of their ports.

use std::collections::BTreeMap;

use selvedge_model::{Gateway, GatewayListener, Port, Snapshot};

use crate::document::Kind;
use crate::wire::{GatewayListenerReport, GatewayReport, Warning};

/// The ports of the host that Gateways are to have, and of those that they have not why.
pub(super) type Held = BTreeMap<Port, Result<(), String>>;

pub(super) fn reports(snapshot: &Snapshot, held: &Held, has_proxy: bool) -> Vec<GatewayReport> {
    let report = |gateway: &Gateway| GatewayReport {
        name: gateway.name.name.to_string(),
        namespace: gateway.name.namespace.to_string(),
        listeners: gateway
            .listeners
            .iter()
            .map(|it| listener(it, held, has_proxy))
            .collect(),
    };
    snapshot.gateways.values().map(report).collect()
}

fn listener(listener: &GatewayListener, held: &Held, has_proxy: bool) -> GatewayListenerReport {
    let state = match held.get(&listener.port) {
        None => "starting",
        Some(Err(reason)) => reason,
        Some(Ok(())) if has_proxy => "serving",
        Some(Ok(())) => "proxy away",
    };
    GatewayListenerReport {
        name: listener.name.to_string(),
        port: listener.port.get(),
        hostname: listener.hostname.as_ref().map(ToString::to_string),
        state: state.to_owned(),
    }
}

/// What somebody should look at, once for each port.
pub(super) fn warnings(snapshot: &Snapshot, held: &Held) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for gateway in snapshot.gateways.values() {
        let mut ports: Vec<Port> = gateway.listeners.iter().map(|it| it.port).collect();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            let Some(Err(reason)) = held.get(&port) else {
                continue;
            };
            warnings.push(Warning {
                about: format!("{} {}", Kind::Gateway, gateway.name),
                what: format!("port {port} is not served: {reason}"),
                next: "stop what has the port, or give the listener another".to_owned(),
            });
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use selvedge_model::{GatewayName, Label};

    use super::*;

    #[test]
    fn every_listener_says_how_it_is_and_a_port_is_warned_of_once() {
        let label = |text| Label::new(text).unwrap();
        let port = |number| Port::new(number).unwrap();
        let listener = |name, number| GatewayListener {
            name: label(name),
            port: port(number),
            hostname: None,
        };
        let name = GatewayName {
            namespace: label("default"),
            name: label("edge"),
        };
        let listeners = vec![
            listener("a", 80),
            listener("b", 81),
            listener("c", 81),
            listener("d", 82),
        ];
        let gateway = Gateway {
            name: name.clone(),
            listeners,
        };
        let mut snapshot = Snapshot::empty();
        snapshot.gateways.insert(name, gateway);
        let taken = Err("taken".to_owned());
        let held = [(port(80), Ok(())), (port(81), taken)].into();
        for (has_proxy, first) in [(true, "serving"), (false, "proxy away")] {
            let reports = reports(&snapshot, &held, has_proxy);
            let states = reports[0].listeners.iter().map(|it| it.state.as_str());
            let states: Vec<_> = states.collect();
            assert_eq!(states, [first, "taken", "taken", "starting"]);
        }
        let warnings = warnings(&snapshot, &held);
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].what, "port 81 is not served: taken");
    }
}
