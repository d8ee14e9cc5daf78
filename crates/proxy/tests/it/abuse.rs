//! Claim: what one side does or leaves undone is never laid at the other's door, and nothing of one
//! message is taken for another.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use selvedge_model::{Backoff, Ejection, RequestPolicy, RetryPolicy, Timeouts, Traffic};

use crate::agent::DEADLINE;
use crate::cart::Cart;
use crate::origin::{Origin, ok};
use crate::path::Path;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 4\r\n\r\nbody";

fn with(endpoints: &[&Origin], policy: RequestPolicy) -> Path {
    Path::start(Cart {
        endpoints: endpoints.iter().map(|origin| origin.address).collect(),
        policy,
        spoken: Some("http"),
        ..Cart::default()
    })
}

fn in_time(request: Duration) -> RequestPolicy {
    RequestPolicy {
        timeouts: Timeouts {
            request: Some(request),
            attempt: None,
        },
        ..RequestPolicy::default()
    }
}

/// Requests that have ended.
fn ended(traffic: &Traffic) -> u64 {
    traffic.paths.values().flat_map(|ends| ends.values()).sum()
}

fn ejections(traffic: &Traffic) -> u64 {
    let endpoints = traffic.backends.values().flat_map(|it| &it.endpoints);
    endpoints.map(|endpoint| endpoint.ejections).sum()
}

/// Where there are two endpoints, so that one may be left out.
fn ejecting() -> RequestPolicy {
    RequestPolicy {
        ejection: Some(Ejection {
            consecutive_failures: NonZeroU16::new(3).unwrap(),
            duration: Duration::from_secs(60),
            most_percent: 100,
        }),
        ..in_time(Duration::from_millis(300))
    }
}

#[test]
fn clients_that_stall_eject_no_endpoint() {
    let origins = [(); 2].map(|()| Origin::answering(|_| ok("well")));
    let mut path = with(&[&origins[0], &origins[1]], ejecting());
    let mut clients = [(); 12].map(|()| path.connect());
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 99\r\n\r\nhalf");
    }
    for client in &mut clients {
        let response = client.response();
        assert_eq!(
            (response.status, response.reason()),
            (408, "request_stalled")
        );
    }
    let traffic = path.mesh.feed.traffic(|traffic| ended(traffic) == 12);
    assert_eq!(ejections(&traffic), 0);
}

/// Their endpoint has answered, and waits for what is to come before it says more.
#[test]
fn clients_that_stall_behind_an_early_answer_eject_no_endpoint() {
    let origin = || {
        Origin::start(|connection| {
            connection.until("\r\n\r\n");
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
            connection.everything();
        })
    };
    let mut path = with(&[&origin(), &origin()], ejecting());
    let mut clients = [(); 12].map(|()| path.connect());
    for client in &mut clients {
        client.send("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 99\r\n\r\nhalf");
    }
    for client in &mut clients {
        assert!(client.until_reset().starts_with("HTTP/1.1 200 OK"));
    }
    let traffic = path.mesh.feed.traffic(|traffic| ended(traffic) == 12);
    assert_eq!(ejections(&traffic), 0);
}

/// A client that waits to hear whether its body is wanted does not stall.
#[test]
fn an_endpoint_that_leaves_clients_waiting_to_go_on_is_given_up() {
    let origin = Origin::start(|connection| drop(connection.everything()));
    let path = with(&[&origin], in_time(Duration::from_millis(50)));
    let expecting = POST.replace("Host", "Expect: 100-continue\r\nHost");
    let mut client = path.connect();
    client.send(expecting.strip_suffix("body").unwrap());
    let response = client.response();
    assert_eq!(
        (response.status, response.reason()),
        (504, "request_timeout")
    );
    // It has heard, and is on.
    let origin = Origin::start(|connection| {
        connection.until("\r\n\r\n");
        connection.send("HTTP/1.1 100 Continue\r\n\r\n");
        connection.everything();
    });
    let path = with(&[&origin], in_time(Duration::from_millis(50)));
    let mut client = path.connect();
    client.send(expecting.strip_suffix("body").unwrap());
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 100"));
    let response = client.response();
    assert_eq!(
        (response.status, response.reason()),
        (408, "request_stalled")
    );
}

#[test]
fn clients_that_never_read_eject_no_endpoint() {
    let origin = || {
        let long = "x".repeat(16 << 20);
        Origin::answering(move |_| ok(&long))
    };
    let mut path = with(&[&origin(), &origin()], ejecting());
    let mut clients = [(); 12].map(|()| path.connect());
    clients.iter_mut().for_each(|client| client.send(GET));
    // Their time ends while nobody takes what has come.
    let traffic = path.mesh.feed.traffic(|traffic| ended(traffic) == 12);
    assert_eq!(ejections(&traffic), 0);
}

