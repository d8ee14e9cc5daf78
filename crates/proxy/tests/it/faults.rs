//! Claim: whoever misbehaves harms nobody else: nothing is lost that may be sent again, nothing is sent
//! twice that may not, and every refusal says why.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use selvedge_model::{Backoff, Ejection, RequestPolicy, RetryPolicy, Timeouts};

use crate::cart::Cart;
use crate::origin::{Origin, ok};
use crate::path::{Path, Response};

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 4\r\n\r\nbody";

fn seen(response: &Response) -> (u16, &str) {
    (response.status, response.reason())
}

/// An address at which nobody listens.
fn nobody() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn with(endpoints: &[&Origin], policy: RequestPolicy) -> Path {
    Path::start(Cart {
        endpoints: endpoints.iter().map(|origin| origin.address).collect(),
        policy,
        spoken: Some("http"),
        ..Cart::default()
    })
}

#[test]
fn without_an_endpoint_the_answer_comes_at_once() {
    let path = Path::to(&[]);
    let mut client = path.connect();
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(seen(&client.response()), (503, "no_endpoint"));
    }
    client.send(POST);
    let response = client.response();
    assert_eq!(seen(&response), (503, "no_endpoint"));
    // Its body may not have come, and is not waited for.
    assert_eq!(response.field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::to(&[nobody(), origin.address]);
    for _ in 0..20 {
        assert_eq!(path.get(POST).status, 200);
    }
    assert_eq!(
        seen(&Path::to(&[nobody()]).get(GET)),
        (502, "connect_failed")
    );
}

#[test]
fn what_dies_amid_a_request_is_repeated_where_that_is_safe() {
    let deaf = Origin::start(|connection| drop(connection.request()));
    let well = Origin::answering(|_| ok("well"));
    let path = Path::to(&[deaf.address, well.address]);
    for _ in 0..20 {
        assert_eq!(path.get(GET).body, "well");
        assert_eq!(path.get(&POST.replace("POST", "PUT")).body, "well");
        let keyed = POST.replace("Host", "Idempotency-Key: \"a\"\r\nHost");
        assert_eq!(path.get(&keyed).body, "well");
    }
    let posts: Vec<_> = (0..20).map(|_| path.get(POST)).collect();
    let lost = posts.iter().filter(|post| post.status != 200).count();
    assert!(
        posts
            .iter()
            .all(|it| it.status == 200 || seen(it) == (502, "response_cut"))
    );
    let bodies = |origin: &Origin| {
        let all = origin.rest();
        let posts = all
            .iter()
            .filter(|it| it.starts_with("POST") && !it.contains("Idempotency"));
        posts.count()
    };
    assert_eq!(
        (bodies(&deaf), bodies(&well)),
        (lost, 20 - lost),
        "each was sent once"
    );
    assert!((1..20).contains(&lost));
}

#[test]
fn a_reused_connection_that_is_closed_just_then_costs_nobody_anything() {
    // Closes, without a word, when the second request comes.
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send(&ok(""));
        connection.until("\r\n\r\n");
    });
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    for _ in 0..50 {
        client.send(GET);
        assert_eq!(client.response().status, 200);
    }
    client.send(POST);
    assert_eq!(seen(&client.response()), (502, "response_cut"));
}

#[test]
fn a_cut_response_is_never_taken_for_a_whole_one() {
    for (answer, old) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nbad",
            false,
        ),
    ] {
        let origin = Origin::start(move |connection| {
            connection.request();
            connection.send(answer);
            connection.finish();
            connection.everything();
        });
        let path = Path::to(&[origin.address]);
        let mut client = path.connect();
        let request = if old {
            GET.replace("1.1", "1.0")
        } else {
            GET.to_owned()
        };
        client.send(&request);
        let got = client.until_reset();
        assert!(!got.ends_with("0\r\n\r\n"), "{answer:?}: {got:?}");
    }
}

#[test]
fn a_response_that_is_none_is_not_passed_on() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\n\na",
        "ICY 200 OK\r\n\r\n",
    ] {
        let origin = Origin::answering(move |_| answer.to_owned());
        let path = Path::to(&[origin.address]);
        let mut client = path.connect();
        client.send(GET);
        assert_eq!(
            seen(&client.response()),
            (502, "malformed_response"),
            "{answer:?}"
        );
        assert_eq!(origin.rest().len(), 1);
    }
}

#[test]
fn bytes_that_nobody_asked_for_reach_nobody() {
    // Answers twice, or more than it said, on each connection.
    for surplus in ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", "more"] {
        let origin = Origin::answering(move |_| ok("") + surplus);
        let path = Path::to(&[origin.address]);
        let mut client = path.connect();
        for _ in 0..20 {
            client.send(GET);
            let response = client.response();
            assert_eq!((response.status, &*response.body), (200, ""));
        }
    }
}

#[test]
fn an_answer_before_the_request_is_whole_ends_both_connections() {
    let origin = Origin::start(|connection| {
        connection.until("\r\n\r\n");
        connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
        connection.everything();
    });
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    client.send("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 99\r\n\r\nsome");
    assert_eq!(client.response().status, 413);
    assert!(client.is_closed());
    assert_eq!(path.get(GET).status, 413, "on a connection of its own");
}

