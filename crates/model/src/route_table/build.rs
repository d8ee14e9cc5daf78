//! From a snapshot to the table.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

use super::entrance::{ByHost, Entrance};
use super::rule::{Share, Shares};
use super::selection::Matches;
use super::{Listener, RouteTable, Rule, Spoken};
use crate::{
    Backend, BackendIndex, Gateway, GatewayListener, GatewayName, GatewayParent, Hostname,
    HttpFilters, HttpRoute, HttpRule, Label, Objective, Port, Protocol, RequestPolicy, RetryPolicy,
    RouteIndex, RouteName, RouteParent, Service, ServiceName, ServicePort, Snapshot, TcpRoute,
    Timeouts, Way, WeightedBackend,
};

pub(super) fn table(snapshot: &Snapshot) -> RouteTable {
    let mut builder = Builder {
        snapshot,
        table: RouteTable::default(),
        backends: BTreeMap::new(),
        http_rules: BTreeMap::new(),
    };
    let http_routes = routes_by_port(snapshot);
    let mut tcp_routes: Vec<_> = snapshot.tcp_routes.values().collect();
    tcp_routes.sort_by(|one, other| compare(&one.name, &other.name));
    let tcp_routes = attached(snapshot, tcp_routes, |route| &route.parents);
    for service in snapshot.services.values() {
        for port in proxied(service) {
            let at = (&service.name, port.port);
            let http = http_routes.get(&at).map_or(&[][..], Vec::as_slice);
            let tcp = tcp_routes.get(&at).and_then(|routes| routes.first());
            builder.add_listener(service, port, http, tcp.copied());
        }
        let published = service.published.iter();
        let published = published.map(|(outside, port)| (*outside, (service.address, *port)));
        builder.table.published.extend(published);
    }
    let gateway_routes = gateway_routes(snapshot);
    for gateway in snapshot.gateways.values() {
        let routes = gateway_routes.get(&gateway.name);
        builder.add_gateway(gateway, routes.map_or(&[][..], Vec::as_slice));
    }
    builder.table
}

/// HTTPRoutes of each port that leads through the proxy, in the order of their names.
pub(super) fn routes_by_port(
    snapshot: &Snapshot,
) -> BTreeMap<(&ServiceName, Port), Vec<&HttpRoute>> {
    let mut routes: Vec<_> = snapshot.http_routes.values().collect();
    routes.sort_by(|one, other| compare(&one.name, &other.name));
    attached(snapshot, routes, |route| &route.parents)
}

/// HTTPRoutes that name each Gateway, in the order of their names, with how they name it.
fn gateway_routes(
    snapshot: &Snapshot,
) -> BTreeMap<&GatewayName, Vec<(&HttpRoute, &GatewayParent)>> {
    let mut routes: Vec<_> = snapshot.http_routes.values().collect();
    routes.sort_by(|one, other| compare(&one.name, &other.name));
    let mut named: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for route in routes {
        for parent in &route.gateways {
            let routes = named.entry(&parent.gateway).or_default();
            routes.push((route, parent));
        }
    }
    named
}

/// HTTPRoutes by listener of a Gateway and host that they are about, in the order of their names.
pub(super) fn routes_by_host(
    snapshot: &Snapshot,
) -> BTreeMap<(&GatewayName, &Label, Option<&Hostname>), Vec<&HttpRoute>> {
    let named = gateway_routes(snapshot);
    let mut by_host: BTreeMap<_, Vec<&HttpRoute>> = BTreeMap::new();
    for gateway in snapshot.gateways.values() {
        let routes = named.get(&gateway.name).into_iter().flatten();
        for (route, parent) in routes {
            let listeners = gateway.listeners.iter();
            for listener in listeners.filter(|listener| parent.is_about(listener)) {
                for host in hosts(listener, route) {
                    let here = by_host.entry((&gateway.name, &listener.name, host));
                    let here = here.or_default();
                    if here.last().is_none_or(|last| !core::ptr::eq(*last, *route)) {
                        here.push(route);
                    }
                }
            }
        }
    }
    by_host
}

/// The hosts that a route is about of those that come to a listener: as the route says them, since that
/// decides which of several routes is the most specific.
fn hosts<'a>(listener: &GatewayListener, route: &'a HttpRoute) -> Vec<Option<&'a Hostname>> {
    let is_common = |host: &&Hostname| {
        let all = listener.hostname.as_ref();
        all.is_none_or(|all| all.meets(host))
    };
    match &route.hostnames[..] {
        [] => alloc::vec![None],
        some => some.iter().filter(is_common).map(Some).collect(),
    }
}

/// As texts `namespace/name` are compared, which is not as their parts are: `-` comes before `/`.
fn compare(one: &RouteName, other: &RouteName) -> core::cmp::Ordering {
    fn text(name: &RouteName) -> impl Iterator<Item = u8> {
        let (namespace, name) = (name.namespace.as_str(), name.name.as_str());
        namespace.bytes().chain([b'/']).chain(name.bytes())
    }
    text(one).cmp(text(other))
}