/// Of many idle connections that an endpoint closes at once not one carries another request.
#[test]
fn connections_that_died_idle_carry_nothing() {
    const MANY: usize = 300;
    let (all, closing, closed) = (
        Arc::new(Barrier::new(MANY)),
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (met, told, count) = (all.clone(), closing.clone(), AtomicUsize::new(0));
    let done = closed.clone();
    let origin = Origin::start(move |connection| {
        connection.request();
        if count.fetch_add(1, Ordering::SeqCst) < MANY {
            met.wait();
            connection.send(&ok(""));
            while !told.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            connection.finish();
            done.fetch_add(1, Ordering::SeqCst);
            return;
        }
        connection.send(&ok("new"));
        while connection.request().is_some() {
            connection.send(&ok("new"));
        }
    });
    let path = Path::to(&[origin.address]);
    let mut clients: Vec<_> = (0..MANY).map(|_| path.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(GET));
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    closing.store(true, Ordering::SeqCst);
    let all_closed = || (closed.load(Ordering::SeqCst) == MANY).then_some(());
    crate::agent::until("all to be closed", all_closed);
    // Whoever answers these has looked at what came before.
    for _ in 0..32 {
        assert_eq!(path.get("none\r\n\r\n").status, 400);
    }
    for client in clients.iter_mut().take(12) {
        client.send(POST);
        assert_eq!(client.response().body, "new");
    }
}

/// One request a connection, however often the proxy hopes for more.
#[test]
fn a_request_that_met_a_closing_connection_gets_a_new_one() {
    let (all, count) = (Arc::new(Barrier::new(6)), AtomicUsize::new(0));
    let origin = Origin::start(move |connection| {
        connection.request();
        if count.fetch_add(1, Ordering::SeqCst) < 6 {
            all.wait();
        }
        connection.send(&ok(""));
        connection.until("\r\n\r\n");
    });
    let path = Path::to(&[origin.address]);
    let mut clients = [(); 6].map(|()| path.connect());
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| client.send(GET));
        for client in &mut clients {
            assert_eq!(client.response().status, 200);
        }
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_no_answer() {
    let origin = Origin::start(|connection| {
        connection.until("\r\n\r\n");
        connection.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
        assert_eq!(connection.everything(), "", "nothing passes unread");
    });
    let path = Path::to(&[origin.address]);
    let response = path.get(&format!("{GET}{GET}"));
    assert_eq!(
        (response.status, response.reason()),
        (502, "malformed_response")
    );
}

/// What is left of the request would go to the new protocol's reader in the old one's frame.
#[test]
fn a_switch_amid_a_request_is_no_answer() {
    let origin = Origin::start(|connection| {
        connection.until("half\r\n");
        connection
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        connection.everything();
    });
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: x\r\n\
         Transfer-Encoding: chunked\r\n\r\n8\r\nhalf",
    );
    let response = client.response();
    assert_eq!(
        (response.status, response.reason()),
        (502, "malformed_response")
    );
}

#[test]
fn a_client_of_http_1_0_gets_no_interim_answers() {
    let origin = Origin::start(|connection| {
        let request = connection.request().unwrap();
        assert!(
            !request.to_ascii_lowercase().contains("expect"),
            "{request}"
        );
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        connection.send(&ok("x"));
        connection.everything();
    });
    let path = Path::to(&[origin.address]);
    let response = path.get("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!((response.status, &*response.body), (200, "x"));
}

/// A key that goes no further than here makes nothing safe to repeat.
#[test]
fn a_key_that_connection_names_is_none() {
    let die = || Origin::start(|connection| drop(connection.request()));
    let (one, other) = (die(), die());
    let path = Path::to(&[one.address, other.address]);
    let fields = "Idempotency-Key: 1\r\nConnection: idempotency-key\r\n";
    let response = path.get(&POST.replace("Content", &format!("{fields}Content")));
    assert_eq!(response.status, 502);
    assert_eq!(one.rest().len() + other.rest().len(), 1);
}

#[test]
fn ids_that_connection_names_are_made_anew() {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::to(&[origin.address]);
    path.get(
        "GET / HTTP/1.1\r\nHost: cart\r\nX-Request-Id: a\r\nConnection: x-request-id, traceparent\r\n\
         Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
    );
    let request = origin.next();
    for name in ["\r\ntraceparent: ", "\r\nx-request-id: "] {
        assert_eq!(request.matches(name).count(), 1, "{request}");
    }
}

#[test]
fn an_answer_without_content_has_no_length() {
    let origin = Origin::answering(|_| "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n".to_owned());
    let path = Path::to(&[origin.address]);
    assert_eq!(path.get(GET).field("content-length"), None);
}

#[test]
fn a_client_that_goes_amid_its_next_request_is_missed() {
    let (origin, told) = Origin::silent();
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    client.send(GET);
    origin.next();
    client.send("G");
    let reset = socket2::SockRef::from(&client.stream);
    reset.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    told.recv_timeout(DEADLINE)
        .expect("the request to be given up");
    // In the usual way, too.
    let (origin, told) = Origin::silent();
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    client.send(&format!("{GET}\r\n"));
    origin.next();
    drop(client);
    told.recv_timeout(DEADLINE)
        .expect("the request to be given up");
}

#[test]
fn there_is_a_budget_where_none_is_set() {
    let ill = Origin::answering(|_| "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned());
    let policy = RequestPolicy {
        retry: Some(RetryPolicy {
            attempts: 5,
            statuses: vec![503],
            backoff: Backoff {
                least: Duration::ZERO,
                base: Duration::from_micros(10),
                most: Duration::from_micros(20),
            },
            non_idempotent: false,
        }),
        ..RequestPolicy::default()
    };
    let path = with(&[&ill], policy);
    for _ in 0..200 {
        path.get(GET);
    }
    // A fifth more, a bucket of a hundred, and ten for each second that this takes.
    let sent = ill.rest().len();
    assert!(sent < 800, "{sent} times");
}

#[test]
fn an_empty_line_behind_a_request_is_no_request() {
    let origin = Origin::answering(|_| ok("x"));
    let mut path = Path::to(&[origin.address]);
    let mut client = path.connect();
    client.send(&format!("{POST}\r\n"));
    assert_eq!(client.response().status, 200);
    client.send(GET);
    assert_eq!(client.response().status, 200);
    // However it is cut.
    client.send("\r");
    path.get(GET);
    client.send("\n");
    path.get(GET);
    client.send("\r");
    client.finish();
    assert_eq!(client.everything(), "");
    let traffic = path.mesh.feed.traffic(|traffic| ended(traffic) >= 4);
    assert_eq!(ended(&traffic), 4, "{traffic:#?}");
}
