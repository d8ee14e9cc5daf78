//! What is wrong or incomplete about a set of documents.

use selvedge_model::{Diagnostic, ServiceName, Snapshot};

use super::Compiled;
use crate::document::{Document, ObjectKey};

/// Something incomplete about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The object.
    pub key: ObjectKey,
    /// What it is about.
    pub reason: ConditionReason,
    /// In words, with the place.
    pub diagnostic: Diagnostic,
}

/// Why an object does not, or not wholly, take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionReason {
    /// It names a service that does not exist.
    ServiceMissing,
    /// Its cgroup does not exist at this moment.
    CgroupAbsent,
    /// A port it names is not there.
    PortMissing,
    /// A weight of it belongs to no endpoint.
    WeightUnused,
    /// Its connections live long and carry many requests, but are balanced one by one.
    BalancedPerConnection,
    /// What it says about requests means nothing on a port whose protocol hides them.
    RequestsUnseen,
    /// No request ever gets one of its matches.
    MatchHidden,
    /// A Gateway that a route names has nothing for it.
    NotAttached,
}

impl ConditionReason {
    /// Whether other documents would mend it: something to warn an author of. The rest may pass by itself,
    /// is true of one host alone, or is how such a service is.
    pub const fn is_mistake(self) -> bool {
        match self {
            Self::ServiceMissing
            | Self::PortMissing
            | Self::RequestsUnseen
            | Self::MatchHidden
            | Self::NotAttached => true,
            Self::CgroupAbsent | Self::WeightUnused | Self::BalancedPerConnection => false,
        }
    }

    /// What to do about it.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::ServiceMissing => "apply a Service of that name, or delete this object",
            Self::CgroupAbsent => "start what runs there; it is found when it appears",
            Self::PortMissing => {
                "compare it with the ports that the Service lists, by name and number"
            }
            Self::WeightUnused => "compare the name with `selvedge get workload`",
            Self::BalancedPerConnection => {
                "clients that reconnect now and then, or have several connections, even it out"
            }
            Self::RequestsUnseen => {
                "offer HTTP/1.1 on the port and say `appProtocol: http`, or leave it at that"
            }
            Self::NotAttached => {
                "compare its parentRefs and hostnames with the listeners of the Gateway"
            }
            Self::MatchHidden => "say in one of the two what tells their requests apart",
        }
    }

    /// The word in an object's status.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ServiceMissing => "ServiceMissing",
            Self::CgroupAbsent => "CgroupAbsent",
            Self::PortMissing => "PortMissing",
            Self::WeightUnused => "WeightUnused",
            Self::BalancedPerConnection => "BalancedPerConnection",
            Self::RequestsUnseen => "RequestsUnseen",
            Self::MatchHidden => "MatchHidden",
            Self::NotAttached => "NotAttached",
        }
    }
}

/// What was found wrong or incomplete.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Diagnostic>,
    pub(super) conditions: Vec<Condition>,
}

impl Findings {
    pub(super) fn error(&mut self, document: &Document, path: &str, message: impl Into<String>) {
        self.errors.push(document.diagnostic(path, message));
    }

    pub(super) fn condition(
        &mut self,
        document: &Document,
        reason: ConditionReason,
        path: &str,
        message: impl Into<String>,
    ) {
        let diagnostic = document.diagnostic(path, message);
        self.conditions.push(Condition {
            key: document.key.clone(),
            reason,
            diagnostic,
        });
    }

    pub(super) fn missing_service(
        &mut self,
        document: &Document,
        path: &str,
        service: &ServiceName,
    ) {
        let message = format!("there is no service {service}");
        self.condition(document, ConditionReason::ServiceMissing, path, message);
    }

    pub(super) fn into_result(self, snapshot: Snapshot) -> Result<Compiled, Vec<Diagnostic>> {
        if self.errors.is_empty() {
            Ok(Compiled {
                snapshot,
                conditions: self.conditions,
            })
        } else {
            Err(self.errors)
        }
    }
}
