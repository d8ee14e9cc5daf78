//! Callers outside the mesh: at a published port they get what the service's callers get, at a Gateway's
//! what the host they name does.

use std::net::SocketAddr;
use std::time::Duration;

use selvedge_model::{
    Backend, Gateway, GatewayListener, GatewayName, GatewayParent, Hostname, HttpFilters,
    HttpMatch, HttpRoute, HttpRule, Label, Limited, Objective, PathMatch, PilotMode, Port,
    RouteName, Snapshot, WeightedBackend,
};

use crate::agent::until;
use crate::cart::{Cart, snapshot};
use crate::origin::{Origin, ok};
use crate::path::{Client, Path};

fn edge() -> GatewayName {
    GatewayName {
        namespace: Label::default_namespace(),
        name: Label::new("edge").unwrap(),
    }
}

/// Leads `/a` of `*.example.com` to the service.
fn route() -> HttpRoute {
    let port = Port::new(80).unwrap();
    let backend = Backend {
        service: "cart".parse().unwrap(),
        port,
    };
    let http = HttpMatch {
        path: PathMatch::Prefix("/a".to_owned()),
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
    };
    HttpRoute {
        name: RouteName {
            namespace: Label::default_namespace(),
            name: Label::new("r").unwrap(),
        },
        parents: Vec::new(),
        gateways: vec![GatewayParent {
            gateway: edge(),
            section: None,
            port: None,
        }],
        hostnames: vec![Hostname::new("*.example.com").unwrap()],
        rules: vec![HttpRule {
            name: None,
            matches: vec![http],
            filters: HttpFilters::default(),
            backends: vec![WeightedBackend { backend, weight: 1 }],
            request_timeout: None,
            backend_request_timeout: None,
            retry: None,
        }],
    }
}

/// `cart` at this endpoint, published at the port where tests come from outside.
fn published(path: &Path, generation: u64, endpoint: SocketAddr) -> Snapshot {
    let cart = Cart {
        endpoints: vec![endpoint],
        spoken: Some("http"),
        ..Cart::default()
    };
    let mut snapshot = snapshot(generation, cart);
    let service = snapshot.services.values_mut().next().unwrap();
    service.published = vec![(reached(path), Port::new(80).unwrap())];
    snapshot
}

fn with_gateway(path: &Path, generation: u64, endpoint: SocketAddr) -> Snapshot {
    let mut snapshot = published(path, generation, endpoint);
    snapshot.services.values_mut().next().unwrap().published = Vec::new();
    let listener = GatewayListener {
        name: Label::new("http").unwrap(),
        port: reached(path),
        hostname: None,
    };
    let gateway = Gateway {
        name: edge(),
        listeners: vec![listener],
    };
    snapshot.gateways.insert(edge(), gateway);
    let route = route();
    snapshot.http_routes.insert(route.name.clone(), route);
    snapshot
}

fn reached(path: &Path) -> Port {
    let outside = path.mesh.sockets.outside.local_addr().unwrap();
    Port::new(outside.port()).unwrap()
}

fn get(client: &mut Client, target: &str, host: &str) -> (u16, String) {
    client.send(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    let response = client.response();
    let said = match response.status {
        200 => response.body.clone(),
        _ => response.reason().to_owned(),
    };
    (response.status, said)
}

#[test]
fn a_published_port_is_served_as_its_service_is_and_no_state_of_the_mesh_comes_in() {
    let origin = Origin::answering(|_| ok("cart"));
    let mut path = Path::to(&[origin.address]);
    let next = published(&path, 2, origin.address);
    path.mesh.feed.publish(next);
    let mut client = path.connect_from_outside();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nSelvedge-Tries: 3\r\nx: 1\r\n\r\n");
    assert_eq!(client.response().body, "cart");
    let request = origin.next().to_ascii_lowercase();
    assert!(
        request.contains("x: 1") && !request.contains("selvedge-"),
        "{request}"
    );

    // What is published no longer is nobody's.
    let withdrawn = snapshot(3, Cart::default());
    path.mesh.feed.publish(withdrawn);
    let mut client = path.connect_from_outside();
    assert!(client.is_closed());
}

#[test]
fn at_a_gateway_the_host_and_the_path_say_where_a_request_goes() {
    let origin = Origin::answering(|_| ok("cart"));
    let mut path = Path::to(&[origin.address]);
    let next = with_gateway(&path, 2, origin.address);
    path.mesh.feed.publish(next);
    let mut client = path.connect_from_outside();
    let no_route = || (404, "no_route".to_owned());
    for (target, host, want) in [
        ("/a", "shop.example.com", (200, "cart".to_owned())),
        ("/a/b?c", "SHOP.example.com:8080", (200, "cart".to_owned())),
        // What the target says stands above the field.
        (
            "http://shop.example.com/a",
            "else.org",
            (200, "cart".to_owned()),
        ),
        ("http://else.org/a", "shop.example.com", no_route()),
        ("/b", "shop.example.com", no_route()),
        ("/a", "example.com", no_route()),
        ("/a", "[::1]:80", no_route()),
        ("/a", "", no_route()),
    ] {
        assert_eq!(get(&mut client, target, host), want, "{target} {host}");
    }

    // A connection that stays learns that the Gateway has gone.
    let gone = published(&path, 3, origin.address);
    path.mesh.feed.publish(gone);
    until("the Gateway to go", || {
        (get(&mut client, "/a", "shop.example.com") == no_route()).then_some(())
    });
}

/// What comes in at a Gateway is limited there, for the objective of the service it is led to.
#[test]
fn an_objective_limits_what_enters_at_a_gateway() {
    let origin = Origin::answering(|_| ok("cart"));
    let mut path = Path::to(&[origin.address]);
    let mut next = with_gateway(&path, 2, origin.address);
    let service = next.services.values_mut().next().unwrap();
    let policy = service.requests.get_or_insert_default();
    policy.objective = Some(Objective {
        latency: Duration::from_millis(250),
        mode: PilotMode::Drive,
    });
    path.mesh.feed.publish(next);
    let mut client = path.connect_from_outside();
    let answer = (200, "cart".to_owned());
    assert_eq!(get(&mut client, "/a", "shop.example.com"), answer);
    let parts = path.mesh.feed.begin_journal();
    let abouts = parts.iter().flat_map(|part| &part.entries);
    let at_gateway = Limited::Entry {
        service: "cart".parse().unwrap(),
        route: "HTTPRoute/default/r/0 at Gateways".to_owned(),
    };
    let told: Vec<_> = abouts.map(|entry| &entry.about).collect();
    assert!(told.contains(&&at_gateway), "{told:?}");
}
