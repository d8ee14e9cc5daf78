//! Claim: requests and responses go through whole and unharmed, and nothing that belongs to a neighbour
//! goes with them. Shown on the real process, with servers and clients that count every byte.

use selvedge_model::{
    FieldChanges, HttpAction, HttpRoute, PathChange, Redirect, TextMatch, ValueMatch,
};

use crate::cart::{self, ADDRESS, Cart, snapshot};
use crate::origin::{Origin, ok};
use crate::path::Path;

/// A request with these lines between Host and the empty line.
fn get(fields: &str) -> String {
    format!("GET /a?b=c HTTP/1.1\r\nHost: cart\r\n{fields}\r\n")
}

#[test]
fn a_request_goes_through_and_its_connection_stays() {
    let origin = Origin::answering(|_| ok("hello"));
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    for _ in 0..3 {
        client.send(&get("X: 1\r\n"));
        let response = client.response();
        assert_eq!((response.status, &*response.body), (200, "hello"));
        let request = origin.next();
        assert!(
            request.starts_with("GET /a?b=c HTTP/1.1\r\nHost: cart\r\nX: 1\r\n"),
            "{request}"
        );
    }
}

#[test]
fn what_is_between_neighbours_stays_there() {
    let origin = Origin::answering(|_| {
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         selvedge-reason: forged\r\nX: 2\r\nContent-Length: 2\r\n\r\nok"
            .to_owned()
    });
    let path = Path::to(&[origin.address]);
    let response = path.get(&get(
        "Connection: keep-alive, X-Own\r\nX-Own: 1\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
         Selvedge-Try: 3\r\nX: 1\r\n",
    ));
    assert_eq!(
        response.head,
        "HTTP/1.1 200 OK\r\nX: 2\r\ncontent-length: 2\r\n\r\n"
    );
    let request = origin.next().to_ascii_lowercase();
    for gone in ["connection", "x-own", "te: ", "selvedge"] {
        assert!(!request.contains(gone), "{gone}: {request}");
    }
    assert!(request.contains("x: 1\r\n"));
}

#[test]
fn no_state_of_the_mesh_comes_behind_a_body() {
    let chunked = "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n";
    let forged = "Selvedge-Tries: 9\r\nX-Sum: 1\r\nselvedge-reason: no_endpoint\r\n\r\n";
    let origin = Origin::answering(move |_| format!("HTTP/1.1 200 OK\r\n{chunked}{forged}"));
    let path = Path::to(&[origin.address]);
    let response = path.get(&format!(
        "POST / HTTP/1.1\r\nHost: cart\r\n{chunked}{forged}"
    ));
    assert_eq!(response.body, "abX-Sum: 1");
    let request = origin.next();
    assert!(
        request.ends_with("2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"),
        "{request}"
    );
}

#[test]
fn a_rule_has_the_last_word_about_ids() {
    let changes = FieldChanges {
        set: vec![("x-request-id".to_owned(), "mine".to_owned())],
        remove: vec!["traceparent".to_owned()],
        ..FieldChanges::default()
    };
    let mut route = route(None);
    route.rules[0].filters.request = changes;
    let (origin, path) = routed(vec![route]);
    for fields in [
        "",
        "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
    ] {
        path.get(&get(fields));
        let request = origin.next().to_ascii_lowercase();
        assert_eq!(request.matches("x-request-id: ").count(), 1, "{request}");
        assert!(request.contains("x-request-id: mine\r\n"), "{request}");
        assert!(!request.contains("traceparent"), "{request}");
    }
}

/// Another trace has another state.
#[test]
fn the_state_of_a_trace_goes_with_it() {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::to(&[origin.address]);
    for (parent, stays) in [
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            true,
        ),
        ("00-none", false),
    ] {
        path.get(&get(&format!(
            "Traceparent: {parent}\r\nTracestate: a=b\r\n"
        )));
        let request = origin.next().to_ascii_lowercase();
        assert_eq!(request.contains("tracestate: a=b"), stays, "{request}");
        assert_eq!(request.matches("traceparent: ").count(), 1, "{request}");
    }
}

/// It is less for who is asked than for who asks.
#[test]
fn what_is_left_of_the_time_goes_with_a_request() {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::to(&[origin.address]);
    let request = |fields: &str| {
        path.get(&get(fields));
        origin.next().to_ascii_lowercase()
    };
    let said = request("Grpc-Timeout: 50S\r\n");
    assert_eq!(said.matches("grpc-timeout: ").count(), 1, "{said}");
    let value = said.split("grpc-timeout: ").nth(1).unwrap();
    let (micros, _) = value.split_once("u\r\n").unwrap();
    let micros: u64 = micros.parse().unwrap();
    assert!((1..=50_000_000).contains(&micros), "{said}");
    assert!(
        !request("").contains("grpc-timeout"),
        "nobody said anything"
    );
    let said = request("Grpc-Timeout: soon\r\n");
    assert!(said.contains("grpc-timeout: soon\r\n"), "{said}");
}

