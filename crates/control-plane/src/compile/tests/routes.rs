//! Claims: a port goes through the proxy only for what is attached to it; routes that exclude each
//! other are errors, by what they ask for; what is not there is a condition.
use std::time::Duration;

use selvedge_model::{RouteTable, Way};

use super::*;

fn route(kind: &str, name: &str, parent: &str, backend: &str) -> String {
    format!(
        "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n\
         spec:\n  parentRefs:\n  - {{kind: Service, {parent}}}\n  rules:\n  - backendRefs:\n    \
         - {{{backend}}}\n"
    )
}

/// `cart` with a TCP port of a number of its own beside a UDP port.
const BOTH: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  clusterIP: 127.96.0.2
  ports:
  - {name: web, port: 80}
  - {name: dns, port: 53, protocol: UDP}
";

fn ways(compiled: &Compiled, service: &str) -> Vec<Way> {
    let service = &compiled.snapshot.services[&service.parse().unwrap()];
    service.ports.iter().map(|port| port.way).collect()
}

#[test]
fn a_port_goes_through_the_proxy_for_what_is_attached_to_it() {
    use Way::{Direct, ProxyOnly, ProxyOrDirect};
    let requests = policy("p", "timeouts: {request: 1s}");
    for (text, want) in [
        (String::new(), [Direct, Direct]),
        (policy("p", "limits: {connections: 3}"), [Direct, Direct]),
        (requests.clone(), [ProxyOrDirect, ProxyOrDirect]),
        (
            route("HTTPRoute", "r", "name: cart", "name: cart, port: 80"),
            [ProxyOnly, ProxyOnly],
        ),
        (
            route(
                "HTTPRoute",
                "r",
                "name: cart, port: 81",
                "name: cart, port: 80",
            ),
            [Direct, ProxyOnly],
        ),
        (
            route(
                "TCPRoute",
                "r",
                "name: cart, sectionName: http",
                "name: cart, port: 80",
            ) + &requests,
            [ProxyOnly, ProxyOrDirect],
        ),
        (
            route(
                "HTTPRoute",
                "r",
                "name: cart, sectionName: none",
                "name: cart, port: 80",
            ),
            [Direct, Direct],
        ),
    ] {
        let compiled = compiled(&(CART.to_owned() + &text)).unwrap();
        assert_eq!(ways(&compiled, "cart"), want, "{text}");
    }
    let text = BOTH.to_owned() + &route("HTTPRoute", "r", "name: both", "name: both, port: 80");
    assert_eq!(ways(&compiled(&text).unwrap(), "both"), [ProxyOnly, Direct]);
}

#[test]
fn ports_whose_protocol_hides_requests_stay_direct() {
    let cart = CART.replace("port: 81,", "port: 81, appProtocol: tcp,");
    let text = cart.clone() + &policy("p", "retry: {}");
    let compiled_here = compiled(&text).unwrap();
    assert_eq!(
        ways(&compiled_here, "cart"),
        [Way::ProxyOrDirect, Way::Direct]
    );
    let reasons = compiled_here.conditions.iter().map(|it| it.reason);
    assert_eq!(
        reasons.collect::<Vec<_>>(),
        [ConditionReason::RequestsUnseen]
    );
    let text = cart.clone() + &route("HTTPRoute", "r", "name: cart", "name: cart, port: 80");
    let errors = compiled(&text).unwrap_err();
    assert_eq!(errors[0].path, "spec.parentRefs[0]");
    assert!(errors[0].message.contains("port 81"), "{errors:?}");
    let text = cart
        + &route(
            "HTTPRoute",
            "r",
            "name: cart, port: 80",
            "name: cart, port: 80",
        );
    compiled(&text).unwrap();
}

#[test]
fn routes_of_other_kinds_exclude_each_other() {
    let http = |parent| route("HTTPRoute", "h", parent, "name: cart, port: 80");
    let tcp = |name, parent| route("TCPRoute", name, parent, "name: cart, port: 80");
    for (one, other, is_right) in [
        (http("name: cart"), tcp("t", "name: cart"), false),
        (http("name: cart"), tcp("t", "name: cart, port: 81"), false),
        (
            http("name: cart, port: 81"),
            tcp("t", "name: cart, sectionName: admin"),
            false,
        ),
        (
            http("name: cart, port: 80"),
            tcp("t", "name: cart, port: 81"),
            true,
        ),
        // No such port yet; `run` may give it one at any time.
        (http("name: cart, port: 99"), tcp("t", "name: cart"), false),
        (
            tcp("s", "name: cart"),
            tcp("t", "name: cart, port: 80"),
            false,
        ),
        (
            tcp("s", "name: cart, port: 81"),
            tcp("t", "name: cart, port: 80"),
            true,
        ),
    ] {
        let result = compiled(&(CART.to_owned() + &one + &other));
        assert_eq!(result.is_ok(), is_right, "{one}{other}");
        for error in result.err().iter().flatten() {
            assert_eq!(error.path, "spec.parentRefs[0]");
            assert!(error.message.contains("excludes this one"), "{error}");
            assert!(error.origin.line > 0);
        }
    }
}

