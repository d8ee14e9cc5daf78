//! Policies that can be played, by the names that the simulator has for them.

use std::time::Duration;

/// What stands between the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataPlane {
    /// A mesh of ours.
    Selvedge(Ours),
    /// Envoy before every caller, and before every replica.
    Envoy(Envoy),
}

/// What our mesh is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    /// Only that these are HTTP services.
    Nothing,
    /// A limit of requests in flight into each endpoint, and retries in a budget.
    Limit(u32),
    /// The objective, and retries in a budget.
    Objective,
}

/// What Envoy is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envoy {
    /// Its adaptive concurrency before each replica; how often that measures the latency without load.
    pub(super) measures_every: Option<Duration>,
    pub(super) retries: Retries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retries {
    None,
    /// A fifth more than is under way, as its documentation sets it.
    InBudget,
    /// As many as there are failures, as Istio sets it.
    Unlimited,
}

/// A policy that can be played.
#[derive(Clone, Copy, Debug)]
pub struct LivePolicy {
    /// What it is asked for by, here and in the simulator.
    pub name: &'static str,
    pub(super) plane: DataPlane,
}

impl LivePolicy {
    /// The one of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        LIVE_POLICIES.iter().find(|policy| policy.name == name)
    }
}

/// As documented.
const EVERY: Duration = Duration::from_secs(30);
/// Longer than anything that is played.
const ONCE: Duration = Duration::from_secs(24 * 3600);

const fn envoy(measures_every: Option<Duration>, retries: Retries) -> DataPlane {
    DataPlane::Envoy(Envoy {
        measures_every,
        retries,
    })
}

/// All of them.
pub const LIVE_POLICIES: [LivePolicy; 7] = [
    LivePolicy {
        name: "none",
        plane: DataPlane::Selvedge(Ours::Nothing),
    },
    LivePolicy {
        name: "istio-default",
        plane: envoy(None, Retries::Unlimited),
    },
    LivePolicy {
        name: "static-24",
        plane: DataPlane::Selvedge(Ours::Limit(24)),
    },
    LivePolicy {
        name: "envoy",
        plane: envoy(Some(EVERY), Retries::InBudget),
    },
    LivePolicy {
        name: "envoy-once",
        plane: envoy(Some(ONCE), Retries::InBudget),
    },
    LivePolicy {
        name: "envoy-once-no-retry",
        plane: envoy(Some(ONCE), Retries::None),
    },
    LivePolicy {
        name: "adaptive",
        plane: DataPlane::Selvedge(Ours::Objective),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_sim::NamedPolicy;

    #[test]
    fn each_has_a_simulated_one_of_its_name() {
        for policy in &LIVE_POLICIES {
            assert!(NamedPolicy::find(policy.name).is_some(), "{}", policy.name);
        }
    }
}
