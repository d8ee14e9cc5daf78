//! What ours is configured with: what a mesh of some size has, all of it on the way of a request.

use std::fmt::Write;
use std::net::SocketAddr;

/// Services, each with ten rules.
const SERVICES: u32 = 50;
/// The one that has an objective.
pub(super) const STEERED: u32 = 26;
/// The port of each.
pub(super) const PORT: u16 = 80;

/// The name of a service.
pub(super) fn service(number: u32) -> String {
    format!("s{number}")
}

/// Services with routes by prefix and header, request limits, time-outs, a retry budget and ejection,
/// all led to one origin. One of them has limits that move besides.
pub(super) fn documents(origin: SocketAddr) -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let backend = format!("backendRefs: [{{name: s{service}, port: {PORT}}}]");
        let prefixes = (0..8).map(|number| {
            format!("  - matches: [{{path: {{type: PathPrefix, value: /part{number}}}}}]\n    {backend}\n")
        });
        let prefixes: String = prefixes.collect();
        // Writing to a string does not fail.
        let _infallible = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}}}\n\
             spec: {{ports: [{{name: web, port: {PORT}, appProtocol: http}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{service}, labels: {{kubernetes.io/service-name: s{service}}}}}\n\
             addressType: IPv4\nports: [{{name: web, port: {port}}}]\n\
             endpoints: [{{addresses: [{address}]}}]\n\
             ---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
             metadata: {{name: s{service}}}\nspec:\n\
             \u{20}\u{20}parentRefs: [{{group: '', kind: Service, name: s{service}}}]\n\
             \u{20}\u{20}rules:\n{prefixes}\
             \u{20}\u{20}- matches: [{{headers: [{{name: x-canary, value: 'yes'}}]}}]\n    {backend}\n\
             \u{20}\u{20}- {backend}\n\
             ---\napiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: s{service}}}\n\
             spec:\n\
             \u{20}\u{20}targetRefs: [{{kind: Service, name: s{service}}}]\n\
             \u{20}\u{20}timeouts: {{request: 15s, attempt: 5s}}\n\
             \u{20}\u{20}retryBudget: {{percent: 20, perSecond: 10}}\n\
             \u{20}\u{20}limits: {{requestsPerEndpoint: 1000}}\n\
             \u{20}\u{20}ejection: {{consecutiveFailures: 5, duration: 30s, mostPercent: 50}}\n",
            address = origin.ip(),
            port = origin.port(),
        );
    }
    // So far above what answers take that nothing is refused: what the laws cost is measured, and not what they do.
    let _infallible = write!(
        text,
        "---\napiVersion: selvedge.dev/v1alpha1\nkind: ServiceObjective\nmetadata: {{name: s{STEERED}}}\n\
         spec: {{targetRefs: [{{kind: Service, name: s{STEERED}}}], latency: {{p95: 4s}}}}\n"
    );
    text
}
