//! Claim: the two sides keep in step by generation, and neither bad resources nor lost connections
//! displace what is good. Shown by scripts of snapshots and acknowledgements.

use std::net::Ipv4Addr;
use std::sync::Arc;

use selvedge_feed::{
    Ack, Decoder, MAX_TO_PROXY_BYTES, Progress, Publication, Settings, Subscription, ToProxy,
    Update, UpdateError,
};
use selvedge_model::{Generation, Label, Service, ServiceName, Snapshot};

fn service(name: &str, last_octet: u8) -> Service {
    Service {
        name: name.parse().unwrap(),
        address: Ipv4Addr::new(127, 96, 0, last_octet),
        ports: Vec::new(),
        published: Vec::new(),
        published_udp: Vec::new(),
        connection_limit: None,
        detailed_counters: false,
        requests: None,
    }
}

fn snapshot(generation: u64, services: &[Service]) -> Arc<Snapshot> {
    let services = services.iter().cloned().map(|s| (s.name.clone(), s));
    Arc::new(Snapshot {
        generation: Generation(generation),
        services: services.collect(),
        ..Snapshot::empty()
    })
}

fn update_in(frame: &[u8]) -> Update {
    let mut decoder = Decoder::new(MAX_TO_PROXY_BYTES);
    decoder.push(frame);
    let message = decoder.next_message().unwrap().unwrap();
    match ToProxy::decode(message).unwrap() {
        ToProxy::Update(update) => update,
        other => panic!("{other:?}"),
    }
}

/// Moves all frames that are due from one side to the other; the last acknowledgement.
pub(crate) fn deliver(
    publication: &mut Publication,
    subscription: &mut Subscription,
) -> Option<Ack> {
    let mut last = None;
    while let Some(frame) = publication.poll_transmit() {
        if let Progress::Complete(ack) = subscription.on_update(update_in(&frame)).unwrap() {
            publication.on_ack(&ack).unwrap();
            last = Some(ack);
        }
    }
    last
}

#[test]
fn the_second_update_holds_only_what_changed() {
    let mut publication = Publication::new(Settings::default());
    let mut subscription = Subscription::new();
    assert_eq!(publication.poll_transmit(), None, "nothing is published");

    let many: Vec<_> = (1..200).map(|n| service(&format!("s{n}"), n)).collect();
    publication.publish(snapshot(1, &many));
    deliver(&mut publication, &mut subscription).unwrap();
    assert_eq!(publication.acknowledged(), Some(Generation(1)));

    publication.publish(snapshot(2, &many[1..]));
    let frame = publication.poll_transmit().unwrap();
    assert!(frame.len() < 100, "{} bytes for one removal", frame.len());
    subscription.on_update(update_in(&frame)).unwrap();
    let view = &subscription.view().unwrap().snapshot;
    assert_eq!(*view, *snapshot(2, &many[1..]));
}

#[test]
fn snapshots_published_while_one_is_under_way_replace_one_another() {
    let mut publication = Publication::new(Settings::default());
    let mut subscription = Subscription::new();
    publication.publish(snapshot(1, &[]));
    let first = publication.poll_transmit().unwrap();
    for generation in 2..10 {
        publication.publish(snapshot(generation, &[service("a", 1)]));
    }
    publication.publish(snapshot(3, &[]));
    assert_eq!(publication.poll_transmit(), None, "one at a time");

    let Ok(Progress::Complete(ack)) = subscription.on_update(update_in(&first)) else {
        panic!("one part is all there is");
    };
    publication.on_ack(&ack).unwrap();
    let ack = deliver(&mut publication, &mut subscription).unwrap();
    assert_eq!(ack.generation, Generation(9), "stale 3 is not published");
}

#[test]
fn settings_alone_are_sent_too() {
    let mut publication = Publication::new(Settings::default());
    let mut subscription = Subscription::new();
    publication.publish(snapshot(1, &[]));
    deliver(&mut publication, &mut subscription).unwrap();
    let settings = Settings {
        cluster_domain: "mesh.test".to_owned(),
        ..Settings::default()
    };
    publication.set_settings(settings.clone());
    deliver(&mut publication, &mut subscription).unwrap();
    assert_eq!(subscription.view().unwrap().settings, settings);
    assert_eq!(publication.poll_transmit(), None);
}

#[test]
fn unsound_settings_displace_nothing() {
    let mut subscription = Subscription::new();
    let mut publication = Publication::new(Settings::default());
    publication.publish(snapshot(1, &[]));
    deliver(&mut publication, &mut subscription).unwrap();
    publication.set_settings(Settings {
        cluster_domain: "..".to_owned(),
        ..Settings::default()
    });
    let frame = publication.poll_transmit().unwrap();
    let error = subscription.on_update(update_in(&frame)).unwrap_err();
    assert!(matches!(error, UpdateError::Settings { .. }), "{error}");
    assert_eq!(subscription.view().unwrap().settings, Settings::default());
}

