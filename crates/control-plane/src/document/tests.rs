//! Claims: every error of a set is found at once, with its place; what is written reads back the
//! same; what Kubernetes writes is taken where its meaning can be kept and refused with a reason
//! where not.
mod gateways;
mod routes;

use selvedge_model::Label;

use super::*;

fn read(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parse(&[SourceFile {
        name: "f.yaml".to_owned(),
        text: text.to_owned(),
    }])
}

fn errors(text: &str) -> Vec<String> {
    read(text)
        .expect_err("an error")
        .iter()
        .map(Diagnostic::to_string)
        .collect()
}

#[test]
fn five_errors_are_five_diagnostics() {
    let text = "\
apiVersion: v1
kind: Service
metadata:
  name: Cart
spec:
  type: NodePort
  ports:
  - name: http
    prot: 80
  - name: admin
    port: 70000
---
apiVersion: v1
kind: Servce
metadata: {name: x}
";
    assert_eq!(
        errors(text),
        [
            "f.yaml:4: Service default/Cart: metadata.name: \
             a name has only a-z, 0-9 and '-', not 'C'",
            "f.yaml:6: Service default/Cart: spec.type: \"NodePort\" is not supported: \
             a service has a virtual address; only ClusterIP is",
            "f.yaml:9: Service default/Cart: spec.ports[0].prot: unknown field `prot`; \
             did you mean `port`?",
            "f.yaml:8: Service default/Cart: spec.ports[0].port: is missing; it is required",
            "f.yaml:11: Service default/Cart: spec.ports[1].port: \
             expected a number from 1 to 65535, found the number 70000",
            "f.yaml:14: kind: unknown kind `Servce`; did you mean `Service`?",
        ]
    );
}

#[test]
fn more_errors_than_anybody_reads_are_counted() {
    let wrong = "apiVersion: v1\nkind: Pod\n---\n".repeat(cursor::MAX_DIAGNOSTICS + 7);
    let errors = errors(&wrong);
    assert_eq!(errors.len(), cursor::MAX_DIAGNOSTICS + 1);
    assert_eq!(errors.last().unwrap(), "f.yaml: 7 more are not shown");
}