#[test]
fn a_rule_that_sets_the_time_has_it_for_its_own() {
    let mut route = route(None);
    route.rules[0].filters.request.set = vec![("grpc-timeout".to_owned(), "7S".to_owned())];
    let (origin, path) = routed(vec![route]);
    path.get(&get("Grpc-Timeout: 50S\r\n"));
    let said = origin.next().to_ascii_lowercase();
    assert_eq!(said.matches("grpc-timeout: ").count(), 1, "{said}");
    assert!(said.contains("grpc-timeout: 7s\r\n"), "{said}");
}

/// Whoever routed by one host and asked for another would let a client choose its rule.
#[test]
fn rules_about_host_see_the_host_that_is_asked_for() {
    let mut secret = route(None);
    let value = TextMatch::Exact("secret".to_owned());
    let name = "host".to_owned();
    secret.rules[0].matches[0].headers = vec![ValueMatch { name, value }];
    let (_origin, path) = routed(vec![secret]);
    for (target, host, want) in [
        ("/", "secret", 200),
        ("/", "else", 404),
        ("http://else/", "secret", 404),
        ("http://secret/", "else", 200),
    ] {
        let response = path.get(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.status, want, "{target} {host}");
    }
}

#[test]
fn a_redirect_says_what_the_client_can_ask_for() {
    let (_origin, path) = routed(vec![redirecting(Redirect {
        scheme: None,
        host: None,
        path: Some(PathChange::Full("/new".to_owned())),
        port: None,
        status: 302,
    })]);
    for (head, want) in [
        (
            "GET /old HTTP/1.1\r\nHost: cart:8080\r\n\r\n",
            "http://cart:8080/new",
        ),
        (
            "GET /old?q HTTP/1.1\r\nHost: cart\r\n\r\n",
            "http://cart/new?q",
        ),
        ("GET /old HTTP/1.0\r\n\r\n", "/new"),
    ] {
        let response = path.get(head);
        assert_eq!(
            (response.status, response.field("location")),
            (302, Some(want))
        );
    }
    // The path alone would lead back here, for ever.
    let (_origin, path) = routed(vec![redirecting(Redirect {
        scheme: Some("https".to_owned()),
        host: None,
        path: None,
        port: None,
        status: 301,
    })]);
    let response = path.get("GET /old HTTP/1.0\r\n\r\n");
    let want = format!("https://{ADDRESS}/old");
    assert_eq!(response.field("location"), Some(&*want));
}

fn redirecting(redirect: Redirect) -> HttpRoute {
    let mut route = route(None);
    route.rules[0].backends.clear();
    route.rules[0].filters.action = Some(HttpAction::Redirect(redirect));
    route
}

/// An origin that answers everything, behind these routes.
fn routed(routes: Vec<HttpRoute>) -> (Origin, Path) {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::start(Cart {
        endpoints: vec![origin.address],
        routes,
        ..Cart::default()
    });
    (origin, path)
}

#[test]
fn who_belongs_to_whom_is_passed_on_and_made_where_it_is_missing() {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::to(&[origin.address]);
    path.get(&get(""));
    let made = origin.next();
    assert_eq!(made.matches("\r\ntraceparent: 00-").count(), 1, "{made}");
    assert_eq!(made.matches("\r\nx-request-id: ").count(), 1, "{made}");
    let own = "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
               X-Request-ID: mine\r\n";
    path.get(&get(own));
    let passed = origin.next();
    assert!(passed.contains(own), "{passed}");
    assert!(
        !passed.contains("traceparent: ") && !passed.contains("x-request-id: "),
        "{passed}"
    );
}

