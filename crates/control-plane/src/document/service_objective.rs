//! `selvedge.dev/v1alpha1/ServiceObjective`: what services are to keep, and how far the controllers may go
//! for it.

use selvedge_model::{Label, Objective, PilotMode};
use serde_json::json;

use super::cursor::Cursor;
use super::text::Value;
use super::traffic_policy::{read_targets, target_to_json};
use super::{duration, without_nulls};

/// What a ServiceObjective says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceObjective {
    /// The services it is about, in its own namespace.
    pub targets: Vec<Label>,
    /// What each of them is to keep.
    pub objective: Objective,
    /// How many times the share of another these callers have.
    pub callers: Vec<CallerWeight>,
}

/// The weight of a caller's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerWeight {
    /// The service that calls.
    pub name: Label,
    /// Its namespace; the objective's own where it is not said.
    pub namespace: Option<Label>,
    /// From 1 on.
    pub weight: u16,
}

/// Largest weight of a caller: one that has more leaves others nothing to speak of.
const MAX_WEIGHT: u16 = 100;
/// Most callers of one object.
const MAX_CALLERS: usize = 64;

const MODES: [(&str, PilotMode); 4] = [
    ("Off", PilotMode::Off),
    ("Observe", PilotMode::Observe),
    ("Guard", PilotMode::Guard),
    ("Drive", PilotMode::Drive),
];

pub(super) fn read(cursor: &Cursor<'_>) -> Option<ServiceObjective> {
    let fields = cursor.fields(&["targetRefs", "latency", "mode", "callers"])?;
    let targets = fields.required("targetRefs", read_targets);
    let latency = fields.required("latency", |cursor| {
        cursor.mark();
        cursor
            .fields(&["p95"])?
            .required("p95", duration::read_positive)
    });
    let mode = fields.optional("mode", read_mode);
    let callers = fields.optional("callers", read_callers);
    Some(ServiceObjective {
        targets: targets?,
        objective: Objective {
            latency: latency?,
            mode: mode?.unwrap_or(PilotMode::Drive),
        },
        callers: callers?.unwrap_or_default(),
    })
}

fn read_mode(cursor: &Cursor<'_>) -> Option<PilotMode> {
    // YAML 1.1 reads `Off` without quotes as false, and so do most readers (yaml.org/type/bool.html).
    match cursor.value() {
        Value::Bool(false) => Some(PilotMode::Off),
        _ => cursor.one_of(&MODES),
    }
}

fn read_callers(cursor: &Cursor<'_>) -> Option<Vec<CallerWeight>> {
    let callers: Vec<CallerWeight> = cursor.list(read_caller)?;
    if callers.len() > MAX_CALLERS {
        cursor.error(format!("at most {MAX_CALLERS} callers can be named"));
        return None;
    }
    Some(callers)
}

fn read_caller(cursor: &Cursor<'_>) -> Option<CallerWeight> {
    let fields = cursor.fields(&["name", "namespace", "weight"])?;
    let name = fields.required("name", Cursor::label);
    let namespace = fields.optional("namespace", Cursor::label);
    let weight = fields.required("weight", |cursor| {
        cursor.mark();
        cursor.integer(1..=MAX_WEIGHT)
    });
    Some(CallerWeight {
        name: name?,
        namespace: namespace?,
        weight: weight?,
    })
}

impl CallerWeight {
    fn to_json(&self) -> serde_json::Value {
        without_nulls(json!({
            "name": self.name.as_str(),
            "namespace": self.namespace.as_ref().map(Label::as_str),
            "weight": self.weight,
        }))
    }
}

impl ServiceObjective {
    pub(super) fn to_json(&self) -> serde_json::Value {
        let Objective { latency, mode } = self.objective;
        let word = MODES.iter().find(|(_, known)| *known == mode);
        let callers = self.callers.iter().map(CallerWeight::to_json);
        let callers = (!self.callers.is_empty()).then(|| callers.collect::<Vec<_>>());
        without_nulls(json!({
            "targetRefs": self.targets.iter().map(target_to_json).collect::<Vec<_>>(),
            "latency": {"p95": duration::to_text(latency)},
            "mode": word.map(|(word, _)| word),
            "callers": callers,
        }))
    }
}
