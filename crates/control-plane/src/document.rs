//! Documents: configuration as written, each object read into a type that cannot be wrong by itself.
//!
//! Here everything is judged that one object shows alone: fields, ranges, words. What only the whole
//! set shows (references, conflicts) is judged by `compile`. Reading goes on after an error: a set
//! is refused with all of its diagnostics. No IO. Read next: `document/service.rs` for how a kind is
//! read and written, then `compile.rs`.

mod cursor;
mod duration;
mod endpoint_slice;
mod fields;
mod gateway;
mod http_route;
mod key;
mod metadata;
mod nearest;
mod requests;
mod route_refs;
mod run_permission;
mod service;
mod service_objective;
mod tcp_route;
mod text;
mod traffic_policy;
mod workload;

use selvedge_model::{Diagnostic, Label, Origin};

pub use endpoint_slice::{EndpointSlice, SliceEndpoint, SlicePort};
pub use gateway::GatewaySpec;
pub use http_route::HttpRouteSpec;
pub use key::{Kind, ObjectKey};
pub use metadata::Metadata;
pub use route_refs::{ParentRef, ParentTarget};
pub use run_permission::{RunPermission, RunRule, RunScope, Subject};
pub use service::{ServiceSpec, ServiceSpecPort, TargetPort};
pub use service_objective::ServiceObjective;
pub use tcp_route::TcpRouteSpec;
pub use traffic_policy::{PolicyTarget, TrafficPolicy, Weight};
pub use workload::{CgroupRef, Publish, ResolverSpec, WorkloadPlace, WorkloadPort, WorkloadSpec};

pub(crate) use workload::{MAX_NDOTS, search_suffix};

use cursor::{Cursor, Findings};
use fields::Fields;
use nearest::nearest;
use text::{Node, Value};

/// One object as written.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where its text stands.
    pub origin: Origin,
    /// What identifies it.
    pub key: ObjectKey,
    /// Labels, annotations, the version it was read at.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
    /// Lines of fields that `compile` may have something to say about.
    lines: Vec<(String, u32)>,
}

impl Document {
    /// An object made by the mesh itself, which `origin` names.
    pub fn made(origin: &str, key: ObjectKey, metadata: Metadata, spec: Spec) -> Self {
        let origin = Origin {
            file: origin.to_owned(),
            line: 0,
        };
        Self {
            origin,
            key,
            metadata,
            spec,
            lines: Vec::new(),
        }
    }

    /// A diagnostic of the field at `path`.
    pub fn diagnostic(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        let line = self.lines.iter().find(|(marked, _)| marked == path);
        let line = line.map_or(self.origin.line, |(_, line)| *line);
        Diagnostic {
            origin: Origin {
                file: self.origin.file.clone(),
                line,
            },
            object: self.key.to_string(),
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// The object in the shape it is written in.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({
            "apiVersion": self.key.kind.api_version(),
            "kind": self.key.kind.word(),
            "metadata": self.metadata.to_json(&self.key),
        });
        match self.spec.to_json(&self.key) {
            // A slice has no `spec`: its fields stand beside `metadata`.
            serde_json::Value::Object(fields) if self.key.kind == Kind::EndpointSlice => {
                for (name, field) in fields {
                    object[name] = field;
                }
            }
            spec => object["spec"] = spec,
        }
        object
    }

    /// Whether two documents say the same, wherever they stand.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.key == other.key
            && self.spec == other.spec
            && self.metadata.labels == other.metadata.labels
            && self.metadata.annotations == other.metadata.annotations
    }
}

/// What an object says, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// A name others call.
    Service(ServiceSpec),
    /// Addresses outside the mesh that answer for a service.
    EndpointSlice(EndpointSlice),
    /// An instance of a service.
    Workload(WorkloadSpec),
    /// Ports of the host for callers outside the mesh.
    Gateway(GatewaySpec),
    /// Which requests go where.
    HttpRoute(HttpRouteSpec),
    /// Where connections to services go.
    TcpRoute(TcpRouteSpec),
    /// How connections and requests to services are spread and limited.
    TrafficPolicy(TrafficPolicy),
    /// What services are to keep.
    ServiceObjective(ServiceObjective),
    /// Who may run programs as which services.
    RunPermission(RunPermission),
}

impl Spec {
    fn to_json(&self, key: &ObjectKey) -> serde_json::Value {
        match self {
            Self::Service(spec) => spec.to_json(),
            Self::EndpointSlice(spec) => spec.to_json(),
            Self::Workload(spec) => spec.to_json(),
            Self::Gateway(spec) => spec.to_json(),
            Self::HttpRoute(spec) => spec.to_json(&key.namespace_or_default()),
            Self::TcpRoute(spec) => spec.to_json(&key.namespace_or_default()),
            Self::TrafficPolicy(spec) => spec.to_json(),
            Self::ServiceObjective(spec) => spec.to_json(),
            Self::RunPermission(spec) => spec.to_json(),
        }
    }
}

/// A file of documents, or what stands for one (`stdin`).
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name, for messages.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// What a set of files holds.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The objects, in the order they were read.
    pub documents: Vec<Document>,
    /// What was accepted but has no effect.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a set of files, or says everything that is wrong with them.
pub fn parse(files: &[SourceFile]) -> Result<Parsed, Vec<Diagnostic>> {
    let mut parsed = Parsed::default();
    let mut errors = Vec::new();
    for file in files {
        let (nodes, mut unreadable) = text::parse(&file.name, &file.text);
        errors.append(&mut unreadable);
        let findings = Findings::new(&file.name);
        for node in &nodes {
            read_object(
                &Cursor::root(node, &findings),
                &file.name,
                &mut parsed.documents,
            );
        }
        let (mut wrong, mut aside) = findings.into_parts();
        errors.append(&mut wrong);
        parsed.warnings.append(&mut aside);
    }
    if errors.is_empty() {
        Ok(parsed)
    } else {
        Err(errors)
    }
}

