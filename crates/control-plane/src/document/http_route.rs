//! `gateway.networking.k8s.io/v1/HTTPRoute`: which requests go where, and what is done to
//! them.
//!
//! Read as Gateway API has it for parents of kind Service and Gateway; what it has and we do not is refused with
//! the reason. Read next: `http_route/matches.rs`, `http_route/filters.rs`, `route_refs.rs`.

mod filters;
mod matches;
mod times;

pub(super) use times::{DEFAULT_ATTEMPTS, read_statuses};

use std::collections::BTreeSet;

use selvedge_model::{
    Hostname, HttpAction, HttpMatch, HttpRoute, HttpRule, Label, PathChange, PathMatch, Redirect,
    Rewrite,
};
use serde_json::{Value, json};

use super::cursor::Cursor;
use super::fields::Fields;
use super::gateway::read_hostnames;
use super::route_refs::{
    ParentRef, ParentTarget, backends_to_json, parents_to_json, read_backends, read_parents,
};
use super::without_nulls;

/// Longest route as it is stored, in bytes: about what a Kubernetes API server keeps of an object, and
/// far below what the feed carries in one message.
const MAX_BYTES: usize = 1 << 20;

/// What a HTTPRoute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRouteSpec {
    /// The services and Gateways whose requests it is about.
    pub parents: Vec<ParentRef>,
    /// The hosts it is about at Gateways; empty is all.
    pub hostnames: Vec<Hostname>,
    /// Its rules, in their order.
    pub rules: Vec<HttpRule>,
}

pub(super) fn read(cursor: &Cursor<'_>, namespace: &Label) -> Option<HttpRouteSpec> {
    let known = &["parentRefs", "hostnames", "rules", "useDefaultGateways"];
    let fields = cursor.fields(known)?;
    let parents = read_parents(&fields, namespace);
    let hostnames = read_hostnames(&fields);
    if let Some((cursor, parents)) = fields.field("hostnames").zip(parents.as_ref()) {
        let is_gateway = |parent: &ParentRef| matches!(parent.target, ParentTarget::Gateway(_));
        if !parents.iter().any(is_gateway) {
            cursor.warning(
                "means nothing where the parent is a Service (GEP-1294); to tell hosts apart, match \
                 the header Host, with its port where that is not 80",
            );
        }
    }
    let rules = fields.required("rules", |cursor| {
        let rules = cursor.list(|rule| read_rule(rule, namespace))?;
        check_rules(cursor, &rules)?;
        Some(rules)
    });
    let route = HttpRouteSpec {
        parents: parents?,
        hostnames: hostnames?,
        rules: rules?,
    };
    let bytes = route.to_json(namespace).to_string().len();
    if bytes > MAX_BYTES {
        let message = format!("a route takes at most {MAX_BYTES} bytes, this one {bytes}");
        cursor.error(message);
        return None;
    }
    Some(route)
}

/// What only all rules together show.
fn check_rules(cursor: &Cursor<'_>, rules: &[HttpRule]) -> Option<()> {
    let most = HttpRoute::MAX_RULES;
    if rules.is_empty() || rules.len() > most {
        cursor.error(format!("needs 1 to {most} rules, found {}", rules.len()));
        return None;
    }
    let matches: usize = rules.iter().map(|rule| rule.matches.len()).sum();
    if matches > HttpRoute::MAX_MATCHES {
        let most = HttpRoute::MAX_MATCHES;
        cursor.error(format!(
            "has {matches} matches in all, and at most {most} are allowed"
        ));
        return None;
    }
    let mut names = BTreeSet::new();
    let mut named = rules.iter().filter_map(|rule| rule.name.as_ref());
    if let Some(twice) = named.find(|name| !names.insert(*name)) {
        cursor.error(format!("two rules are named {twice}"));
        return None;
    }
    Some(())
}

