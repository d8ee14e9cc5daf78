//! Retries as somebody sets them beforehand, with a time for each attempt and no budget: the grid that adaptive retries were
//! compared with (M. R. Saleh Sedghpour et al., "Breaking the vicious circle", IC2E 2023; `overload.py` of
//! salehsedghpour/breaking-the-vicious-circle, commit d44d693).

use core::time::Duration;

use selvedge_model::{Backoff, RequestPolicy, RetryPolicy, Timeouts};

use super::{NamedPolicy, Policy, Steering, UNLIMITED};

/// By how many there are and how long an attempt may take.
pub const FIXED_RETRIES: [NamedPolicy; 9] = [
    NamedPolicy {
        name: "retries-1x1ms",
        about: "one retry after any failure, each attempt at most 1 ms, beside the limit of `inversion`",
        policy: || fixed(1, 1),
    },
    NamedPolicy {
        name: "retries-1x25ms",
        about: "one retry after any failure, each attempt at most 25 ms, beside the limit of `inversion`",
        policy: || fixed(1, 25),
    },
    NamedPolicy {
        name: "retries-1x50ms",
        about: "one retry after any failure, each attempt at most 50 ms, beside the limit of `inversion`",
        policy: || fixed(1, 50),
    },
    NamedPolicy {
        name: "retries-2x1ms",
        about: "two retries after any failure, each attempt at most 1 ms, beside the limit of `inversion`",
        policy: || fixed(2, 1),
    },
    NamedPolicy {
        name: "retries-2x25ms",
        about: "two retries after any failure, each attempt at most 25 ms, beside the limit of `inversion`",
        policy: || fixed(2, 25),
    },
    NamedPolicy {
        name: "retries-2x50ms",
        about: "two retries after any failure, each attempt at most 50 ms, beside the limit of `inversion`",
        policy: || fixed(2, 50),
    },
    NamedPolicy {
        name: "retries-5x1ms",
        about: "five retries after any failure, each attempt at most 1 ms, beside the limit of `inversion`",
        policy: || fixed(5, 1),
    },
    NamedPolicy {
        name: "retries-5x25ms",
        about: "five retries after any failure, each attempt at most 25 ms, beside the limit of `inversion`",
        policy: || fixed(5, 25),
    },
    NamedPolicy {
        name: "retries-5x50ms",
        about: "five retries after any failure, each attempt at most 50 ms, beside the limit of `inversion`",
        policy: || fixed(5, 50),
    },
];

fn fixed(attempts: u8, millis: u64) -> Policy {
    let request = RequestPolicy {
        timeouts: Timeouts {
            attempt: Some(Duration::from_millis(millis)),
            ..Timeouts::default()
        },
        retry: Some(RetryPolicy {
            attempts,
            statuses: (500..600).collect(),
            backoff: Backoff::default(),
            non_idempotent: false,
        }),
        retry_budget: Some(UNLIMITED),
        ..RequestPolicy::default()
    };
    Policy {
        request,
        limit: Steering::Inversion,
        ..Policy::default()
    }
}
