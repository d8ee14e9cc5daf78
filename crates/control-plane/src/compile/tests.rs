//! Claims: endpoints come from every source in a fixed order; contradictions are errors, all at
//! once; incomplete objects are conditions and hurt nobody else.
mod gateways;
mod routes;

use std::net::Ipv4Addr;

use selvedge_model::Place;

use super::*;
use crate::document::{SourceFile, parse};

fn compiled(text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    let file = SourceFile {
        name: "f".to_owned(),
        text: text.to_owned(),
    };
    let documents = parse(&[file]).unwrap().documents;
    let path = |path: &str, id| (CgroupRef::Path(path.to_owned()), CgroupId(id));
    let cgroups = BTreeMap::from([path("/a", 10), path("/b", 11)]);
    let facts = Facts {
        generation: Generation(3),
        virtual_range: VirtualRange::DEFAULT,
        cgroups: &cgroups,
        plan: &Plan::default(),
    };
    compile(&documents, facts)
}

const CART: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  clusterIP: 127.96.0.1
  ports:
  - {name: http, port: 80, targetPort: web}
  - {name: admin, port: 81, targetPort: 9000}
";

fn workload(name: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: selvedge.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}}}\n\
         spec: {{service: cart, {spec}}}\n"
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "\n---\napiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\n\
         metadata: {{name: {name}}}\n\
         spec: {{targetRefs: [{{kind: Service, name: cart}}], {spec}}}\n"
    )
}

const SLICE: &str = "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-x, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1, 10.0.0.2]}
- {addresses: [10.0.0.3], conditions: {ready: false}}
ports: [{name: http, port: 8081}]
";

fn endpoints(port: &selvedge_model::ServicePort) -> Vec<String> {
    let endpoints = port.endpoints.iter().map(|endpoint| {
        let place = match endpoint.place {
            Place::Local(cgroup) => format!("{}", cgroup.0),
            Place::Outside(address) => address.to_string(),
        };
        let ready = if endpoint.ready { "" } else { " not ready" };
        format!("{place}:{} x{}{ready}", endpoint.port, endpoint.weight)
    });
    endpoints.collect()
}

#[test]
fn endpoints_come_from_workloads_and_slices() {
    let text = CART.to_owned()
        + &workload("w-a", "cgroup: /a, ports: [{name: web, port: 8080}]")
        + &workload(
            "w-b",
            "cgroup: /b, ports: [{name: web, port: 8888}], resolver: {search: [x]}",
        )
        + &workload("w-c", "address: 10.0.0.9, ports: [{name: web, port: 8080}]")
        + SLICE
        + &policy(
            "p",
            "balancing: {weights: [{workload: w-b, weight: 5}, {address: 10.0.0.2, weight: 0}]}, \
             limits: {connections: 16}, counters: Detailed, resolver: {shadowSearch: false}",
        );
    let compiled = compiled(&text).unwrap();
    assert!(compiled.conditions.is_empty(), "{:?}", compiled.conditions);
    let snapshot = compiled.snapshot;
    let cart = &snapshot.services[&"cart".parse().unwrap()];
    assert_eq!(cart.address, Ipv4Addr::new(127, 96, 0, 1));
    assert_eq!(
        endpoints(&cart.ports[0]),
        [
            "10:8080 x1",
            "11:8888 x5",
            "10.0.0.9:8080 x1",
            "10.0.0.1:8081 x1",
            "10.0.0.2:8081 x0",
            "10.0.0.3:8081 x1 not ready"
        ]
    );
    assert_eq!(
        endpoints(&cart.ports[1]),
        ["10:9000 x1", "11:9000 x5", "10.0.0.9:9000 x1"]
    );
    assert_eq!(
        (cart.connection_limit, cart.detailed_counters),
        (Some(16), true)
    );
    let workload = &snapshot.workloads[&CgroupId(11)];
    assert_eq!(workload.name.to_string(), "w-b.default");
    assert_eq!(
        (workload.dns.search.len(), workload.dns.shadow_search),
        (1, false)
    );
}

#[test]
fn contradictions_are_errors_all_at_once() {
    let other = CART.replace("cart", "shop");
    let far = CART
        .replace("cart", "far")
        .replace("127.96.0.1", "10.96.0.1");
    let text = CART.to_owned()
        + &other
        + &far
        + &workload("w-a", "cgroup: /a")
        + &workload("w-b", "cgroup: /a")
        + &policy("p", "limits: {connections: 1}")
        + &policy("q", "limits: {connections: 2}");
    let errors = compiled(&text).unwrap_err();
    let mut found: Vec<_> = errors
        .iter()
        .map(|e| (e.object.as_str(), e.path.as_str()))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("Service default/far", "spec.clusterIP"),
            ("Service default/shop", "spec.clusterIP"),
            ("TrafficPolicy default/q", "spec.limits.connections"),
            ("Workload default/w-b", "spec.cgroup"),
        ]
    );
    assert!(
        errors.iter().all(|error| error.origin.line > 0),
        "{errors:?}"
    );
}