/// Reads back an object that [`Document::to_json`] wrote.
pub(crate) fn from_json(file: &str, value: serde_json::Value) -> Result<Document, Vec<Diagnostic>> {
    let findings = Findings::new(file);
    let node = Node::from(value);
    let mut documents = Vec::new();
    let cursor = Cursor::root(&node, &findings);
    read_object(&cursor, file, &mut documents);
    let (errors, _) = findings.into_parts();
    match documents.pop() {
        Some(document) if documents.is_empty() && errors.is_empty() => Ok(document),
        _ => Err(errors),
    }
}

/// What selects a kind, and the kinds by it.
fn read_kind(fields: &Fields<'_>) -> Option<ReadKind> {
    let api_version = fields.required("apiVersion", Cursor::text);
    let word = fields.required("kind", Cursor::text)?;
    let api_version = api_version?;
    if (api_version.as_str(), word.as_str()) == ("v1", "List") {
        return Some(ReadKind::List);
    }
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.word() == word) else {
        let words = Kind::ALL.map(Kind::word);
        let hint = match nearest(&word, &words) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", words.join(", ")),
        };
        fields
            .field("kind")?
            .error(format!("unknown kind `{word}`; {hint}"));
        return None;
    };
    let is_earlier = kind.earlier_api_versions().contains(&api_version.as_str());
    if api_version != kind.api_version() && !is_earlier {
        let want = kind.api_version();
        let message = format!("expected {want:?} for kind {kind}, found {api_version:?}");
        fields.field("apiVersion")?.error(message);
        return None;
    }
    Some(ReadKind::Object(kind))
}

enum ReadKind {
    List,
    Object(Kind),
}

const OBJECT_FIELDS: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
/// EndpointSlices have no `spec`: their fields stand beside `metadata`.
const SLICE_FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "addressType",
    "endpoints",
    "ports",
];

fn read_object(cursor: &Cursor<'_>, file: &str, documents: &mut Vec<Document>) {
    cursor.findings().enter_object(String::new());
    let kind = cursor.open_fields().and_then(|fields| read_kind(&fields));
    match kind {
        None => {}
        Some(ReadKind::List) => read_list(cursor, file, documents),
        Some(ReadKind::Object(kind)) => documents.extend(read_one(cursor, file, kind)),
    }
}

/// `kind: List`, as `kubectl get -o yaml` writes it.
fn read_list(cursor: &Cursor<'_>, file: &str, documents: &mut Vec<Document>) {
    let Some(fields) = cursor.fields(&["apiVersion", "kind", "metadata", "items"]) else {
        return;
    };
    let Some(items) = fields.field("items") else {
        return;
    };
    let Value::List(nodes) = items.value() else {
        items.error("expected a list of objects");
        return;
    };
    for node in nodes {
        let item = Cursor::root(node, cursor.findings());
        cursor.findings().enter_object(String::new());
        match item.open_fields().and_then(|fields| read_kind(&fields)) {
            None => {}
            Some(ReadKind::List) => item.error("a List inside a List"),
            Some(ReadKind::Object(kind)) => documents.extend(read_one(&item, file, kind)),
        }
    }
}

fn read_one(cursor: &Cursor<'_>, file: &str, kind: Kind) -> Option<Document> {
    let open = cursor.open_fields()?;
    let named = metadata::read_key(&open, kind);
    let object = named
        .as_ref()
        .map_or_else(|| kind.to_string(), ObjectKey::to_string);
    cursor.findings().enter_object(object);
    let known = if kind == Kind::EndpointSlice {
        SLICE_FIELDS
    } else {
        OBJECT_FIELDS
    };
    let fields = cursor.fields(known)?;
    let namespace = named.as_ref().map(ObjectKey::namespace_or_default);
    let namespace = namespace.unwrap_or_else(Label::default_namespace);
    let metadata = fields.required("metadata", |cursor| metadata::read(cursor, kind));
    let spec = match kind {
        Kind::Service => fields.required("spec", service::read).map(Spec::Service),
        Kind::EndpointSlice => endpoint_slice::read(&fields).map(Spec::EndpointSlice),
        Kind::Workload => fields.required("spec", workload::read).map(Spec::Workload),
        Kind::Gateway => fields.required("spec", gateway::read).map(Spec::Gateway),
        Kind::HttpRoute => fields
            .required("spec", |cursor| http_route::read(cursor, &namespace))
            .map(Spec::HttpRoute),
        Kind::TcpRoute => fields
            .required("spec", |cursor| tcp_route::read(cursor, &namespace))
            .map(Spec::TcpRoute),
        Kind::TrafficPolicy => fields
            .required("spec", traffic_policy::read)
            .map(Spec::TrafficPolicy),
        Kind::ServiceObjective => fields
            .required("spec", service_objective::read)
            .map(Spec::ServiceObjective),
        Kind::RunPermission => fields
            .required("spec", run_permission::read)
            .map(Spec::RunPermission),
    };
    let origin = Origin {
        file: file.to_owned(),
        line: cursor.line(),
    };
    let lines = cursor.findings().take_lines();
    Some(Document {
        origin,
        key: named?,
        metadata: metadata?,
        spec: spec?,
        lines,
    })
}

/// Leaves out what was not said, so that written objects hold only what somebody meant.
fn without_nulls(mut value: serde_json::Value) -> serde_json::Value {
    if let serde_json::Value::Object(fields) = &mut value {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

#[cfg(test)]
mod tests;
