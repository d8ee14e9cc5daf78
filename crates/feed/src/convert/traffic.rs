//! What was seen of requests, to its wire twin and back.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use selvedge_model::{
    Backend, BackendReading, EndpointPace, EndpointTraffic, Histogram, Reason, Traffic,
    TrafficEdge, TrafficEnd, TrafficPath, TrafficRoute, TrafficUnit, Withheld,
};

use super::{Defect, at_most, collect, place_in, place_out, port};
use crate::wire::traffic as twin;

impl From<&TrafficEdge> for twin::TrafficEdge {
    fn from(edge: &TrafficEdge) -> Self {
        Self {
            source: edge.source.as_ref().map(Into::into),
            destination: edge.destination.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<twin::TrafficEdge> for TrafficEdge {
    type Error = Defect;

    fn try_from(wire: twin::TrafficEdge) -> Result<Self, Defect> {
        Ok(Self {
            source: wire.source.map(TryInto::try_into).transpose()?,
            destination: wire.destination.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&Backend> for twin::Backend {
    fn from(backend: &Backend) -> Self {
        Self {
            service: (&backend.service).into(),
            port: backend.port.get().into(),
        }
    }
}

impl TryFrom<twin::Backend> for Backend {
    type Error = Defect;

    fn try_from(wire: twin::Backend) -> Result<Self, Defect> {
        Ok(Self {
            service: wire.service.try_into()?,
            port: port(wire.port)?,
        })
    }
}

fn end((end, count): (&TrafficEnd, &u64)) -> twin::TrafficEnd {
    twin::TrafficEnd {
        class: end.class.into(),
        reason: end.reason.map_or(0, |reason| reason as u32),
        count: *count,
    }
}

/// Reasons this side does not know are those of another version: `None`, as if there were none.
fn reason(number: u32) -> Option<Reason> {
    u8::try_from(number).ok().and_then(Reason::from_number)
}

pub(crate) fn path_out(path: &TrafficPath, ends: &BTreeMap<TrafficEnd, u64>) -> twin::TrafficPath {
    let route = path.route.as_deref();
    twin::TrafficPath {
        edge: (&path.edge).into(),
        connections: path.unit == TrafficUnit::Connection,
        route: route.map(cut),
        backend: path.backend.as_ref().map(Into::into),
        ends: ends.iter().map(end).collect(),
    }
}

pub(super) fn cut(name: &str) -> String {
    let longest = name.len().min(TrafficPath::MAX_ROUTE_BYTES);
    let end = (0..=longest).rev().find(|at| name.is_char_boundary(*at));
    name[..end.unwrap_or(0)].into()
}

pub(crate) fn path_in(
    wire: twin::TrafficPath,
) -> Result<(TrafficPath, BTreeMap<TrafficEnd, u64>), Defect> {
    at_most("ends", wire.ends.len(), TrafficEnd::CLASSES * 256)?;
    let mut ends = BTreeMap::new();
    for end in wire.ends {
        let class = u8::try_from(end.class).ok();
        let class = class.filter(|class| usize::from(*class) < TrafficEnd::CLASSES);
        let class = class.ok_or(Defect::Range {
            what: "a class",
            value: end.class,
        })?;
        let reason = reason(end.reason);
        let count: &mut u64 = ends.entry(TrafficEnd { class, reason }).or_default();
        *count = count.saturating_add(end.count);
    }
    let unit = match wire.connections {
        true => TrafficUnit::Connection,
        false => TrafficUnit::Request,
    };
    let path = TrafficPath {
        edge: wire.edge.try_into()?,
        unit,
        route: wire.route.map(route).transpose()?,
        backend: wire.backend.map(TryInto::try_into).transpose()?,
    };
    Ok((path, ends))
}

pub(super) fn route(name: String) -> Result<String, Defect> {
    let is_sound =
        name.len() <= TrafficPath::MAX_ROUTE_BYTES && !name.chars().any(char::is_control);
    match is_sound {
        true => Ok(name),
        false => Err(Defect::Missing("a name of a route that can be shown")),
    }
}

impl From<&Histogram> for twin::Histogram {
    fn from(histogram: &Histogram) -> Self {
        let mut buckets = histogram
            .buckets()
            .map(|(values, count)| (Histogram::index(*values.start()), count))
            .peekable();
        let first = buckets.peek().map_or(0, |(index, _)| *index);
        let mut counts = Vec::new();
        for (index, count) in buckets {
            counts.resize(index - first, 0);
            counts.push(count);
        }
        Self {
            first: u32::try_from(first).unwrap_or_default(),
            counts,
            sum: histogram.sum(),
        }
    }
}

impl TryFrom<twin::Histogram> for Histogram {
    type Error = Defect;

    fn try_from(wire: twin::Histogram) -> Result<Self, Defect> {
        let first = usize::try_from(wire.first).unwrap_or(usize::MAX);
        let length = first.saturating_add(wire.counts.len());
        at_most("buckets", length, Self::BUCKETS)?;
        let mut counts = alloc::vec![0; first];
        counts.extend(wire.counts);
        Ok(Self::from_counts(&counts, wire.sum))
    }
}

pub(crate) fn latency_out((led, latency): (&TrafficRoute, &Histogram)) -> twin::RouteLatency {
    twin::RouteLatency {
        edge: (&led.edge).into(),
        latency_us: latency.into(),
        route: led.route.clone(),
    }
}

pub(crate) fn latency_in(wire: twin::RouteLatency) -> Result<(TrafficRoute, Histogram), Defect> {
    let led = TrafficRoute {
        edge: wire.edge.try_into()?,
        route: wire.route.map(route).transpose()?,
    };
    Ok((led, wire.latency_us.try_into()?))
}

pub(crate) fn backend_out(backend: &Backend, reading: &BackendReading) -> twin::BackendReading {
    let failed =
        |(reason, count): (&Reason, &u64)| end((&TrafficEnd::new(0, Some(*reason)), count));
    let withheld = |why| reading.withheld.get(&why).copied().unwrap_or(0);
    twin::BackendReading {
        backend: backend.into(),
        limit: reading.limit,
        requests: reading.requests,
        retries: reading.retries,
        moves: reading.moves,
        repeats_succeeded: reading.repeats_succeeded,
        hedges: reading.hedges,
        hedges_won: reading.hedges_won,
        withheld: Withheld::ALL.map(withheld).to_vec(),
        failed: reading.failed.iter().map(failed).collect(),
        latency_us: (&reading.latency_us).into(),
        endpoints: reading
            .endpoints
            .iter()
            .take(Traffic::MAX_ENDPOINTS)
            .map(Into::into)
            .collect(),
    }
}

pub(crate) fn backend_in(wire: twin::BackendReading) -> Result<(Backend, BackendReading), Defect> {
    at_most("reasons", wire.failed.len(), 256)?;
    at_most("endpoints", wire.endpoints.len(), Traffic::MAX_ENDPOINTS)?;
    let withheld = Withheld::ALL.into_iter().zip(wire.withheld);
    let failed = wire.failed.iter();
    let reading = BackendReading {
        limit: wire.limit,
        requests: wire.requests,
        retries: wire.retries,
        moves: wire.moves,
        repeats_succeeded: wire.repeats_succeeded,
        hedges: wire.hedges,
        hedges_won: wire.hedges_won,
        withheld: withheld.filter(|(_, count)| *count > 0).collect(),
        failed: failed
            .filter_map(|end| Some((reason(end.reason)?, end.count)))
            .collect(),
        latency_us: wire.latency_us.try_into()?,
        endpoints: collect(wire.endpoints, EndpointTraffic::try_from)?,
    };
    Ok((wire.backend.try_into()?, reading))
}

impl From<&EndpointTraffic> for twin::EndpointTraffic {
    fn from(endpoint: &EndpointTraffic) -> Self {
        Self {
            place: Some(place_out(endpoint.place)),
            port: endpoint.port.get().into(),
            in_flight: endpoint.in_flight,
            ejected: endpoint.is_ejected,
            ejections: endpoint.ejections,
            pace: endpoint.pace.map(|pace| twin::EndpointPace {
                mean_us: pace.mean_us,
                good_per_mille: pace.good_per_mille.into(),
            }),
        }
    }
}

impl TryFrom<twin::EndpointTraffic> for EndpointTraffic {
    type Error = Defect;

    fn try_from(wire: twin::EndpointTraffic) -> Result<Self, Defect> {
        Ok(Self {
            place: place_in(wire.place)?,
            port: port(wire.port)?,
            in_flight: wire.in_flight,
            is_ejected: wire.ejected,
            ejections: wire.ejections,
            pace: wire.pace.map(|pace| EndpointPace {
                mean_us: pace.mean_us,
                good_per_mille: pace.good_per_mille.min(1000) as u16,
            }),
        })
    }
}
