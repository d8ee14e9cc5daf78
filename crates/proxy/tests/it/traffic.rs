//! Claim: whatever became of a request is counted once, for whom it was, with the reason that its client
//! was told.

use std::time::Duration;

use selvedge_model::{
    Backoff, EndpointTraffic, Reason, RequestPolicy, RetryBudget, RetryPolicy, Timeouts, Traffic,
    TrafficEnd, TrafficRoute, TrafficUnit, Withheld,
};

use crate::cart::Cart;
use crate::origin::{Origin, ok};
use crate::path::Path;

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";

/// How many ended so, over all paths of a unit.
fn count(traffic: &Traffic, unit: TrafficUnit, status: u16, reason: Option<Reason>) -> u64 {
    let paths = traffic.paths.iter().filter(|(path, _)| path.unit == unit);
    let counts = paths.filter_map(|(_, ends)| ends.get(&TrafficEnd::new(status, reason)));
    counts.sum()
}

pub(crate) fn total(traffic: &Traffic) -> u64 {
    traffic.paths.values().flat_map(|ends| ends.values()).sum()
}

pub(crate) fn start(endpoints: &[&Origin], policy: RequestPolicy) -> Path {
    Path::start(Cart {
        endpoints: endpoints.iter().map(|origin| origin.address).collect(),
        policy,
        spoken: Some("http"),
        ..Cart::default()
    })
}

#[test]
fn requests_are_counted_by_path_and_end() {
    let origin = Origin::answering(|request| match request.starts_with("GET /lost") {
        true => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        false => ok("hello"),
    });
    let mut path = Path::to(&[origin.address]);
    let mut client = path.connect();
    for _ in 0..5 {
        client.send(GET);
        assert_eq!(client.response().status, 200);
    }
    client.send("GET /lost HTTP/1.1\r\nHost: cart\r\n\r\n");
    assert_eq!(client.response().status, 404);
    assert_eq!(
        path.get("GET / HTTP/1.1\r\n\r\n").reason(),
        "malformed_request"
    );
    let traffic = path.mesh.feed.traffic(|traffic| total(traffic) >= 7);
    let ends = [
        (200, None, 5),
        (404, None, 1),
        (400, Some(Reason::MalformedRequest), 1),
    ];
    for (status, reason, want) in ends {
        let found = count(&traffic, TrafficUnit::Request, status, reason);
        assert_eq!(found, want, "{status}: {traffic:#?}");
    }
    assert_eq!(total(&traffic), 7);
    let led = traffic
        .paths
        .keys()
        .find(|path| path.route.is_some())
        .unwrap();
    assert_eq!(led.route.as_deref(), Some("Service/default/cart/80"));
    assert_eq!(
        led.edge.destination.as_ref().unwrap().to_string(),
        "cart.default"
    );
    assert_eq!(led.backend.as_ref().unwrap().port.get(), 80);
    let timed = TrafficRoute {
        edge: led.edge.clone(),
        route: led.route.clone(),
    };
    assert_eq!(traffic.latency_us[&timed].count(), 6);
    let (_, backend) = traffic.backends.first_key_value().unwrap();
    assert_eq!((backend.requests, backend.latency_us.count()), (6, 6));
    let [
        EndpointTraffic {
            in_flight: 0,
            is_ejected: false,
            ..
        },
    ] = backend.endpoints[..]
    else {
        panic!("{:?}", backend.endpoints);
    };
}

#[test]
fn counts_go_on_over_configurations() {
    let origin = Origin::answering(|_| ok(""));
    let mut path = Path::to(&[origin.address]);
    let mut client = path.connect();
    for generation in 2..5 {
        client.send(GET);
        assert_eq!(client.response().status, 200);
        let cart = Cart {
            endpoints: vec![origin.address],
            spoken: Some("http"),
            ..Cart::default()
        };
        path.mesh
            .feed
            .publish(crate::cart::snapshot(generation, cart));
    }
    let traffic = path.mesh.feed.traffic(|traffic| total(traffic) >= 3);
    assert_eq!(traffic.paths.len(), 1, "{traffic:#?}");
    assert_eq!(count(&traffic, TrafficUnit::Request, 200, None), 3);
}

