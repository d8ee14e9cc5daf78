//! Where routes are attached, what they lead to, and which ports come through the proxy for it.
//!
//! A parent or a backend that is not there is a condition, since it may come; the route holds for
//! the rest, and what it sends to a missing backend is answered 500, as Gateway API has it. Routes
//! that exclude each other are an error, compared by what they ask for: ports that appear later must
//! not bring a contradiction with them.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_model::{
    GatewayParent, HiddenMatch, HttpRoute, Label, Port, Protocol, RouteName, RouteParent,
    RouteTable, ServiceName, ServicePort, Snapshot, TcpRoute, Way, WeightedBackend,
};

use super::gateways;
use super::policies::Policy;
use super::{ConditionReason, Findings, Set};
use crate::document::{
    Document, HttpRouteSpec, ParentRef, ParentTarget, ServiceSpecPort, TcpRouteSpec,
};

/// All routes, and what they are attached to.
#[derive(Default)]
pub(super) struct Routes<'a> {
    pub(super) http: BTreeMap<RouteName, HttpRoute>,
    pub(super) tcp: BTreeMap<RouteName, TcpRoute>,
    attached: BTreeMap<ServiceName, Attached<'a>>,
}

/// Routes of one service, the first of each kind for each thing they ask for.
#[derive(Default)]
struct Attached<'a> {
    http: Asked<'a>,
    tcp: Asked<'a>,
}

#[derive(Default)]
struct Asked<'a> {
    every_port: Option<&'a Document>,
    ports: BTreeMap<Port, &'a Document>,
}

impl<'a> Asked<'a> {
    fn add(&mut self, port: Option<Port>, document: &'a Document) {
        match port {
            None => self.every_port.get_or_insert(document),
            Some(port) => self.ports.entry(port).or_insert(document),
        };
    }

    /// A route that asks for something in common with `port`.
    fn common(&self, port: Option<Port>) -> Option<&'a Document> {
        let one = match port {
            None => self.ports.values().next().copied(),
            Some(port) => self.ports.get(&port).copied(),
        };
        self.every_port.or(one)
    }
}

impl<'a> Routes<'a> {
    /// Reads the routes of the set.
    pub(super) fn read(set: &Set<'a>, findings: &mut Findings) -> Self {
        let mut routes = Self::default();
        for (document, spec) in &set.http_routes {
            routes.read_http(set, document, spec, findings);
        }
        for (document, spec) in &set.tcp_routes {
            routes.read_tcp(set, document, spec, findings);
        }
        routes
    }

    fn read_http(
        &mut self,
        set: &Set<'a>,
        document: &'a Document,
        spec: &HttpRouteSpec,
        findings: &mut Findings,
    ) {
        let gateways = gateway_parents(set, document, spec, findings);
        let parents = parents(set, document, &spec.parents, findings);
        for parent in &parents {
            refuse_unreadable(set, document, parent, findings);
            self.attach_http(document, parent, findings);
        }
        for (place, rule) in spec.rules.iter().enumerate() {
            note_missing_backends(set, document, place, &rule.backends, findings);
        }
        let is_attached = !parents.is_empty() || !gateways.is_empty();
        let Some(name) = route_name(document).filter(|_| is_attached) else {
            return;
        };
        let route = HttpRoute {
            name: name.clone(),
            parents: parents.into_iter().map(|parent| parent.says).collect(),
            gateways,
            hostnames: spec.hostnames.clone(),
            rules: spec.rules.clone(),
        };
        self.http.insert(name, route);
    }

    fn read_tcp(
        &mut self,
        set: &Set<'a>,
        document: &'a Document,
        spec: &TcpRouteSpec,
        findings: &mut Findings,
    ) {
        let parents = parents(set, document, &spec.parents, findings);
        for parent in &parents {
            self.attach_tcp(document, parent, findings);
        }
        note_missing_backends(set, document, 0, &spec.backends, findings);
        let Some(name) = route_name(document).filter(|_| !parents.is_empty()) else {
            return;
        };
        let route = TcpRoute {
            name: name.clone(),
            parents: parents.into_iter().map(|parent| parent.says).collect(),
            backends: spec.backends.clone(),
        };
        self.tcp.insert(name, route);
    }

