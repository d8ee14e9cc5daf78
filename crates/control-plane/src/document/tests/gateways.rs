//! Claims: Gateways and the hostnames of routes are read as Gateway API has them; what one node without
//! encryption cannot do is refused with the reason.
use selvedge_model::Hostname;

use super::*;

fn gateway(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\n\
         spec: {{{spec}}}\n"
    )
}

fn listener(more: &str) -> String {
    gateway(&format!(
        "gatewayClassName: selvedge, listeners: [{{name: http, port: 80, {more}}}]"
    ))
}

fn route(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\n\
         spec: {{{spec}, rules: [{{backendRefs: [{{name: a, port: 80}}]}}]}}\n"
    )
}

#[test]
fn what_is_written_of_gateways_reads_back_the_same() {
    let text = listener(
        "protocol: HTTP, hostname: '*.example.com', allowedRoutes: {namespaces: {from: Same}, \
         kinds: [{kind: HTTPRoute}]}",
    ) + "---\n"
        + &route("parentRefs: [{name: edge, sectionName: http}], hostnames: [a.b, '*.b']");
    let parsed = read(&text).unwrap();
    for document in &parsed.documents {
        let again = from_json("store", document.to_json()).unwrap();
        assert!(
            again.says_the_same_as(document),
            "{again:#?}\n{document:#?}"
        );
    }
    let [Spec::Gateway(gateway), Spec::HttpRoute(route)] =
        [&parsed.documents[0].spec, &parsed.documents[1].spec]
    else {
        panic!("{parsed:?}");
    };
    assert_eq!(
        gateway.listeners[0].hostname,
        Hostname::new("*.example.com")
    );
    assert!(matches!(route.parents[0].target, ParentTarget::Gateway(_)));
    assert_eq!(route.hostnames.len(), 2);
    assert!(parsed.warnings.is_empty());
}

#[test]
fn what_a_gateway_cannot_be_is_refused() {
    let listeners = |list: &str| gateway(&format!("gatewayClassName: selvedge, listeners: {list}"));
    for (text, path, reason) in [
        (
            gateway("gatewayClassName: nginx, listeners: [{name: a, port: 80, protocol: HTTP}]"),
            "spec.gatewayClassName",
            "\"selvedge\"",
        ),
        (listeners("[]"), "spec.listeners", "1 to 64"),
        (
            listener("protocol: HTTPS"),
            "spec.listeners[0].protocol",
            "HTTP",
        ),
        (
            listener("protocol: HTTP, tls: {mode: Terminate}"),
            "spec.listeners[0].tls",
            "plain HTTP",
        ),
        (
            listener("protocol: HTTP, hostname: A.example.com"),
            "spec.listeners[0].hostname",
            "lower case",
        ),
        (
            listener("protocol: HTTP, allowedRoutes: {namespaces: {from: All}}"),
            "spec.listeners[0].allowedRoutes.namespaces.from",
            "Same",
        ),
        (
            listeners("[{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}]"),
            "spec.listeners",
            "named a",
        ),
        (
            listeners("[{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}]"),
            "spec.listeners",
            "hostname",
        ),
        (
            route("parentRefs: [{name: edge}], hostnames: ['a:80']"),
            "spec.hostnames[0]",
            "without port",
        ),
        (
            route("parentRefs: [{name: edge}], hostnames: [a.b]").replace("HTTPRoute", "TCPRoute"),
            "spec.hostnames",
            "unknown field",
        ),
        (
            route("parentRefs: [{name: edge}]").replace("HTTPRoute", "TCPRoute"),
            "spec.parentRefs",
            "HTTP alone",
        ),
    ] {
        let found = read(&text).expect_err(&text);
        let right = |error: &Diagnostic| error.path == path && error.message.contains(reason);
        assert!(found.iter().any(right), "{text}: {found:?}");
    }
}