#[test]
fn incomplete_objects_are_conditions() {
    let text = CART.to_owned()
        + &workload("w-a", "cgroup: /a")
        + &workload("w-z", "cgroup: /absent")
        + &workload("w-s", "address: 10.0.0.1").replace("service: cart", "service: none")
        + &SLICE.replace("name: http", "name: grpc")
        + &policy("p", "balancing: {weights: [{workload: w-q, weight: 5}]}");
    let compiled = compiled(&text).unwrap();
    let conditions = compiled.conditions.iter().map(|condition| {
        (
            condition.key.name.as_str(),
            condition.reason.word(),
            condition.diagnostic.path.as_str(),
        )
    });
    let mut conditions: Vec<_> = conditions.collect();
    conditions.sort_unstable();
    assert_eq!(
        conditions,
        [
            ("cart-x", "PortMissing", "ports[0]"),
            ("p", "WeightUnused", "spec.balancing.weights[0]"),
            ("w-a", "PortMissing", "spec.ports"),
            ("w-s", "ServiceMissing", "spec.service"),
            ("w-z", "CgroupAbsent", "spec.cgroup"),
        ]
    );
    let cart = &compiled.snapshot.services[&"cart".parse().unwrap()];
    assert_eq!(endpoints(&cart.ports[1]), ["10:9000 x1"]);
}

#[test]
fn published_ports_lead_to_one_service() {
    let text = CART.to_owned()
        + &workload(
            "w-a",
            "cgroup: /a, publish: [{port: 80}, {port: 8000}, {port: 1, servicePort: 81}]",
        )
        + &CART
            .replace("cart", "shop")
            .replace("127.96.0.1", "127.96.0.2")
        + &workload("w-b", "cgroup: /b, publish: [{port: 9, servicePort: 9}]");
    let result = compiled(&text).unwrap();
    let cart = &result.snapshot.services[&"cart".parse().unwrap()];
    let published: Vec<_> = cart
        .published
        .iter()
        .map(|(a, b)| (a.get(), b.get()))
        .collect();
    assert_eq!(published, [(1, 81), (80, 80), (8000, 80)]);
}

#[test]
fn a_published_port_leads_to_one_service() {
    // The second service has no port yet, as one made by `run` before its replicas listen.
    let shop = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: shop}\n\
                spec: {clusterIP: 127.96.0.2, ports: []}\n";
    let of_shop = |publish: &str| {
        CART.to_owned()
            + &workload("w-a", "cgroup: /a, portMode: Shared, publish: [{port: 80}]")
            + shop
            + &workload(
                "w-b",
                &format!("cgroup: /b, portMode: Shared, publish: {publish}"),
            )
            .replace("service: cart", "service: shop")
    };
    let errors = compiled(&of_shop("[{port: 81}, {port: 80, servicePort: 9}]")).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        (errors[0].object.as_str(), errors[0].path.as_str()),
        ("Workload default/w-b", "spec.publish[1]")
    );
    for part in [
        "TCP port 80",
        "service cart.default",
        "Workload default/w-a",
    ] {
        assert!(errors[0].message.contains(part), "{}", errors[0].message);
    }
    compiled(&of_shop("[{port: 80, protocol: UDP}]")).unwrap();
}

#[test]
fn udp_ports_are_shared_from_the_first_bind() {
    let dns = "cgroup: /a, portMode: Shared, publish: [{port: 53, protocol: UDP}]";
    let early = compiled(&(CART.to_owned() + &workload("w-a", dns))).unwrap();
    let published = |compiled: &Compiled| {
        let cart = &compiled.snapshot.services[&"cart".parse().unwrap()];
        cart.published_udp
            .iter()
            .map(|it| it.get())
            .collect::<Vec<_>>()
    };
    assert_eq!(published(&early), [53]);
    let about = |compiled: &Compiled| {
        let mut paths = compiled
            .conditions
            .iter()
            .map(|it| it.diagnostic.path.clone());
        paths.any(|path| path == "spec.publish[0]")
    };
    assert!(about(&early), "{:?}", early.conditions);
    let served = CART.to_owned() + "  - {name: dns, port: 530, targetPort: 53, protocol: UDP}\n";
    let served = compiled(&(served + &workload("w-a", dns))).unwrap();
    assert_eq!(published(&served), [53]);
    assert!(!about(&served), "{:?}", served.conditions);
}

#[test]
fn multiplexing_ports_are_named() {
    let text = CART.replace("targetPort: web}", "targetPort: 80, appProtocol: grpc}");
    let conditions = compiled(&text).unwrap().conditions;
    assert_eq!(conditions[0].reason, ConditionReason::BalancedPerConnection);
}
