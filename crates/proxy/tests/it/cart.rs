//! The service that tests ask for: `cart`, with endpoints, routes and a policy as each needs them.

use std::net::{Ipv4Addr, SocketAddr};

use selvedge_model::{
    AppProtocol, Backend, Endpoint, Generation, HttpFilters, HttpMatch, HttpRoute, HttpRule,
    PathMatch, Place, Port, Protocol, RequestPolicy, RouteName, RouteParent, Service, ServiceName,
    ServicePort, Snapshot, Way, WeightedBackend,
};

/// The service's virtual address.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 96, 1, 1);

/// What of the service is not usual.
#[derive(Clone, Default)]
pub(crate) struct Cart {
    pub(crate) endpoints: Vec<SocketAddr>,
    pub(crate) policy: RequestPolicy,
    pub(crate) routes: Vec<HttpRoute>,
    /// What is spoken, where that is said.
    pub(crate) spoken: Option<&'static str>,
    /// Whether the kernel leads connections to endpoints.
    pub(crate) is_direct: bool,
}

pub(crate) fn snapshot(generation: u64, cart: Cart) -> Snapshot {
    let name: ServiceName = "cart".parse().unwrap();
    let port = |number| Port::new(number).unwrap();
    let endpoint = |address: &SocketAddr| Endpoint {
        place: Place::Outside(address.ip()),
        port: port(address.port()),
        weight: 1,
        ready: true,
    };
    let service = Service {
        name: name.clone(),
        address: ADDRESS,
        ports: vec![ServicePort {
            name: None,
            port: port(80),
            protocol: Protocol::Tcp,
            app_protocol: cart.spoken.map(|spoken| AppProtocol(spoken.to_owned())),
            endpoints: cart.endpoints.iter().map(endpoint).collect(),
            way: match cart.is_direct {
                true => Way::Direct,
                false => Way::ProxyOrDirect,
            },
        }],
        published: Vec::new(),
        published_udp: Vec::new(),
        connection_limit: None,
        detailed_counters: false,
        requests: Some(cart.policy),
    };
    Snapshot {
        generation: Generation(generation),
        services: [(name, service)].into(),
        http_routes: cart
            .routes
            .into_iter()
            .map(|it| (it.name.clone(), it))
            .collect(),
        ..Snapshot::empty()
    }
}

/// A route of the service to itself, with a rule for each prefix.
pub(crate) fn route(prefixes: impl IntoIterator<Item = String>) -> HttpRoute {
    let cart: ServiceName = "cart".parse().unwrap();
    let rule = |prefix| HttpRule {
        name: None,
        matches: vec![HttpMatch {
            path: PathMatch::Prefix(prefix),
            headers: Vec::new(),
            query: Vec::new(),
            method: None,
        }],
        filters: HttpFilters::default(),
        backends: vec![WeightedBackend {
            backend: Backend {
                service: cart.clone(),
                port: Port::new(80).unwrap(),
            },
            weight: 1,
        }],
        request_timeout: None,
        backend_request_timeout: None,
        retry: None,
    };
    HttpRoute {
        name: RouteName {
            namespace: cart.namespace.clone(),
            name: cart.name.clone(),
        },
        parents: vec![RouteParent {
            service: cart.clone(),
            port: None,
        }],
        gateways: Vec::new(),
        hostnames: Vec::new(),
        rules: prefixes.into_iter().map(rule).collect(),
    }
}