/// As `kubectl get service,endpointslice -o yaml` writes them, the selector taken out.
const EXPORTED: &str = "\
apiVersion: v1
kind: List
metadata: {resourceVersion: ''}
items:
- apiVersion: v1
  kind: Service
  metadata:
    annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}
    creationTimestamp: '2026-01-01T00:00:00Z'
    labels: {app: cart}
    name: cart
    namespace: shop
    resourceVersion: '4711'
    uid: 0b7a3f2e
  spec:
    internalTrafficPolicy: Cluster
    ipFamilies: [IPv4]
    ipFamilyPolicy: SingleStack
    ports:
    - {name: http, port: 80, protocol: TCP, targetPort: web, appProtocol: kubernetes.io/h2c}
    - {name: dns, port: 53, protocol: UDP, targetPort: 5353}
    sessionAffinity: None
    type: ClusterIP
  status: {loadBalancer: {}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  addressType: IPv4
  metadata:
    name: cart-x7k2p
    namespace: shop
    labels: {kubernetes.io/service-name: cart}
  endpoints:
  - addresses: [10.1.2.3]
    conditions: {ready: true, serving: true, terminating: false}
    nodeName: n1
    targetRef: {kind: Pod, name: cart-0}
  - addresses: [10.1.2.4]
    conditions: {ready: false}
  ports:
  - {name: http, port: 8080, protocol: TCP}
";

#[test]
fn what_kubernetes_exports_is_taken() {
    let parsed = read(EXPORTED).unwrap();
    let [service, slice] = &parsed.documents[..] else {
        panic!("{parsed:?}")
    };
    assert_eq!(service.key.to_string(), "Service shop/cart");
    assert_eq!(service.metadata.resource_version, Some(4711));
    let Spec::Service(spec) = &service.spec else {
        panic!("{service:?}")
    };
    assert_eq!(
        spec.ports[0].target,
        TargetPort::Name(Label::new("web").unwrap())
    );
    let Spec::EndpointSlice(spec) = &slice.spec else {
        panic!("{slice:?}")
    };
    let ready: Vec<_> = spec
        .endpoints
        .iter()
        .map(|endpoint| endpoint.ready)
        .collect();
    assert_eq!(ready, [true, false]);
    let aside: Vec<_> = parsed
        .warnings
        .iter()
        .map(|warning| warning.path.as_str())
        .collect();
    assert_eq!(aside, ["endpoints[0].nodeName", "endpoints[0].targetRef"]);
}

#[test]
fn what_cannot_be_kept_is_refused_with_a_reason() {
    let service = |line: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec:\n  {line}\n")
    };
    for (line, path, reason) in [
        ("selector: {app: a}", "spec.selector", "selvedge run"),
        ("clusterIP: None", "spec.clusterIP", "headless"),
        (
            "externalName: x.example",
            "spec.externalName",
            "outside name",
        ),
        (
            "sessionAffinity: ClientIP",
            "spec.sessionAffinity",
            "one by one",
        ),
        ("ipFamilies: [IPv6]", "spec.ipFamilies[0]", "IPv4"),
        (
            "ports: [{port: 80, nodePort: 30080}]",
            "spec.ports[0].nodePort",
            "--publish",
        ),
        (
            "ports: [{port: 80, protocol: SCTP}]",
            "spec.ports[0].protocol",
            "TCP or UDP",
        ),
        (
            "ports: [{port: 80}, {port: 81}]",
            "spec.ports",
            "needs a name",
        ),
        (
            "ports: [{name: a, port: 1}, {name: a, port: 1}]",
            "spec.ports",
            "twice",
        ),
        (
            "ports: [{port: '80'}]",
            "spec.ports[0].port",
            "found \"80\"",
        ),
        ("ports: {port: 80}", "spec.ports", "expected a list"),
    ] {
        let found = read(&service(line)).expect_err(line);
        assert!(
            found.iter().all(|error| error.path == path),
            "{line}: {found:?}"
        );
        assert!(
            found.iter().any(|error| error.message.contains(reason)),
            "{line}: {found:?}"
        );
        assert!(
            found.iter().all(|error| error.origin.line == 5),
            "{line}: {found:?}"
        );
    }
}

/// One object of each kind with every field it may have.
pub(crate) const EVERYTHING: &str = "\
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop, labels: {a: b}, annotations: {c: d}}
spec:
  clusterIP: 127.96.1.2
  ports:
  - {name: http, port: 80, targetPort: web, protocol: TCP, appProtocol: h2c}
  - {name: dns, port: 53, targetPort: 5353, protocol: UDP}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart.a, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv6
endpoints: [{addresses: ['fd00::1'], conditions: {ready: false}}]
ports: [{name: http, port: 8080, protocol: TCP}]
---
apiVersion: selvedge.dev/v1alpha1
kind: Workload
metadata: {name: cart-0, namespace: shop}
spec:
  service: cart
  cgroup: /selvedge/shop/cart-0
  portMode: Shared
  ports: [{name: web, port: 8080, protocol: TCP}]
  publish: [{port: 8080, servicePort: 80}, {port: 9090}, {port: 5353, protocol: UDP}]
  resolver: {search: [Corp.Example.], nameservers: [10.0.0.1, '[fd00::1]:5353'], shadowSearch: false}
