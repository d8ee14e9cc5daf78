//! Reading what the programs count.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapType};
use selvedge_model as model;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::abi::{self, Counter};
use crate::apply::entries;
use crate::error::Error;
use crate::kernel::{self, Kernel};
use crate::object::PINNED;

/// Everything counted so far.
pub(crate) fn observe(kernel: &Kernel) -> Result<model::Observation, Error> {
    let counters = counters(kernel)?;
    let refused = [
        (model::Reason::ResolverAway, Counter::NamesHeldBack),
        (model::Reason::PrivatePort, Counter::PrivateDropped),
        (model::Reason::Multipath, Counter::MultipathRefused),
        (model::Reason::ProxyAway, Counter::GatewayRefused),
    ];
    let upstream = [
        (model::Reason::NoEndpoint, Counter::UpstreamUnserved),
        (model::Reason::ConnectionLimit, Counter::UpstreamLimited),
    ];
    let counted = |of: &[(model::Reason, Counter)]| -> BTreeMap<model::Reason, u64> {
        of.iter()
            .map(|(reason, counter)| (*reason, counters[counter]))
            .filter(|(_, count)| *count > 0)
            .collect()
    };
    Ok(model::Observation {
        age: Duration::ZERO,
        edges: edges(kernel)?,
        refused: counted(&refused),
        upstream_refused: counted(&upstream),
        listening: listening(kernel)?,
    })
}

/// The counters that belong to no edge.
pub(crate) fn counters(kernel: &Kernel) -> Result<BTreeMap<Counter, u64>, Error> {
    let map = kernel.map("counters");
    let failed = || Error::map("read", "counters");
    Counter::ALL
        .into_iter()
        .map(|counter| {
            let key = (counter as u32).to_ne_bytes();
            let parts = map.lookup_percpu(&key, MapFlags::ANY).map_err(failed())?;
            let parts = parts.unwrap_or_default();
            Ok((
                counter,
                parts
                    .iter()
                    .filter_map(|part| u64::read_from_bytes(part).ok())
                    .sum(),
            ))
        })
        .collect()
}

/// Connections that go directly though their port goes through the proxy, by service and port.
pub(crate) fn pinned(kernel: &Kernel) -> Result<Vec<model::Pinned>, Error> {
    let written = kernel.iterate(PINNED, "sockets")?;
    let mut pinned: BTreeMap<(u32, u16), (u64, u64)> = BTreeMap::new();
    for one in written.chunks_exact(size_of::<abi::Pinned>()) {
        let Ok(one) = abi::Pinned::read_from_bytes(one) else {
            continue;
        };
        let (count, oldest) = pinned.entry((one.service, one.port)).or_default();
        *count += 1;
        *oldest = one.age_ns.max(*oldest);
    }
    let pinned = pinned
        .into_iter()
        .filter_map(|((service, port), (count, oldest))| {
            Some(model::Pinned {
                service: Ipv4Addr::from_bits(service),
                port: model::Port::new(u16::from_be(port))?,
                count,
                oldest: Duration::from_nanos(oldest),
            })
        });
    Ok(pinned.collect())
}

fn edges(kernel: &Kernel) -> Result<BTreeMap<model::Edge, model::EdgeCounters>, Error> {
    let mut edges = BTreeMap::new();
    for (key, parts) in per_cpu::<abi::EdgeKey, abi::EdgeCounts>(kernel, "edges")? {
        let mut counters = model::EdgeCounters::default();
        for part in parts {
            counters.connections += part.connections;
            counters.failures += part.failures;
            counters.bypassed += part.bypassed;
            let counted = model::Reason::ALL
                .iter()
                .filter(|it| it.is_counted_by_kernel());
            for reason in counted {
                let count = part.refused[*reason as usize];
                if count > 0 {
                    *counters.refused.entry(*reason).or_default() += count;
                }
            }
        }
        edges.insert(edge(key), counters);
    }
    for (key, parts) in per_cpu::<abi::EdgeKey, abi::EdgeDetail>(kernel, "edge_details")? {
        edges.entry(edge(key)).or_default().detail = Some(detail(&parts));
    }
    Ok(edges)
}