fn read_rule(cursor: &Cursor<'_>, namespace: &Label) -> Option<HttpRule> {
    let known = &[
        "name",
        "matches",
        "filters",
        "backendRefs",
        "timeouts",
        "retry",
        "sessionPersistence",
    ];
    let fields = cursor.fields(known)?;
    fields.refuse(&[(
        "sessionPersistence",
        "requests are spread one by one; sessions are not kept",
    )]);
    let name = fields.optional("name", read_name);
    let matches = matches::read(&fields);
    let filters = fields.optional("filters", filters::read);
    let backends = read_backends(&fields, namespace);
    let timeouts = fields.optional("timeouts", times::read_timeouts);
    let retry = fields.optional("retry", times::read_retry);
    let (request_timeout, backend_request_timeout) = timeouts?.unwrap_or_default();
    let rule = HttpRule {
        name: name?,
        matches: matches?,
        filters: filters?.unwrap_or_default(),
        backends: backends?,
        request_timeout,
        backend_request_timeout,
        retry: retry?,
    };
    check_rule(cursor, &fields, &rule)?;
    Some(rule)
}

fn read_name(cursor: &Cursor<'_>) -> Option<Label> {
    let name = cursor.label()?;
    if name.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
        cursor.error("must not be a number: rules without a name are known by theirs");
        return None;
    }
    Some(name)
}

/// What only the parts of a rule together show.
fn check_rule(cursor: &Cursor<'_>, fields: &Fields<'_>, rule: &HttpRule) -> Option<()> {
    let is_redirect = matches!(rule.filters.action, Some(HttpAction::Redirect(_)));
    if is_redirect && !rule.backends.is_empty() {
        fields.field("backendRefs")?.error(
            "a rule with the filter RequestRedirect answers requests itself; leave one of them out",
        );
        return None;
    }
    let is_changed = !rule.filters.request.is_empty() || !rule.filters.response.is_empty();
    let is_timed = rule.request_timeout.is_some() || rule.backend_request_timeout.is_some();
    if is_redirect && (is_changed || is_timed || rule.retry.is_some()) {
        cursor.warning(
            "answers by its RequestRedirect: changes of headers, timeouts and retry do nothing here",
        );
    }
    if !is_redirect && rule.backends.is_empty() {
        cursor.warning("leads nowhere: what it matches is answered 500; add backendRefs");
    }
    let is_one_prefix = matches!(
        &rule.matches[..],
        [HttpMatch {
            path: PathMatch::Prefix(_),
            ..
        }]
    );
    if !is_one_prefix && replaces_prefix(rule.filters.action.as_ref()) {
        fields.field("filters")?.error(
            "ReplacePrefixMatch needs exactly one match in its rule, of type PathPrefix: write a \
             rule for each prefix",
        );
        return None;
    }
    Some(())
}

fn replaces_prefix(action: Option<&HttpAction>) -> bool {
    let path = match action {
        Some(HttpAction::Redirect(Redirect { path, .. })) => path,
        Some(HttpAction::Rewrite(Rewrite { path, .. })) => path,
        None => return false,
    };
    matches!(path, Some(PathChange::Prefix(_)))
}

impl HttpRouteSpec {
    pub(super) fn to_json(&self, namespace: &Label) -> Value {
        let rules = self.rules.iter().map(|rule| rule_to_json(rule, namespace));
        let hostnames: Vec<_> = self.hostnames.iter().map(ToString::to_string).collect();
        without_nulls(json!({
            "parentRefs": parents_to_json(&self.parents, namespace),
            "hostnames": (!hostnames.is_empty()).then_some(hostnames),
            "rules": rules.collect::<Vec<_>>(),
        }))
    }
}

fn rule_to_json(rule: &HttpRule, namespace: &Label) -> Value {
    let filters = filters::to_json(&rule.filters);
    let backends = backends_to_json(&rule.backends, namespace);
    without_nulls(json!({
        "name": rule.name.as_ref().map(Label::as_str),
        "matches": rule.matches.iter().map(matches::to_json).collect::<Vec<_>>(),
        "filters": (!filters.is_empty()).then_some(filters),
        "backendRefs": (!backends.is_empty()).then_some(backends),
        "timeouts": times::timeouts_to_json(rule),
        "retry": rule.retry.as_ref().map(times::retry_to_json),
    }))
}
