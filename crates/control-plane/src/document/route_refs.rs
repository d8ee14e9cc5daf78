//! What routes name: the services they are attached to, and those they lead to.
//!
//! Parents are services, as Gateway API has it for meshes (GEP-1294); whether services and ports are
//! there is judged by `compile`.

use selvedge_model::{Backend, Label, Port, RouteParent, ServiceName, WeightedBackend};
use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::fields::Fields;
use super::without_nulls;

/// A service that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    /// The service.
    pub service: ServiceName,
    /// Only its port of this name.
    pub section: Option<Label>,
    /// Only this port of it.
    pub port: Option<Port>,
}

/// Reads `parentRefs` of a route in `namespace`.
pub(super) fn read_parents(fields: &Fields<'_>, namespace: &Label) -> Option<Vec<ParentRef>> {
    fields.refuse(&[(
        "useDefaultGateways",
        "a route is attached to the services that parentRefs names",
    )]);
    fields.required("parentRefs", |cursor| {
        let parents = cursor.list(|parent| read_parent(parent, namespace))?;
        if parents.is_empty() || parents.len() > RouteParent::MAX {
            let (found, most) = (parents.len(), RouteParent::MAX);
            cursor.error(format!("needs 1 to {most} services, found {found}"));
            return None;
        }
        Some(parents)
    })
}

fn read_parent(cursor: &Cursor<'_>, namespace: &Label) -> Option<ParentRef> {
    cursor.mark();
    let known = &["group", "kind", "namespace", "name", "sectionName", "port"];
    let fields = cursor.fields(known)?;
    let kind = read_parent_kind(cursor, &fields);
    let service = read_service(&fields, namespace);
    let section = fields.optional("sectionName", Cursor::label);
    let port = fields.optional("port", Cursor::port);
    kind?;
    Some(ParentRef {
        service: service?,
        section: section?,
        port: port?,
    })
}

/// Gateway API takes a parent that says nothing for a Gateway.
fn read_parent_kind(cursor: &Cursor<'_>, fields: &Fields<'_>) -> Option<()> {
    const NO_GATEWAY: &str = "parents of kind Gateway are not supported: a route is attached to a \
                              service; write `kind: Service` and `group: ''`";
    let Some(kind) = fields.field("kind") else {
        cursor.error(format!(
            "kind is Gateway where it is left out, and {NO_GATEWAY}"
        ));
        return None;
    };
    match kind.text()?.as_str() {
        "Service" => read_core_group(fields),
        "Gateway" => {
            kind.error(NO_GATEWAY);
            None
        }
        other => {
            kind.error(format!("expected Service, found {other:?}"));
            None
        }
    }
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
        without_nulls(json!({
            "group": "",
            "kind": "Service",
            "namespace": foreign(&parent.service, namespace),
            "name": parent.service.name.as_str(),
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
            "namespace": foreign(&backend.service, namespace),
            "name": backend.service.name.as_str(),
            "port": backend.port.get(),
            "weight": weight,
        }))
    };
    backends.iter().map(backend).collect()
}

/// The namespace of a service where it is not the route's own.
fn foreign<'a>(service: &'a ServiceName, namespace: &Label) -> Option<&'a str> {
    (service.namespace != *namespace).then(|| service.namespace.as_str())
}
