//! Policies that are compared, by name.

use core::num::NonZeroU32;

use alloc::vec;

use selvedge_model::{Backoff, RequestPolicy, RetryBudget, RetryPolicy};

/// A policy that all services of a scenario have.
#[derive(Clone, Copy, Debug)]
pub struct NamedPolicy {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    policy: fn() -> RequestPolicy,
}

impl NamedPolicy {
    /// The one of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        POLICIES.iter().find(|policy| policy.name == name)
    }

    /// The policy itself.
    pub fn policy(&self) -> RequestPolicy {
        (self.policy)()
    }
}

/// All of them.
pub const POLICIES: [NamedPolicy; 4] = [
    NamedPolicy {
        name: "none",
        about: "nothing is limited, and nothing is sent again",
        policy: RequestPolicy::default,
    },
    NamedPolicy {
        name: "istio-default",
        about: "two retries of 500 and 503 after up to 25 and 50 ms, without a budget, and no limit",
        policy: istio_default,
    },
    NamedPolicy {
        name: "retry-budget",
        about: "two retries of 500 and 503, a fifth more than is sent first and ten a second, and no limit",
        policy: retry_budget,
    },
    NamedPolicy {
        name: "static-24",
        about: "24 requests in flight into an endpoint at most, with retries in a budget",
        policy: static_24,
    },
];

/// What a sidecar of Istio does where nothing is said (Istio, "Traffic Management", HTTP retries).
fn istio_default() -> RequestPolicy {
    let unlimited = RetryBudget {
        percent: 100,
        per_second: u16::MAX,
    };
    RequestPolicy {
        retry: Some(two_retries()),
        retry_budget: Some(unlimited),
        ..RequestPolicy::default()
    }
}

fn retry_budget() -> RequestPolicy {
    RequestPolicy {
        retry: Some(two_retries()),
        ..RequestPolicy::default()
    }
}

fn static_24() -> RequestPolicy {
    RequestPolicy {
        requests_per_endpoint: NonZeroU32::new(24),
        ..retry_budget()
    }
}

fn two_retries() -> RetryPolicy {
    RetryPolicy {
        attempts: 2,
        statuses: vec![500, 503],
        backoff: Backoff::default(),
        non_idempotent: false,
    }
}
