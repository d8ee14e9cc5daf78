//! Policies that are compared, by name.

mod fixed_retries;
mod partial;

use core::num::NonZeroU32;
use core::time::Duration;

use alloc::vec;

use crate::door::Doorman;
pub use fixed_retries::FIXED_RETRIES;
pub use partial::PARTIAL;
use selvedge_model::{Backoff, RequestPolicy, RetryBudget, RetryPolicy};
use selvedge_resilience::{BalanceLaw, GradientSettings, LimitLaw, RetryLaw, Terms};

/// What all services of a scenario have.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What is said about requests.
    pub request: RequestPolicy,
    /// Which replica a request goes to.
    pub balance: BalanceLaw,
    /// Whether a second replica is asked where the first is late.
    pub hedges: bool,
    /// What retries cost.
    pub retries: RetryLaw,
    /// What sets the limit of each endpoint.
    pub limit: Steering,
    /// Where that limit is.
    pub stands: Stands,
    /// What sets the limit at the entry of each route that a client uses: static is none.
    pub entry: Steering,
    /// What each service is to keep of the scenario's objective.
    pub shares: Shares,
    /// Whether retries are tuned by the law of `retuning.rs`.
    pub retunes: bool,
    /// What says besides, at each replica, which requests are let in.
    pub door: Doorman,
}

/// What a service is to keep of an objective for the whole answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shares {
    /// Its share of the time without load, as somebody who knows the scenario would say.
    #[default]
    Known,
    /// What the planner makes of what is seen while it runs: all of it at first.
    Planned,
    /// All of it.
    Whole,
}

/// Where the limit of an endpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stands {
    /// With whoever picks the endpoint, so that a full one is passed over.
    #[default]
    BeforeBalancing,
    /// Before the endpoint itself, as a filter of a proxy beside it: who picks does not know of it, and what it
    /// refuses is answered 429.
    BehindBalancing,
}

/// What sets a limit.
#[derive(Clone, Copy, Debug, Default)]
pub enum Steering {
    /// The policy of requests.
    #[default]
    Static,
    /// The scenario's objective, or what is left of it where others come before and after.
    Adaptive(Terms),
    /// Envoy's law.
    Gradient(GradientSettings),
    /// A law of Netflix, the newer one.
    Gradient2,
    /// Their older one.
    Vegas,
    /// The scenario's objective over what each request adds to the tail.
    Inversion,
}

impl From<RequestPolicy> for Policy {
    fn from(request: RequestPolicy) -> Self {
        Self {
            request,
            ..Self::default()
        }
    }
}

impl Steering {
    pub(crate) const fn law(self, objective: Duration) -> LimitLaw {
        match self {
            Self::Static => LimitLaw::Static,
            Self::Adaptive(terms) => LimitLaw::Adaptive { objective, terms },
            Self::Gradient(settings) => LimitLaw::Gradient(settings),
            Self::Gradient2 => LimitLaw::Gradient2,
            Self::Vegas => LimitLaw::Vegas,
            Self::Inversion => LimitLaw::Inversion { objective },
        }
    }
}

/// A policy to compare.
#[derive(Clone, Copy, Debug)]
pub struct NamedPolicy {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    policy: fn() -> Policy,
}

impl NamedPolicy {
    /// The one of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().find(|policy| policy.name == name)
    }

    /// [`POLICIES`], [`PARTIAL`] and [`FIXED_RETRIES`].
    pub fn all() -> impl Iterator<Item = &'static Self> {
        POLICIES.iter().chain(&PARTIAL).chain(&FIXED_RETRIES)
    }

    /// The policy itself.
    pub fn policy(&self) -> Policy {
        (self.policy)()
    }
}

