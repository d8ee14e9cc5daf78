//! Matches that no request ever gets, because another one takes them all.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::build::{routes_by_host, routes_by_port};
use crate::{
    GatewayName, Hostname, HttpMatch, HttpRoute, Label, PathMatch, Port, RouteName, ServiceName,
    Snapshot, ValueMatch,
};

/// A match of a HTTPRoute that no request gets where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenMatch<'a> {
    /// Which.
    pub hidden: MatchPlace<'a>,
    /// The one that takes its requests.
    pub behind: MatchPlace<'a>,
    /// Where.
    pub parent: HiddenAt<'a>,
}

/// Where requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenAt<'a> {
    /// A port of a service.
    Service(&'a ServiceName, Port),
    /// A listener of a Gateway, for one host or, where that is `None`, for all that come to it.
    Gateway(&'a GatewayName, &'a Label, Option<&'a Hostname>),
}

impl fmt::Display for HiddenAt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service, port) => write!(f, "port {port} of service {service}"),
            Self::Gateway(gateway, listener, None) => {
                write!(f, "listener {listener} of Gateway {gateway}")
            }
            Self::Gateway(gateway, listener, Some(host)) => {
                write!(
                    f,
                    "listener {listener} of Gateway {gateway} for host {host}"
                )
            }
        }
    }
}

/// Where a match stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchPlace<'a> {
    /// The route.
    pub route: &'a RouteName,
    /// The rule, from 0.
    pub rule: usize,
    /// The match in it, from 0.
    pub at: usize,
}

/// All that has to hold for a match, values in the order of their names.
type Conditions<'a> = (
    &'a PathMatch,
    Option<&'a str>,
    Vec<&'a ValueMatch>,
    Vec<&'a ValueMatch>,
);

/// Finds matches that say the same as an earlier one, and regular expressions behind a match of every
/// request. There are others (a pattern that holds for all texts), but not by mistake.
pub(super) fn matches(snapshot: &Snapshot) -> Vec<HiddenMatch<'_>> {
    let mut found = Vec::new();
    for ((service, port), routes) in routes_by_port(snapshot) {
        note(HiddenAt::Service(service, port), &routes, &mut found);
    }
    for ((gateway, listener, host), routes) in routes_by_host(snapshot) {
        note(
            HiddenAt::Gateway(gateway, listener, host),
            &routes,
            &mut found,
        );
    }
    found
}

/// Notes which matches are hidden among routes that requests of one parent meet together.
#[allow(
    clippy::mutable_key_type,
    reason = "patterns are compared by their text, which never changes"
)]
fn note<'a>(parent: HiddenAt<'a>, routes: &[&'a HttpRoute], found: &mut Vec<HiddenMatch<'a>>) {
    let mut first: BTreeMap<Conditions<'_>, MatchPlace<'_>> = BTreeMap::new();
    let mut all = None;
    for (place, http) in places(routes) {
        let behind = *first.entry(conditions(http)).or_insert(place);
        if behind != place {
            found.push(HiddenMatch {
                hidden: place,
                behind,
                parent,
            });
        } else if is_for_all(http) {
            all = all.or(Some(place));
        }
    }
    let Some(behind) = all else {
        return;
    };
    let expressions = first
        .into_iter()
        .filter(|((path, ..), _)| is_expression(path));
    found.extend(expressions.map(|(_, hidden)| HiddenMatch {
        hidden,
        behind,
        parent,
    }));
}

fn places<'a>(routes: &[&'a HttpRoute]) -> impl Iterator<Item = (MatchPlace<'a>, &'a HttpMatch)> {
    let rules = routes.iter().flat_map(|route| {
        let rules = route.rules.iter().enumerate();
        rules.map(|(number, rule)| (&route.name, number, rule))
    });
    rules.flat_map(|(route, rule, says)| {
        let matches = says.matches.iter().enumerate();
        matches.map(move |(at, http)| (MatchPlace { route, rule, at }, http))
    })
}

fn conditions(http: &HttpMatch) -> Conditions<'_> {
    let (headers, query) = (sorted(&http.headers), sorted(&http.query));
    (&http.path, http.method.as_deref(), headers, query)
}

fn sorted(values: &[ValueMatch]) -> Vec<&ValueMatch> {
    let mut values: Vec<_> = values.iter().collect();
    values.sort_unstable();
    values
}

fn is_for_all(http: &HttpMatch) -> bool {
    matches!(&http.path, PathMatch::Prefix(path) if path == "/")
        && http.method.is_none()
        && http.headers.is_empty()
        && http.query.is_empty()
}

fn is_expression(path: &PathMatch) -> bool {
    matches!(path, PathMatch::Regex(_))
}
