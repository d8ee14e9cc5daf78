//! Policies that are compared, by name.

use core::num::NonZeroU32;
use core::time::Duration;

use alloc::vec;

use crate::door::Doorman;
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
        let mut all = POLICIES.iter().chain(&PARTIAL);
        all.find(|policy| policy.name == name)
    }

    /// The policy itself.
    pub fn policy(&self) -> Policy {
        (self.policy)()
    }
}

/// All of them.
pub const POLICIES: [NamedPolicy; 16] = [
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

/// The policy `adaptive`, each time without one of its parts: what a part is worth is what is lost.
pub const PARTIAL: [NamedPolicy; 19] = [
    NamedPolicy {
        name: "without-planner",
        about: "services have their shares from the start, as somebody would say who knows the scenario",
        policy: || Policy {
            shares: Shares::Known,
            ..whole(|_| ())
        },
    },
    NamedPolicy {
        name: "without-shares",
        about: "each service may take all of the objective",
        policy: || Policy {
            shares: Shares::Whole,
            ..whole(|_| ())
        },
    },
    NamedPolicy {
        name: "without-endpoints",
        about: "there is a limit at the entry alone",
        policy: || Policy {
            limit: Steering::Static,
            ..whole(|_| ())
        },
    },
    NamedPolicy {
        name: "without-own-time",
        about: "endpoints are judged by all of a request's time, and all requests in flight",
        policy: || whole(|terms| terms.counts_own = false),
    },
    NamedPolicy {
        name: "without-least-time",
        about: "a request goes where fewer are in flight, however long they take there",
        policy: || Policy {
            balance: BalanceLaw::LeastRequest,
            ..whole(|_| ())
        },
    },
    NamedPolicy {
        name: "without-priced-retries",
        about: "retries have a budget, and a refusal is retried as any other failure",
        policy: || Policy {
            retries: RetryLaw::Budget,
            ..whole(|_| ())
        },
    },
    NamedPolicy {
        name: "without-waste",
        about: "entries let in what takes what is scarce and is refused elsewhere",
        policy: || whole(|terms| terms.waste_gain = 0.0),
    },
    NamedPolicy {
        name: "without-yielding",
        about: "entries throttle for times that limits behind them hold already",
        policy: || whole(|terms| terms.yields = false),
    },
    NamedPolicy {
        name: "without-reopening",
        about: "throttling goes on where it does not help",
        policy: || whole(|terms| terms.reopening = 1.0),
    },
    NamedPolicy {
        name: "without-learnt-floor",
        about: "only idle windows show the tail without load",
        policy: || whole(|terms| terms.learns_floor = false),
    },
    NamedPolicy {
        name: "without-floor",
        about: "the set-point follows from the objective alone",
        policy: || whole(|terms| terms.above_floor = 0.0),
    },
    NamedPolicy {
        name: "without-pressure",
        about: "the set-point is the same whatever is refused",
        policy: || whole(|terms| terms.set_point.1 = terms.set_point.0),
    },
    NamedPolicy {
        name: "without-leak",
        about: "limits before the same resource are not drawn together",
        policy: || whole(|terms| terms.leak = 0.0),
    },
    NamedPolicy {
        name: "without-first-rise",
        about: "a limit rises no faster before it was lowered for the first time",
        // The longest step that there is later on.
        policy: || whole(|terms| terms.first_rise = 1.1),
    },
    NamedPolicy {
        name: "without-unwinding",
        about: "a limit that is not used stays where it is",
        policy: || whole(|terms| terms.headroom = f64::INFINITY),
    },
    NamedPolicy {
        name: "without-beginning-anew",
        about: "windows have the times of requests that began before the last decision, too",
        policy: || whole(|terms| terms.begins_anew = false),
    },
    NamedPolicy {
        name: "without-hedges",
        about: "nobody else is asked while an answer is late",
        policy: || Policy {
            hedges: false,
            ..whole(|_| ())
        },
    },
    NamedPolicy {
        name: "without-callers",
        about: "whoever calls finds a place if there is one, and none else",
        policy: || whole(|terms| terms.shares_places = false),
    },
    NamedPolicy {
        name: "without-places-kept",
        about: "what is urgent finds a place as anything else does",
        policy: || whole(|terms| terms.keeps_places = false),
    },
];

/// What a sidecar of Istio does where nothing is said (Istio, "Traffic Management", HTTP retries).
fn istio_default() -> Policy {
    let unlimited = RetryBudget {
        percent: 100,
        per_second: u16::MAX,
    };
    RequestPolicy {
        retry: Some(two_retries()),
        retry_budget: Some(unlimited),
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
