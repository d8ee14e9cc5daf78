//! What everybody can read of the control plane without asking its task.

use std::sync::Arc;
use std::time::Instant;

use selvedge_model::{Diagnostic, Snapshot};
use selvedge_resilience::planner::Plan;
use selvedge_telemetry::log;

use crate::compile::Condition;
use crate::objects::Objects;
use crate::store::StoreError;

/// The configuration at one moment, and what is to be said about it.
#[derive(Clone, Debug)]
pub struct View {
    /// What is in force.
    pub snapshot: Arc<Snapshot>,
    /// The objects it was made of.
    pub objects: Objects,
    /// What is incomplete about them.
    pub conditions: Arc<[Condition]>,
    /// What is left of objectives for the services behind them.
    pub plan: Arc<Plan>,
    /// When this generation came into force.
    pub since: Instant,
    /// Whether it is durable.
    pub store: StoreState,
    /// The folder given by `--config`.
    pub folder: Option<FolderState>,
    /// Why the stored set is not in force, after a start with other options.
    pub refused: Arc<[Diagnostic]>,
    /// Listening ports that were not taken note of, since there were too many.
    pub unseen_ports: u64,
}

/// The configuration folder as last read.
#[derive(Clone, Debug)]
pub struct FolderState {
    /// Where it is.
    pub path: String,
    /// Why its text is not in force; empty where it is.
    pub errors: Arc<[Diagnostic]>,
    /// When it was read.
    pub read_at: Instant,
}

/// Whether the configuration in force is stored.
#[derive(Clone, Debug)]
pub enum StoreState {
    /// It is.
    Durable,
    /// It is not: it would be lost with the host.
    InMemory {
        /// Why it could not be stored.
        error: Arc<str>,
        /// Since when.
        since: Instant,
        /// Saves that failed since then.
        failures: u64,
    },
    /// It is, but the last change was refused because it could not be stored.
    Refusing {
        /// Why it could not be stored.
        error: Arc<str>,
        /// Since when.
        since: Instant,
        /// Saves that failed since then.
        failures: u64,
    },
}

impl StoreState {
    /// The state after one more save.
    pub(super) fn after(&self, saved: Result<(), StoreError>) -> Self {
        let Err(error) = saved else {
            return Self::Durable;
        };
        let (since, failures) = match self {
            Self::Durable => (Instant::now(), 0),
            Self::InMemory {
                since, failures, ..
            }
            | Self::Refusing {
                since, failures, ..
            } => (*since, *failures),
        };
        Self::InMemory {
            error: log::chain(&error).to_string().into(),
            since,
            failures: failures + 1,
        }
    }

    /// The state after the change whose save `failed` was taken back: what is in force is stored if
    /// it was before.
    pub(super) fn refusing(&self, failed: &Self) -> Self {
        match failed {
            Self::InMemory {
                error,
                since,
                failures,
            } if self.is_durable() => Self::Refusing {
                error: error.clone(),
                since: *since,
                failures: *failures,
            },
            other => other.clone(),
        }
    }

    /// Whether everything in force is stored.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::InMemory { .. })
    }

    /// Why the last save failed, where it did.
    pub fn trouble(&self) -> Option<Arc<str>> {
        match self {
            Self::Durable => None,
            Self::InMemory { error, .. } | Self::Refusing { error, .. } => Some(error.clone()),
        }
    }
}