#[test]
fn what_is_no_request_goes_nowhere() {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::to(&[origin.address]);
    let mut other = path.connect();
    other.send(GET);
    assert_eq!(other.response().status, 200);
    let long = format!(
        "GET / HTTP/1.1\r\nHost: cart\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: cart\r\n{}\r\n",
        "X: 1\r\n".repeat(120)
    );
    for (request, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "malformed_request"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            400,
            "malformed_request",
        ),
        ("GET /\r\n\r\n", 400, "malformed_request"),
        (
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            505,
            "malformed_request",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
            "not_implemented",
        ),
        (&long, 431, "head_too_large"),
        (&many, 431, "head_too_large"),
    ] {
        let mut client = path.connect();
        client.send(request);
        let response = client.response();
        assert_eq!(seen(&response), (status, reason), "{request:.60?}");
        assert!(client.is_closed());
    }
    // A chunk that is none, behind a head that went out: what came of it is cut off.
    let mut client = path.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(seen(&client.response()), (400, "malformed_request"));
    assert!(client.is_closed());
    other.send(GET);
    assert_eq!(other.response().status, 200);
    let whole = origin
        .rest()
        .iter()
        .filter(|it| it.starts_with("GET / HTTP/1.1\r\nHost: cart"))
        .count();
    assert_eq!(whole, 2);
}

#[test]
fn who_says_how_long_it_waits_is_answered_by_then() {
    let silent = Origin::start(|connection| drop(connection.everything()));
    let path = with(&[&silent], RequestPolicy::default());
    for time in ["30m", "0n"] {
        let get = format!("GET / HTTP/1.1\r\nHost: cart\r\nGrpc-Timeout: {time}\r\n\r\n");
        assert_eq!(seen(&path.get(&get)), (504, "request_timeout"), "{time}");
    }
}

#[test]
fn a_server_that_takes_its_time_is_given_up() {
    let silent = Origin::start(|connection| drop(connection.everything()));
    let time = |attempt, request| RequestPolicy {
        timeouts: Timeouts {
            attempt: Some(Duration::from_millis(attempt)),
            request: Some(Duration::from_millis(request)),
        },
        ..RequestPolicy::default()
    };
    let path = with(&[&silent], time(30, 10_000));
    assert_eq!(seen(&path.get(GET)), (504, "attempt_timeout"));
    let path = with(&[&silent], time(10_000, 30));
    assert_eq!(seen(&path.get(GET)), (504, "request_timeout"));
    // One that stops amid its response is cut off.
    let half = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        connection.everything();
    });
    let path = with(&[&half], time(10_000, 100));
    let mut client = path.connect();
    client.send(GET);
    assert!(client.until_reset().ends_with("half"));
}

#[test]
fn failed_answers_are_repeated_as_the_policy_says() {
    let ill = Origin::answering(|_| "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned());
    let well = Origin::answering(|_| ok("well"));
    let policy = RequestPolicy {
        retry: Some(RetryPolicy {
            attempts: 2,
            statuses: vec![503],
            backoff: Backoff {
                least: Duration::ZERO,
                base: Duration::from_millis(1),
                most: Duration::from_millis(2),
            },
            non_idempotent: false,
        }),
        ..RequestPolicy::default()
    };
    let path = with(&[&ill, &well], policy.clone());
    for _ in 0..20 {
        assert_eq!(path.get(GET).body, "well");
    }
    let once = (0..20).filter(|_| path.get(POST).status == 503).count();
    assert!((1..20).contains(&once), "a POST is sent once: {once}");
    let mut willing = policy.clone();
    willing.retry.as_mut().unwrap().non_idempotent = true;
    let path = with(&[&ill, &well], willing);
    assert!((0..20).all(|_| path.get(POST).body == "well"));
    // Nobody else is there: the last answer is passed on as it came.
    let path = with(&[&ill], policy);
    ill.rest();
    let response = path.get(GET);
    assert_eq!(seen(&response), (503, "none"));
    assert_eq!(ill.rest().len(), 3);
}

#[test]
fn a_replica_that_fails_is_left_out() {
    let ill = Origin::answering(|_| "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned());
    let well = Origin::answering(|_| ok("well"));
    let policy = RequestPolicy {
        ejection: Some(Ejection {
            consecutive_failures: NonZeroU16::new(3).unwrap(),
            duration: Duration::from_secs(600),
            most_percent: 50,
        }),
        ..RequestPolicy::default()
    };
    let path = with(&[&ill, &well], policy);
    let failed = (0..60).filter(|_| path.get(GET).status == 500).count();
    assert_eq!(failed, 3);
}

#[test]
fn a_full_endpoint_takes_no_more() {
    let slow = Origin::start(|connection| {
        while connection.request().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
            connection.until("never");
        }
    });
    let policy = RequestPolicy {
        requests_per_endpoint: NonZeroU32::new(2),
        ..RequestPolicy::default()
    };
    let path = with(&[&slow], policy);
    let mut held: Vec<_> = (0..2).map(|_| path.connect()).collect();
    for client in &mut held {
        client.send(GET);
        client.until("\r\n\r\n");
    }
    assert_eq!(seen(&path.get(GET)), (503, "request_limit"));
    // Whoever goes away makes room.
    drop(held);
    crate::agent::until("room", || {
        let mut client = path.connect();
        client.send(GET);
        (client.until("\r\n\r\n").contains("200 OK")).then_some(())
    });
}

#[test]
fn a_client_that_goes_away_takes_its_request_along() {
    let (origin, told) = Origin::silent();
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    client.send(GET);
    origin.next();
    drop(client);
    told.recv_timeout(crate::agent::DEADLINE)
        .expect("the request to be given up");
}
