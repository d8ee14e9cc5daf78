//! `selvedge.dev/v1alpha1/ServiceObjective`: what services are to keep, and how far the controllers may go
//! for it.

use selvedge_model::{Label, Objective, PilotMode};
use serde_json::json;

use super::cursor::Cursor;
use super::duration;
use super::text::Value;
use super::traffic_policy::{read_targets, target_to_json};

/// What a ServiceObjective says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceObjective {
    /// The services it is about, in its own namespace.
    pub targets: Vec<Label>,
    /// What each of them is to keep.
    pub objective: Objective,
}

const MODES: [(&str, PilotMode); 4] = [
    ("Off", PilotMode::Off),
    ("Observe", PilotMode::Observe),
    ("Guard", PilotMode::Guard),
    ("Drive", PilotMode::Drive),
];

pub(super) fn read(cursor: &Cursor<'_>) -> Option<ServiceObjective> {
    let fields = cursor.fields(&["targetRefs", "latency", "mode"])?;
    let targets = fields.required("targetRefs", read_targets);
    let latency = fields.required("latency", |cursor| {
        cursor.mark();
        cursor
            .fields(&["p95"])?
            .required("p95", duration::read_positive)
    });
    let mode = fields.optional("mode", read_mode);
    Some(ServiceObjective {
        targets: targets?,
        objective: Objective {
            latency: latency?,
            mode: mode?.unwrap_or(PilotMode::Drive),
        },
    })
}

fn read_mode(cursor: &Cursor<'_>) -> Option<PilotMode> {
    // YAML 1.1 reads `Off` without quotes as false, and so do most readers (yaml.org/type/bool.html).
    match cursor.value() {
        Value::Bool(false) => Some(PilotMode::Off),
        _ => cursor.one_of(&MODES),
    }
}

impl ServiceObjective {
    pub(super) fn to_json(&self) -> serde_json::Value {
        let Objective { latency, mode } = self.objective;
        let word = MODES.iter().find(|(_, known)| *known == mode);
        json!({
            "targetRefs": self.targets.iter().map(target_to_json).collect::<Vec<_>>(),
            "latency": {"p95": duration::to_text(latency)},
            "mode": word.map(|(word, _)| word),
        })
    }
}
