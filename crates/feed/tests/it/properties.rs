//! Claim: over any sequence of snapshots the proxy ends with what the agent has, however the bytes
//! are cut; and no bytes at all make either side panic.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use selvedge_feed::{
    Decoder, MAX_TO_AGENT_BYTES, MAX_TO_PROXY_BYTES, MetricsAnswer, MetricsPart, Progress,
    Publication, Settings, Subscription, ToAgent, ToProxy, TrafficPart, TrafficReading,
};
use selvedge_model::{
    AppProtocol, CgroupId, DnsSettings, Endpoint, Generation, Label, Place, Port, PortMode,
    Protocol, Service, ServiceName, ServicePort, Snapshot, Workload, WorkloadName,
};

use crate::routes;
use crate::traffic::traffic;

fn label() -> impl Strategy<Value = Label> {
    "[a-d]".prop_map(|text| Label::new(&text).unwrap())
}

fn service_name() -> impl Strategy<Value = ServiceName> {
    (label(), label()).prop_map(|(namespace, name)| ServiceName::new(namespace, name))
}

fn port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(|number| Port::new(number).unwrap())
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let place = prop_oneof![
        any::<u64>().prop_map(|id| Place::Local(CgroupId(id))),
        any::<IpAddr>().prop_map(Place::Outside),
    ];
    (place, port(), any::<u16>(), any::<bool>()).prop_map(|(place, port, weight, ready)| Endpoint {
        place,
        port,
        weight,
        ready,
    })
}

fn service_ports() -> impl Strategy<Value = Vec<ServicePort>> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let app = option::of("[a-z0-9/.]{0,8}".prop_map(AppProtocol));
    let rest = (port(), protocol, app, vec(endpoint(), 0..4), routes::way());
    btree_map("[a-d]", rest, 0..4).prop_map(|ports| {
        let port =
            |(name, (port, protocol, app_protocol, endpoints, way)): (String, _)| ServicePort {
                name: Some(Label::new(&name).unwrap()),
                port,
                protocol,
                app_protocol,
                endpoints,
                way,
            };
        ports.into_iter().map(port).collect()
    })
}

/// Services with addresses that are unique, but move about between snapshots.
fn services() -> impl Strategy<Value = BTreeMap<ServiceName, Service>> {
    let rest = (
        service_ports(),
        (vec((port(), port()), 0..3), vec(port(), 0..3)),
        option::of(any::<u32>()),
        any::<bool>(),
        option::of(routes::request_policy()),
    );
    (btree_map(service_name(), rest, 0..8), any::<u8>()).prop_map(|(services, first)| {
        let service =
            |(index, (name, (ports, (published, published_udp), limit, detailed, requests)))| {
                let name: ServiceName = name;
                let offset = (usize::from(first) + index) % 256;
                let address =
                    Ipv4Addr::new(127, 96, 0, 0).to_bits() + u32::try_from(offset).unwrap();
                let service = Service {
                    name: name.clone(),
                    address: Ipv4Addr::from_bits(address),
                    ports,
                    published,
                    published_udp,
                    connection_limit: limit,
                    detailed_counters: detailed,
                    requests,
                };
                (name, service)
            };
        services.into_iter().enumerate().map(service).collect()
    })
}

fn workload() -> impl Strategy<Value = Workload> {
    let nameserver = (any::<IpAddr>(), port()).prop_map(|(ip, p)| SocketAddr::new(ip, p.get()));
    let dns = (
        vec("[a-z.]{0,9}", 0..3),
        vec(nameserver, 0..3),
        any::<bool>(),
        any::<u8>(),
    );
    (service_name(), service_name(), 0..9_u64, any::<bool>(), dns).prop_map(
        |(name, service, cgroup, kept, (search, nameservers, shadow_search, ndots))| Workload {
            name: WorkloadName {
                namespace: name.namespace,
                name: name.name,
            },
            service,
            cgroup: CgroupId(cgroup),
            ports: if kept {
                PortMode::Kept
            } else {
                PortMode::Shared
            },
            dns: DnsSettings {
                search,
                ndots,
                nameservers,
                shadow_search,
            },
        },
    )
}

fn snapshots() -> impl Strategy<Value = Vec<Arc<Snapshot>>> {
    let routes = (
        routes::http_routes(),
        routes::tcp_routes(),
        routes::gateways(),
    );
    vec((services(), vec(workload(), 0..6), routes), 1..6).prop_map(|all| {
        let snapshot = |(index, (services, workloads, routes)): (usize, (_, Vec<Workload>, _))| {
            let (http_routes, tcp_routes, gateways) = routes;
            let workloads = workloads.into_iter().map(|w| (w.cgroup, w));
            Arc::new(Snapshot {
                generation: Generation(u64::try_from(index).unwrap() + 1),
                virtual_range: (Ipv4Addr::new(127, 96, 0, 0), 12),
                services,
                workloads: workloads.collect(),
                http_routes,
                tcp_routes,
                gateways,
            })
        };
        all.into_iter().enumerate().map(snapshot).collect()
    })
}