#[test]
fn every_failure_is_counted_with_its_reason() {
    let silent = Origin::start(|connection| drop(connection.everything()));
    let cut = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    });
    let quick = RequestPolicy {
        timeouts: Timeouts {
            request: Some(Duration::from_millis(50)),
            attempt: None,
        },
        ..RequestPolicy::default()
    };
    let mut late = start(&[&silent], quick);
    assert_eq!(late.get(GET).reason(), "request_timeout");
    let traffic = late.mesh.feed.traffic(|traffic| total(traffic) >= 1);
    let reason = Some(Reason::RequestTimeout);
    assert_eq!(
        count(&traffic, TrafficUnit::Request, 504, reason),
        1,
        "{traffic:#?}"
    );

    let mut broken = start(&[&cut], RequestPolicy::default());
    let mut client = broken.connect();
    client.send(GET);
    client.until_reset();
    let traffic = broken.mesh.feed.traffic(|traffic| total(traffic) >= 1);
    let reason = Some(Reason::ResponseCut);
    assert_eq!(
        count(&traffic, TrafficUnit::Request, 200, reason),
        1,
        "{traffic:#?}"
    );
    assert!(
        traffic.latency_us.is_empty(),
        "half a response took no time"
    );

    let mut left = start(&[&silent], RequestPolicy::default());
    let mut client = left.connect();
    client.send(GET);
    // So that it is on its way when its client goes.
    left.mesh.feed.traffic(|traffic| {
        let endpoints = traffic.backends.values().flat_map(|it| &it.endpoints);
        endpoints.map(|it| it.in_flight).sum::<u32>() == 1
    });
    drop(client);
    let traffic = left.mesh.feed.traffic(|traffic| total(traffic) >= 1);
    let reason = Some(Reason::ClientGone);
    assert_eq!(
        count(&traffic, TrafficUnit::Request, 0, reason),
        1,
        "{traffic:#?}"
    );
}

#[test]
fn a_retry_that_the_budget_withholds_says_so() {
    let origin = Origin::answering(|_| {
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned()
    });
    let policy = RequestPolicy {
        retry: Some(RetryPolicy {
            attempts: 3,
            statuses: vec![503],
            backoff: Backoff::of_base(Duration::from_millis(1)),
            non_idempotent: false,
        }),
        retry_budget: Some(RetryBudget {
            percent: 0,
            per_second: 0,
        }),
        ..RequestPolicy::default()
    };
    let mut path = start(&[&origin], policy);
    for _ in 0..3 {
        assert_eq!(path.get(GET).status, 503);
    }
    let traffic = path.mesh.feed.traffic(|traffic| total(traffic) >= 3);
    let reason = Some(Reason::RetryBudget);
    assert_eq!(
        count(&traffic, TrafficUnit::Request, 503, reason),
        3,
        "{traffic:#?}"
    );
    let (_, backend) = traffic.backends.first_key_value().unwrap();
    assert_eq!(backend.withheld, [(Withheld::BudgetSpent, 3)].into());
    assert_eq!(backend.retries, 0);
}

#[test]
fn connections_without_requests_are_counted_as_such() {
    let origin = Origin::start(|connection| {
        connection.send("hello");
        connection.finish();
    });
    let mut path = Path::start(Cart {
        endpoints: vec![origin.address],
        spoken: Some("tcp"),
        ..Cart::default()
    });
    let mut client = path.connect();
    assert_eq!(client.everything(), "hello");
    client.finish();
    drop(client);
    let traffic = path.mesh.feed.traffic(|traffic| total(traffic) >= 1);
    assert_eq!(
        count(&traffic, TrafficUnit::Connection, 0, None),
        1,
        "{traffic:#?}"
    );

    let mut alone = Path::start(Cart {
        spoken: Some("tcp"),
        ..Cart::default()
    });
    alone.connect().until_reset();
    let traffic = alone.mesh.feed.traffic(|traffic| total(traffic) >= 1);
    let reason = Some(Reason::NoEndpoint);
    assert_eq!(
        count(&traffic, TrafficUnit::Connection, 0, reason),
        1,
        "{traffic:#?}"
    );
}
