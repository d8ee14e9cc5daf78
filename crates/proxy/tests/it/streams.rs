//! Claim: connections that are no HTTP go through as they are: every byte, every end, every reset, and
//! no waiting for a client where the server speaks first.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use selvedge_model::RequestPolicy;
use socket2::SockRef;

use crate::agent::until;
use crate::cart::{Cart, snapshot};
use crate::origin::{Origin, ok};
use crate::path::Path;

fn spoken(origin: &Origin, spoken: Option<&'static str>) -> Path {
    Path::start(Cart {
        endpoints: vec![origin.address],
        spoken,
        ..Cart::default()
    })
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    for said in [None, Some("tcp")] {
        let origin = Origin::start(|connection| {
            connection.send("220 ready\r\n");
            assert_eq!(connection.until("\r\n").unwrap(), "EHLO a\r\n");
            connection.send("250 hello\r\n");
            connection.everything();
        });
        let path = spoken(&origin, said);
        let mut client = path.connect();
        assert_eq!(client.until("\r\n"), "220 ready\r\n");
        client.send("EHLO a\r\n");
        assert_eq!(client.until("\r\n"), "250 hello\r\n");
    }
}

#[test]
fn what_a_client_speaks_is_found_out() {
    let origin = Origin::start(|connection| {
        let Some(first) = connection.until("\n") else {
            return;
        };
        match first.contains("HTTP/1.1") {
            true => {
                connection.until("\r\n\r\n");
                connection.send(&ok("http"));
            }
            false => connection.send(&format!("echo {first}")),
        }
        connection.everything();
    });
    let path = spoken(&origin, None);
    for start in ["PRI * HTTP/2.0\r\n", "hello\n", "GET\n", "\n"] {
        let mut client = path.connect();
        for byte in start.split_inclusive(|_| true) {
            client.send(byte);
        }
        client.finish();
        let want = if start.contains("HTTP") && !start.starts_with("PRI") {
            "http"
        } else {
            start
        };
        assert_eq!(client.everything(), format!("echo {want}"));
    }
    let response = path.get("GET / HTTP/1.1\r\nHost: cart\r\n\r\n");
    assert_eq!(response.body, "http");
}

#[test]
fn each_side_may_stop_sending_and_go_on_listening() {
    let long = "0123456789".repeat(100_000);
    let answer = long.clone();
    let origin = Origin::start(move |connection| {
        let all = connection.everything();
        connection.send(&format!("{} bytes", all.len()));
        connection.send(&answer);
        connection.finish();
    });
    let path = spoken(&origin, Some("tcp"));
    let mut client = path.connect();
    client.send(&long);
    client.finish();
    assert_eq!(client.everything(), format!("1000000 bytes{long}"));
    // And the other way round.
    let origin = Origin::start(|connection| {
        connection.finish();
        let all = connection.everything();
        assert_eq!(all, "still here");
    });
    let path = spoken(&origin, Some("tcp"));
    let mut client = path.connect();
    assert!(client.is_closed());
    client.send("still here");
}

#[test]
fn a_reset_is_passed_on_as_one() {
    let origin = Origin::start(|connection| {
        connection.send("some");
        connection.until("\n");
        connection.reset();
    });
    let path = spoken(&origin, Some("tcp"));
    let mut client = path.connect();
    assert_eq!(client.exactly(4), "some");
    client.send("now\n");
    assert_eq!(client.until_reset(), "");
    // From the client's side.
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let origin = Origin::start(move |connection| {
        connection.until("\n");
        let _ = tell.send(connection.is_reset());
    });
    let path = spoken(&origin, Some("tcp"));
    let mut client = path.connect();
    client.send("now\n");
    SockRef::from(&client.stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    assert!(told.recv_timeout(crate::agent::DEADLINE).unwrap());
}

/// To find out what is spoken takes a connection; it is not kept beside one that waits for requests.
#[test]
fn finding_out_keeps_no_connections() {
    let carrying = Arc::new(AtomicUsize::new(0));
    let count = carrying.clone();
    let origin = Origin::start(move |connection| {
        let mut is_first = true;
        while connection.request().is_some() {
            count.fetch_add(usize::from(is_first), Ordering::Relaxed);
            is_first = false;
            connection.send(&ok("http"));
        }
    });
    let path = spoken(&origin, None);
    for _ in 0..10 {
        let response = path.get("GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n");
        assert_eq!(response.body, "http");
    }
    // Each worker has its own; how many there are is the machine's business.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let made = carrying.load(Ordering::Relaxed);
    assert!(made <= workers, "{made} for {workers} workers");
}

/// A server of which two requests at once are wanted, and that knows other words too; nobody has said what it speaks.
fn two_places() -> (Origin, Path) {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            match request.contains("HTTP/1.1") {
                true => connection.send(&ok("http")),
                false => connection.send("no http\r\n\r\n"),
            }
        }
    });
    let path = Path::start(Cart {
        endpoints: vec![origin.address],
        policy: RequestPolicy {
            requests_per_endpoint: NonZeroU32::new(2),
            ..RequestPolicy::default()
        },
        ..Cart::default()
    });
    (origin, path)
}