    /// Sets how callers get to each of a service's ports.
    pub(super) fn set_ways(&self, name: &ServiceName, policy: &Policy, ports: &mut [ServicePort]) {
        let attached = self.attached.get(name);
        for port in ports
            .iter_mut()
            .filter(|port| port.protocol == Protocol::Tcp)
        {
            let only = Some(port.port);
            let is_routed = attached.is_some_and(|attached| {
                attached.http.common(only).is_some() || attached.tcp.common(only).is_some()
            });
            port.way = match is_routed {
                true => Way::ProxyOnly,
                false if policy.is_about(port.app_protocol.as_ref()) => Way::ProxyOrDirect,
                false => Way::Direct,
            };
        }
    }

    fn attach_http(&mut self, document: &'a Document, parent: &Parent, findings: &mut Findings) {
        let RouteParent { service, port } = &parent.says;
        let attached = self.attached.entry(service.clone()).or_default();
        attached.http.add(*port, document);
        if let Some(other) = attached.tcp.common(*port) {
            refuse_second(document, parent, other, findings);
        }
    }

    fn attach_tcp(&mut self, document: &'a Document, parent: &Parent, findings: &mut Findings) {
        let RouteParent { service, port } = &parent.says;
        let attached = self.attached.entry(service.clone()).or_default();
        let other = attached.http.common(*port);
        let other = other.or(attached
            .tcp
            .common(*port)
            .filter(|other| other.key != document.key));
        if let Some(other) = other {
            refuse_second(document, parent, other, findings);
        }
        attached.tcp.add(*port, document);
    }
}

/// Says which matches no request gets. A route may be hidden at several places; one is told of.
pub(super) fn note_hidden_matches(set: &Set<'_>, snapshot: &Snapshot, findings: &mut Findings) {
    let documents = set.http_routes.iter();
    let documents: BTreeMap<_, _> = documents
        .filter_map(|(document, _)| Some((route_name(document)?, *document)))
        .collect();
    let mut told = BTreeSet::new();
    for HiddenMatch {
        hidden,
        behind,
        parent,
    } in RouteTable::hidden_matches(snapshot)
    {
        let Some(document) = documents.get(hidden.route) else {
            continue;
        };
        if !told.insert((hidden.route, hidden.rule, hidden.at)) {
            continue;
        }
        let path = format!("spec.rules[{}].matches[{}]", hidden.rule, hidden.at);
        let message = format!(
            "gets no request on {parent}: HTTPRoute {}, rules[{}] comes before it and takes them all",
            behind.route, behind.rule
        );
        findings.condition(document, ConditionReason::MatchHidden, &path, message);
    }
}

/// A service that is there, as a route names it.
struct Parent {
    /// Its place in the document.
    path: String,
    says: RouteParent,
}

fn route_name(document: &Document) -> Option<RouteName> {
    let namespace = document.key.namespace_or_default();
    let name = Label::new(&document.key.name).ok()?;
    Some(RouteName { namespace, name })
}

/// The Gateways that have something for the route; of the others it is said why they have not.
fn gateway_parents(
    set: &Set<'_>,
    document: &Document,
    spec: &HttpRouteSpec,
    findings: &mut Findings,
) -> Vec<GatewayParent> {
    let mut accepted = Vec::new();
    for (place, parent) in spec.parents.iter().enumerate() {
        let ParentTarget::Gateway(gateway) = &parent.target else {
            continue;
        };
        let path = format!("spec.parentRefs[{place}]");
        let says = GatewayParent {
            gateway: gateway.clone(),
            section: parent.section.clone(),
            port: parent.port,
        };
        if gateways::is_accepted(set, document, &path, &says, &spec.hostnames, findings) {
            accepted.push(says);
        }
    }
    accepted
}

