//! Services, routes and requests as the tests say them.

use std::net::Ipv4Addr;

use selvedge_model::{
    Backend, Fields, HttpFilters, HttpMatch, HttpRoute, HttpRule, Label, PathMatch, Pattern, Port,
    Protocol, RequestHead, RouteName, RouteParent, RouteTable, Selected, Service, ServicePort,
    Snapshot, TextMatch, ValueMatch, Way, WeightedBackend,
};

pub(crate) const CART: Ipv4Addr = Ipv4Addr::new(127, 96, 0, 1);
pub(crate) const PLAIN: Ipv4Addr = Ipv4Addr::new(127, 96, 0, 2);

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

pub(crate) fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

pub(crate) fn route_name(namespace: &str, name: &str) -> RouteName {
    RouteName {
        namespace: label(namespace),
        name: label(name),
    }
}

/// Has port 80 of the way given, and port 81, which no route makes go through the proxy only.
pub(crate) fn service(name: &str, address: Ipv4Addr, way: Way) -> Service {
    let port = |number, way| ServicePort {
        name: None,
        port: port(number),
        protocol: Protocol::Tcp,
        app_protocol: None,
        endpoints: Vec::new(),
        way,
    };
    Service {
        name: name.parse().unwrap(),
        address,
        ports: vec![port(80, way), port(81, way.min(Way::ProxyOrDirect))],
        published: Vec::new(),
        published_udp: Vec::new(),
        connection_limit: None,
        detailed_counters: false,
        requests: None,
    }
}

pub(crate) fn snapshot(http_routes: Vec<HttpRoute>) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    for service in [
        service("cart", CART, Way::ProxyOnly),
        service("plain", PLAIN, Way::Direct),
    ] {
        snapshot.services.insert(service.name.clone(), service);
    }
    let routes = http_routes.into_iter();
    snapshot.http_routes = routes.map(|route| (route.name.clone(), route)).collect();
    snapshot
}

pub(crate) fn parent(service: &str, only: Option<u16>) -> RouteParent {
    RouteParent {
        service: service.parse().unwrap(),
        port: only.map(port),
    }
}

pub(crate) fn backend(service: &str, number: u16, weight: u32) -> WeightedBackend {
    WeightedBackend {
        backend: Backend {
            service: service.parse().unwrap(),
            port: port(number),
        },
        weight,
    }
}

pub(crate) fn rule(matches: Vec<HttpMatch>) -> HttpRule {
    HttpRule {
        name: None,
        matches,
        filters: HttpFilters::default(),
        backends: vec![backend("cart", 80, 1)],
        request_timeout: None,
        backend_request_timeout: None,
        retry: None,
    }
}

pub(crate) fn route(name: RouteName, rules: Vec<HttpRule>) -> HttpRoute {
    HttpRoute {
        gateways: Vec::new(),
        hostnames: Vec::new(),
        name,
        parents: vec![parent("cart", Some(80))],
        rules,
    }
}

/// A request as text: a method, a target and fields.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) fields: Vec<(String, String)>,
}

impl Fields for Request {
    fn value(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_bytes())
    }
}

impl Request {
    /// Reads `GET /a?q=1 x:1 y:2`.
    pub(crate) fn new(text: &str) -> Self {
        let mut words = text.split(' ');
        let method = words.next().unwrap().to_owned();
        let target = words.next().unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let field = |word: &str| {
            let (name, value) = word.split_once(':').unwrap();
            (name.to_owned(), value.to_owned())
        };
        Self {
            method,
            path: path.to_owned(),
            query,
            fields: words.map(field).collect(),
        }
    }

    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: self.method.as_bytes(),
            path: self.path.as_bytes(),
            query: self.query.as_deref().map(str::as_bytes),
            fields: self,
        }
    }
}

/// Reads `= /a` (exact), `/ /a` (prefix) or `~ /a.*` (expression), then `GET`, `x:1`, `q=1`; values
/// after `~` are expressions: `x:~1+`.
pub(crate) fn read_match(text: &str) -> HttpMatch {
    let mut words = text.split(' ');
    let kind = words.next().unwrap();
    let path = words.next().unwrap();
    let mut read = HttpMatch {
        path: match kind {
            "=" => PathMatch::Exact(path.to_owned()),
            "/" => PathMatch::Prefix(path.to_owned()),
            _ => PathMatch::Regex(Pattern::new(path).unwrap()),
        },
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
    };
    for word in words {
        if let Some((name, value)) = word.split_once(':') {
            read.headers.push(value_match(name, value));
        } else if let Some((name, value)) = word.split_once('=') {
            read.query.push(value_match(name, value));
        } else {
            read.method = Some(word.to_owned());
        }
    }
    read
}

pub(crate) fn value_match(name: &str, value: &str) -> ValueMatch {
    let value = match value.strip_prefix('~') {
        Some(pattern) => TextMatch::Regex(Pattern::new(pattern).unwrap()),
        None => TextMatch::Exact(value.to_owned()),
    };
    ValueMatch {
        name: name.to_owned(),
        value,
    }
}

/// The name of the selected rule without `HTTPRoute/`, and the bytes of the prefix.
pub(crate) fn selected(table: &RouteTable, request: &Request) -> Option<(String, usize)> {
    let listener = table.listener(CART, port(80)).unwrap();
    match listener.select(&request.head()) {
        Selected::NoRoute => None,
        Selected::Rule { rule, prefix_bytes } => {
            assert_eq!(rule.index, table.rule(rule.index).index);
            let name = rule.name.strip_prefix("HTTPRoute/").unwrap();
            Some((name.to_owned(), prefix_bytes))
        }
    }
}