#[test]
fn a_refused_resource_keeps_its_last_good_version() {
    let mut publication = Publication::new(Settings::default());
    let mut subscription = Subscription::new();
    publication.publish(snapshot(1, &[service("a", 1), service("b", 2)]));
    deliver(&mut publication, &mut subscription).unwrap();

    // b takes a's address: who has it keeps it.
    publication.publish(snapshot(2, &[service("a", 1), service("b", 1)]));
    let ack = deliver(&mut publication, &mut subscription).unwrap();
    assert_eq!((ack.refused, ack.refusals.len()), (1, 1));
    let (resource, message) = publication.refusals().first_key_value().unwrap();
    assert_eq!(resource, "Service b.default");
    assert!(
        message.contains("127.96.0.1 belongs to a.default"),
        "{message}"
    );
    let b: ServiceName = "b".parse().unwrap();
    let kept = subscription.view().unwrap().snapshot.services[&b].address;
    assert_eq!(kept, Ipv4Addr::new(127, 96, 0, 2));

    // Its next good version ends the refusal.
    publication.publish(snapshot(3, &[service("a", 1), service("b", 3)]));
    deliver(&mut publication, &mut subscription).unwrap();
    assert!(publication.refusals().is_empty());
}

#[test]
fn two_services_may_change_addresses_in_one_update() {
    let mut publication = Publication::new(Settings::default());
    let mut subscription = Subscription::new();
    publication.publish(snapshot(1, &[service("a", 1), service("b", 2)]));
    deliver(&mut publication, &mut subscription).unwrap();
    let swapped = snapshot(2, &[service("a", 2), service("b", 1)]);
    publication.publish(swapped.clone());
    let ack = deliver(&mut publication, &mut subscription).unwrap();
    assert_eq!(ack.refused, 0);
    assert_eq!(subscription.view().unwrap().snapshot, *swapped);
}

#[test]
fn a_large_snapshot_comes_in_parts_and_takes_effect_at_once() {
    let names = (0..40_000).map(|n| format!("a-service-with-a-longer-name-{n}"));
    let services = names.enumerate().map(|(n, name)| Service {
        name: ServiceName::new(Label::default_namespace(), Label::new(&name).unwrap()),
        address: Ipv4Addr::from_bits(0x7f60_0001 + u32::try_from(n).unwrap()),
        ..service("x", 1)
    });
    let large = snapshot(1, &services.collect::<Vec<_>>());
    let mut publication = Publication::new(Settings::default());
    publication.publish(large.clone());
    let mut subscription = Subscription::new();
    let mut parts = 0;
    let ack = loop {
        let frame = publication.poll_transmit().unwrap();
        assert!(frame.len() < 2 << 20, "{} bytes", frame.len());
        parts += 1;
        match subscription.on_update(update_in(&frame)).unwrap() {
            Progress::Partial => assert!(subscription.view().is_none()),
            Progress::Complete(ack) => break ack,
        }
    };
    assert!(parts > 1, "{parts}");
    assert_eq!(ack.refused, 0);
    assert_eq!(subscription.view().unwrap().snapshot, *large);
}

#[test]
fn a_new_connection_begins_with_everything_and_the_view_lives_on_until_then() {
    let mut subscription = Subscription::new();
    let mut first = Publication::new(Settings::default());
    first.publish(snapshot(7, &[service("a", 1)]));
    deliver(&mut first, &mut subscription).unwrap();

    // The connection is lost amid an update; the agent comes back with less, and from generation 1.
    subscription.on_disconnect();
    assert!(subscription.view().is_some());
    let mut second = Publication::new(Settings::default());
    second.publish(snapshot(1, &[service("b", 2)]));
    deliver(&mut second, &mut subscription).unwrap();
    let view = &subscription.view().unwrap().snapshot;
    assert_eq!(*view, *snapshot(1, &[service("b", 2)]));
}

#[test]
fn a_change_to_what_is_not_here_is_an_error() {
    let mut publication = Publication::new(Settings::default());
    let mut first = Subscription::new();
    publication.publish(snapshot(1, &[]));
    deliver(&mut publication, &mut first).unwrap();
    publication.publish(snapshot(2, &[]));
    let delta = publication.poll_transmit().unwrap();
    let error = Subscription::new()
        .on_update(update_in(&delta))
        .unwrap_err();
    assert!(
        matches!(error, UpdateError::Base { have: None, .. }),
        "{error}"
    );
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_an_error() {
    let ack = |generation| Ack {
        generation: Generation(generation),
        ..Ack::default()
    };
    let mut publication = Publication::new(Settings::default());
    assert!(publication.on_ack(&ack(0)).is_err());
    publication.publish(snapshot(1, &[]));
    publication.poll_transmit().unwrap();
    assert!(publication.on_ack(&ack(2)).is_err());
    assert!(publication.on_ack(&ack(1)).is_ok());
    assert!(publication.on_ack(&ack(1)).is_err(), "only once");
}
