//! Random routes and requests: a table of any size selects what reading its routes one by one does.

use std::cmp::Reverse;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvedge_model::{
    HttpMatch, HttpRoute, PathMatch, Pattern, RouteTable, Snapshot, TextMatch, ValueMatch,
};

use crate::said::*;

fn path() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b"]), 0..4).prop_map(|elements| format!("/{}", elements.join("/")))
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    let pattern = select(vec!["/a.*", "/.*b", "/a/?", ".*"]);
    prop_oneof![
        2 => path().prop_map(PathMatch::Exact),
        4 => path().prop_map(PathMatch::Prefix),
        1 => pattern.prop_map(|text| PathMatch::Regex(Pattern::new(text).unwrap())),
    ]
}

fn value_matches() -> impl Strategy<Value = Vec<ValueMatch>> {
    let one = |name| {
        option::weighted(0.3, select(vec!["1", "2", "~.*"]))
            .prop_map(move |value| value.map(|value| value_match(name, value)))
    };
    (one("x"), one("y")).prop_map(|(x, y)| x.into_iter().chain(y).collect())
}

fn method() -> impl Strategy<Value = String> {
    select(vec!["GET".to_owned(), "POST".to_owned()])
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let parts = (
        path_match(),
        value_matches(),
        value_matches(),
        option::weighted(0.3, method()),
    );
    parts.prop_map(|(path, headers, query, method)| HttpMatch {
        path,
        headers,
        query,
        method,
    })
}

fn routes() -> impl Strategy<Value = Vec<HttpRoute>> {
    let rules = || vec(vec(http_match(), 1..4).prop_map(rule), 1..5);
    let name = (select(vec!["a", "a-b", "b"]), select(vec!["x", "x-y"]));
    let one = (name, rules(), option::of(Just(80)));
    let one = one.prop_map(|((namespace, name), rules, only)| HttpRoute {
        gateways: Vec::new(),
        hostnames: Vec::new(),
        name: route_name(namespace, name),
        parents: vec![parent("cart", only), parent("cart", Some(81))],
        rules,
    });
    vec(one, 1..6)
}

fn request() -> impl Strategy<Value = Request> {
    let value = || option::of(select(vec!["1", "2", "3"]));
    let slash = select(vec!["", "/"]);
    let parts = (
        method(),
        path(),
        slash,
        (value(), value()),
        (value(), value()),
    );
    parts.prop_map(|(method, path, slash, (x, y), (p, q))| {
        let pairs = |one: Option<&str>, other: Option<&str>| -> Vec<(String, String)> {
            let pairs = [("x", one), ("y", other)].into_iter();
            pairs
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                .collect()
        };
        let query = pairs(p, q)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"));
        let query = query.collect::<Vec<_>>().join("&");
        Request {
            method,
            path: format!("{path}{slash}"),
            query: (!query.is_empty()).then_some(query),
            fields: pairs(x, y),
        }
    })
}

/// What the first-hand reading of all routes, one by one, gives.
fn selected_one_by_one(snapshot: &Snapshot, request: &Request) -> Option<(String, usize)> {
    let mut found = Vec::new();
    for route in snapshot.http_routes.values() {
        let name = format!("{}/{}", route.name.namespace, route.name.name);
        for (index, rule) in route.rules.iter().enumerate() {
            for http in &rule.matches {
                let Some((kind, length)) = path_holds(&http.path, &request.path) else {
                    continue;
                };
                if others_hold(http, request) {
                    let precedence = (
                        kind,
                        Reverse(length),
                        Reverse(http.method.is_some()),
                        Reverse(http.headers.len()),
                        Reverse(http.query.len()),
                        name.clone(),
                        index,
                    );
                    found.push((precedence, length));
                }
            }
        }
    }
    let (precedence, length) = found.into_iter().min()?;
    Some((format!("{}/{}", precedence.5, precedence.6), length))
}

/// The kind of a match in the order of precedence, and the length of its prefix, if it holds.
fn path_holds(wanted: &PathMatch, path: &str) -> Option<(u8, usize)> {
    match wanted {
        PathMatch::Exact(exact) => (exact == path).then_some((0, 0)),
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            let wanted: Vec<_> = prefix.split('/').collect();
            let there: Vec<_> = path.split('/').collect();
            there.starts_with(&wanted).then_some((1, prefix.len()))
        }
        PathMatch::Regex(pattern) => pattern.matches(path.as_bytes()).then_some((2, 0)),
    }
}

fn others_hold(http: &HttpMatch, request: &Request) -> bool {
    let value_holds = |wanted: &ValueMatch, value: Option<&str>| match (&wanted.value, value) {
        (_, None) => false,
        (TextMatch::Exact(text), Some(value)) => text == value,
        (TextMatch::Regex(pattern), Some(value)) => pattern.matches(value.as_bytes()),
    };
    let field = |name: &str| request.fields.iter().find(|(other, _)| other == name);
    let query = request.query.as_deref().unwrap_or_default();
    let parameters: Vec<_> = query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .collect();
    let parameter = |name: &str| parameters.iter().find(|(other, _)| *other == name);
    let header_holds = |wanted: &ValueMatch| {
        value_holds(wanted, field(&wanted.name).map(|(_, value)| value.as_str()))
    };
    let query_holds =
        |wanted: &ValueMatch| value_holds(wanted, parameter(&wanted.name).map(|(_, value)| *value));
    http.method
        .as_ref()
        .is_none_or(|method| *method == request.method)
        && http.headers.iter().all(header_holds)
        && http.query.iter().all(query_holds)
}

proptest! {
    #[test]
    fn a_table_selects_what_reading_one_by_one_selects(
        routes in routes(),
        requests in vec(request(), 1..20),
    ) {
        let snapshot = snapshot(routes);
        let table = RouteTable::of(&snapshot);
        for request in requests {
            let want = selected_one_by_one(&snapshot, &request);
            prop_assert_eq!(selected(&table, &request), want, "{:?}", request);
        }
    }
}
