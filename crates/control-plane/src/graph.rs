//! Who calls whom: the kernel's counters under the names of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use selvedge_model::{EdgeCounters, EdgeDetail, Observation, Snapshot, Traffic};

use crate::traffic::requests_by_edge;
use crate::wire::{EdgeDetailReport, EdgeReport, GraphReport};

/// How callers outside the mesh are called.
pub(crate) const OUTSIDE: &str = "outside";

/// How virtual addresses are called that are no service's.
pub(crate) const UNASSIGNED: &str = "unassigned";

/// The graph of what was seen. Services without an edge are part of it: that nobody calls them is
/// worth seeing.
pub(crate) fn report(
    snapshot: &Snapshot,
    observation: &Observation,
    traffic: &Traffic,
) -> GraphReport {
    let names = Names::new(snapshot);
    let mut nodes: BTreeSet<_> = snapshot.services.keys().map(ToString::to_string).collect();
    let edges = observation.edges.iter().map(|(edge, counters)| {
        let source = names.of_source(edge.source);
        let destination = names.of_destination(edge.destination);
        edge_report(source, destination, counters)
    });
    let mut edges: Vec<EdgeReport> = edges.collect();
    for ((source, destination), requests) in requests_by_edge(traffic) {
        let is_it =
            |edge: &&mut EdgeReport| edge.source == source && edge.destination == destination;
        match edges.iter_mut().find(is_it) {
            Some(edge) => edge.requests = Some(requests),
            None => edges.push(EdgeReport {
                source,
                destination,
                requests: Some(requests),
                ..EdgeReport::default()
            }),
        }
    }
    for edge in &edges {
        nodes.extend([edge.source.clone(), edge.destination.clone()]);
    }
    GraphReport {
        age: observation.age.as_secs_f64(),
        nodes: nodes.into_iter().collect(),
        edges,
    }
}

fn edge_report(source: String, destination: String, counters: &EdgeCounters) -> EdgeReport {
    let refused = counters.refused.iter();
    EdgeReport {
        source,
        destination,
        connections: counters.connections,
        failures: counters.failures,
        bypassed: counters.bypassed,
        refused: refused
            .map(|(reason, count)| (reason.to_string(), *count))
            .collect(),
        requests: None,
        detail: counters.detail.as_ref().map(detail_report),
    }
}

fn detail_report(detail: &EdgeDetail) -> EdgeDetailReport {
    EdgeDetailReport {
        open: detail.open,
        bytes_sent: detail.bytes_sent,
        bytes_received: detail.bytes_received,
        connect_p50_us: detail.connect_time_us.quantile(1, 2),
        connect_p99_us: detail.connect_time_us.quantile(99, 100),
    }
}

/// Names of services by virtual address.
pub(crate) struct Names(BTreeMap<Ipv4Addr, String>);

impl Names {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let services = snapshot.services.values();
        Self(
            services
                .map(|service| (service.address, service.name.to_string()))
                .collect(),
        )
    }

    /// The name; for a service that is deleted, the address it had.
    pub(crate) fn of(&self, address: Ipv4Addr) -> String {
        self.0
            .get(&address)
            .cloned()
            .unwrap_or_else(|| address.to_string())
    }

    pub(crate) fn of_source(&self, address: Option<Ipv4Addr>) -> String {
        address.map_or_else(|| OUTSIDE.to_owned(), |address| self.of(address))
    }

    pub(crate) fn of_destination(&self, address: Option<Ipv4Addr>) -> String {
        address.map_or_else(|| UNASSIGNED.to_owned(), |address| self.of(address))
    }
}