/// The services that are there; of the others it is said that they are not. One that is asked for by
/// its number is attached before it is there.
fn parents(
    set: &Set<'_>,
    document: &Document,
    refs: &[ParentRef],
    findings: &mut Findings,
) -> Vec<Parent> {
    let mut parents = Vec::new();
    for (place, parent) in refs.iter().enumerate() {
        let ParentTarget::Service(service) = &parent.target else {
            continue;
        };
        let path = format!("spec.parentRefs[{place}]");
        let Some((_, spec)) = set.services.get(service) else {
            findings.missing_service(document, &path, service);
            continue;
        };
        let mut port = parent.port;
        if parent.port.is_some() || parent.section.is_some() {
            let meant = spec.ports.iter().find(|port| is_meant(parent, port));
            if meant.is_none() {
                let message = format!("there is no TCP port {}", describe(service, parent));
                findings.condition(document, ConditionReason::PortMissing, &path, message);
                if parent.section.is_some() {
                    continue;
                }
            }
            port = port.or(meant.map(|port| port.port));
        }
        let service = service.clone();
        let says = RouteParent { service, port };
        parents.push(Parent { path, says });
    }
    parents
}

fn is_meant(parent: &ParentRef, port: &ServiceSpecPort) -> bool {
    port.protocol == Protocol::Tcp
        && parent.port.is_none_or(|number| number == port.port)
        && (parent.section.is_none() || parent.section == port.name)
}

/// The port in words, as `80 called `http` of service cart.default`.
fn describe(service: &ServiceName, parent: &ParentRef) -> String {
    let number = parent.port.map(|port| format!("{port} "));
    let name = parent
        .section
        .as_ref()
        .map(|name| format!("called `{name}` "));
    let (number, name) = (number.unwrap_or_default(), name.unwrap_or_default());
    format!("{number}{name}of service {service}")
}

/// Requests are seen in HTTP/1.1 only, and only where nobody has encrypted it.
fn refuse_unreadable(set: &Set<'_>, document: &Document, parent: &Parent, findings: &mut Findings) {
    let RouteParent { service, port } = &parent.says;
    let Some((_, spec)) = set.services.get(service) else {
        return;
    };
    let meant = spec.ports.iter().filter(|candidate| {
        candidate.protocol == Protocol::Tcp && port.is_none_or(|port| port == candidate.port)
    });
    for candidate in meant {
        let spoken = candidate.app_protocol.as_ref();
        if let Some(spoken) = spoken.filter(|spoken| spoken.hides_requests()) {
            let message = format!(
                "port {} of service {service} speaks {}, in which no HTTP/1.1 requests are seen; \
                 name another port, or attach a TCPRoute",
                candidate.port, spoken.0
            );
            findings.error(document, &parent.path, message);
        }
    }
}

fn note_missing_backends(
    set: &Set<'_>,
    document: &Document,
    rule: usize,
    backends: &[WeightedBackend],
    findings: &mut Findings,
) {
    for (place, WeightedBackend { backend, .. }) in backends.iter().enumerate() {
        let path = || format!("spec.rules[{rule}].backendRefs[{place}]");
        let service = &backend.service;
        let Some((_, spec)) = set.services.get(service) else {
            findings.missing_service(document, &path(), service);
            continue;
        };
        let is_meant =
            |port: &ServiceSpecPort| port.protocol == Protocol::Tcp && port.port == backend.port;
        if !spec.ports.iter().any(is_meant) {
            let message = format!("service {service} has no TCP port {}", backend.port);
            findings.condition(document, ConditionReason::PortMissing, &path(), message);
        }
    }
}

fn refuse_second(document: &Document, parent: &Parent, other: &Document, findings: &mut Findings) {
    let service = &parent.says.service;
    let port = match parent.says.port {
        Some(port) => format!("port {port}"),
        None => "every port".to_owned(),
    };
    let message = format!(
        "{port} of service {service} has a route that excludes this one, {} ({}): beside a TCPRoute \
         there is no other route of a port",
        other.key, other.origin
    );
    findings.error(document, &parent.path, message);
}
