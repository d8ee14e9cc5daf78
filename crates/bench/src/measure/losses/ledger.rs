//! What became of each request: the callers' records and the origins', put side by side.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// Every request by its id.
#[derive(Debug, Default)]
pub(super) struct Ledger(HashMap<String, Entry>);

/// One request.
#[derive(Debug, Default)]
struct Entry {
    method: String,
    /// How often an origin took it.
    taken: u64,
    /// How it ended, as often as it did.
    ends: Vec<String>,
}

impl Entry {
    fn is_good(&self) -> bool {
        self.ends.iter().any(|end| end.starts_with('2'))
    }

    /// Whether the mesh said why it failed: a status and a word.
    fn has_reason(&self) -> bool {
        self.ends.iter().all(|end| {
            let words: Vec<&str> = end.split(' ').collect();
            words.len() == 2 && words[0].parse::<u16>().is_ok()
        })
    }
}

impl Ledger {
    /// Adds what an origin took: a method and an id a line.
    pub(super) fn read_origin(&mut self, record: &Path) -> anyhow::Result<()> {
        for (method, rest) in lines(record)? {
            self.entry(&method, rest).taken += 1;
        }
        Ok(())
    }

    /// Adds how requests ended: a method, an id and the end a line.
    pub(super) fn read_callers(&mut self, record: &Path) -> anyhow::Result<()> {
        for (method, rest) in lines(record)? {
            let (id, end) = rest.split_once(' ').context("a line without an end")?;
            let end = end.to_owned();
            self.entry(&method, id.to_owned()).ends.push(end);
        }
        Ok(())
    }

    fn entry(&mut self, method: &str, id: String) -> &mut Entry {
        let entry = self.0.entry(id).or_default();
        method.clone_into(&mut entry.method);
        entry
    }

    fn count(&self, is_meant: impl Fn(&Entry) -> bool) -> u64 {
        self.0.values().filter(|entry| is_meant(entry)).count() as u64
    }

    /// Requests that were sent.
    pub(super) fn requests(&self) -> u64 {
        self.count(|entry| !entry.ends.is_empty())
    }

    /// Requests of a method that were sent and had no good answer.
    pub(super) fn lost(&self, method: &str) -> u64 {
        self.count(|it| it.method == method && !it.ends.is_empty() && !it.is_good())
    }

    /// Requests of a method that origins took more than once.
    pub(super) fn repeated(&self, method: &str) -> u64 {
        self.count(|entry| entry.method == method && entry.taken > 1)
    }

    /// Requests with more than one end. A client that is sent more than it asked for says `unasked`.
    pub(super) fn answered_twice(&self) -> u64 {
        self.count(|it| it.ends.len() > 1 || it.ends.iter().any(|end| end == "unasked"))
    }

    /// Requests that failed and were not told why.
    pub(super) fn without_reason(&self) -> u64 {
        self.count(|entry| !entry.is_good() && !entry.has_reason())
    }

    /// Good answers to requests that no origin took: somebody else's, or made up.
    pub(super) fn unfounded(&self) -> u64 {
        self.count(|entry| entry.is_good() && entry.taken == 0)
    }

    /// Every end but the good ones, and how often it came.
    pub(super) fn bad_ends(&self) -> BTreeMap<String, u64> {
        let mut ends = BTreeMap::new();
        for entry in self.0.values().filter(|entry| !entry.is_good()) {
            for end in &entry.ends {
                *ends.entry(format!("{} {end}", entry.method)).or_default() += 1;
            }
        }
        ends
    }
}

/// The lines of a record: the first word, and the rest.
fn lines(record: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = fs::read_to_string(record)
        .with_context(|| format!("cannot read the record {}", record.display()))?;
    // A killed origin may have left half a line, of a request that it did not answer.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(|line| line.split_once(' '));
    let lines: Option<Vec<_>> = lines
        .map(|words| words.map(|(first, rest)| (first.to_owned(), rest.to_owned())))
        .collect();
    ensure!(
        lines.is_some(),
        "{} has a line of one word",
        record.display()
    );
    Ok(lines.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(callers: &str, origins: &[&str]) -> Ledger {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut ledger = Ledger::default();
        for origin in origins {
            ledger.read_origin(&write("origin", origin)).unwrap();
        }
        ledger.read_callers(&write("callers", callers)).unwrap();
        ledger
    }

    #[test]
    fn each_kind_of_loss_is_found() {
        let callers = "GET 1 200\nGET 2 502 response_cut\nPOST 3 502 response_cut\n\
                       POST 4 200\nPOST 5 closed\nGET 6 unasked\nGET 7 200\n";
        let ledger = ledger(
            callers,
            &["GET 1\nPOST 3\nPOST 4\n", "GET 1\nPOST 4\nGET 2"],
        );
        assert_eq!(ledger.requests(), 7);
        assert_eq!((ledger.lost("GET"), ledger.lost("POST")), (2, 2));
        assert_eq!((ledger.repeated("GET"), ledger.repeated("POST")), (1, 1));
        assert_eq!(ledger.answered_twice(), 1);
        assert_eq!(ledger.without_reason(), 2, "closed and unasked");
        assert_eq!(ledger.unfounded(), 1, "7 came from nowhere");
        assert_eq!(ledger.bad_ends()["POST 502 response_cut"], 1);
    }

    #[test]
    fn a_record_of_single_words_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "GET\n").unwrap();
        assert!(lines(file.path()).is_err());
    }
}
