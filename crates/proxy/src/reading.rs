//! What the agent is told of requests: what the workers have seen, and what the gates count.

use std::collections::BTreeMap;

use selvedge_model::{
    Backend, BackendReading, EndpointTraffic, Instant, Reason, Traffic, Withheld,
};
use selvedge_resilience::{Circuit, EndpointReading, Node, OutcomeKind, Totals, UpstreamReading};

use crate::traffic::Sightings;

/// Everything at this moment.
pub(crate) fn read(sightings: &Sightings, node: Option<&Node>, now: Instant) -> Traffic {
    Traffic {
        backends: node.map(|node| backends(node, now)).unwrap_or_default(),
        ..sightings.read()
    }
}

fn backends(node: &Node, now: Instant) -> BTreeMap<Backend, BackendReading> {
    let upstreams = node.reading(now).upstreams.into_iter();
    upstreams
        .map(|upstream| (upstream.backend.clone(), backend(upstream)))
        .collect()
}

fn backend(upstream: UpstreamReading) -> BackendReading {
    let UpstreamReading {
        limit,
        totals,
        endpoints,
        ..
    } = upstream;
    let withheld = Withheld::ALL.map(|why| (why, totals.withheld(why)));
    BackendReading {
        limit,
        requests: totals.requests,
        retries: totals.retries,
        moves: totals.moves,
        repeats_succeeded: totals.repeats_succeeded,
        hedges: totals.hedges,
        hedges_won: totals.hedges_won,
        withheld: withheld
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect(),
        failed: failed(&totals),
        latency_us: totals.latency_us,
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

/// A stale connection says nothing about its endpoint, and is a move.
fn failed(totals: &Totals) -> BTreeMap<Reason, u64> {
    let kinds = [
        (OutcomeKind::ConnectFailed, Reason::ConnectFailed),
        (OutcomeKind::Cut, Reason::ResponseCut),
        (OutcomeKind::Malformed, Reason::MalformedResponse),
        (OutcomeKind::TimedOut, Reason::AttemptTimeout),
        (OutcomeKind::Cancelled, Reason::ClientGone),
    ];
    let counts = kinds.map(|(kind, reason)| (reason, totals.ended(kind)));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn endpoint(endpoint: &EndpointReading) -> EndpointTraffic {
    EndpointTraffic {
        place: endpoint.place,
        port: endpoint.port,
        in_flight: endpoint.in_flight,
        is_ejected: endpoint.circuit != Circuit::Closed,
        ejections: endpoint.ejections,
        pace: endpoint.pace,
    }
}
