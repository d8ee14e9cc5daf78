//! Claims: what may be no HTTP stays where it is; who calls whom is what the kernel has counted, and what routes say; a
//! share does not outlive its objective.
use std::time::Duration;

use selvedge_model::{
    Backend, Edge, EdgeCounters, Generation, HttpFilters, HttpRoute, HttpRule, Label, Port,
    RouteName, RouteParent, Way, WeightedBackend,
};

use super::*;
use crate::stored_plan::tests::{name, share};
use crate::{Facts, SourceFile, VirtualRange, compile, parse};

/// `front` has an objective; `cart` and `ads` speak HTTP, of `store` nobody knows.
fn shop(plan: &Plan) -> Snapshot {
    let service = |name: &str, address: u8, port: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{clusterIP: 127.96.0.{address}, ports: [{{port: 80{port}}}]}}\n"
        )
    };
    let http = ", appProtocol: http";
    let objective = "---\napiVersion: selvedge.dev/v1alpha1\nkind: ServiceObjective\nmetadata: {name: front}\n\
        spec: {targetRefs: [{kind: Service, name: front}], latency: {p95: 250ms}, mode: Guard}\n";
    let text = [
        &service("front", 1, ""),
        &service(
            "cart",
            2,
            ", name: web, appProtocol: http}, {name: db, port: 81",
        ),
        &service("ads", 3, http),
        &service("store", 4, ""),
        objective,
    ];
    let file = SourceFile {
        name: "f".to_owned(),
        text: text.concat(),
    };
    let facts = Facts {
        generation: Generation(1),
        virtual_range: VirtualRange::DEFAULT,
        cgroups: &BTreeMap::new(),
        plan,
    };
    compile(&parse(&[file]).unwrap().documents, facts)
        .unwrap()
        .snapshot
}

#[test]
fn who_calls_whom_is_what_was_counted_between_services_whose_requests_can_be_seen() {
    let snapshot = shop(&Plan::default());
    let edge = |source: Option<&str>, destination: &str, connections| {
        let address = |it: &str| snapshot.services[&name(it)].address;
        let edge = Edge {
            source: source.map(address),
            destination: Some(address(destination)),
        };
        let counters = EdgeCounters {
            connections,
            ..EdgeCounters::default()
        };
        (edge, counters)
    };
    let observed = Observation {
        edges: [
            edge(None, "front", 9),
            edge(Some("front"), "cart", 7),
            edge(Some("front"), "ads", 0),
            edge(Some("cart"), "store", 5),
        ]
        .into(),
        ..Observation::default()
    };
    let seen = observation(&snapshot, &observed, &planner::Told::default()).services;
    let names: Vec<_> = seen.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["ads.default", "cart.default", "front.default"]);
    assert_eq!(seen[&name("front")].calls, [name("cart")].into());
    assert!(seen[&name("cart")].calls.is_empty());
    assert!(seen[&name("front")].objective.is_some());
    let plan = planner::plan(&planner::Observation { services: seen }, &Plan::default());
    let planned: Vec<_> = plan.shares.keys().map(ToString::to_string).collect();
    assert_eq!(planned, ["cart.default", "front.default"]);
}

/// What requests are led to stands behind the service that they are for.
#[test]
fn a_plan_follows_routes() {
    let mut snapshot = shop(&Plan::default());
    let backend = |it: &str, weight| WeightedBackend {
        backend: Backend {
            service: name(it),
            port: Port::new(80).unwrap(),
        },
        weight,
    };
    let rule = HttpRule {
        name: None,
        matches: Vec::new(),
        filters: HttpFilters::default(),
        backends: vec![backend("front", 9), backend("store", 1), backend("ads", 0)],
        request_timeout: None,
        backend_request_timeout: None,
        retry: None,
    };
    let route = RouteName {
        namespace: Label::default_namespace(),
        name: Label::new("canary").unwrap(),
    };
    let canary = HttpRoute {
        name: route.clone(),
        parents: vec![RouteParent {
            service: name("front"),
            port: None,
        }],
        gateways: Vec::new(),
        hostnames: Vec::new(),
        rules: vec![rule],
    };
    snapshot.http_routes.insert(route, canary);
    let told = planner::Told::default();
    let seen = observation(&snapshot, &Observation::default(), &told).services;
    assert_eq!(seen[&name("front")].calls, [name("store")].into());
    assert!(seen.contains_key(&name("store")), "its requests are seen");
}

/// Its mode is the objective's, which may have changed since, and no share outlives that.
#[test]
fn a_share_holds_while_its_objective_does() {
    let plan = Plan {
        shares: [
            (name("front"), share("front", 40)),
            (name("cart"), share("front", 900)),
            (name("ads"), share("store", 40)),
            (name("gone"), share("front", 40)),
        ]
        .into(),
    };
    let snapshot = shop(&plan);
    let own = |it: &str| {
        let policy = snapshot.services[&name(it)].requests.as_ref()?;
        policy.of_own()
    };
    let objective = |millis| {
        Some(Objective {
            latency: Duration::from_millis(millis),
            mode: PilotMode::Guard,
        })
    };
    assert_eq!(own("front"), objective(40));
    assert_eq!(
        own("cart"),
        objective(250),
        "no share is more than the whole"
    );
    assert_eq!(own("ads"), None, "there is no objective of store");
    let way = |it: &str, port: usize| snapshot.services[&name(it)].ports[port].way;
    assert_eq!(way("cart", 0), Way::ProxyOrDirect);
    assert_eq!(way("cart", 1), Way::Direct, "what it speaks is not known");
    assert_eq!(way("ads", 0), Way::Direct);
}
