//! Routes and what is said about requests: any of them, for the properties, and which are refused.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvedge_feed::{Publication, Settings, Subscription};
use selvedge_model::{
    Backend, Backoff, Ejection, FieldChanges, Gateway, GatewayListener, GatewayName, GatewayParent,
    Generation, Hostname, HttpAction, HttpFilters, HttpMatch, HttpRoute, HttpRule, Label,
    Objective, PathChange, PathMatch, Pattern, PilotMode, Port, Redirect, RequestPolicy,
    RetryBudget, RetryPolicy, Rewrite, RouteName, RouteParent, ServiceName, Snapshot, TcpRoute,
    TextMatch, Timeouts, ValueMatch, Way, WeightedBackend,
};

use crate::script::deliver;

pub(crate) fn way() -> impl Strategy<Value = Way> {
    select(vec![Way::Direct, Way::ProxyOrDirect, Way::ProxyOnly])
}

fn duration() -> impl Strategy<Value = Duration> {
    (0..1u64 << 40).prop_map(Duration::from_millis)
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let backoff = (duration(), duration(), duration());
    let parts = (any::<u8>(), vec(400..=599u16, 0..4), backoff, any::<bool>());
    parts.prop_map(
        |(attempts, statuses, (least, base, most), non_idempotent)| RetryPolicy {
            attempts,
            statuses,
            backoff: Backoff { least, base, most },
            non_idempotent,
        },
    )
}

pub(crate) fn request_policy() -> impl Strategy<Value = RequestPolicy> {
    let ejection = (1..=u16::MAX, duration(), any::<u8>());
    let ejection = ejection.prop_map(|(failures, duration, most_percent)| Ejection {
        consecutive_failures: NonZeroU16::new(failures).unwrap(),
        duration,
        most_percent,
    });
    let budget = (any::<u16>(), any::<u16>());
    let budget = budget.prop_map(|(percent, per_second)| RetryBudget {
        percent,
        per_second,
    });
    let parts = (
        (option::of(duration()), option::of(duration())),
        option::of(retry()),
        option::of(budget),
        any::<u32>(),
        option::of(ejection),
        (option::of(objective()), option::of(objective())),
        btree_map(service(), any::<u16>(), 0..3),
    );
    parts.prop_map(
        |(
            (request, attempt),
            retry,
            retry_budget,
            limit,
            ejection,
            (objective, share),
            weights,
        )| {
            RequestPolicy {
                timeouts: Timeouts { request, attempt },
                retry,
                retry_budget,
                requests_per_endpoint: NonZeroU32::new(limit),
                ejection,
                objective,
                share,
                caller_weights: weights,
            }
        },
    )
}

fn objective() -> impl Strategy<Value = Objective> {
    let modes = [
        PilotMode::Off,
        PilotMode::Observe,
        PilotMode::Guard,
        PilotMode::Drive,
    ];
    let parts = (duration(), select(modes.to_vec()));
    parts.prop_map(|(latency, mode)| Objective { latency, mode })
}

fn label() -> impl Strategy<Value = Label> {
    "[a-d]".prop_map(|text| Label::new(&text).unwrap())
}

fn service() -> impl Strategy<Value = ServiceName> {
    (label(), label()).prop_map(|(namespace, name)| ServiceName::new(namespace, name))
}

fn port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(|number| Port::new(number).unwrap())
}

fn parents() -> impl Strategy<Value = Vec<RouteParent>> {
    let parent = (service(), option::of(port()));
    vec(
        parent.prop_map(|(service, port)| RouteParent { service, port }),
        0..3,
    )
}

fn backends() -> impl Strategy<Value = Vec<WeightedBackend>> {
    let backend = (service(), port(), 0..=WeightedBackend::MAX_WEIGHT);
    let backend = backend.prop_map(|(service, port, weight)| WeightedBackend {
        backend: Backend { service, port },
        weight,
    });
    vec(backend, 0..3)
}

fn pattern() -> impl Strategy<Value = Pattern> {
    "[a-c]{1,3}[*+?]?".prop_map(|text| Pattern::new(&text).unwrap())
}

fn path() -> impl Strategy<Value = String> {
    "(/[a-z0-9~%]{1,4}){1,3}".prop_map(|path| path.replace('%', "%20"))
}

