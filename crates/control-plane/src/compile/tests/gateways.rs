//! Claims: a route is attached to a Gateway's listeners or a condition says why not; a port of the host
//! is one Gateway's and no service's.
use super::*;

fn gateway(name: &str, listeners: &str) -> String {
    format!(
        "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec: {{gatewayClassName: selvedge, listeners: [{listeners}]}}\n"
    )
}

fn route(name: &str, parent: &str, hostnames: &str) -> String {
    format!(
        "\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {name}}}\nspec: {{parentRefs: [{{{parent}}}], hostnames: [{hostnames}], \
         rules: [{{backendRefs: [{{name: cart, port: 80}}]}}]}}\n"
    )
}

const HTTP: &str = "{name: http, port: 80, protocol: HTTP, hostname: '*.example.com'}";

#[test]
fn routes_are_attached_to_listeners_or_it_is_said_why_not() {
    for (parent, hostnames, why) in [
        ("name: edge", "", None),
        (
            "name: edge, sectionName: http",
            "a.example.com, b.org",
            None,
        ),
        ("name: edge, port: 80", "'*.a.example.com'", None),
        ("name: none", "", Some("no Gateway none.default")),
        (
            "name: edge, namespace: shop",
            "",
            Some("no Gateway edge.shop"),
        ),
        (
            "name: edge, sectionName: https",
            "",
            Some("no such listener"),
        ),
        ("name: edge, port: 81", "", Some("no such listener")),
        ("name: edge", "example.com", Some("hostnames")),
    ] {
        let text = CART.to_owned() + &gateway("edge", HTTP) + &route("r", parent, hostnames);
        let compiled = compiled(&text).unwrap();
        let conditions: Vec<_> = compiled
            .conditions
            .iter()
            .map(|it| (it.reason, &it.diagnostic))
            .collect();
        match (why, &conditions[..]) {
            (None, []) => assert_eq!(compiled.snapshot.http_routes.len(), 1, "{parent}"),
            (Some(why), [(ConditionReason::NotAttached, said)]) => {
                assert!(said.message.contains(why), "{said}");
                assert_eq!(said.path, "spec.parentRefs[0]");
                assert_eq!(compiled.snapshot.http_routes.len(), 0, "{parent}");
            }
            _ => panic!("{parent} {hostnames}: {conditions:?}"),
        }
        // A Gateway's route says nothing about callers in the mesh.
        let cart = compiled.snapshot.services.values().next().unwrap();
        let mut ways = cart.ports.iter().map(|port| port.way);
        assert!(ways.all(|way| way == selvedge_model::Way::Direct));
    }
    let foreign = gateway("edge", HTTP).replace("{name: edge}", "{name: edge, namespace: shop}");
    let text = CART.to_owned() + &foreign + &route("r", "name: edge, namespace: shop", "");
    let compiled = compiled(&text).unwrap();
    let said = &compiled.conditions[0].diagnostic.message;
    assert!(said.contains("its own namespace"), "{said}");
}

#[test]
fn a_port_of_the_host_is_one_gateways_and_no_services() {
    let other = HTTP.replace("80", "81");
    for (text, is_right) in [
        (gateway("a", HTTP) + &gateway("b", &other), true),
        (gateway("a", HTTP) + &gateway("b", HTTP), false),
        (
            gateway("a", HTTP) + &workload("w", "cgroup: /a, publish: [{port: 80}]"),
            false,
        ),
        (
            gateway("a", &other) + &workload("w", "cgroup: /a, publish: [{port: 80}]"),
            true,
        ),
    ] {
        let result = compiled(&(CART.to_owned() + &text));
        assert_eq!(result.is_ok(), is_right, "{text}");
        for error in result.err().iter().flatten() {
            assert_eq!(error.path, "spec.listeners[0]");
            assert!(error.message.contains("TCP port 80"), "{error}");
        }
    }
}
