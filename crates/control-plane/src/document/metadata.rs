//! What every object has: a name, labels, annotations.
//!
//! Fields that a Kubernetes API server writes itself (`uid`, `creationTimestamp`, ...) are accepted
//! and dropped, so that exported objects can be applied. `resourceVersion` is kept: it makes an
//! apply conditional. Read next: `document.rs`.

use std::collections::BTreeMap;

use selvedge_model::Label;
use serde_json::json;

use super::cursor::Cursor;
use super::fields::Fields;
use super::{Kind, ObjectKey, without_nulls};

/// Says who made an object, where it was not a person.
pub(crate) const MADE_BY: &str = "selvedge.dev/made-by";
/// The value of [`MADE_BY`] for what `selvedge run` made.
pub(crate) const MADE_BY_RUN: &str = "run";

/// What every object has beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Free words to find objects by.
    pub labels: BTreeMap<String, String>,
    /// Free notes.
    pub annotations: BTreeMap<String, String>,
    /// The version this object was read at: applying it then fails if it has changed since.
    pub resource_version: Option<u64>,
}

impl Metadata {
    /// The metadata of an object that `selvedge run` makes.
    pub fn made_by_run() -> Self {
        let annotations = BTreeMap::from([(MADE_BY.to_owned(), MADE_BY_RUN.to_owned())]);
        Self {
            annotations,
            ..Self::default()
        }
    }

    /// Whether `selvedge run` made the object.
    pub fn is_made_by_run(&self) -> bool {
        self.annotations
            .get(MADE_BY)
            .is_some_and(|maker| maker == MADE_BY_RUN)
    }

    pub(crate) fn to_json(&self, key: &ObjectKey) -> serde_json::Value {
        let filled = |map: &BTreeMap<_, _>| (!map.is_empty()).then(|| json!(map));
        without_nulls(json!({
            "name": key.name,
            "namespace": key.namespace.as_ref().map(Label::as_str),
            "labels": filled(&self.labels),
            "annotations": filled(&self.annotations),
        }))
    }
}

const FIELDS: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "uid",
];

const UNSUPPORTED: &[(&str, &str)] = &[
    (
        "generateName",
        "objects have fixed names; set metadata.name",
    ),
    ("finalizers", "deletion takes effect at once"),
    (
        "ownerReferences",
        "nothing is deleted on behalf of another object",
    ),
];

/// Only the key, silently: it is what diagnostics name the object by.
pub(super) fn read_key(object: &Fields<'_>, kind: Kind) -> Option<ObjectKey> {
    use super::text::Value;
    let metadata = object.field("metadata")?;
    let Value::Map(_) = metadata.value() else {
        return None;
    };
    let fields = metadata.open_fields()?;
    let text = |name: &str| match fields.field(name)?.value() {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let name = text("name").filter(|name| !name.is_empty())?;
    let namespace = match text("namespace") {
        Some(text) => Label::new(&text).ok()?,
        None => Label::default_namespace(),
    };
    Some(ObjectKey::new(kind, &namespace, name))
}

pub(super) fn read(cursor: &Cursor<'_>, kind: Kind) -> Option<Metadata> {
    let known: Vec<_> = FIELDS
        .iter()
        .copied()
        .chain(UNSUPPORTED.iter().map(|(f, _)| *f))
        .collect();
    let fields = cursor.fields(&known)?;
    fields.refuse(UNSUPPORTED);
    let name = fields.required("name", |name| read_name(name, kind));
    let namespace = fields.optional("namespace", |namespace| {
        if !kind.is_namespaced() {
            namespace.error(format!("a {kind} has no namespace; leave it out"));
        }
        namespace.label()
    });
    let labels = fields.optional("labels", Cursor::text_map);
    let annotations = fields.optional("annotations", Cursor::text_map);
    let resource_version = fields.optional("resourceVersion", |version| {
        version.parse::<u64>("the text of a version number, as `get` shows it")
    });
    name?;
    namespace?;
    Some(Metadata {
        labels: labels?.unwrap_or_default().into_iter().collect(),
        annotations: annotations?.unwrap_or_default().into_iter().collect(),
        resource_version: resource_version?,
    })
}

/// Names that other names are made of are labels; a slice's is a DNS subdomain (RFC 1123).
fn read_name(cursor: &Cursor<'_>, kind: Kind) -> Option<()> {
    let text = cursor.text()?;
    match kind {
        Kind::Service | Kind::Workload | Kind::Gateway | Kind::HttpRoute | Kind::TcpRoute => {
            cursor.report(Label::new(&text)).map(|_| ())
        }
        _ if text.len() > 253 => {
            cursor.error("a name has at most 253 characters");
            None
        }
        _ => text
            .split('.')
            .try_for_each(|part| cursor.report(Label::new(part)).map(|_| ())),
    }
}
