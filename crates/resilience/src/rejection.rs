//! Refusals of requests.

use core::fmt;

use selvedge_model::Reason;

/// Why a request goes nowhere. It was counted at the route and, past its entry, at the upstream, unless
/// one of them is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Rejection {
    /// The public word for it.
    pub reason: Reason,
    /// What refused it.
    pub gate: Gate,
    /// The limit in force there; `u32::MAX` is none.
    pub limit: u32,
}

/// What can refuse a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The limit of its route, at its entry.
    Entry,
    /// The upstream.
    Upstream,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match (self.gate, self.reason) {
            (Gate::Entry, Reason::RequestLimit) => write!(
                f,
                "{limit} requests of the route are in flight, as many as its objective allows: wait, add replicas, or allow more time in the ServiceObjective"
            ),
            (Gate::Upstream, Reason::RequestLimit) => write!(
                f,
                "every endpoint has its {limit} requests in flight: wait, add replicas, or raise the limit of the TrafficPolicy or the time in the ServiceObjective"
            ),
            (_, reason) => write!(f, "{reason}: {}", reason.explanation()),
        }
    }
}
