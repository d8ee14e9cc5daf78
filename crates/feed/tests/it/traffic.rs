//! Readings of requests as property tests draw them.

use std::net::IpAddr;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvedge_model::{
    Backend, BackendReading, CgroupId, EndpointPace, EndpointTraffic, Histogram, Place, Port,
    Reason, ServiceName, Traffic, TrafficEdge, TrafficEnd, TrafficPath, TrafficRoute, TrafficUnit,
    Withheld,
};

fn service() -> impl Strategy<Value = ServiceName> {
    "[a-d]".prop_map(|name| name.parse().unwrap())
}

fn port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(|number| Port::new(number).unwrap())
}

fn backend() -> impl Strategy<Value = Backend> {
    (service(), port()).prop_map(|(service, port)| Backend { service, port })
}

fn edge() -> impl Strategy<Value = TrafficEdge> {
    (option::of(service()), option::of(service())).prop_map(|(source, destination)| TrafficEdge {
        source,
        destination,
    })
}

fn reason() -> impl Strategy<Value = Reason> {
    select(Reason::ALL)
}

fn path() -> impl Strategy<Value = TrafficPath> {
    let unit = select(&[TrafficUnit::Request, TrafficUnit::Connection]);
    let route = option::of("[ -~]{0,40}");
    (edge(), unit, route, option::of(backend())).prop_map(|(edge, unit, route, backend)| {
        TrafficPath {
            edge,
            unit,
            route,
            backend,
        }
    })
}

fn end() -> impl Strategy<Value = TrafficEnd> {
    (0..=5_u8, option::of(reason())).prop_map(|(class, reason)| TrafficEnd { class, reason })
}

fn histogram() -> impl Strategy<Value = Histogram> {
    vec(0..1_u64 << 40, 0..9).prop_map(|values| {
        let mut histogram = Histogram::new();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    })
}

fn endpoint() -> impl Strategy<Value = EndpointTraffic> {
    let place = prop_oneof![
        any::<u64>().prop_map(|id| Place::Local(CgroupId(id))),
        any::<IpAddr>().prop_map(Place::Outside),
    ];
    let pace = (any::<u32>(), 0..=1000_u16).prop_map(|(mean_us, good_per_mille)| EndpointPace {
        mean_us,
        good_per_mille,
    });
    let counts = (any::<u32>(), any::<bool>(), any::<u64>());
    (place, port(), counts, option::of(pace)).prop_map(|(place, port, counts, pace)| {
        let (in_flight, is_ejected, ejections) = counts;
        EndpointTraffic {
            place,
            port,
            in_flight,
            is_ejected,
            ejections,
            pace,
        }
    })
}

fn reading() -> impl Strategy<Value = BackendReading> {
    let counts = any::<(Option<u32>, u64, u64, u64, u64, u64, u64)>();
    let withheld = btree_map(select(&Withheld::ALL), 1..=u64::MAX, 0..4);
    let failed = btree_map(reason(), any::<u64>(), 0..4);
    (counts, withheld, failed, histogram(), vec(endpoint(), 0..4)).prop_map(
        |(counts, withheld, failed, latency_us, endpoints)| {
            let (limit, requests, retries, moves, repeats_succeeded, hedges, hedges_won) = counts;
            BackendReading {
                limit,
                requests,
                retries,
                moves,
                repeats_succeeded,
                hedges,
                hedges_won,
                withheld,
                failed,
                latency_us,
                endpoints,
            }
        },
    )
}

fn led() -> impl Strategy<Value = TrafficRoute> {
    (edge(), option::of("[a-z/]{1,9}")).prop_map(|(edge, route)| TrafficRoute { edge, route })
}

pub(crate) fn traffic() -> impl Strategy<Value = Traffic> {
    (
        btree_map(path(), btree_map(end(), any::<u64>(), 0..4), 0..8),
        btree_map(led(), histogram(), 0..4),
        btree_map(backend(), reading(), 0..4),
    )
        .prop_map(|(paths, latency_us, backends)| Traffic {
            paths,
            latency_us,
            backends,
        })
}
