//! What is said about requests.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;

use selvedge_model::{
    Backoff, Ejection, Objective, PilotMode, RequestPolicy, RetryBudget, RetryPolicy, ServiceName,
    Timeouts,
};

use super::{Defect, at_most, collect, small};
use crate::wire::routes as wire;

/// Nanoseconds of 584 years at most; nobody says more.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl From<&RequestPolicy> for wire::RequestPolicy {
    fn from(policy: &RequestPolicy) -> Self {
        Self {
            request_timeout_ns: policy.timeouts.request.map(nanos),
            attempt_timeout_ns: policy.timeouts.attempt.map(nanos),
            retry: policy.retry.as_ref().map(Into::into),
            retry_budget: policy.retry_budget.map(|budget| wire::RetryBudget {
                percent: budget.percent.into(),
                per_second: budget.per_second.into(),
            }),
            requests_per_endpoint: policy.requests_per_endpoint.map_or(0, NonZeroU32::get),
            ejection: policy.ejection.map(|ejection| wire::Ejection {
                consecutive_failures: ejection.consecutive_failures.get().into(),
                duration_ns: nanos(ejection.duration),
                most_percent: ejection.most_percent.into(),
            }),
            objective: policy.objective.map(Into::into),
            share: policy.share.map(Into::into),
            caller_weights: policy.caller_weights.iter().map(weight_out).collect(),
        }
    }
}

impl TryFrom<wire::RequestPolicy> for RequestPolicy {
    type Error = Defect;

    fn try_from(wire: wire::RequestPolicy) -> Result<Self, Defect> {
        Ok(Self {
            timeouts: Timeouts {
                request: wire.request_timeout_ns.map(Duration::from_nanos),
                attempt: wire.attempt_timeout_ns.map(Duration::from_nanos),
            },
            retry: wire.retry.map(TryInto::try_into).transpose()?,
            retry_budget: wire.retry_budget.map(budget).transpose()?,
            requests_per_endpoint: NonZeroU32::new(wire.requests_per_endpoint),
            ejection: wire.ejection.map(ejection).transpose()?,
            objective: wire.objective.map(objective),
            share: wire.share.map(objective),
            caller_weights: weights(wire.caller_weights)?,
        })
    }
}

fn weight_out((caller, weight): (&ServiceName, &u16)) -> wire::CallerWeight {
    wire::CallerWeight {
        caller: caller.into(),
        weight: (*weight).into(),
    }
}

fn weights(wire: Vec<wire::CallerWeight>) -> Result<BTreeMap<ServiceName, u16>, Defect> {
    /// Far more than one object may name.
    const MAX_WEIGHTS: usize = 1024;
    at_most("callers", wire.len(), MAX_WEIGHTS)?;
    let weight = |it: wire::CallerWeight| {
        let weight = small("the weight of a caller", it.weight)?;
        Ok((ServiceName::try_from(it.caller)?, weight))
    };
    wire.into_iter().map(weight).collect()
}

fn budget(wire: wire::RetryBudget) -> Result<RetryBudget, Defect> {
    Ok(RetryBudget {
        percent: small("a retry budget in percent", wire.percent)?,
        per_second: small("a retry budget per second", wire.per_second)?,
    })
}

impl From<Objective> for wire::Objective {
    fn from(objective: Objective) -> Self {
        let mode = match objective.mode {
            PilotMode::Off => wire::PilotMode::Off,
            PilotMode::Observe => wire::PilotMode::Observe,
            PilotMode::Guard => wire::PilotMode::Guard,
            PilotMode::Drive => wire::PilotMode::Drive,
        };
        Self {
            latency_ns: nanos(objective.latency),
            mode: mode.into(),
        }
    }
}

/// A mode that is not known is one of a newer control plane: it is told about, and nothing is done.
fn objective(wire: wire::Objective) -> Objective {
    Objective {
        latency: Duration::from_nanos(wire.latency_ns),
        mode: match wire.mode() {
            wire::PilotMode::Off => PilotMode::Off,
            wire::PilotMode::Observe => PilotMode::Observe,
            wire::PilotMode::Guard => PilotMode::Guard,
            wire::PilotMode::Drive => PilotMode::Drive,
        },
    }
}

fn ejection(wire: wire::Ejection) -> Result<Ejection, Defect> {
    let what = "a number of failures";
    let value = wire.consecutive_failures;
    let failures: u16 = small(what, value)?;
    Ok(Ejection {
        consecutive_failures: NonZeroU16::new(failures).ok_or(Defect::Range { what, value })?,
        duration: Duration::from_nanos(wire.duration_ns),
        most_percent: small("a share of endpoints", wire.most_percent)?,
    })
}

impl From<&RetryPolicy> for wire::RetryPolicy {
    fn from(retry: &RetryPolicy) -> Self {
        Self {
            attempts: retry.attempts.into(),
            statuses: retry.statuses.iter().copied().map(Into::into).collect(),
            least_wait_ns: nanos(retry.backoff.least),
            base_wait_ns: nanos(retry.backoff.base),
            most_wait_ns: nanos(retry.backoff.most),
            non_idempotent: retry.non_idempotent,
        }
    }
}

impl TryFrom<wire::RetryPolicy> for RetryPolicy {
    type Error = Defect;

    fn try_from(wire: wire::RetryPolicy) -> Result<Self, Defect> {
        /// Each of the statuses from 400 to 599 once.
        const MAX_STATUSES: usize = 200;
        let status = |value: u32| match u16::try_from(value) {
            Ok(status @ 400..=599) => Ok(status),
            _ => Err(Defect::Range {
                what: "a status to retry",
                value,
            }),
        };
        at_most("statuses", wire.statuses.len(), MAX_STATUSES)?;
        Ok(Self {
            attempts: small("a number of retries", wire.attempts)?,
            statuses: collect(wire.statuses, status)?,
            backoff: Backoff {
                least: Duration::from_nanos(wire.least_wait_ns),
                base: Duration::from_nanos(wire.base_wait_ns),
                most: Duration::from_nanos(wire.most_wait_ns),
            },
            non_idempotent: wire.non_idempotent,
        })
    }
}