/// Feeds `stream` in chunks of the lengths given, over and over.
fn in_chunks<'a>(stream: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = stream;
    let mut chunks = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, left) = rest.split_at(rest.len().min(*length));
        chunks.push(chunk);
        rest = left;
    }
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_proxy_ends_with_what_the_agent_has(
        snapshots in snapshots(),
        lengths in vec(1_usize..50, 1..5),
    ) {
        let mut publication = Publication::new(Settings::default());
        let mut subscription = Subscription::new();
        let mut decoder = Decoder::new(MAX_TO_PROXY_BYTES);
        for snapshot in &snapshots {
            publication.publish(snapshot.clone());
            let frame = publication.poll_transmit().unwrap();
            for chunk in in_chunks(&frame, &lengths) {
                decoder.push(chunk);
                while let Some(message) = decoder.next_message().unwrap() {
                    let ToProxy::Update(update) = ToProxy::decode(message).unwrap() else {
                        panic!("only updates were sent");
                    };
                    if let Progress::Complete(ack) = subscription.on_update(update).unwrap() {
                        prop_assert_eq!(ack.refused, 0, "{:?}", ack);
                        publication.on_ack(&ack).unwrap();
                    }
                }
            }
            prop_assert_eq!(&subscription.view().unwrap().snapshot, &**snapshot);
            prop_assert_eq!(publication.acknowledged(), Some(snapshot.generation));
        }
    }

    #[test]
    fn metrics_arrive_as_they_are_among_other_messages(
        texts in vec("[ -~\\n]{1,80}".prop_map(|line| line.repeat(7_000)), 1..3),
        lengths in vec(1_usize..100_000, 1..5),
    ) {
        let mut decoder = Decoder::new(MAX_TO_PROXY_BYTES);
        let mut answer = MetricsAnswer::default();
        let mut arrived = Vec::new();
        for text in &texts {
            let parts = MetricsPart::answer(text).map(ToProxy::Metrics);
            let messages = parts.flat_map(|part| [ToProxy::Probe(1), part]);
            let stream: Vec<u8> = messages.flat_map(ToProxy::encode).collect();
            for chunk in in_chunks(&stream, &lengths) {
                decoder.push(chunk);
                while let Some(message) = decoder.next_message().unwrap() {
                    if let ToProxy::Metrics(part) = ToProxy::decode(message).unwrap() {
                        arrived.extend(answer.on_part(part).unwrap());
                    }
                }
            }
        }
        let sent: Vec<_> = texts.into_iter().map(String::into_bytes).collect();
        prop_assert!(arrived == sent);
    }

    #[test]
    fn what_was_seen_of_requests_arrives_as_it_is(
        readings in vec(traffic(), 1..3),
        lengths in vec(1_usize..5_000, 1..5),
    ) {
        let mut decoder = Decoder::new(MAX_TO_AGENT_BYTES);
        let mut reading = TrafficReading::default();
        let mut arrived = Vec::new();
        for traffic in &readings {
            let parts = TrafficPart::cut(traffic).into_iter().map(ToAgent::Traffic);
            let stream: Vec<u8> = parts.flat_map(ToAgent::encode).collect();
            for chunk in in_chunks(&stream, &lengths) {
                decoder.push(chunk);
                while let Some(message) = decoder.next_message().unwrap() {
                    let ToAgent::Traffic(part) = ToAgent::decode(message).unwrap() else {
                        panic!("nothing else was sent");
                    };
                    arrived.extend(reading.on_part(part).unwrap());
                }
            }
        }
        prop_assert_eq!(arrived, readings);
    }

    #[test]
    fn hostile_bytes_never_panic(stream in vec(any::<u8>(), 0..400), lengths in vec(1_usize..50, 1..5)) {
        let mut subscription = Subscription::new();
        let mut decoder = Decoder::new(MAX_TO_AGENT_BYTES);
        for chunk in in_chunks(&stream, &lengths) {
            decoder.push(chunk);
            while let Ok(Some(message)) = decoder.next_message() {
                swallow(&mut subscription, message);
            }
        }
        swallow(&mut subscription, &stream);
    }

    #[test]
    fn damaged_updates_never_panic(
        snapshots in snapshots(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut publication = Publication::new(Settings::default());
        publication.publish(snapshots[0].clone());
        let mut frame = publication.poll_transmit().unwrap();
        for (place, byte) in damage {
            let place = place.index(frame.len());
            frame[place] = byte;
        }
        swallow(&mut Subscription::new(), &frame[4..]);
    }
}

/// Both sides read the message; what they say does not matter.
fn swallow(subscription: &mut Subscription, message: &[u8]) {
    match ToProxy::decode(message) {
        Ok(ToProxy::Update(update)) => drop(subscription.on_update(update)),
        Ok(ToProxy::Metrics(part)) => drop(MetricsAnswer::default().on_part(part)),
        Ok(_) | Err(_) => {}
    }
    if let Ok(message) = ToAgent::decode(message) {
        // What was taken is sound: it can be said again, and is the same.
        let frame = message.clone().encode();
        assert_eq!(ToAgent::decode(&frame[4..]), Ok(message));
    }
}
