//! Who answers on each port of a service.
//!
//! Every workload of the service, listening or not (the kernel knows which do), and every address
//! that Workloads and EndpointSlices outside name. The order is fixed: workloads by name, then
//! slices by name, so that unchanged configuration compiles to an unchanged snapshot.

use std::collections::BTreeSet;

use selvedge_model::{Endpoint, Place, Port, ServiceName, ServicePort, Way};

use super::policies::Policy;
use super::{ConditionReason, Findings, Instance, Set};
use crate::document::{EndpointSlice, ServiceSpecPort, TargetPort, WorkloadPlace};

/// The ports of the service `name`, which is in the set.
pub(super) fn ports(
    set: &Set<'_>,
    name: &ServiceName,
    policy: &Policy,
    findings: &mut Findings,
) -> Vec<ServicePort> {
    let (_, spec) = &set.services[name];
    let ports = spec.ports.iter().map(|port| {
        let mut endpoints = Endpoints::default();
        for instance in set.workloads.get(name).into_iter().flatten() {
            add_workload(&mut endpoints, instance, port, policy, findings);
        }
        for (_, slice) in set.slices.get(name).into_iter().flatten() {
            add_slice(&mut endpoints, slice, port, policy);
        }
        ServicePort {
            name: port.name.clone(),
            port: port.port,
            protocol: port.protocol,
            app_protocol: port.app_protocol.clone(),
            endpoints: endpoints.list,
            way: Way::Direct,
        }
    });
    let ports = ports.collect();
    note_unused_slice_ports(set, name, findings);
    ports
}

/// Endpoints in order, each place and port once.
#[derive(Default)]
struct Endpoints {
    list: Vec<Endpoint>,
    seen: BTreeSet<(Place, Port)>,
}

impl Endpoints {
    fn add(&mut self, endpoint: Endpoint) {
        if self.seen.insert((endpoint.place, endpoint.port)) {
            self.list.push(endpoint);
        }
    }
}

fn add_workload(
    endpoints: &mut Endpoints,
    instance: &Instance<'_>,
    port: &ServiceSpecPort,
    policy: &Policy,
    findings: &mut Findings,
) {
    let (place, address) = match (&instance.spec.place, instance.cgroup) {
        (WorkloadPlace::Address(address), _) => (Place::Outside(*address), Some(*address)),
        (WorkloadPlace::Cgroup(_), Some(cgroup)) => (Place::Local(cgroup), None),
        (WorkloadPlace::Cgroup(_), None) => return,
    };
    let Some(number) = target(instance, port) else {
        let message = format!("has no {} port called `{}`", port.protocol, port.target);
        let reason = ConditionReason::PortMissing;
        findings.condition(instance.document, reason, "spec.ports", message);
        return;
    };
    let weight = policy.weight_of(&instance.document.key.name, address);
    endpoints.add(Endpoint {
        place,
        port: number,
        weight,
        ready: true,
    });
}

/// The number of the workload's port that the service's port leads to.
pub(super) fn target(instance: &Instance<'_>, port: &ServiceSpecPort) -> Option<Port> {
    let name = match &port.target {
        TargetPort::Number(number) => return Some(*number),
        TargetPort::Name(name) => name,
    };
    let named = instance.spec.ports.iter().find(|candidate| {
        candidate.protocol == port.protocol && candidate.name.as_ref() == Some(name)
    });
    named.map(|candidate| candidate.port)
}

fn add_slice(
    endpoints: &mut Endpoints,
    slice: &EndpointSlice,
    port: &ServiceSpecPort,
    policy: &Policy,
) {
    let same = slice
        .ports
        .iter()
        .filter(|candidate| candidate.protocol == port.protocol && candidate.name == port.name);
    for slice_port in same {
        for endpoint in &slice.endpoints {
            for address in &endpoint.addresses {
                endpoints.add(Endpoint {
                    place: Place::Outside(*address),
                    port: slice_port.port,
                    weight: policy.weight_of_address(*address),
                    ready: endpoint.ready,
                });
            }
        }
    }
}

/// A slice's port that no port of its service has the name of leads nowhere.
fn note_unused_slice_ports(set: &Set<'_>, name: &ServiceName, findings: &mut Findings) {
    let (_, spec) = &set.services[name];
    for (document, slice) in set.slices.get(name).into_iter().flatten() {
        for (index, slice_port) in slice.ports.iter().enumerate() {
            let is_used = spec
                .ports
                .iter()
                .any(|port| port.protocol == slice_port.protocol && port.name == slice_port.name);
            if !is_used {
                let path = format!("ports[{index}]");
                let message = format!(
                    "service {name} has no {} port called `{}`",
                    slice_port.protocol,
                    slice_port.name.as_ref().map_or("", |name| name.as_str()),
                );
                findings.condition(document, ConditionReason::PortMissing, &path, message);
            }
        }
    }
}