---
apiVersion: selvedge.dev/v1alpha1
kind: Workload
metadata: {name: cart-1, namespace: shop}
spec: {service: cart, systemdUnit: cart.service}
---
apiVersion: selvedge.dev/v1alpha1
kind: Workload
metadata: {name: cart-2, namespace: shop}
spec: {service: cart, address: 10.9.9.9}
---
apiVersion: selvedge.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: cart, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: cart}]
  balancing: {weights: [{workload: cart-0, weight: 3}, {address: 10.9.9.9, weight: 0}]}
  limits: {connections: 16, requestsPerEndpoint: 8}
  counters: Detailed
  resolver: {shadowSearch: false}
  timeouts: {request: 10s, attempt: 2s500ms}
  retry: {attempts: 2, statuses: [502, 503], backoff: {base: 10ms, most: 1s}, nonIdempotent: true}
  retryBudget: {percent: 30, perSecond: 5}
  ejection: {consecutiveFailures: 3, duration: 1m, mostPercent: 50}
---
apiVersion: selvedge.dev/v1alpha1
kind: ServiceObjective
metadata: {name: cart, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  latency: {p95: 250ms}
  mode: Guard
  callers: [{name: front, weight: 3}, {name: front, namespace: other, weight: 100}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart-canary, namespace: shop}
spec:
  parentRefs:
  - {group: '', kind: Service, name: cart, port: 80}
  - {kind: Service, namespace: other, name: till, sectionName: http}
  rules:
  - name: canary
    matches:
    - path: {type: Exact, value: /a}
      headers:
      - {name: X-Canary, value: yes please}
      - {name: agent, type: RegularExpression, value: 'curl/.*'}
      queryParams: [{name: q, value: a%20b}, {name: r, type: RegularExpression, value: '[0-9]+'}]
      method: GET
    - path: {type: RegularExpression, value: '/b/[0-9]+'}
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Way, value: canary}]
        add: [{name: x-seen, value: 'a, b'}]
        remove: [X-Old]
    - type: ResponseHeaderModifier
      responseHeaderModifier: {remove: [server]}
    - type: URLRewrite
      urlRewrite: {hostname: cart.example, path: {type: ReplaceFullPath, replaceFullPath: /new}}
    backendRefs:
    - {group: '', kind: Service, name: cart-v2, port: 80, weight: 1}
    - {name: cart, namespace: other, port: 81, weight: 9}
    timeouts: {request: 0s, backendRequest: 1h30m}
    retry: {codes: [500, 503], attempts: 3, backoff: 100ms}
  - matches: [{path: {value: /old/}}]
    filters:
    - type: RequestRedirect
      requestRedirect:
        scheme: https
        hostname: cart.example
        path: {type: ReplacePrefixMatch, replacePrefixMatch: /}
        port: 8443
        statusCode: 308
  - backendRefs: [{name: cart, port: 80}]
    retry: {}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: cart-tcp, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: cart, sectionName: db}]
  rules: [{name: all, backendRefs: [{name: cart-v2, port: 5432}, {name: cart, port: 1, weight: 0}]}]
---
apiVersion: selvedge.dev/v1alpha1
kind: RunPermission
metadata: {name: default}
spec:
  rules:
  - subjects: [{user: ann}, {uid: 1000}, {group: dev}, {gid: 100}]
    services: [{namespace: shop, name: '*'}, {name: cart}]
    shedLimits: true
";

#[test]
fn what_is_written_reads_back_the_same() {
    let parsed = read(EVERYTHING).unwrap();
    assert_eq!(parsed.documents.len(), 10);
    for document in &parsed.documents {
        let again = from_json("store", document.to_json()).unwrap();
        assert!(
            again.says_the_same_as(document),
            "{again:#?}\n{document:#?}"
        );
        let yaml = serde_saphyr::to_string(&document.to_json()).unwrap();
        let again = &read(&yaml).unwrap().documents[0];
        assert!(again.says_the_same_as(document), "{yaml}");
    }
}