fn proxied(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service.ports.iter();
    ports.filter(|port| port.protocol == Protocol::Tcp && port.way != Way::Direct)
}

/// The routes of each port, in their order, each once.
fn attached<'a, R>(
    snapshot: &'a Snapshot,
    routes: Vec<&'a R>,
    parents: impl Fn(&'a R) -> &'a Vec<RouteParent>,
) -> BTreeMap<(&'a ServiceName, Port), Vec<&'a R>> {
    let mut attached: BTreeMap<_, Vec<&R>> = BTreeMap::new();
    for route in routes {
        for parent in parents(route) {
            let Some(service) = snapshot.services.get(&parent.service) else {
                continue;
            };
            let ports = proxied(service);
            for port in ports.filter(|port| parent.port.is_none_or(|only| only == port.port)) {
                let here = attached.entry((&service.name, port.port)).or_default();
                if here.last().is_none_or(|last| !core::ptr::eq(*last, route)) {
                    here.push(route);
                }
            }
        }
    }
    attached
}

struct Builder<'a> {
    snapshot: &'a Snapshot,
    table: RouteTable,
    backends: BTreeMap<Backend, BackendIndex>,
    /// Rules made, by route, place in it, and service they are attached to; none where it is Gateways.
    http_rules: BTreeMap<(&'a RouteName, usize, Option<&'a ServiceName>), Arc<Rule>>,
}

impl<'a> Builder<'a> {
    fn add_listener(
        &mut self,
        service: &'a Service,
        port: &'a ServicePort,
        http: &[&'a HttpRoute],
        tcp: Option<&'a TcpRoute>,
    ) {
        let own = self.backend(Backend {
            service: service.name.clone(),
            port: port.port,
        });
        // Only routes make a port `ProxyOnly`. One that was refused must not open the way to all.
        let lacks_its_route = port.way == Way::ProxyOnly && http.is_empty() && tcp.is_none();
        let default = match tcp.filter(|_| http.is_empty()) {
            Some(route) => self.tcp_rule(service, route),
            None if lacks_its_route => self.own_rule(service, port, Shares::default()),
            None => self.own_rule(service, port, Shares::all_to(own)),
        };
        let listener = Listener {
            service: service.name.clone(),
            port: port.port,
            spoken: match (http.is_empty(), tcp) {
                (false, _) => Spoken::Http,
                (true, Some(_)) => Spoken::Tcp,
                (true, None) => said(port),
            },
            default,
            matches: (!http.is_empty() || lacks_its_route).then(|| self.matches(service, http)),
        };
        let at: (Ipv4Addr, Port) = (service.address, port.port);
        self.table.listeners.insert(at, listener);
    }

    fn matches(&mut self, service: &'a Service, routes: &[&'a HttpRoute]) -> Matches {
        let mut matches = Matches::default();
        for route in routes {
            self.add_matches(Some(service), route, &mut matches);
        }
        matches.finish()
    }

    fn add_matches(
        &mut self,
        service: Option<&'a Service>,
        route: &'a HttpRoute,
        matches: &mut Matches,
    ) {
        for (place, rule) in route.rules.iter().enumerate() {
            let ready = self.http_rule(service, &route.name, place, rule);
            for http in &rule.matches {
                matches.add(http, &ready);
            }
        }
    }

    fn add_gateway(&mut self, gateway: &'a Gateway, routes: &[(&'a HttpRoute, &'a GatewayParent)]) {
        let mut ports: BTreeMap<Port, BTreeMap<_, _>> = BTreeMap::new();
        for listener in &gateway.listeners {
            let mut by_host: BTreeMap<Option<Hostname>, (Matches, Option<&RouteName>)> =
                BTreeMap::new();
            let routes = routes
                .iter()
                .filter(|(_, parent)| parent.is_about(listener));
            for (route, _) in routes {
                for host in hosts(listener, route) {
                    let (matches, last) = by_host.entry(host.cloned()).or_default();
                    // It may name the listener twice, or two hosts that come to the same.
                    if last.replace(&route.name) != Some(&route.name) {
                        self.add_matches(None, route, matches);
                    }
                }
            }
            let by_host = by_host.into_iter();
            let by_host = by_host.map(|(host, (matches, _))| (host, matches.finish()));
            let listeners = ports.entry(listener.port).or_default();
            listeners.insert(listener.hostname.clone(), ByHost::new(by_host.collect()));
        }
        let entrances = ports.into_iter();
        let entrances = entrances.map(|(port, listeners)| (port, Entrance::new(listeners)));
        self.table.entrances.extend(entrances);
    }

