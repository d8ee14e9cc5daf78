//! Reading and changing objects over the API.

use std::collections::{BTreeMap, BTreeSet};

use selvedge_model::{Label, Limited, ServiceName};
use serde_json::{Value, json};

use super::{Api, run};
use crate::compile::Condition;
use crate::document::{Document, Kind, ObjectKey, SourceFile, Spec, parse};
use crate::objects::{DeleteError, Object, Owner};
use crate::pilot::Known;
use crate::pilot::lines::{about, milliseconds};
use crate::plane::{ApplyError, Effect, View};
use crate::problem::{Finding, Problem, ProblemKind};
use crate::wire::{ApplyMode, ApplyReply, ApplyRequest, Changed, ObjectList};

/// What a request selects by.
#[derive(Debug, Default)]
struct Selection {
    kind: Option<Kind>,
    namespace: Option<String>,
    name: Option<String>,
}

impl Selection {
    /// Reads `kind=Service&namespace=a&name=b`. Names have only characters that need no escaping.
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut selection = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "kind" => selection.kind = Some(read_kind(value)?),
                "namespace" => selection.namespace = Some(value.to_owned()),
                "name" => selection.name = Some(value.to_owned()),
                _ => {
                    let what = format!("objects are not selected by {key:?}");
                    return Err(Problem::new(ProblemKind::Invalid, what));
                }
            }
        }
        Ok(selection)
    }

    fn selects(&self, key: &ObjectKey) -> bool {
        let namespace = key.namespace.as_ref().map(Label::as_str);
        self.kind.is_none_or(|kind| kind == key.kind)
            && self.name.as_ref().is_none_or(|name| *name == key.name)
            && self
                .namespace
                .as_ref()
                .is_none_or(|wanted| namespace.is_none_or(|namespace| namespace == wanted))
    }

    /// The one object that is selected.
    fn into_key(self) -> Result<ObjectKey, Problem> {
        let (Some(kind), Some(name)) = (self.kind, self.name) else {
            let what = "kind and name of the object are needed";
            return Err(Problem::new(ProblemKind::Invalid, what));
        };
        let namespace = match self.namespace {
            None => Label::default_namespace(),
            Some(text) => Label::new(&text).map_err(|error| {
                Problem::new(ProblemKind::Invalid, format!("namespace {text:?}: {error}"))
            })?,
        };
        Ok(ObjectKey::new(kind, &namespace, name))
    }
}

fn read_kind(text: &str) -> Result<Kind, Problem> {
    Kind::from_typed(text).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::word).join(", ");
        Problem::new(ProblemKind::NotFound, format!("there is no kind {text:?}"))
            .try_next(format!("known kinds: {known}"))
    })
}

/// The objects that `query` selects.
pub(super) fn list(api: &Api, query: &str) -> Result<ObjectList, Problem> {
    let selection = Selection::parse(query)?;
    let view = api.plane.view();
    let objects = view
        .objects
        .iter()
        .filter(|object| selection.selects(&object.document.key));
    let limits = api.pilot.limits();
    let items: Vec<_> = objects
        .map(|object| to_json(object, &view, &limits))
        .collect();
    if items.is_empty() && selection.name.is_some() {
        let key = selection.into_key()?;
        return Err(Problem::new(
            ProblemKind::NotFound,
            format!("there is no {key}"),
        ));
    }
    let generation = view.snapshot.generation.0;
    Ok(ObjectList { generation, items })
}

/// What is known of each limit.
type Limits = BTreeMap<Limited, Known>;

/// An object with what the mesh itself says about it.
fn to_json(object: &Object, view: &View, limits: &Limits) -> Value {
    let mut json = object.document.to_json();
    json["metadata"]["resourceVersion"] = Value::String(object.version.to_string());
    let key = &object.document.key;
    let conditions = view
        .conditions
        .iter()
        .filter(|condition| condition.key == *key);
    json["status"] = json!({
        "owner": match object.owner {
            Owner::Folder => object.document.origin.to_string(),
            Owner::Api => "api".to_owned(),
        },
        "conditions": conditions
            .map(condition_to_json)
            .chain(out_of_reach(&object.document, view, limits))
            .collect::<Vec<_>>(),
    });
    json
}

