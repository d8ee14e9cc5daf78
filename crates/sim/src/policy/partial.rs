//! What each part of our law is worth.

use selvedge_resilience::{BalanceLaw, RetryLaw};

use super::{NamedPolicy, Policy, Shares, Steering, whole};

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
