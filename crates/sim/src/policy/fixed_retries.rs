//! Retries as somebody sets them beforehand, with a time for each attempt and no budget: the grid that adaptive retries were
//! compared with (M. R. Saleh Sedghpour et al., "Breaking the vicious circle", IC2E 2023; `overload.py` of
//! salehsedghpour/breaking-the-vicious-circle, commit d44d693).

use core::time::Duration;

use selvedge_model::{Backoff, RequestPolicy, RetryPolicy, Timeouts};

use super::{NamedPolicy, Policy, Steering, UNLIMITED};

/// By how many there are and how long an attempt may take.
pub const FIXED_RETRIES: [NamedPolicy; 9] = [
    set(
        "retries-1x1ms",
        "one retry, and each attempt at most 1 ms",
        fixed::<1, 1>,
    ),
    set(
        "retries-1x25ms",
        "one retry, and each attempt at most 25 ms",
        fixed::<1, 25>,
    ),
    set(
        "retries-1x50ms",
        "one retry, and each attempt at most 50 ms",
        fixed::<1, 50>,
    ),
    set(
        "retries-2x1ms",
        "two retries, and each attempt at most 1 ms",
        fixed::<2, 1>,
    ),
    set(
        "retries-2x25ms",
        "two retries, and each attempt at most 25 ms",
        fixed::<2, 25>,
    ),
    set(
        "retries-2x50ms",
        "two retries, and each attempt at most 50 ms",
        fixed::<2, 50>,
    ),
    set(
        "retries-5x1ms",
        "five retries, and each attempt at most 1 ms",
        fixed::<5, 1>,
    ),
    set(
        "retries-5x25ms",
        "five retries, and each attempt at most 25 ms",
        fixed::<5, 25>,
    ),
    set(
        "retries-5x50ms",
        "five retries, and each attempt at most 50 ms",
        fixed::<5, 50>,
    ),
];

const fn set(name: &'static str, about: &'static str, policy: fn() -> Policy) -> NamedPolicy {
    NamedPolicy {
        name,
        about,
        policy,
    }
}

/// After any failure, without a budget, beside the limit of `inversion`.
fn fixed<const ATTEMPTS: u8, const MILLIS: u64>() -> Policy {
    let request = RequestPolicy {
        timeouts: Timeouts {
            attempt: Some(Duration::from_millis(MILLIS)),
            ..Timeouts::default()
        },
        retry: Some(RetryPolicy {
            attempts: ATTEMPTS,
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
