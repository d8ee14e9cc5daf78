//! What was sent through the proxy and answered, against what the server wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::server::Server;
use crate::agent::until;
use crate::table::Case;

/// A final response as the client got it.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The mark in the target that the server saw, where its program answered.
    pub(crate) saw: Option<String>,
    /// Why the mesh refused.
    reason: Option<String>,
}

impl Answer {
    /// Whether the mesh gave it.
    pub(crate) fn is_refusal(&self) -> bool {
        self.reason.is_some()
    }
}

/// The final responses in what a client got, whose bodies hold no status line.
pub(crate) fn answers(bytes: &[u8]) -> Vec<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let responses = text.split("HTTP/1.1 ").skip(1);
    let answer = |response: &str| {
        let head = response.split("\r\n\r\n").next().unwrap_or_default();
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            let found = fields.find(|(found, _)| found.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        Some(Answer {
            // Sentences in bodies speak of versions too.
            status: head.get(..4)?.strip_suffix(' ')?.parse().ok()?,
            saw: field("saw").map(|target| mark(&target).unwrap_or(target)),
            reason: field("selvedge-reason"),
        })
    };
    responses
        .filter_map(answer)
        .filter(|it| it.status >= 200)
        .collect()
}

/// The mark in a request line.
fn mark(line: &str) -> Option<String> {
    let from = &line[line.find("mark-")?..];
    let mut parts = from.splitn(4, '-');
    let (_, connection, number) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("mark-{connection}-{number}-"))
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    connections: usize,
    /// What the server must have written down, once.
    answered: BTreeSet<String>,
    /// What it may have written down, once.
    begun: BTreeSet<String>,
    /// Requests that the server refused: it may not have told what they asked for.
    refused_there: usize,
    wrong: Vec<String>,
}

impl Record {
    /// A number that no other connection has.
    pub(crate) fn next_connection(&mut self) -> usize {
        self.connections += 1;
        self.connections
    }

    /// Notes whether a case went as it is claimed.
    pub(crate) fn expect(&mut self, holds: bool, case: &Case, got: &[Answer]) {
        if !holds {
            self.wrong.push(format!("{case:?}: {got:?}"));
        }
    }

    /// The server has got at least the head of this request.
    pub(crate) fn begun(&mut self, mark: &str) {
        self.begun.insert(mark.to_owned());
    }

    /// The requests behind `marks` were answered so.
    pub(crate) fn answered(&mut self, marks: &[String], got: &[Answer]) {
        for (mark, answer) in marks.iter().zip(got) {
            if answer.saw.is_some() {
                self.answered.insert(mark.clone());
            } else {
                self.begun(mark);
                self.refused_there += 1;
            }
        }
    }

    /// Reads what the server wrote down, up to the request marked `last` and with everything that was
    /// answered, and compares.
    pub(crate) fn settle(mut self, server: &Server, last: &str) {
        let saw = until("the server's last request", || {
            let text = fs::read(&server.log).ok()?;
            let text = String::from_utf8_lossy(&text).into_owned();
            text.contains(last).then_some(text)
        });
        let mut counts = BTreeMap::<String, usize>::new();
        let mut nameless = Vec::new();
        for line in saw.lines() {
            match mark(line) {
                Some(mark) => *counts.entry(mark).or_default() += 1,
                None => nameless.push(line),
            }
        }
        for (mark, count) in &counts {
            let known = self.answered.contains(mark) || self.begun.contains(mark);
            if *count != 1 || !known {
                self.wrong
                    .push(format!("the server saw {mark} {count} times"));
            }
        }
        let lost = self.answered.iter().filter(|it| !counts.contains_key(*it));
        self.wrong
            .extend(lost.map(|it| format!("the server did not write down {it}")));
        if nameless.len() > self.refused_there || saw.contains("/smuggled") {
            self.wrong.push(format!("nobody sent {nameless:?}"));
        }
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        assert!(
            self.answered.len() > 50,
            "{} prove little",
            self.answered.len()
        );
    }
}
