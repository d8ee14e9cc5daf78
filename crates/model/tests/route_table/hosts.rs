//! Which route a request from outside gets by its host, as Gateway API orders hostnames.

use selvedge_model::{
    Gateway, GatewayListener, GatewayName, GatewayParent, Hostname, HttpMatch, HttpRoute,
    PathMatch, RouteTable, Selected, Snapshot,
};

use crate::said::{Request, label, port, route, route_name, rule, snapshot};

fn listener(name: &str, number: u16, hostname: &str) -> GatewayListener {
    GatewayListener {
        name: label(name),
        port: port(number),
        hostname: Hostname::new(hostname),
    }
}

/// A route that answers to a prefix, as `SECTION PREFIX HOST...`.
fn attached(name: &str, says: &str) -> HttpRoute {
    let mut words = says.split_whitespace();
    let section = words.next().filter(|section| *section != "-");
    let prefix = words.next().unwrap();
    let path = PathMatch::Prefix(prefix.to_owned());
    let matches = vec![HttpMatch {
        path,
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
    }];
    HttpRoute {
        parents: Vec::new(),
        gateways: vec![GatewayParent {
            gateway: edge(),
            section: section.map(label),
            port: None,
        }],
        hostnames: words.map(|host| Hostname::new(host).unwrap()).collect(),
        ..route(route_name("default", name), vec![rule(matches)])
    }
}

fn edge() -> GatewayName {
    GatewayName {
        namespace: label("default"),
        name: label("edge"),
    }
}

fn gateway(listeners: Vec<GatewayListener>, routes: &[(&str, &str)]) -> Snapshot {
    let routes = routes.iter().map(|(name, says)| attached(name, says));
    let mut snapshot = snapshot(routes.collect());
    let gateway = Gateway {
        name: edge(),
        listeners,
    };
    snapshot.gateways.insert(edge(), gateway);
    snapshot
}

/// The name of the route that a request gets.
fn select(table: &RouteTable, number: u16, host: &str, path: &str) -> String {
    let request = Request::new(&format!("GET {path}"));
    let entrance = table.entrance(port(number)).unwrap();
    match entrance.select(host.as_bytes(), &request.head()) {
        Selected::Rule { rule, .. } => rule.name.split('/').nth(2).unwrap().to_owned(),
        Selected::NoRoute => "none".to_owned(),
    }
}

/// What a listener narrows does not make a route more specific than it says it is.
#[test]
fn routes_are_as_specific_as_their_own_hostnames() {
    let routes = [
        ("exact", "- / www.example.com"),
        ("wide", "- /foo *.example.com"),
        ("all", "- /bar"),
        ("other", "- / www.example.org"),
    ];
    let listeners = vec![listener("http", 80, "www.example.com")];
    let table = RouteTable::of(&gateway(listeners, &routes));
    for path in ["/", "/foo", "/bar"] {
        assert_eq!(
            select(&table, 80, "www.example.com", path),
            "exact",
            "{path}"
        );
    }
    assert_eq!(select(&table, 80, "www.example.org", "/"), "none");
}

#[test]
fn hidden_matches_are_found_by_host() {
    let routes = [
        ("a", "- /x www.example.com"),
        ("b", "- /x www.example.com shop.example.com"),
        ("c", "- /x"),
    ];
    let snapshot = gateway(vec![listener("http", 80, "")], &routes);
    let found = RouteTable::hidden_matches(&snapshot);
    let found: Vec<_> = found
        .map(|it| format!("{} {}", it.hidden.route, it.parent))
        .collect();
    let want = "b.default listener http of Gateway edge.default for host www.example.com";
    assert_eq!(found, [want]);
}

#[test]
fn the_most_specific_hostname_comes_first_and_paths_after() {
    let routes = [
        ("all", "- /"),
        ("wide", "- / *.example.com"),
        ("deep", "- / *.a.example.com"),
        ("exact", "- /x b.a.example.com"),
        ("pair", "- / one.org two.org"),
    ];
    let table = RouteTable::of(&gateway(vec![listener("http", 80, "")], &routes));
    for (host, path, want) in [
        ("b.a.example.com", "/x", "exact"),
        ("b.a.example.com", "/y", "deep"),
        ("B.A.Example.COM.", "/x", "exact"),
        ("c.b.a.example.com", "/x", "deep"),
        ("a.example.com", "/x", "wide"),
        ("example.com", "/", "all"),
        ("badexample.com", "/", "all"),
        (".example.com", "/", "all"),
        ("one.org", "/", "pair"),
        ("two.org", "/z", "pair"),
        ("10.0.0.1", "/", "all"),
        ("", "/", "all"),
        (&"a.".repeat(400), "/", "all"),
    ] {
        assert_eq!(select(&table, 80, host, path), want, "{host}{path}");
    }
}

#[test]
fn a_listener_has_the_hosts_it_is_about_and_no_other_one_of_its_port_has() {
    let listeners = vec![
        listener("all", 80, ""),
        listener("wide", 80, "*.example.com"),
        listener("exact", 80, "a.example.com"),
        listener("other", 81, "*.example.com"),
    ];
    let routes = [
        ("of-all", "all /"),
        (
            "of-wide",
            "wide /w a.example.com b.example.com *.c.example.com foreign.org",
        ),
        ("of-exact", "exact /e"),
        ("of-wildcard", "exact /f *.example.com"),
        ("of-other", "other / *.org"),
    ];
    let table = RouteTable::of(&gateway(listeners, &routes));
    for (number, host, path, want) in [
        (80, "a.example.com", "/e", "of-exact"),
        (80, "a.example.com", "/f", "of-wildcard"),
        // Of the listener with this very host no route matches, and others are not asked.
        (80, "a.example.com", "/w", "none"),
        (80, "b.example.com", "/w", "of-wide"),
        (80, "b.example.com", "/", "none"),
        (80, "x.c.example.com", "/w", "of-wide"),
        (80, "d.example.com", "/w", "none"),
        (80, "foreign.org", "/w", "of-all"),
        (80, "else.org", "/", "of-all"),
        // Nothing in common with its listener.
        (81, "a.org", "/", "none"),
        (81, "a.example.com", "/", "none"),
    ] {
        assert_eq!(
            select(&table, number, host, path),
            want,
            "{host}:{number}{path}"
        );
    }
    assert!(table.entrance(port(82)).is_none());
}

#[test]
fn a_published_port_is_that_of_its_service() {
    let mut snapshot = gateway(Vec::new(), &[]);
    let cart = snapshot.services.get_mut(&"cart.default".parse().unwrap());
    let cart = cart.unwrap();
    let address = cart.address;
    cart.published = vec![(port(8080), port(80))];
    let table = RouteTable::of(&snapshot);
    assert_eq!(table.published(port(8080)), Some((address, port(80))));
    assert_eq!(table.published(port(80)), None);
}