#[test]
fn bodies_go_through_however_they_are_framed() {
    let long = "0123456789".repeat(60_000);
    let chunked = |body: &str| format!("{:x};ext\r\n{body}\r\n0\r\nX-Sum: 7\r\n\r\n", body.len());
    let origin = Origin::start(|connection| {
        while let Some(head) = connection.until("\r\n\r\n") {
            let body = match head.split("content-length: ").nth(1) {
                Some(length) => {
                    let length = length.lines().next().unwrap().parse().unwrap();
                    connection.exactly(length).unwrap()
                }
                None => {
                    assert!(head.contains("transfer-encoding: chunked"), "{head}");
                    let mut body = String::new();
                    loop {
                        let line = connection.until("\r\n").unwrap();
                        let length = usize::from_str_radix(line.trim(), 16).unwrap();
                        if length == 0 {
                            break body + &connection.until("\r\n\r\n").unwrap();
                        }
                        body += &connection.exactly(length).unwrap();
                        connection.exactly(2).unwrap();
                    }
                }
            };
            let answer = match head.contains("/chunked") {
                true => format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-Sum: 8\r\n\r\n",
                    body.len()
                ),
                false => ok(&body),
            };
            connection.send(&answer);
        }
    });
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    for body in ["x", &*long] {
        let head = |target: &str, framing: &str| {
            format!("PUT /{target} HTTP/1.1\r\nHost: cart\r\n{framing}\r\n\r\n")
        };
        let plain = format!("Content-Length: {}", body.len());
        client.send(&(head("plain", &plain) + body));
        assert_eq!(client.response().body, body);
        client.send(&(head("chunked", &plain) + body));
        assert_eq!(client.response().body, format!("{body}X-Sum: 8"));
        client.send(&(head("plain", "Transfer-Encoding: chunked") + &chunked(body)));
        assert_eq!(client.response().body, format!("{body}X-Sum: 7\r\n\r\n"));
    }
}

#[test]
fn a_body_that_ends_with_its_connection_gets_an_end_that_shows() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\n\r\nto the end");
        connection.finish();
    });
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    for _ in 0..2 {
        client.send(&get(""));
        let response = client.response();
        assert_eq!(response.field("transfer-encoding"), Some("chunked"));
        assert_eq!(response.body, "to the end");
    }
    // HTTP/1.0 knows no chunks.
    let mut old = path.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    let response = old.response();
    assert_eq!(response.body, "to the end");
    assert_eq!(response.field("transfer-encoding"), None);
}

#[test]
fn responses_without_a_body_have_none() {
    for (method, answer, want) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\ncontent-length: 7\r\n\r\n",
        ),
    ] {
        let origin = Origin::answering(move |request| match request.starts_with("GET /next") {
            true => ok("next"),
            false => answer.to_owned(),
        });
        let path = Path::to(&[origin.address]);
        let mut client = path.connect();
        client.send(&format!("{method} / HTTP/1.1\r\nHost: cart\r\n\r\n"));
        assert_eq!(client.until("\r\n\r\n"), want);
        client.send("GET /next HTTP/1.1\r\nHost: cart\r\n\r\n");
        assert_eq!(client.response().body, "next");
    }
}

#[test]
fn old_clients_are_served_as_they_want() {
    let origin = Origin::answering(|_| ok("x"));
    let path = Path::to(&[origin.address]);
    let mut once = path.connect();
    once.send("GET / HTTP/1.0\r\n\r\n");
    let response = once.response();
    assert_eq!(response.field("connection"), Some("close"));
    assert!(once.is_closed());
    let mut again = path.connect();
    for _ in 0..2 {
        again.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(again.response().field("connection"), Some("keep-alive"));
    }
    let mut last = path.connect();
    last.send(&get("Connection: close\r\n"));
    assert_eq!(last.response().field("connection"), Some("close"));
    assert!(last.is_closed());
}

