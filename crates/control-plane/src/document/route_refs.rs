//! What routes name: the services and Gateways they are attached to, and the services they lead to.
//!
//! Parents are services, as Gateway API has it for meshes (GEP-1294), or Gateways; whether they are there
//! is judged by `compile`.

use selvedge_model::{
    Backend, GatewayName, Label, Port, RouteParent, ServiceName, WeightedBackend,
};
use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::fields::Fields;
use super::without_nulls;

/// What a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    /// The service or Gateway.
    pub target: ParentTarget,
    /// Only its port, or listener, of this name.
    pub section: Option<Label>,
    /// Only this port of it.
    pub port: Option<Port>,
}

/// A service or a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentTarget {
    /// What is sent to a service.
    Service(ServiceName),
    /// What comes in at a Gateway.
    Gateway(GatewayName),
}

/// Reads `parentRefs` of a route in `namespace`.
pub(super) fn read_parents(fields: &Fields<'_>, namespace: &Label) -> Option<Vec<ParentRef>> {
    fields.refuse(&[(
        "useDefaultGateways",
        "a route is attached to what parentRefs names",
    )]);
    fields.required("parentRefs", |cursor| {
        let parents = cursor.list(|parent| read_parent(parent, namespace))?;
        if parents.is_empty() || parents.len() > RouteParent::MAX {
            let (found, most) = (parents.len(), RouteParent::MAX);
            cursor.error(format!("needs 1 to {most} parents, found {found}"));
            return None;
        }
        Some(parents)
    })
}

fn read_parent(cursor: &Cursor<'_>, namespace: &Label) -> Option<ParentRef> {
    cursor.mark();
    let known = &["group", "kind", "namespace", "name", "sectionName", "port"];
    let fields = cursor.fields(known)?;
    // Gateway API takes a parent that says nothing for a Gateway.
    let kinds = [("Gateway", true), ("Service", false)];
    let is_gateway = fields.optional("kind", |cursor| cursor.one_of(&kinds));
    let is_gateway = is_gateway.map(|said| said.unwrap_or(true));
    let group = match is_gateway {
        Some(false) => read_core_group(&fields),
        _ => {
            let own = [("gateway.networking.k8s.io", ())];
            let group = fields.optional("group", |cursor| cursor.one_of(&own));
            group.map(|_| ())
        }
    };
    let name = read_service(&fields, namespace);
    let section = fields.optional("sectionName", Cursor::label);
    let port = fields.optional("port", Cursor::port);
    group?;
    let target = match (is_gateway?, name?) {
        (true, ServiceName { namespace, name }) => {
            ParentTarget::Gateway(GatewayName { namespace, name })
        }
        (false, service) => ParentTarget::Service(service),
    };
    Some(ParentRef {
        target,
        section: section?,
        port: port?,
    })
}

/// Services are of the core group, and nothing else that is called so is known here.
fn read_core_group(fields: &Fields<'_>) -> Option<()> {
    let core = [("", ()), ("core", ())];
    let group = fields.optional("group", |cursor| cursor.one_of(&core));
    group.map(|_| ())
}

fn read_service(fields: &Fields<'_>, namespace: &Label) -> Option<ServiceName> {
    let own = fields.optional("namespace", Cursor::label);
    let name = fields.required("name", Cursor::label);
    let namespace = own?.unwrap_or_else(|| namespace.clone());
    Some(ServiceName::new(namespace, name?))
}

/// Reads `backendRefs` of a rule of a route in `namespace`.
pub(super) fn read_backends(
    fields: &Fields<'_>,
    namespace: &Label,
) -> Option<Vec<WeightedBackend>> {
    let backends = fields.optional("backendRefs", |cursor| {
        let backends = cursor.list(|backend| read_backend(backend, namespace))?;
        if backends.len() > WeightedBackend::MAX {
            let (found, most) = (backends.len(), WeightedBackend::MAX);
            cursor.error(format!("takes at most {most} backends, found {found}"));
            return None;
        }
        if !backends.is_empty() && backends.iter().all(|backend| backend.weight == 0) {
            cursor.warning("no backend has a weight: everything this rule matches is refused");
        }
        Some(backends)
    });
    backends.map(Option::unwrap_or_default)
}

fn read_backend(cursor: &Cursor<'_>, namespace: &Label) -> Option<WeightedBackend> {
    cursor.mark();
    let known = &[
        "group",
        "kind",
        "namespace",
        "name",
        "port",
        "weight",
        "filters",
    ];
    let fields = cursor.fields(known)?;
    fields.refuse(&[(
        "filters",
        "filters are those of a rule; write a rule of its own for this backend",
    )]);
    let group = read_core_group(&fields);
    let kind = fields.optional("kind", |cursor| cursor.one_of(&[("Service", ())]));
    let service = read_service(&fields, namespace);
    let port = fields.required("port", Cursor::port);
    let weight = fields.optional("weight", |cursor| {
        cursor.integer(0..=WeightedBackend::MAX_WEIGHT)
    });
    group?;
    kind?;
    Some(WeightedBackend {
        backend: Backend {
            service: service?,
            port: port?,
        },
        weight: weight?.unwrap_or(1),
    })
}

/// Parents as they are written in a route of `namespace`.
pub(super) fn parents_to_json(parents: &[ParentRef], namespace: &Label) -> Vec<Json> {
    let parent = |parent: &ParentRef| {
        let (group, kind, own, name) = match &parent.target {
            ParentTarget::Service(service) => ("", "Service", &service.namespace, &service.name),
            ParentTarget::Gateway(gateway) => (
                "gateway.networking.k8s.io",
                "Gateway",
                &gateway.namespace,
                &gateway.name,
            ),
        };
        without_nulls(json!({
            "group": group,
            "kind": kind,
            "namespace": foreign(own, namespace),
            "name": name.as_str(),
            "sectionName": parent.section.as_ref().map(Label::as_str),
            "port": parent.port.map(Port::get),
        }))
    };
    parents.iter().map(parent).collect()
}

/// Backends as they are written in a route of `namespace`.
pub(super) fn backends_to_json(backends: &[WeightedBackend], namespace: &Label) -> Vec<Json> {
    let backend = |WeightedBackend { backend, weight }: &WeightedBackend| {
        without_nulls(json!({
            "namespace": foreign(&backend.service.namespace, namespace),
            "name": backend.service.name.as_str(),
            "port": backend.port.get(),
            "weight": weight,
        }))
    };
    backends.iter().map(backend).collect()
}

/// The namespace of an object where it is not the route's own.
fn foreign<'a>(own: &'a Label, namespace: &Label) -> Option<&'a str> {
    (own != namespace).then(|| own.as_str())
}
