//! `timeouts` and `retry` of a rule (GEP-1742, GEP-1731).

use std::collections::BTreeSet;
use std::time::Duration;

use selvedge_model::{Backoff, HttpRule, RetryPolicy};
use serde_json::{Value, json};

use crate::document::cursor::Cursor;
use crate::document::{duration, without_nulls};

/// Retries where a rule has `retry` and does not say how many.
pub(in crate::document) const DEFAULT_ATTEMPTS: u8 = 1;

/// Reads the time of a request and that of an attempt; zero is for ever.
pub(super) fn read_timeouts(cursor: &Cursor<'_>) -> Option<(Option<Duration>, Option<Duration>)> {
    let fields = cursor.fields(&["request", "backendRequest"])?;
    let request = fields.optional("request", duration::read);
    let attempt = fields.optional("backendRequest", duration::read);
    let (request, attempt) = (request?, attempt?);
    if let (Some(whole), Some(part)) = (request, attempt)
        && !whole.is_zero()
        && part > whole
    {
        let attempt = fields.field("backendRequest")?;
        attempt.error("must not be longer than request, which holds all attempts");
        return None;
    }
    Some((request, attempt))
}

pub(super) fn read_retry(cursor: &Cursor<'_>) -> Option<RetryPolicy> {
    let fields = cursor.fields(&["codes", "attempts", "backoff"])?;
    let statuses = fields.optional("codes", read_statuses);
    let attempts = fields.optional("attempts", |cursor| cursor.integer(1..=u8::MAX));
    let backoff = fields.optional("backoff", duration::read_positive);
    // Room for jitter above the shortest wait, from the first retry on.
    let backoff = backoff?.map(|least| Backoff {
        least,
        base: least * 2,
        ..Backoff::of_base(least)
    });
    Some(RetryPolicy {
        attempts: attempts?.unwrap_or(DEFAULT_ATTEMPTS),
        statuses: statuses?.unwrap_or_default(),
        backoff: backoff.unwrap_or_default(),
        non_idempotent: false,
    })
}

/// Reads statuses that count as failures, each once.
pub(in crate::document) fn read_statuses(cursor: &Cursor<'_>) -> Option<Vec<u16>> {
    let statuses = cursor.list(|status| status.integer(400..=599u16))?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = statuses.iter().find(|status| !seen.insert(**status)) {
        cursor.error(format!("names {twice} twice"));
        return None;
    }
    Some(statuses)
}

pub(super) fn timeouts_to_json(rule: &HttpRule) -> Option<Value> {
    let request = rule.request_timeout.map(duration::to_text);
    let attempt = rule.backend_request_timeout.map(duration::to_text);
    let says = without_nulls(json!({"request": request, "backendRequest": attempt}));
    says.as_object()
        .is_some_and(|says| !says.is_empty())
        .then_some(says)
}

pub(super) fn retry_to_json(retry: &RetryPolicy) -> Value {
    let backoff =
        (retry.backoff != Backoff::default()).then(|| duration::to_text(retry.backoff.least));
    without_nulls(json!({
        "codes": (!retry.statuses.is_empty()).then_some(&retry.statuses),
        "attempts": retry.attempts,
        "backoff": backoff,
    }))
}
