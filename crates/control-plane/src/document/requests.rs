//! What a TrafficPolicy says about requests: how long they may take, which are sent again, when an
//! endpoint is taken out.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};

use selvedge_model::{Backoff, Ejection, RequestPolicy, RetryBudget, RetryPolicy, Timeouts};
use serde_json::{Value, json};

use super::cursor::Cursor;
use super::fields::Fields;
use super::http_route::{DEFAULT_ATTEMPTS, read_statuses};
use super::{duration, without_nulls};

/// Fields of a TrafficPolicy that are read here.
pub(super) const FIELDS: [&str; 4] = ["timeouts", "retry", "retryBudget", "ejection"];

/// What an ejection is where its fields do not say: as in Envoy.
const DEFAULT_FAILURES: NonZeroU16 = NonZeroU16::new(5).expect("5 is not 0");
const DEFAULT_EJECTION_SECONDS: u64 = 30;
const DEFAULT_MOST_PERCENT: u8 = 10;

/// Reads all that stands beside `limits`, whose part is given.
pub(super) fn read(
    fields: &Fields<'_>,
    requests_per_endpoint: Option<NonZeroU32>,
) -> Option<RequestPolicy> {
    let timeouts = fields.optional("timeouts", read_timeouts);
    let retry = fields.optional("retry", read_retry);
    let retry_budget = fields.optional("retryBudget", read_budget);
    let ejection = fields.optional("ejection", read_ejection);
    Some(RequestPolicy {
        timeouts: timeouts?.unwrap_or_default(),
        retry: retry?,
        retry_budget: retry_budget?,
        requests_per_endpoint,
        ejection: ejection?,
        objective: None,
        share: None,
        caller_weights: BTreeMap::new(),
    })
}

fn read_timeouts(cursor: &Cursor<'_>) -> Option<Timeouts> {
    let fields = cursor.fields(&["request", "attempt"])?;
    let read = |name| {
        fields.optional(name, |cursor: &Cursor<'_>| {
            cursor.mark();
            duration::read_positive(cursor)
        })
    };
    let (request, attempt) = (read("request"), read("attempt"));
    let timeouts = Timeouts {
        request: request?,
        attempt: attempt?,
    };
    if let Timeouts {
        request: Some(request),
        attempt: Some(attempt),
    } = timeouts
        && attempt > request
    {
        let attempt = fields.field("attempt")?;
        attempt.error("must not be longer than request, which holds all attempts");
        return None;
    }
    Some(timeouts)
}

fn read_retry(cursor: &Cursor<'_>) -> Option<RetryPolicy> {
    cursor.mark();
    let fields = cursor.fields(&["attempts", "statuses", "backoff", "nonIdempotent"])?;
    let attempts = fields.optional("attempts", |cursor| cursor.integer(0..=u8::MAX));
    let statuses = fields.optional("statuses", read_statuses);
    let backoff = fields.optional("backoff", read_backoff);
    let non_idempotent = fields.optional("nonIdempotent", Cursor::boolean);
    Some(RetryPolicy {
        attempts: attempts?.unwrap_or(DEFAULT_ATTEMPTS),
        statuses: statuses?.unwrap_or_default(),
        backoff: backoff?.unwrap_or_default(),
        non_idempotent: non_idempotent?.unwrap_or(false),
    })
}

fn read_backoff(cursor: &Cursor<'_>) -> Option<Backoff> {
    let fields = cursor.fields(&["base", "most"])?;
    let base = fields.optional("base", duration::read_positive);
    let most = fields.optional("most", duration::read_positive);
    let plain = base?.map_or_else(Backoff::default, Backoff::of_base);
    let most = most?.unwrap_or(plain.most);
    if most < plain.base {
        let base = duration::to_text(plain.base);
        cursor.error(format!(
            "most must not be shorter than base, which is {base}"
        ));
        return None;
    }
    Some(Backoff { most, ..plain })
}

fn read_budget(cursor: &Cursor<'_>) -> Option<RetryBudget> {
    cursor.mark();
    let fields = cursor.fields(&["percent", "perSecond"])?;
    let percent = fields.optional("percent", |cursor| cursor.integer(0..=100u16));
    let per_second = fields.optional("perSecond", |cursor| cursor.integer(0..=u16::MAX));
    let plain = RetryBudget::default();
    Some(RetryBudget {
        percent: percent?.unwrap_or(plain.percent),
        per_second: per_second?.unwrap_or(plain.per_second),
    })
}

fn read_ejection(cursor: &Cursor<'_>) -> Option<Ejection> {
    cursor.mark();
    let fields = cursor.fields(&["consecutiveFailures", "duration", "mostPercent"])?;
    let failures = fields.optional("consecutiveFailures", |cursor| {
        cursor.integer(1..=u16::MAX).and_then(NonZeroU16::new)
    });
    let duration = fields.optional("duration", duration::read_positive);
    let most = fields.optional("mostPercent", |cursor| cursor.integer(1..=100u8));
    let plain = std::time::Duration::from_secs(DEFAULT_EJECTION_SECONDS);
    Some(Ejection {
        consecutive_failures: failures?.unwrap_or(DEFAULT_FAILURES),
        duration: duration?.unwrap_or(plain),
        most_percent: most?.unwrap_or(DEFAULT_MOST_PERCENT),
    })
}

/// The fields as they are written, `limits` left out.
pub(super) fn to_json(policy: &RequestPolicy) -> [(&'static str, Option<Value>); 4] {
    let Timeouts { request, attempt } = policy.timeouts;
    let timeouts = without_nulls(json!({
        "request": request.map(duration::to_text),
        "attempt": attempt.map(duration::to_text),
    }));
    let retry = |retry: &RetryPolicy| {
        without_nulls(json!({
            "attempts": retry.attempts,
            "statuses": (!retry.statuses.is_empty()).then_some(&retry.statuses),
            "backoff": {
                "base": duration::to_text(retry.backoff.base),
                "most": duration::to_text(retry.backoff.most),
            },
            "nonIdempotent": retry.non_idempotent,
        }))
    };
    let budget =
        |budget: RetryBudget| json!({"percent": budget.percent, "perSecond": budget.per_second});
    let ejection = |ejection: Ejection| {
        json!({
            "consecutiveFailures": ejection.consecutive_failures,
            "duration": duration::to_text(ejection.duration),
            "mostPercent": ejection.most_percent,
        })
    };
    let is_timed = request.is_some() || attempt.is_some();
    let written = [
        is_timed.then_some(timeouts),
        policy.retry.as_ref().map(retry),
        policy.retry_budget.map(budget),
        policy.ejection.map(ejection),
    ];
    let mut written = written.into_iter();
    FIELDS.map(|name| (name, written.next().flatten()))
}
