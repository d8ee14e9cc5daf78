//! The fields of a block: those that are known, those that are refused, those that are misspelt.

use super::cursor::{Cursor, Place};
use super::nearest::nearest;
use super::text::{Key, Node, Value};

/// A block of named fields. A field that is `null` counts as absent, as in Kubernetes.
pub(crate) struct Fields<'a> {
    block: &'a Cursor<'a>,
    map: &'a [(Key, Node)],
}

impl<'a> Fields<'a> {
    pub(super) fn new(block: &'a Cursor<'a>, map: &'a [(Key, Node)]) -> Self {
        Self { block, map }
    }

    /// Every field that is there, null or not.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, Cursor<'a>)> {
        let block = self.block;
        self.map.iter().map(move |(key, node)| {
            let place = Place::Field(&block.place, &key.name);
            (
                key.name.as_str(),
                Cursor {
                    node,
                    place,
                    findings: block.findings,
                },
            )
        })
    }

    /// The field `name`, where it is there and not null.
    pub(crate) fn field(&self, name: &str) -> Option<Cursor<'a>> {
        let mut entries = self.entries();
        let (_, cursor) = entries.find(|(key, _)| *key == name)?;
        (!matches!(cursor.node.value, Value::Null)).then_some(cursor)
    }

    /// Reads a field that may be absent. `None` is a field that is there and wrong.
    pub(crate) fn optional<T>(
        &self,
        name: &str,
        read: impl Fn(&Cursor<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.field(name) {
            None => Some(None),
            Some(cursor) => read(&cursor).map(Some),
        }
    }

    /// Reads a field that must be there.
    pub(crate) fn required<T>(
        &self,
        name: &str,
        read: impl Fn(&Cursor<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.field(name) {
            Some(cursor) => read(&cursor),
            None => {
                let place = Place::Field(&self.block.place, name);
                let message = "is missing; it is required".to_owned();
                self.block.error_at(self.block.node.line, &place, message);
                None
            }
        }
    }

    /// Reads a list that may be absent, which is the empty one.
    pub(crate) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&Cursor<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        match self.field(name) {
            None => Some(Vec::new()),
            Some(cursor) => cursor.list(read),
        }
    }

    /// Refuses fields that mean something Selvedge does not do; each comes with the reason.
    pub(crate) fn refuse(&self, unsupported: &[(&str, &str)]) {
        for (name, reason) in unsupported {
            if let Some(cursor) = self.field(name) {
                cursor.error(format!("is not supported: {reason}"));
            }
        }
    }

    /// Warns of fields that say nothing here.
    pub(crate) fn leave_aside(&self, without_meaning: &[&str]) {
        for name in without_meaning {
            if let Some(cursor) = self.field(name) {
                cursor.warning("has no meaning on one node; it is not kept");
            }
        }
    }

    /// Refuses every field that is not known here, with the name that was most likely meant.
    pub(super) fn refuse_unknown(&self, known: &[&str]) {
        for (key, _) in self.map {
            if known.contains(&key.name.as_str()) {
                continue;
            }
            let place = Place::Field(&self.block.place, &key.name);
            let hint = match nearest(&key.name, known) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; known here: {}", known.join(", ")),
            };
            self.block.error_at(
                key.line,
                &place,
                format!("unknown field `{}`{hint}", key.name),
            );
        }
    }
}