/// What limits the controllers have found to be beyond what an objective asks for.
fn out_of_reach(document: &Document, view: &View, limits: &Limits) -> impl Iterator<Item = Value> {
    let targets = match (&document.spec, &document.key.namespace) {
        (Spec::ServiceObjective(objective), Some(namespace)) => {
            let name = |target: &Label| ServiceName::new(namespace.clone(), target.clone());
            objective.targets.iter().map(name).collect()
        }
        _ => BTreeSet::new(),
    };
    limits.iter().filter_map(move |(limited, known)| {
        let floor = known.out_of_reach()?;
        targets.contains(limited.service()).then(|| {
            json!({
                "type": "ObjectiveOutOfReach",
                "status": "True",
                "field": "spec.latency.p95",
                "message": format!(
                    "{}: without load 95 of 100 requests take {}",
                    about(limited, Some(&view.snapshot)),
                    milliseconds(floor)
                ),
            })
        })
    })
}

fn condition_to_json(condition: &Condition) -> Value {
    json!({
        "type": condition.reason.word(),
        "status": "True",
        "field": condition.diagnostic.path,
        "message": condition.diagnostic.message,
    })
}

/// Judges documents and, unless only that was asked for, puts them into force.
pub(super) async fn apply(api: &Api, request: ApplyRequest) -> Result<ApplyReply, Problem> {
    let files = request.files.into_iter().map(|file| SourceFile {
        name: file.name,
        text: file.text,
    });
    let files: Vec<_> = files.collect();
    // Off this thread: a large set takes a while to read.
    let parsed = tokio::task::spawn_blocking(move || parse(&files)).await;
    let parsed = parsed.map_err(|panic| Problem::new(ProblemKind::Failed, panic.to_string()))?;
    let parsed = parsed.map_err(|errors| refused(ApplyError::Refused(errors)))?;
    let effect = match request.mode {
        ApplyMode::Apply => Effect::Change,
        ApplyMode::DryRun => Effect::Judge,
        ApplyMode::Check => Effect::JudgeUnowned,
    };
    run::forget_ended(api).await?;
    let applied = api
        .plane
        .apply(parsed.documents, effect)
        .await
        .map_err(refused)?;
    let changes = applied.changes.iter().map(|change| Changed {
        object: change.key.to_string(),
        action: change.action.to_string(),
    });
    let warnings = parsed.warnings.iter().chain(&applied.warnings);
    Ok(ApplyReply {
        generation: applied.generation.0,
        changes: changes.collect(),
        warnings: warnings.map(Finding::from).collect(),
    })
}

/// Deletes the object that `query` selects.
pub(super) async fn delete(api: &Api, query: &str) -> Result<Changed, Problem> {
    let key = Selection::parse(query)?.into_key()?;
    let change = api.plane.delete(key).await.map_err(refused)?;
    Ok(Changed {
        object: change.key.to_string(),
        action: change.action.to_string(),
    })
}

/// A change that was not made, as people read it.
fn refused(error: ApplyError) -> Problem {
    let what = error.to_string();
    match error {
        ApplyError::Refused(diagnostics) => {
            let count = diagnostics.len();
            let what = match count {
                1 => "the configuration has an error; nothing of it was applied".to_owned(),
                _ => format!("the configuration has {count} errors; nothing of it was applied"),
            };
            Problem::new(ProblemKind::Invalid, what).with_diagnostics(&diagnostics)
        }
        ApplyError::Delete(DeleteError::Absent { .. }) => Problem::new(ProblemKind::NotFound, what),
        ApplyError::Delete(DeleteError::Owned { .. }) => Problem::new(ProblemKind::Conflict, what)
            .because("the folder given to `up --config` owns what is in it"),
        ApplyError::NotStored(_) => Problem::new(ProblemKind::Unavailable, what)
            .because("the disk of the state folder is full or broken; what was in force still is")
            .try_next("make room, then try again; `selvedge status` shows the state of the store"),
        ApplyError::Gone(_) => Problem::new(ProblemKind::Unavailable, what),
    }
}
