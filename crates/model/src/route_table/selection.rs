//! Which rule a request gets, out of all that are attached to one listener.
//!
//! Of all matches of all rules that hold, Gateway API wants the first in this order: an exact path;
//! the longest prefix; a match with a method; with the most headers; with the most query parameters;
//! of the oldest route; of the route whose `namespace/name` comes first; of the first rule. Ours
//! differs in two points that Gateway API leaves open or that a node cannot know: matches of a
//! regular expression come after all others, and there is no age, so that names decide.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use hashbrown::HashMap;

use super::{RequestHead, Rule, Selected};
use crate::{HttpMatch, PathMatch, Pattern, TextMatch, ValueMatch};

/// The matches of one listener, found by path.
#[derive(Debug, Default)]
pub(super) struct Matches {
    exact: HashMap<Box<[u8]>, Vec<Candidate>>,
    /// By prefix without a slash at its end: that of `/` is empty.
    prefixes: HashMap<Box<[u8]>, Vec<Candidate>>,
    /// Most elements that a prefix has.
    deepest: usize,
    expressions: Vec<(Pattern, Candidate)>,
}

/// A match whose path is settled.
#[derive(Debug)]
struct Candidate {
    method: Option<Box<[u8]>>,
    headers: Vec<ValueMatch>,
    query: Vec<ValueMatch>,
    rule: Arc<Rule>,
}

impl Matches {
    /// Adds a match. Those of routes and rules that come first are added first.
    pub(super) fn add(&mut self, http: &HttpMatch, rule: &Arc<Rule>) {
        let candidate = Candidate {
            method: http.method.as_ref().map(|method| method.as_bytes().into()),
            headers: http.headers.clone(),
            query: http.query.clone(),
            rule: Arc::clone(rule),
        };
        match &http.path {
            PathMatch::Exact(path) => {
                let same = self.exact.entry(path.as_bytes().into());
                same.or_default().push(candidate);
            }
            PathMatch::Prefix(path) => {
                let path = path.strip_suffix('/').unwrap_or(path).as_bytes();
                self.deepest = self.deepest.max(elements(path));
                self.prefixes
                    .entry(path.into())
                    .or_default()
                    .push(candidate);
            }
            PathMatch::Regex(pattern) => self.expressions.push((pattern.clone(), candidate)),
        }
    }

    /// Brings what was added into the order of precedence.
    pub(super) fn finish(mut self) -> Self {
        // Sorting keeps the order of equals, which is that of routes and rules.
        for same in self.exact.values_mut().chain(self.prefixes.values_mut()) {
            same.sort_by_key(Candidate::rank);
        }
        self.expressions
            .sort_by_key(|(_, candidate)| candidate.rank());
        self
    }

    pub(super) fn select(&self, head: &RequestHead<'_>) -> Selected<'_> {
        let path = head.path;
        if let Some(rule) = first(self.exact.get(path), head) {
            return Selected::Rule {
                rule,
                prefix_bytes: 0,
            };
        }
        let mut end = end_of(path, self.deepest);
        loop {
            if let Some(rule) = first(self.prefixes.get(&path[..end]), head) {
                return Selected::Rule {
                    rule,
                    prefix_bytes: end,
                };
            }
            if end == 0 {
                break;
            }
            end = path[..end]
                .iter()
                .rposition(|byte| *byte == b'/')
                .unwrap_or(0);
        }
        let mut expressions = self.expressions.iter();
        let found = expressions.find(|(pattern, other)| pattern.matches(path) && other.holds(head));
        found.map_or(Selected::NoRoute, |(_, candidate)| Selected::Rule {
            rule: &candidate.rule,
            prefix_bytes: 0,
        })
    }
}

/// The first of the candidates of one path that holds.
fn first<'t>(same: Option<&'t Vec<Candidate>>, head: &RequestHead<'_>) -> Option<&'t Arc<Rule>> {
    let found = same?.iter().find(|candidate| candidate.holds(head));
    found.map(|candidate| &candidate.rule)
}

/// How many elements a path has: each begins with a slash.
fn elements(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count()
}

/// Where the first `most` elements of a path end.
fn end_of(path: &[u8], most: usize) -> usize {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at).nth(most).unwrap_or(path.len())
}

impl Candidate {
    fn rank(&self) -> (Reverse<bool>, Reverse<usize>, Reverse<usize>) {
        (
            Reverse(self.method.is_some()),
            Reverse(self.headers.len()),
            Reverse(self.query.len()),
        )
    }

    fn holds(&self, head: &RequestHead<'_>) -> bool {
        let header = |wanted: &ValueMatch| wanted.holds(head.fields.value(&wanted.name));
        let parameter = |wanted: &ValueMatch| wanted.holds(head.parameter(wanted.name.as_bytes()));
        self.method
            .as_deref()
            .is_none_or(|method| method == head.method)
            && self.headers.iter().all(header)
            && self.query.iter().all(parameter)
    }
}

impl ValueMatch {
    fn holds(&self, value: Option<&[u8]>) -> bool {
        value.is_some_and(|value| match &self.value {
            TextMatch::Exact(text) => text.as_bytes() == value,
            TextMatch::Regex(pattern) => pattern.matches(value),
        })
    }
}