fn value_match() -> impl Strategy<Value = ValueMatch> {
    let value = prop_oneof![
        "[a-z0-9]{1,9}".prop_map(TextMatch::Exact),
        pattern().prop_map(TextMatch::Regex),
    ];
    ("[a-z-]{1,9}", value).prop_map(|(name, value)| ValueMatch { name, value })
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        path().prop_map(PathMatch::Exact),
        path().prop_map(PathMatch::Prefix),
        pattern().prop_map(PathMatch::Regex),
    ];
    let values = || vec(value_match(), 0..3);
    let parts = (path, values(), values(), option::of("[A-Z]{1,7}"));
    parts.prop_map(|(path, headers, query, method)| HttpMatch {
        path,
        headers,
        query,
        method,
    })
}

fn filters() -> impl Strategy<Value = HttpFilters> {
    let changes = || {
        let fields = || vec(("x-[a-z]{1,5}", "[a-z][a-z ]{0,5}[a-z]"), 0..3);
        let parts = (fields(), fields(), vec("x-[a-z]{1,5}", 0..3));
        parts.prop_map(|(set, add, remove)| FieldChanges { set, add, remove })
    };
    let new_path = || {
        option::of(prop_oneof![
            path().prop_map(PathChange::Full),
            path().prop_map(PathChange::Prefix),
            Just(PathChange::Prefix(String::new())),
        ])
    };
    let host = || option::of("[a-z]{1,5}\\.[a-z]{1,5}");
    let scheme = option::of(select(vec!["http".to_owned(), "https".to_owned()]));
    let status = select(Redirect::STATUSES.to_vec());
    let redirect = (scheme, host(), new_path(), option::of(port()), status);
    let redirect = redirect.prop_map(|(scheme, host, path, port, status)| Redirect {
        scheme,
        host,
        path,
        port,
        status,
    });
    let rewrite = (host(), new_path()).prop_map(|(host, path)| Rewrite { host, path });
    let action = prop_oneof![
        redirect.prop_map(HttpAction::Redirect),
        rewrite.prop_map(HttpAction::Rewrite),
    ];
    let parts = (changes(), changes(), option::of(action));
    parts.prop_map(|(request, response, action)| HttpFilters {
        request,
        response,
        action,
    })
}

fn rule() -> impl Strategy<Value = HttpRule> {
    let parts = (
        option::of(label()),
        vec(http_match(), 0..3),
        filters(),
        backends(),
        (option::of(duration()), option::of(duration())),
        option::of(retry()),
    );
    parts.prop_map(
        |(name, matches, filters, backends, (request, attempt), retry)| HttpRule {
            name,
            matches,
            filters,
            backends,
            request_timeout: request,
            backend_request_timeout: attempt,
            retry,
        },
    )
}

fn route_name(ServiceName { namespace, name }: ServiceName) -> RouteName {
    RouteName { namespace, name }
}

fn gateway_parent(rules: &[HttpRule]) -> GatewayParent {
    let gateway: ServiceName = "edge".parse().unwrap();
    GatewayParent {
        gateway: GatewayName {
            namespace: gateway.namespace,
            name: gateway.name,
        },
        section: rules.first().and_then(|rule| rule.name.clone()),
        port: Port::new(80 + rules.len() as u16),
    }
}

pub(crate) fn gateways() -> impl Strategy<Value = BTreeMap<GatewayName, Gateway>> {
    let hostname = select(vec!["", "a.example.com", "*.example.com"]);
    let listener =
        (label(), 1_u16.., hostname).prop_map(|(name, port, hostname)| GatewayListener {
            name,
            port: Port::new(port).unwrap(),
            hostname: Hostname::new(hostname),
        });
    vec((service(), vec(listener, 0..3)), 0..3).prop_map(|gateways| {
        let gateways = gateways.into_iter().map(|(name, listeners)| {
            let ServiceName { namespace, name } = name;
            let name = GatewayName { namespace, name };
            (name.clone(), Gateway { name, listeners })
        });
        gateways.collect()
    })
}

