//! `selvedge.dev/v1alpha1/RunPermission`: who may run programs as which services.
//!
//! There is one object of this kind, named `default`, so that one look shows everybody who may.
//! Without it only root may. Read next: `permission.rs`, which asks it.

use selvedge_model::Label;
use serde_json::json;

use super::cursor::Cursor;
use super::{Kind, ObjectKey, without_nulls};

/// What the RunPermission says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunPermission {
    /// What is allowed; nothing else is.
    pub rules: Vec<RunRule>,
}

/// Whoever is one of the subjects may run every one of the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRule {
    /// Who.
    pub subjects: Vec<Subject>,
    /// As what.
    pub services: Vec<RunScope>,
    /// Whether the program leaves the limits (memory, processes) of its caller's own cgroup.
    /// Without it such a caller is refused unless its cgroup sets none.
    pub shed_limits: bool,
}

/// A user or a group of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user by name.
    User(String),
    /// A user by number.
    Uid(u32),
    /// A group by name.
    Group(String),
    /// A group by number.
    Gid(u32),
}

/// Services by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunScope {
    /// The namespace they are in.
    pub namespace: Label,
    /// The service; `None` is each of the namespace, written `*`.
    pub name: Option<Label>,
}

pub(super) fn read(cursor: &Cursor<'_>) -> Option<RunPermission> {
    let fields = cursor.fields(&["rules"])?;
    let rules = fields.required("rules", |cursor| cursor.list(read_rule))?;
    Some(RunPermission { rules })
}

fn read_rule(cursor: &Cursor<'_>) -> Option<RunRule> {
    let fields = cursor.fields(&["subjects", "services", "shedLimits"])?;
    let subjects = fields.required("subjects", |cursor| cursor.list(read_subject));
    let services = fields.required("services", |cursor| cursor.list(read_scope));
    let shed_limits = fields.optional("shedLimits", Cursor::boolean);
    Some(RunRule {
        subjects: subjects?,
        services: services?,
        shed_limits: shed_limits?.unwrap_or(false),
    })
}

fn read_subject(cursor: &Cursor<'_>) -> Option<Subject> {
    let fields = cursor.fields(&["user", "uid", "group", "gid"])?;
    let user = fields.optional("user", |cursor| cursor.text().map(Subject::User));
    let group = fields.optional("group", |cursor| cursor.text().map(Subject::Group));
    // The last number means "no one" to the kernel.
    let number = |cursor: &Cursor<'_>| cursor.integer(0..=u32::MAX - 1);
    let uid = fields.optional("uid", |cursor| number(cursor).map(Subject::Uid));
    let gid = fields.optional("gid", |cursor| number(cursor).map(Subject::Gid));
    let mut subjects = [user?, uid?, group?, gid?].into_iter().flatten();
    match (subjects.next(), subjects.next()) {
        (Some(subject), None) => Some(subject),
        _ => {
            cursor.error("needs exactly one of user, uid, group and gid");
            None
        }
    }
}

fn read_scope(cursor: &Cursor<'_>) -> Option<RunScope> {
    let fields = cursor.fields(&["namespace", "name"])?;
    let namespace = fields.optional("namespace", Cursor::label);
    let name = fields.required("name", |cursor| match cursor.text()?.as_str() {
        "*" => Some(None),
        _ => cursor.label().map(Some),
    });
    let namespace = namespace?.unwrap_or_else(Label::default_namespace);
    Some(RunScope {
        namespace,
        name: name?,
    })
}

impl RunPermission {
    /// The key of the only object of this kind.
    pub fn key() -> ObjectKey {
        ObjectKey {
            kind: Kind::RunPermission,
            namespace: None,
            name: "default".to_owned(),
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({"rules": self.rules.iter().map(RunRule::to_json).collect::<Vec<_>>()})
    }
}

impl RunRule {
    fn to_json(&self) -> serde_json::Value {
        let subject = |subject: &Subject| match subject {
            Subject::User(name) => json!({"user": name}),
            Subject::Uid(number) => json!({"uid": number}),
            Subject::Group(name) => json!({"group": name}),
            Subject::Gid(number) => json!({"gid": number}),
        };
        let scope = |scope: &RunScope| {
            let name = scope.name.as_ref().map_or("*", Label::as_str);
            json!({"namespace": scope.namespace.as_str(), "name": name})
        };
        without_nulls(json!({
            "subjects": self.subjects.iter().map(subject).collect::<Vec<_>>(),
            "services": self.services.iter().map(scope).collect::<Vec<_>>(),
            "shedLimits": self.shed_limits.then_some(true),
        }))
    }
}