fn edge(key: abi::EdgeKey) -> model::Edge {
    let service = |id: u32| (id != 0).then(|| Ipv4Addr::from_bits(id));
    model::Edge {
        source: service(key.source),
        destination: service(key.destination),
    }
}

fn detail(parts: &[abi::EdgeDetail]) -> model::EdgeDetail {
    let sum = |field: fn(&abi::EdgeDetail) -> u64| parts.iter().map(field).sum::<u64>();
    let mut connect_time_us = model::Histogram::new();
    for (bucket, nanoseconds) in (0..abi::HISTOGRAM_BUCKETS).map(|bucket| (bucket, 1u64 << bucket))
    {
        let count = sum_at(parts, bucket);
        // The middle of the bucket stands for all in it.
        connect_time_us.record_many((nanoseconds + nanoseconds / 2) / 1000, count);
    }
    model::EdgeDetail {
        bytes_sent: sum(|part| part.bytes_sent),
        bytes_received: sum(|part| part.bytes_received),
        open: sum(|part| part.opened).saturating_sub(sum(|part| part.closed)),
        connect_time_us,
    }
}

fn sum_at(parts: &[abi::EdgeDetail], bucket: usize) -> u64 {
    parts.iter().map(|part| part.connect_time[bucket]).sum()
}

fn listening(kernel: &Kernel) -> Result<Vec<model::Listening>, Error> {
    let listeners: BTreeMap<abi::ListenerKey, abi::Listener> = entries(kernel, "listeners")?;
    Ok(listeners
        .into_iter()
        .filter(|(_, listener)| listener.listening4 > 0 || listener.listening6 > 0)
        .filter_map(|(key, listener)| {
            Some(model::Listening {
                cgroup: model::CgroupId(key.cgroup),
                protocol: model::Protocol::from_number(key.protocol)?,
                port: model::Port::new(u16::from_be(key.port))?,
                bound: model::Port::new(u16::from_be(listener.actual))?,
            })
        })
        .collect())
}

/// How full each map is. Entries are counted by walking over their keys.
pub(crate) fn usage(kernel: &Kernel) -> Result<Vec<model::MapUsage>, Error> {
    let counters = counters(kernel)?;
    let full = |name: &str| match name {
        "edges" => counters[&Counter::EdgesFull],
        "edge_details" => counters[&Counter::DetailsFull],
        "published_listeners" => counters[&Counter::PublishedFull],
        "listeners" => counters[&Counter::ListenersFull],
        "sockets" => counters[&Counter::RecordsFailed],
        "events" => counters[&Counter::EventsLost],
        _ => 0,
    };
    let mut usage = Vec::new();
    for (name, map) in kernel.maps() {
        let Some(info) = kernel::info(map) else {
            continue;
        };
        let kind = map.map_type();
        let has_keys = kind.is_hash_map() || kind == MapType::Sockhash;
        usage.push(model::MapUsage {
            name: name.to_owned(),
            entries: has_keys.then(|| map.keys().count() as u64),
            capacity: u64::from(info.max_entries),
            bytes: kernel::memory(map),
            full: full(name),
        });
    }
    Ok(usage)
}

fn per_cpu<K, V>(kernel: &Kernel, map: &'static str) -> Result<BTreeMap<K, Vec<V>>, Error>
where
    K: Ord + FromBytes + KnownLayout + Immutable,
    V: FromBytes + KnownLayout + Immutable,
{
    let handle = kernel.map(map);
    let mut all = BTreeMap::new();
    for key in handle.keys() {
        let parts = handle
            .lookup_percpu(&key, MapFlags::ANY)
            .map_err(Error::map("read", map))?;
        let parts = parts.unwrap_or_default();
        let parts = parts
            .iter()
            .filter_map(|part| V::read_from_bytes(part).ok())
            .collect();
        if let Ok(key) = K::read_from_bytes(&key) {
            all.insert(key, parts);
        }
    }
    Ok(all)
}