pub(crate) fn http_routes() -> impl Strategy<Value = BTreeMap<RouteName, HttpRoute>> {
    let route = (service(), parents(), vec(rule(), 0..3));
    vec(route, 0..3).prop_map(|routes| {
        let routes = routes.into_iter().map(|(name, parents, rules)| {
            let name = route_name(name);
            let route = HttpRoute {
                name: name.clone(),
                parents,
                gateways: vec![gateway_parent(&rules)],
                hostnames: vec![Hostname::new("*.example.com").unwrap()],
                rules,
            };
            (name, route)
        });
        routes.collect()
    })
}

pub(crate) fn tcp_routes() -> impl Strategy<Value = BTreeMap<RouteName, TcpRoute>> {
    vec((service(), parents(), backends()), 0..3).prop_map(|routes| {
        let routes = routes.into_iter().map(|(name, parents, backends)| {
            let name = route_name(name);
            let route = TcpRoute {
                name: name.clone(),
                parents,
                backends,
            };
            (name, route)
        });
        routes.collect()
    })
}

/// A route that can be taken.
fn plain_route() -> HttpRoute {
    let service: ServiceName = "cart".parse().unwrap();
    let http = HttpMatch {
        path: PathMatch::Exact("/a".to_owned()),
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
    };
    let backend = Backend {
        service: service.clone(),
        port: Port::new(80).unwrap(),
    };
    HttpRoute {
        name: route_name("r".parse().unwrap()),
        gateways: Vec::new(),
        hostnames: Vec::new(),
        parents: vec![RouteParent {
            service,
            port: None,
        }],
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

fn snapshot(generation: u64, route: HttpRoute) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::empty();
    snapshot.generation = Generation(generation);
    snapshot.http_routes.insert(route.name.clone(), route);
    Arc::new(snapshot)
}

#[test]
fn a_route_that_would_break_a_message_is_refused_and_the_last_good_one_stays() {
    let header = |name: &str, value: &str| ValueMatch {
        name: name.to_owned(),
        value: TextMatch::Exact(value.to_owned()),
    };
    type Change = fn(&mut HttpRule, ValueMatch);
    let changes: [(&str, Change); 9] = [
        ("path", |rule, _| {
            rule.matches[0].path = PathMatch::Exact("/a b".to_owned())
        }),
        ("path", |rule, _| {
            rule.matches[0].path = PathMatch::Prefix("a".to_owned())
        }),
        ("method", |rule, _| {
            rule.matches[0].method = Some("GET /".to_owned())
        }),
        ("headers", |rule, one| {
            rule.matches[0].headers = vec![one; 17]
        }),
        ("name", |rule, one| {
            rule.matches[0].headers = vec![ValueMatch {
                name: "A".to_owned(),
                ..one
            }];
        }),
        ("value", |rule, _| {
            rule.filters.response.add = vec![("x-a".to_owned(), "b\r\nc: d".to_owned())];
        }),
        ("content-length", |rule, _| {
            rule.filters.request.remove = vec!["content-length".to_owned()];
        }),
        ("host", |rule, _| {
            let host = Some("a\r\nb".to_owned());
            rule.filters.action = Some(HttpAction::Rewrite(Rewrite { host, path: None }));
        }),
        ("weight", |rule, _| {
            rule.backends[0].weight = WeightedBackend::MAX_WEIGHT + 1
        }),
    ];
    for (what, change) in changes {
        let mut publication = Publication::new(Settings::default());
        let mut subscription = Subscription::new();
        publication.publish(snapshot(1, plain_route()));
        assert_eq!(
            deliver(&mut publication, &mut subscription)
                .unwrap()
                .refused,
            0
        );
        let mut bad = plain_route();
        change(&mut bad.rules[0], header("x-a", "b"));
        publication.publish(snapshot(2, bad));
        let ack = deliver(&mut publication, &mut subscription).unwrap();
        assert_eq!(ack.refusals.len(), 1, "{what}");
        assert_eq!(ack.refusals[0].resource, "HTTPRoute r.default");
        assert!(
            ack.refusals[0].message.contains(what),
            "{what}: {:?}",
            ack.refusals
        );
        let there = &subscription.view().unwrap().snapshot.http_routes;
        assert_eq!(there.values().collect::<Vec<_>>(), [&plain_route()]);
    }
}