    fn http_rule(
        &mut self,
        service: Option<&'a Service>,
        route: &'a RouteName,
        place: usize,
        rule: &'a HttpRule,
    ) -> Arc<Rule> {
        let key = (route, place, service.map(|service| &service.name));
        if let Some(made) = self.http_rules.get(&key) {
            return Arc::clone(made);
        }
        let policy = service.map(Policy::of).unwrap_or_default();
        let made = Made {
            name: http_rule_name(route, place, rule),
            service: service.map(|service| service.name.clone()),
            filters: rule.filters.clone(),
            timeouts: Timeouts {
                request: timeout(rule.request_timeout, policy.timeouts.request),
                attempt: timeout(rule.backend_request_timeout, policy.timeouts.attempt),
            },
            retry: rule.retry.as_ref().or(policy.retry).cloned(),
            objective: policy.objective,
            tunnels: rule
                .matches
                .iter()
                .any(|it| it.method.as_deref() == Some("CONNECT")),
            shares: self.shares(&rule.backends),
        };
        let made = self.add_rule(made);
        self.http_rules.insert(key, Arc::clone(&made));
        made
    }

    fn tcp_rule(&mut self, service: &Service, route: &TcpRoute) -> Arc<Rule> {
        let RouteName { namespace, name } = &route.name;
        let shares = self.shares(&route.backends);
        self.plain_rule(service, format!("TCPRoute/{namespace}/{name}"), shares)
    }

    fn own_rule(&mut self, service: &Service, port: &ServicePort, shares: Shares) -> Arc<Rule> {
        let ServiceName { namespace, name } = &service.name;
        let name = format!("Service/{namespace}/{name}/{}", port.port);
        self.plain_rule(service, name, shares)
    }

    fn plain_rule(&mut self, service: &Service, name: String, shares: Shares) -> Arc<Rule> {
        let policy = Policy::of(service);
        self.add_rule(Made {
            name,
            service: Some(service.name.clone()),
            filters: HttpFilters::default(),
            timeouts: policy.timeouts,
            retry: policy.retry.cloned(),
            objective: policy.objective,
            tunnels: true,
            shares,
        })
    }

    fn add_rule(&mut self, made: Made) -> Arc<Rule> {
        let rule = Arc::new(Rule {
            index: RouteIndex(index(self.table.rules.len())),
            name: made.name,
            service: made.service,
            filters: made.filters,
            timeouts: made.timeouts,
            retry: made.retry,
            objective: made.objective,
            tunnels: made.tunnels,
            shares: made.shares,
        });
        self.table.rules.push(Arc::clone(&rule));
        rule
    }

    fn shares(&mut self, backends: &[WeightedBackend]) -> Shares {
        let share = |WeightedBackend { backend, weight }: &WeightedBackend| Share {
            backend: self.exists(backend).then(|| self.backend(backend.clone())),
            weight: *weight,
        };
        Shares(backends.iter().map(share).collect())
    }

    fn exists(&self, backend: &Backend) -> bool {
        let service = self.snapshot.services.get(&backend.service);
        service.is_some_and(|service| {
            let mut ports = service.ports.iter();
            ports.any(|port| port.protocol == Protocol::Tcp && port.port == backend.port)
        })
    }

    fn backend(&mut self, backend: Backend) -> BackendIndex {
        if let Some(known) = self.backends.get(&backend) {
            return *known;
        }
        let new = BackendIndex(index(self.table.backends.len()));
        self.table.backends.push(backend.clone());
        self.backends.insert(backend, new);
        new
    }
}

/// A rule before it has its place.
struct Made {
    name: String,
    service: Option<ServiceName>,
    filters: HttpFilters,
    timeouts: Timeouts,
    retry: Option<RetryPolicy>,
    objective: Option<Objective>,
    tunnels: bool,
    shares: Shares,
}

/// What a service's policy says where a route says nothing.
#[derive(Default)]
struct Policy<'a> {
    timeouts: Timeouts,
    retry: Option<&'a RetryPolicy>,
    objective: Option<Objective>,
}

impl<'a> Policy<'a> {
    fn of(service: &'a Service) -> Self {
        let of = |policy: &'a RequestPolicy| Self {
            timeouts: policy.timeouts,
            retry: policy.retry.as_ref(),
            objective: policy.objective,
        };
        service.requests.as_ref().map(of).unwrap_or_default()
    }
}

/// Zero is for ever, and said so.
fn timeout(route: Option<Duration>, policy: Option<Duration>) -> Option<Duration> {
    match route {
        Some(said) => Some(said).filter(|said| !said.is_zero()),
        None => policy,
    }
}

fn http_rule_name(route: &RouteName, place: usize, rule: &HttpRule) -> String {
    let RouteName { namespace, name } = route;
    match &rule.name {
        Some(own) => format!("HTTPRoute/{namespace}/{name}/{own}"),
        None => format!("HTTPRoute/{namespace}/{name}/{place}"),
    }
}

/// What `appProtocol` says.
fn said(port: &ServicePort) -> Spoken {
    match &port.app_protocol {
        Some(spoken) if spoken.is_http1() => Spoken::Http,
        Some(spoken) if spoken.hides_requests() => Spoken::Tcp,
        _ => Spoken::Detect,
    }
}

/// A snapshot holds far fewer than 2^32 of anything.
fn index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