#[test]
fn own_kinds_are_read_strictly() {
    let object = |kind: &str, spec: &str| {
        format!(
            "apiVersion: selvedge.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: default}}\n\
             spec: {spec}\n"
        )
    };
    for (kind, spec, path) in [
        ("Workload", "{service: a}", "spec"),
        (
            "Workload",
            "{service: a, cgroup: /x, address: 1.2.3.4}",
            "spec",
        ),
        ("Workload", "{service: a, cgroup: x}", "spec.cgroup"),
        ("Workload", "{service: a, cgroup: /a/../b}", "spec.cgroup"),
        (
            "Workload",
            "{service: a, systemdUnit: x}",
            "spec.systemdUnit",
        ),
        ("Workload", "{cgroup: /x}", "spec.service"),
        ("Workload", "{service: a.b, cgroup: /x}", "spec.service"),
        (
            "Workload",
            "{service: a, cgroup: /x, resolver: {nameservers: [x]}}",
            "spec.resolver.nameservers[0]",
        ),
        ("TrafficPolicy", "{}", "spec.targetRefs"),
        ("TrafficPolicy", "{targetRefs: []}", "spec.targetRefs"),
        (
            "TrafficPolicy",
            "{targetRefs: [{kind: Pod, name: a}]}",
            "spec.targetRefs[0].kind",
        ),
        (
            "TrafficPolicy",
            "{targetRefs: [{kind: Service, name: a}], limits: {connections: 0}}",
            "spec.limits.connections",
        ),
        (
            "TrafficPolicy",
            "{targetRefs: [{kind: Service, name: a}], balancing: {weights: [{weight: 1}]}}",
            "spec.balancing.weights[0]",
        ),
        (
            "ServiceObjective",
            "{latency: {p95: 1s}}",
            "spec.targetRefs",
        ),
        (
            "ServiceObjective",
            "{targetRefs: [{kind: Service, name: a}]}",
            "spec.latency",
        ),
        (
            "ServiceObjective",
            "{targetRefs: [{kind: Service, name: a}], latency: {p95: 0s}}",
            "spec.latency.p95",
        ),
        (
            "ServiceObjective",
            "{targetRefs: [{kind: Service, name: a}], latency: {p95: 1s}, mode: drive}",
            "spec.mode",
        ),
        (
            "ServiceObjective",
            "{targetRefs: [{kind: Service, name: a}], latency: {p95: 1s}, callers: [{name: b, weight: 0}]}",
            "spec.callers[0].weight",
        ),
        (
            "RunPermission",
            "{rules: [{subjects: [{}], services: []}]}",
            "spec.rules[0].subjects[0]",
        ),
        ("RunPermission", "{}", "spec.rules"),
    ] {
        let found = read(&object(kind, spec)).expect_err(spec);
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        assert_eq!(found[0].path, path, "{spec}: {found:?}");
    }
}

/// Pieces that documents are made of, right and wrong.
fn piece() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let lines: Vec<String> = EVERYTHING.lines().map(str::to_owned).collect();
    prop_oneof![
        8 => proptest::sample::select(lines),
        1 => "[ -~]{0,20}",
        1 => Just("&a [*a]".to_owned()),
        1 => any::<String>(),
    ]
}

proptest::proptest! {
    /// No text makes the reader panic, and what is refused is refused with a reason.
    #[test]
    fn any_text_is_read_or_refused(pieces in proptest::collection::vec(piece(), 0..40)) {
        let text = pieces.join("\n");
        if let Err(errors) = read(&text) {
            assert!(!errors.is_empty());
            assert!(errors.iter().all(|error| !error.message.is_empty()));
        }
    }

    /// Whatever is read from such text reads back the same from what is stored of it.
    #[test]
    fn what_is_read_can_be_stored(
        pieces in proptest::collection::vec(proptest::sample::select(
            EVERYTHING.split("---\n").map(str::to_owned).collect::<Vec<_>>()
        ), 1..4),
        cut in "[a-z0-9]{1,8}",
    ) {
        let text = pieces.join("---\n").replace("cart", &cut);
        for document in read(&text).map(|parsed| parsed.documents).unwrap_or_default() {
            let again = from_json("store", document.to_json());
            assert!(again.is_ok_and(|again| again.says_the_same_as(&document)), "{document:#?}");
        }
    }
}
