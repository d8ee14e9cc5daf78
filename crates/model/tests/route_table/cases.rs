//! Single cases: precedence as Gateway API tells it, and what a listener says.

use std::time::Duration;

use selvedge_model::{
    RequestPolicy, RouteTable, Selected, ServiceName, Spoken, TcpRoute, Timeouts,
};

use crate::said::*;

#[test]
fn precedence_is_that_of_gateway_api() {
    // The rules of one route, a request, and the rule it gets with the bytes of its prefix.
    type Case = (
        &'static [&'static str],
        &'static str,
        Option<(usize, usize)>,
    );
    let cases: &[Case] = &[
        // An exact path comes before a longer list of anything else.
        (
            &["/ /a GET x:1 q=1", "= /a"],
            "GET /a?q=1 x:1",
            Some((1, 0)),
        ),
        (&["= /a GET", "/ /a"], "POST /a", Some((1, 2))),
        // Exact is exact and case-sensitive.
        (&["= /abc"], "GET /abc/", None),
        (&["= /abc"], "GET /Abc", None),
        (&["= /abc"], "GET /abcd", None),
        // Prefixes are matched element by element; a slash at the end is ignored.
        (&["/ /abc"], "GET /abc", Some((0, 4))),
        (&["/ /abc"], "GET /abc/", Some((0, 4))),
        (&["/ /abc"], "GET /abc/def", Some((0, 4))),
        (&["/ /abc/"], "GET /abc", Some((0, 4))),
        (&["/ /abc"], "GET /abcd", None),
        (&["/ /"], "GET /", Some((0, 0))),
        (&["/ /"], "OPTIONS *", Some((0, 0))),
        // The longest prefix, whatever the shorter ones ask for.
        (
            &["/ / GET x:1", "/ /a/b", "/ /a"],
            "GET /a/b/c x:1",
            Some((1, 4)),
        ),
        (&["/ /a/b/c/d", "/ /a"], "GET /a/b/c", Some((1, 2))),
        // A longer one that does not hold leaves the request to shorter ones.
        (&["/ /a", "/ /a/b x:1"], "GET /a/b", Some((0, 2))),
        // Then a method, before any number of headers.
        (&["/ / x:1 y:2", "/ / GET"], "GET / x:1 y:2", Some((1, 0))),
        // Methods are case-sensitive.
        (&["/ / GET"], "get /", None),
        // Then most headers, before any number of parameters.
        (
            &["/ / q=1 r=2", "/ / x:1"],
            "GET /?q=1&r=2 x:1",
            Some((1, 0)),
        ),
        (&["/ / x:1", "/ / x:1 y:2"], "GET / x:1 y:2", Some((1, 0))),
        // Then most parameters.
        (&["/ / q=1", "/ / q=1 r=2"], "GET /?r=2&q=1", Some((1, 0))),
        // Then the first rule.
        (&["/ / x:1", "/ / y:2"], "GET / x:1 y:2", Some((0, 0))),
        // Expressions match whole paths, after all others.
        (&["~ /a.*", "/ /"], "GET /abc", Some((1, 0))),
        (&["~ /a.*", "~ /a.* GET"], "GET /abc", Some((1, 0))),
        (&["~ /a"], "GET /ab", None),
        // Names of fields in any case, values exactly; the first line counts.
        (&["/ / x:a"], "GET / X:a", Some((0, 0))),
        (&["/ / x:a"], "GET / x:A", None),
        (&["/ / x:a"], "GET / x:b x:a", None),
        (&["/ / x:~a+"], "GET / x:aa", Some((0, 0))),
        // The first parameter of a name counts; nothing is decoded.
        (&["/ / q=1"], "GET /?qq=1&q=1&q=2", Some((0, 0))),
        (&["/ / q=1"], "GET /?q=2&q=1", None),
        (&["/ / q=a"], "GET /?q=%61", None),
        (&["/ / q="], "GET /?q", Some((0, 0))),
        (&["/ / q=1"], "GET /", None),
    ];
    for (rules, request, want) in cases {
        let rules = rules.iter().map(|text| rule(vec![read_match(text)]));
        let one = route(route_name("default", "one"), rules.collect());
        let table = RouteTable::of(&snapshot(vec![one.clone()]));
        let got = selected(&table, &Request::new(request));
        let want = want.map(|(rule, prefix)| (format!("default/one/{rule}"), prefix));
        assert_eq!(got, want, "{request} among {:?}", one.rules);
    }
}

