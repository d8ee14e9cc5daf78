//! Which objects put services on the proxy.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_model::{RequestPolicy, RouteName, RouteParent, ServiceName, Snapshot, Way};

use crate::document::{Kind, Spec};
use crate::plane::View;

/// The objects of each service, as `HTTPRoute cart-canary.default`.
pub(super) struct Routed(BTreeMap<ServiceName, BTreeSet<String>>);

impl Routed {
    pub(super) fn of(view: &View) -> Self {
        let mut routed = Self(BTreeMap::new());
        for route in view.snapshot.http_routes.values() {
            routed.add_route(Kind::HttpRoute, &route.name, &route.parents);
        }
        for route in view.snapshot.tcp_routes.values() {
            routed.add_route(Kind::TcpRoute, &route.name, &route.parents);
        }
        for document in view.objects.documents() {
            let Spec::TrafficPolicy(policy) = &document.spec else {
                continue;
            };
            if policy.requests == RequestPolicy::default() {
                continue;
            }
            let namespace = document.key.namespace_or_default();
            let object = format!("{} {}.{namespace}", document.key.kind, document.key.name);
            for target in &policy.targets {
                let service = ServiceName::new(namespace.clone(), target.clone());
                if is_proxied(&view.snapshot, &service) {
                    routed.0.entry(service).or_default().insert(object.clone());
                }
            }
        }
        routed
    }

    fn add_route(&mut self, kind: Kind, name: &RouteName, parents: &[RouteParent]) {
        for parent in parents {
            let objects = self.0.entry(parent.service.clone()).or_default();
            objects.insert(format!("{kind} {name}"));
        }
    }

    pub(super) fn objects(&self, service: &ServiceName) -> Vec<String> {
        let objects = self.0.get(service).into_iter().flatten();
        objects.cloned().collect()
    }
}

fn is_proxied(snapshot: &Snapshot, service: &ServiceName) -> bool {
    let service = snapshot.services.get(service);
    service.is_some_and(|service| service.ports.iter().any(|port| port.way != Way::Direct))
}