#[test]
fn what_an_old_client_does_not_say_is_said_for_it() {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::to(&[origin.address]);
    path.get("GET / HTTP/1.0\r\n\r\n");
    let request = origin.next();
    let head = "GET / HTTP/1.1\r\nhost: 127.96.1.1\r\n";
    assert!(request.starts_with(head), "{request}");
    path.get("GET / HTTP/1.0\r\nHost: cart\r\n\r\n");
    assert_eq!(origin.next().to_lowercase().matches("host: ").count(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let origin = Origin::answering(|request| ok(request.split(' ').nth(1).unwrap()));
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    let requests: String = (0..200)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: cart\r\n\r\n"))
        .collect();
    client.send(&requests);
    for number in 0..200 {
        assert_eq!(client.response().body, format!("/{number}"));
    }
}

#[test]
fn interim_responses_are_passed_on_as_they_come() {
    let origin = Origin::start(|connection| {
        let head = connection.until("\r\n\r\n").unwrap();
        assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
        connection.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(connection.exactly(4).unwrap(), "body");
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        connection.send(&ok("thanks"));
        connection.everything();
    });
    let path = Path::to(&[origin.address]);
    let mut client = path.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: cart\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("body");
    assert_eq!(client.response().field("link"), Some("</a>"));
    assert_eq!(client.response().body, "thanks");
}

#[test]
fn another_protocol_has_the_connection_to_itself() {
    for (request, answer) in [
        (
            "GET /ws HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        ),
        (
            "CONNECT cart:80 HTTP/1.1\r\nHost: cart:80\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ),
    ] {
        let origin = Origin::start(move |connection| {
            let head = connection.until("\r\n\r\n").unwrap();
            assert_eq!(
                head.contains("upgrade: echo\r\n"),
                answer.contains("101"),
                "{head}"
            );
            connection.send(answer);
            connection.send("server first");
            assert_eq!(connection.exactly(12).unwrap(), "client first");
            connection.send("bye");
            connection.finish();
            assert_eq!(connection.everything(), "still here");
        });
        let path = Path::to(&[origin.address]);
        let mut client = path.connect();
        client.send(&format!("{request}client first"));
        let head = client.until("\r\n\r\n");
        let upgrades = head.contains("upgrade: echo\r\n") && head.contains("connection: upgrade");
        assert_eq!(upgrades, answer.contains("101"), "{head}");
        assert_eq!(client.everything(), "server firstbye");
        client.send("still here");
        client.finish();
    }
}

/// Behind it would come requests that no rule has seen.
#[test]
fn an_upgrade_to_http2_is_not_passed_on() {
    let origin = Origin::answering(|_| ok("x"));
    let path = Path::to(&[origin.address]);
    for offer in ["h2c", "websocket, H2C", "h2c/1, echo"] {
        let fields = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\nHTTP2-Settings: AAMAAABk\r\n"
        );
        assert_eq!(path.get(&get(&fields)).body, "x");
        let seen = origin.next().to_ascii_lowercase();
        assert!(
            !seen.contains("upgrade") && !seen.contains("http2-settings"),
            "{seen}"
        );
    }
}

#[test]
fn targets_of_every_form_are_understood() {
    let origin = Origin::answering(|_| ok(""));
    let path = Path::to(&[origin.address]);
    for (request, want) in [
        (
            "GET http://other:81/p?q HTTP/1.1\r\nHost: cart",
            "GET /p?q HTTP/1.1\r\nhost: other:81\r\n",
        ),
        (
            "GET http://other HTTP/1.1\r\nHost: cart",
            "GET / HTTP/1.1\r\nhost: other\r\n",
        ),
        (
            "OPTIONS http://other HTTP/1.1\r\nHost: cart",
            "OPTIONS * HTTP/1.1\r\nhost: other\r\n",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: cart",
            "OPTIONS * HTTP/1.1\r\nHost: cart\r\n",
        ),
    ] {
        path.get(&format!("{request}\r\n\r\n"));
        let seen = origin.next();
        assert!(seen.starts_with(want), "{request}: {seen}");
    }
}

#[test]
fn a_connection_whose_port_has_become_direct_is_served_once_more() {
    let origin = Origin::answering(|_| ok("x"));
    let mut path = Path::to(&[origin.address]);
    let mut client = path.connect();
    client.send(&get(""));
    assert_eq!(client.response().field("connection"), None);
    let direct = Cart {
        endpoints: vec![origin.address],
        is_direct: true,
        ..Cart::default()
    };
    path.mesh.feed.publish(snapshot(2, direct));
    client.send(&get(""));
    let response = client.response();
    assert_eq!(
        (response.status, response.field("connection")),
        (200, Some("close"))
    );
    assert!(client.is_closed());
    // One that was on its way meanwhile is served too.
    assert_eq!(path.get(&get("")).field("connection"), Some("close"));
}

/// What passes through a tunnel is seen by no rule: it takes one that names the method.
#[test]
fn a_route_that_does_not_name_connect_lets_none_through() {
    let origin = Origin::answering(|_| "HTTP/1.1 200 OK\r\n\r\n".to_owned());
    for (method, status) in [(None, 404), (Some("CONNECT"), 200)] {
        let path = Path::start(Cart {
            endpoints: vec![origin.address],
            routes: vec![route(method)],
            ..Cart::default()
        });
        let mut client = path.connect();
        client.send("CONNECT cart:80 HTTP/1.1\r\nHost: cart:80\r\n\r\n");
        let head = client.until("\r\n\r\n");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert_eq!(origin.rest().len(), usize::from(status == 200));
    }
}

/// A route of the service to itself, for one method or all.
fn route(method: Option<&str>) -> HttpRoute {
    let mut route = cart::route(["/".to_owned()]);
    route.rules[0].matches[0].method = method.map(str::to_owned);
    route
}