#[test]
fn ties_across_routes_go_to_the_first_namespace_and_name() {
    let all = || vec![rule(vec![read_match("/ /")])];
    let first_of = |names: &[(&str, &str)]| {
        let routes = names
            .iter()
            .map(|(namespace, name)| route(route_name(namespace, name), all()));
        let table = RouteTable::of(&snapshot(routes.collect()));
        selected(&table, &Request::new("GET /")).unwrap().0
    };
    assert_eq!(first_of(&[("b", "a"), ("a", "b")]), "a/b/0");
    // As the text `namespace/name`: a hyphen comes before the slash.
    assert_eq!(first_of(&[("a", "x"), ("a-b", "x")]), "a-b/x/0");
}

#[test]
fn listeners_say_what_is_spoken_and_where_the_rest_goes() {
    let mut snapshot = snapshot(vec![route(
        route_name("default", "one"),
        vec![rule(vec![])],
    )]);
    let tcp = TcpRoute {
        name: route_name("default", "two"),
        parents: vec![parent("cart", Some(81))],
        backends: vec![backend("plain", 80, 1), backend("gone", 80, 1)],
    };
    snapshot.tcp_routes.insert(tcp.name.clone(), tcp);
    let table = RouteTable::of(&snapshot);
    let http = table.listener(CART, port(80)).unwrap();
    assert_eq!(
        (http.service.to_string().as_str(), http.spoken),
        ("cart.default", Spoken::Http)
    );
    assert!(matches!(
        http.select(&Request::new("GET /").head()),
        Selected::NoRoute
    ));
    let tcp = table.listener(CART, port(81)).unwrap();
    assert_eq!(tcp.spoken, Spoken::Tcp);
    let rule = tcp.connection_rule();
    assert_eq!(rule.name, "TCPRoute/default/two");
    let to = rule.pick(0).unwrap();
    assert_eq!(table.backend(to), &backend("plain", 80, 1).backend);
    assert_eq!(
        rule.pick(u32::MAX),
        None,
        "a backend that is not there takes its share along"
    );
    assert!(table.listener(PLAIN, port(80)).is_none());
    assert!(table.listener(CART, port(82)).is_none());
}

#[test]
fn policies_fill_in_what_routes_leave_out() {
    let [short, long] = [1, 9].map(Duration::from_secs);
    let mut said = rule(vec![read_match("= /said")]);
    said.request_timeout = Some(long);
    let mut unbounded = rule(vec![read_match("= /unbounded")]);
    unbounded.request_timeout = Some(Duration::ZERO);
    let silent = rule(vec![read_match("/ /")]);
    let rules = vec![said, unbounded, silent];
    let mut snapshot = snapshot(vec![route(route_name("default", "one"), rules)]);
    let cart: ServiceName = "cart".parse().unwrap();
    snapshot.services.get_mut(&cart).unwrap().requests = Some(RequestPolicy {
        timeouts: Timeouts {
            request: Some(short),
            attempt: None,
        },
        ..RequestPolicy::default()
    });
    let table = RouteTable::of(&snapshot);
    for (number, path, want) in [
        (80, "GET /said", Some(long)),
        (80, "GET /unbounded", None),
        (80, "GET /else", Some(short)),
        (81, "GET /said", Some(short)),
    ] {
        let listener = table.listener(CART, port(number)).unwrap();
        let request = Request::new(path);
        let Selected::Rule { rule, .. } = listener.select(&request.head()) else {
            panic!("{path} has no rule");
        };
        assert_eq!(rule.timeouts.request, want, "{path}");
    }
}

#[test]
fn a_route_that_could_not_be_taken_opens_no_way() {
    let table = RouteTable::of(&snapshot(Vec::new()));
    let request = Request::new("GET /");
    let lacking = table.listener(CART, port(80)).unwrap();
    assert!(matches!(lacking.select(&request.head()), Selected::NoRoute));
    assert_eq!(lacking.connection_rule().pick(7), None);
    let open = table.listener(CART, port(81)).unwrap();
    let Selected::Rule { rule, .. } = open.select(&request.head()) else {
        panic!("a port without routes leads to its service");
    };
    assert_eq!(rule.name, "Service/default/cart/81");
    assert!(rule.pick(7).is_some());
}

#[test]
fn matches_that_no_request_gets_are_found() {
    for (rules, want) in [
        (&["/ /", "/ /a", "= /", "/ / x:1"][..], &[][..]),
        (&["/ /", "/ /"], &[(1, 0)]),
        (&["= /a GET x:1 y:2", "= /a GET y:2 x:1"], &[(1, 0)]),
        (&["~ /a", "/ /"], &[(0, 1)]),
        (&["~ /a", "/ / GET"], &[]),
    ] {
        let texts = rules.iter().map(|text| rule(vec![read_match(text)]));
        let one = route(route_name("default", "one"), texts.collect());
        let snapshot = snapshot(vec![one]);
        let found = RouteTable::hidden_matches(&snapshot);
        let found: Vec<_> = found.map(|it| (it.hidden.rule, it.behind.rule)).collect();
        assert_eq!(found, want, "{rules:?}");
    }
}