#[test]
fn what_routes_name_and_is_not_there_is_a_condition() {
    let text = CART.to_owned()
        + &route("HTTPRoute", "a", "name: none", "name: cart, port: 80")
        + &route(
            "HTTPRoute",
            "b",
            "name: cart, port: 99",
            "name: cart, port: 99",
        )
        + &route("HTTPRoute", "c", "name: cart", "name: none, port: 80");
    let compiled = compiled(&text).unwrap();
    let conditions = compiled.conditions.iter().map(|it| {
        (
            it.key.name.as_str(),
            it.reason.word(),
            it.diagnostic.path.as_str(),
        )
    });
    assert_eq!(
        conditions.collect::<Vec<_>>(),
        [
            ("a", "ServiceMissing", "spec.parentRefs[0]"),
            ("b", "PortMissing", "spec.parentRefs[0]"),
            ("b", "PortMissing", "spec.rules[0].backendRefs[0]"),
            ("c", "ServiceMissing", "spec.rules[0].backendRefs[0]"),
        ]
    );
    assert!(
        compiled
            .conditions
            .iter()
            .all(|it| it.diagnostic.origin.line > 0)
    );
    // `c` holds, and what it sends to nobody gets an answer.
    let table = RouteTable::of(&compiled.snapshot);
    let rule = table
        .rules()
        .iter()
        .find(|rule| rule.name == "HTTPRoute/default/c/0");
    assert_eq!(rule.unwrap().pick(7), None);
}

#[test]
fn policies_about_requests_are_brought_together() {
    let text = CART.to_owned()
        + &policy("p", "timeouts: {request: 2s}, retry: {attempts: 3}")
        + &policy(
            "q",
            "timeouts: {attempt: 1s}, limits: {requestsPerEndpoint: 5}",
        );
    let compiled_here = compiled(&text).unwrap();
    let cart = &compiled_here.snapshot.services[&"cart".parse().unwrap()];
    let requests = cart.requests.as_ref().unwrap();
    assert_eq!(requests.timeouts.request, Some(Duration::from_secs(2)));
    assert_eq!(requests.timeouts.attempt, Some(Duration::from_secs(1)));
    assert_eq!(requests.retry.as_ref().unwrap().attempts, 3);
    assert_eq!(requests.requests_per_endpoint.unwrap().get(), 5);
    let twice = text + &policy("r", "retry: {attempts: 4}, timeouts: {attempt: 3s}");
    let paths: Vec<_> = compiled(&twice)
        .unwrap_err()
        .into_iter()
        .map(|it| it.path)
        .collect();
    assert_eq!(paths, ["spec.timeouts.attempt", "spec.retry"]);
}

fn objective(name: &str, mode: &str) -> String {
    format!(
        "---\napiVersion: selvedge.dev/v1alpha1\nkind: ServiceObjective\nmetadata: {{name: {name}}}\n\
         spec: {{targetRefs: [{{kind: Service, name: cart}}], latency: {{p95: 100ms}}, mode: {mode}}}\n"
    )
}

/// A caller is of the objective's own namespace where it does not say another.
#[test]
fn callers_are_weighed_by_name() {
    let callers =
        "Drive, callers: [{name: front, weight: 3}, {name: till, namespace: shop, weight: 2}]";
    let objective = objective("o", callers);
    let compiled = compiled(&(CART.to_owned() + &objective)).unwrap();
    let cart = &compiled.snapshot.services[&"cart".parse().unwrap()];
    let weights = &cart.requests.as_ref().unwrap().caller_weights;
    let weights: Vec<_> = weights
        .iter()
        .map(|(name, weight)| (name.to_string(), *weight))
        .collect();
    let due = [("front.default", 3), ("till.shop", 2)];
    assert_eq!(weights, due.map(|(name, weight)| (name.to_owned(), weight)));
    let twice =
        "Drive, callers: [{name: front, weight: 3}, {name: front, namespace: default, weight: 2}]";
    let errors = self::compiled(&(CART.to_owned() + &self::objective("o", twice))).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].path, "spec.callers[1].name");
}

/// An objective needs the proxy, be it only to see; without a mode nothing is said.
#[test]
fn an_objective_puts_its_service_on_the_proxy() {
    let cart = |mode| {
        let compiled = compiled(&(CART.to_owned() + &objective("o", mode))).unwrap();
        compiled.snapshot.services[&"cart".parse().unwrap()].clone()
    };
    for (mode, way) in [
        ("Off", Way::Direct),
        ("Observe", Way::ProxyOrDirect),
        ("Drive", Way::ProxyOrDirect),
    ] {
        let cart = cart(mode);
        assert_eq!(cart.ports[0].way, way, "{mode}");
        let objective = cart.requests.and_then(|it| it.objective);
        assert_eq!(objective.is_some(), way != Way::Direct, "{mode}");
    }
    let twice = CART.to_owned() + &objective("o", "Off") + &objective("p", "Drive");
    let errors = compiled(&twice).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].path, "spec.targetRefs[0].name");
}