/// All of them.
pub const POLICIES: [NamedPolicy; 20] = [
    NamedPolicy {
        name: "none",
        about: "nothing is limited, and nothing is sent again",
        policy: Policy::default,
    },
    NamedPolicy {
        name: "istio-default",
        about: "two retries of 500 and 503 after up to 25 and 50 ms, without a budget, and no limit",
        policy: istio_default,
    },
    NamedPolicy {
        name: "retry-budget",
        about: "two retries of 500 and 503, a fifth more than is sent first and ten a second, and no limit",
        policy: || retry_budget().into(),
    },
    NamedPolicy {
        name: "grpc-throttle",
        about: "two retries of 500 and 503 as long as answers make up for failures, ten to one, and no limit",
        policy: || Policy {
            retries: RetryLaw::Throttle,
            ..retry_budget().into()
        },
    },
    NamedPolicy {
        name: "peak-ewma",
        about: "a request goes where the mean of late and what is in flight are least, as Finagle has it; retries in a budget",
        policy: || balanced(BalanceLaw::PeakEwma),
    },
    NamedPolicy {
        name: "prequal",
        about: "it goes to the quickest of replicas that have few in flight (NSDI 2024), with retries in a budget",
        policy: || balanced(BalanceLaw::HotCold),
    },
    NamedPolicy {
        name: "static-24",
        about: "24 requests in flight into an endpoint at most, with retries in a budget",
        policy: static_24,
    },
    NamedPolicy {
        name: "envoy",
        about: "Envoy's adaptive concurrency as documented, with retries in a budget",
        policy: || gradient(GradientSettings::default(), retry_budget()),
    },
    NamedPolicy {
        name: "envoy-once",
        about: "the same, with the latency without load measured at the start only",
        policy: || gradient(ONCE, retry_budget()),
    },
    NamedPolicy {
        name: "envoy-once-no-retry",
        about: "the same without retries",
        policy: || gradient(ONCE, RequestPolicy::default()),
    },
    NamedPolicy {
        name: "gradient2",
        about: "Netflix's Gradient2 as it comes, with retries in a budget",
        policy: || rival(Steering::Gradient2),
    },
    NamedPolicy {
        name: "vegas",
        about: "Netflix's Vegas as it comes, with retries in a budget",
        policy: || rival(Steering::Vegas),
    },
    NamedPolicy {
        name: "inversion",
        about: "the objective over the tail that a request in flight adds (HAOC 2021), with retries in a budget",
        policy: || rival(Steering::Inversion),
    },
    NamedPolicy {
        name: "envoy-admission",
        about: "Envoy's admission control by the share of good answers, with retries in a budget",
        policy: || door(Doorman::SuccessRatio),
    },
    NamedPolicy {
        name: "dagor",
        about: "WeChat's levels of priority by the time that requests wait, with retries in a budget",
        policy: || door(Doorman::Dagor),
    },
    NamedPolicy {
        name: "breakwater",
        about: "credits by the time that requests wait, with retries in a budget",
        policy: || door(Doorman::Breakwater),
    },
    NamedPolicy {
        name: "rajomon",
        about: "prices by the time that requests wait, there and behind (NSDI 2025), with retries in a budget",
        policy: || door(Doorman::Rajomon),
    },
    NamedPolicy {
        name: "inversion-retuned",
        about: "that, and retries whose number and time follow from failures and the tail (IC2E 2023)",
        policy: || Policy {
            limit: Steering::Inversion,
            retunes: true,
            ..Policy::default()
        },
    },
    NamedPolicy {
        name: "adaptive-inner",
        about: "limits that hold known shares of the objective, of each endpoint's own time and requests",
        policy: || adaptive(Terms::ENDPOINT, Steering::Static),
    },
    NamedPolicy {
        name: "adaptive",
        about: "the same, and at the entry of each route",
        policy: || whole(|_| ()),
    },
];

/// As many retries as anybody wants.
pub(crate) const UNLIMITED: RetryBudget = RetryBudget {
    percent: 100,
    per_second: u16::MAX,
};

const ONCE: GradientSettings = GradientSettings {
    interval: None,
    requests: 50,
    least: 3,
};

fn gradient(settings: GradientSettings, request: RequestPolicy) -> Policy {
    Policy {
        request,
        limit: Steering::Gradient(settings),
        stands: Stands::BehindBalancing,
        ..Policy::default()
    }
}

fn rival(limit: Steering) -> Policy {
    Policy {
        request: retry_budget(),
        limit,
        ..Policy::default()
    }
}

fn balanced(balance: BalanceLaw) -> Policy {
    Policy {
        request: retry_budget(),
        balance,
        ..Policy::default()
    }
}

fn door(door: Doorman) -> Policy {
    Policy {
        request: retry_budget(),
        door,
        ..Policy::default()
    }
}

fn adaptive(endpoint: Terms, entry: Steering) -> Policy {
    Policy {
        request: retry_budget(),
        balance: BalanceLaw::LeastTime,
        hedges: true,
        retries: RetryLaw::Headroom,
        limit: Steering::Adaptive(endpoint),
        stands: Stands::BeforeBalancing,
        entry,
        shares: Shares::default(),
        retunes: false,
        door: Doorman::None,
    }
}

/// All of it, with this done to what endpoints and entries go by.
fn whole(change: impl Fn(&mut Terms)) -> Policy {
    let (mut endpoint, mut entry) = (Terms::ENDPOINT, Terms::ENTRY);
    change(&mut endpoint);
    change(&mut entry);
    Policy {
        shares: Shares::Planned,
        ..adaptive(endpoint, Steering::Adaptive(entry))
    }
}

/// What a sidecar of Istio does where nothing is said (Istio, "Traffic Management", HTTP retries).
fn istio_default() -> Policy {
    RequestPolicy {
        retry: Some(two_retries()),
        retry_budget: Some(UNLIMITED),
        ..RequestPolicy::default()
    }
    .into()
}

fn retry_budget() -> RequestPolicy {
    RequestPolicy {
        retry: Some(two_retries()),
        ..RequestPolicy::default()
    }
}

fn static_24() -> Policy {
    RequestPolicy {
        requests_per_endpoint: NonZeroU32::new(24),
        ..retry_budget()
    }
    .into()
}

fn two_retries() -> RetryPolicy {
    RetryPolicy {
        attempts: 2,
        statuses: vec![500, 503],
        backoff: Backoff::default(),
        non_idempotent: false,
    }
}