/// Connections that idle hold no places once it is known that requests are what comes: neither those that were there
/// before, nor those that come after. What is none is found out all the same.
#[test]
fn idle_connections_hold_no_places_where_requests_are_answered() {
    let (_origin, path) = two_places();
    const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
    // Both places are taken before anything is said.
    let mut early: Vec<_> = (0..2).map(|_| path.connect()).collect();
    let speaker = &mut early[0];
    speaker.send(GET);
    assert_eq!(speaker.response().body, "http");
    let _late: Vec<_> = (0..10).map(|_| path.connect()).collect();
    // On each worker, of which a connection finds one.
    for client in &mut early {
        client.send(GET);
        assert_eq!(client.response().status, 200);
    }
    for _ in 0..20 {
        assert_eq!(path.get(GET).status, 200);
    }
    let mut other = path.connect();
    other.send("hello\r\n\r\n");
    assert_eq!(other.until("\r\n\r\n"), "no http\r\n\r\n");
}

/// Also where nothing was ever answered, connections that say nothing give their places back: to requests, and to what
/// is none.
#[test]
fn silent_connections_give_their_places_back() {
    for first in ["GET / HTTP/1.1\r\nHost: cart\r\n\r\n", "hello\r\n\r\n"] {
        let (_origin, path) = two_places();
        let mut silent: Vec<_> = (0..2).map(|_| path.connect()).collect();
        until("a place", || {
            let mut client = path.connect();
            client.send(first);
            let answer = client.until_or_reset("\r\n\r\n")?;
            (!answer.contains(" 503 ")).then_some(())
        });
        // They are not forgotten.
        for client in &mut silent {
            client.send("hello\r\n\r\n");
            assert_eq!(client.until("\r\n\r\n"), "no http\r\n\r\n");
        }
    }
}

/// Where other servers have come, one of them may speak first.
#[test]
fn a_server_that_speaks_first_is_heard_where_another_answered_requests() {
    let web = Origin::answering(|_| ok("http"));
    let mail = Origin::start(|connection| {
        connection.send("220 ready\r\n");
        connection.everything();
    });
    let mut path = spoken(&web, None);
    assert_eq!(path.get("GET / HTTP/1.1\r\nHost: cart\r\n\r\n").status, 200);
    let other = Cart {
        endpoints: vec![mail.address],
        ..Cart::default()
    };
    path.mesh.feed.publish(snapshot(2, other));
    assert_eq!(path.connect().until("\r\n"), "220 ready\r\n");
}

/// A server may go by a connection's first bytes; what it says behind a response is that request's.
#[test]
fn what_is_relayed_never_follows_requests() {
    let (late, said) = std::sync::mpsc::sync_channel::<()>(16);
    let said = std::sync::Mutex::new(said);
    let origin = Origin::start(move |connection| {
        let Some(first) = connection.until("\n") else {
            return;
        };
        if !first.contains("HTTP/1.1") {
            return connection.send(&format!("echo {first}"));
        }
        connection.until("\r\n\r\n");
        connection.send(&ok("http"));
        // The test may be over.
        if said.lock().unwrap().recv().is_ok() {
            connection.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
        }
        connection.everything();
    });
    for spoken_first in ["PRI * HTTP/2.0\r\n", "hello\n"] {
        let path = spoken(&origin, None);
        path.get("GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n");
        // Some of them meet the worker that had the request.
        let mut early: Vec<_> = (0..8).map(|_| path.connect()).collect();
        late.send(()).unwrap();
        for client in &mut early {
            client.send(spoken_first);
            assert_eq!(client.everything(), format!("echo {spoken_first}"));
        }
    }
}

#[test]
fn where_nobody_listens_a_request_is_told_why_and_all_else_is_reset() {
    let path = Path::start(Cart {
        spoken: None,
        ..Cart::default()
    });
    let response = path.get("GET / HTTP/1.1\r\nHost: cart\r\n\r\n");
    assert_eq!((response.status, response.reason()), (503, "no_endpoint"));
    let mut client = path.connect();
    client.send("SSH-2.0-x\r\n");
    assert_eq!(client.until_reset(), "");
    // It waits for the server to speak.
    assert_eq!(path.connect().until_reset(), "");
}

#[test]
fn where_nobody_listens_a_connection_is_reset() {
    let path = Path::start(Cart {
        spoken: Some("tcp"),
        ..Cart::default()
    });
    assert_eq!(path.connect().until_reset(), "");
}
