//! Typed reading of trees that goes on after an error, so that all errors of a set come at once.
//!
//! A [`Cursor`] stands on one node and knows its path; what is wrong goes to the [`Findings`] and
//! the reader gets `None`. Nothing is converted silently: a number is not a text. Read next:
//! `document/service.rs`, which uses it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use selvedge_model::{Diagnostic, Label, Origin, Port};

use super::fields::Fields;
use super::text::{Node, Value};

/// Most errors, and most warnings, kept of one file; further errors are only counted.
pub(crate) const MAX_DIAGNOSTICS: usize = 1000;

/// What was found wrong, and what was left aside, in one file.
#[derive(Debug)]
pub(crate) struct Findings {
    file: String,
    object: RefCell<String>,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    lines: RefCell<Vec<(String, u32)>>,
    left_out: Cell<usize>,
}

impl Findings {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            object: RefCell::default(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
            lines: RefCell::default(),
            left_out: Cell::default(),
        }
    }

    /// From here on findings belong to this object.
    pub(crate) fn enter_object(&self, object: String) {
        self.object.replace(object);
        self.lines.replace(Vec::new());
    }

    /// The fields of the current object whose lines were asked for by [`Cursor::mark`].
    pub(crate) fn take_lines(&self) -> Vec<(String, u32)> {
        self.lines.take()
    }

    /// Errors and warnings; the last error counts those that are left out.
    pub(crate) fn into_parts(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        if self.left_out.get() > 0 {
            self.object.replace(String::new());
            let message = format!("{} more are not shown", self.left_out.get());
            let more = self.diagnostic(0, String::new(), message);
            self.errors.borrow_mut().push(more);
        }
        (self.errors.into_inner(), self.warnings.into_inner())
    }

    fn diagnostic(&self, line: u32, path: String, message: String) -> Diagnostic {
        let origin = Origin {
            file: self.file.clone(),
            line,
        };
        Diagnostic {
            origin,
            object: self.object.borrow().clone(),
            path,
            message,
        }
    }

    fn add_error(&self, diagnostic: Diagnostic) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < MAX_DIAGNOSTICS {
            errors.push(diagnostic);
        } else {
            self.left_out.set(self.left_out.get() + 1);
        }
    }

    /// Of warnings the first ones say enough.
    fn add_warning(&self, diagnostic: Diagnostic) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_DIAGNOSTICS {
            warnings.push(diagnostic);
        }
    }
}

/// Where a node stands below its parents. Becomes text only when it is needed.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// One node, its place and where findings go.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(super) node: &'a Node,
    pub(super) place: Place<'a>,
    pub(super) findings: &'a Findings,
}

impl<'a> Cursor<'a> {
    pub(crate) fn root(node: &'a Node, findings: &'a Findings) -> Self {
        Self {
            node,
            place: Place::Root,
            findings,
        }
    }

    pub(crate) fn line(&self) -> u32 {
        self.node.line
    }

    pub(crate) fn value(&self) -> &'a Value {
        &self.node.value
    }

    pub(crate) fn findings(&self) -> &'a Findings {
        self.findings
    }

    /// Says what is wrong here.
    pub(crate) fn error(&self, message: impl Into<String>) {
        self.error_at(self.node.line, &self.place, message.into());
    }

    /// Says that what stands here has no effect.
    pub(crate) fn warning(&self, message: impl Into<String>) {
        let path = self.place.to_string();
        let found = self
            .findings
            .diagnostic(self.node.line, path, message.into());
        self.findings.add_warning(found);
    }

    pub(super) fn error_at(&self, line: u32, place: &Place<'_>, message: String) {
        let found = self.findings.diagnostic(line, place.to_string(), message);
        self.findings.add_error(found);
    }

    /// Remembers the line of this field, for errors that only the whole set shows.
    pub(crate) fn mark(&self) {
        let mut lines = self.findings.lines.borrow_mut();
        lines.push((self.place.to_string(), self.node.line));
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.error(format!(
            "expected {what}, found {}",
            self.node.value.describe()
        ));
        None
    }

    /// The fields of this block; every field that is not `known` is an error.
    pub(crate) fn fields(&'a self, known: &[&str]) -> Option<Fields<'a>> {
        let fields = self.open_fields()?;
        fields.refuse_unknown(known);
        Some(fields)
    }

    /// The fields of this block, whatever they are.
    pub(crate) fn open_fields(&'a self) -> Option<Fields<'a>> {
        match &self.node.value {
            Value::Map(map) => Some(Fields::new(self, map)),
            _ => self.expected("a block of fields"),
        }
    }

    /// Reads every item of this list; `None` if one of them is wrong.
    pub(crate) fn list<T>(&self, read: impl Fn(&Cursor<'_>) -> Option<T>) -> Option<Vec<T>> {
        let Value::List(items) = &self.node.value else {
            return self.expected("a list");
        };
        let items = items.iter().enumerate().map(|(index, node)| {
            read(&Cursor {
                node,
                place: Place::Item(&self.place, index),
                findings: self.findings,
            })
        });
        // Collected before it is judged, so that every wrong item is reported.
        items.collect::<Vec<_>>().into_iter().collect()
    }

    /// Reads a block whose field names are free, such as labels.
    pub(crate) fn text_map(&self) -> Option<Vec<(String, String)>> {
        let fields = self.open_fields()?;
        let entries = fields
            .entries()
            .map(|(name, value)| Some((name.to_owned(), value.text()?)));
        entries.collect::<Vec<_>>().into_iter().collect()
    }

    pub(crate) fn text(&self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                let found = self.node.value.describe();
                self.error(format!("expected text, found {found}; put it in quotes"));
                None
            }
            _ => self.expected("text"),
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.node.value {
            Value::Bool(value) => Some(value),
            _ => self.expected("true or false"),
        }
    }

    /// A whole number within `range`.
    pub(crate) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let what = format!("a number from {} to {}", range.start(), range.end());
        let Value::Integer(number) = self.node.value else {
            return self.expected(&what);
        };
        match T::try_from(number)
            .ok()
            .filter(|number| range.contains(number))
        {
            Some(number) => Some(number),
            None => self.expected(&what),
        }
    }

    pub(crate) fn port(&self) -> Option<Port> {
        self.integer(1..=u16::MAX).and_then(Port::new)
    }

    pub(crate) fn label(&self) -> Option<Label> {
        let text = self.text()?;
        self.report(Label::new(&text))
    }

    /// A text that means a `T`; `what` says in words what that is.
    pub(crate) fn parse<T: FromStr>(&self, what: &str) -> Option<T> {
        match self.text()?.parse() {
            Ok(value) => Some(value),
            Err(_) => self.expected(what),
        }
    }

    /// One of a few words.
    pub(crate) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.error(format!("expected {}, found {text:?}", words.join(" or ")));
        }
        found.map(|(_, value)| *value)
    }

    /// Unwraps a conversion, its error becoming the message.
    pub(crate) fn report<T, E: fmt::Display>(&self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.error(error.to_string())).ok()
    }
}
