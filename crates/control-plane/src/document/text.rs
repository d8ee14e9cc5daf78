//! Text to trees: YAML (and so JSON) documents as nodes that know their line.
//!
//! Knows nothing of kinds or fields. Size, depth and expansion of aliases are bounded. Read next:
//! `document/cursor.rs`, which reads typed fields out of these trees.

use std::fmt;

use selvedge_model::{Diagnostic, Origin};
use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Most nodes in one file, aliases expanded: about 200,000 services.
const MAX_NODES: usize = 16_000_000;
/// Deepest nesting. Our deepest kind needs 8.
const MAX_DEPTH: usize = 64;

/// A value with the line it stands on; 0 where there is no text behind it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) value: Value,
}

/// What YAML's core schema makes of a node.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A field name with its line.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) line: u32,
    pub(crate) name: String,
}

impl Value {
    /// The value in words, for "expected a number, found ...".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(value) => format!("{:?}", shorten(value)),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a block of fields".to_owned(),
        }
    }
}

/// Keeps messages readable when somebody writes a novel into a field.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// Reads every document of one file; a syntax error hides what follows it in its own document only.
pub(crate) fn parse(file: &str, text: &str) -> (Vec<Node>, Vec<Diagnostic>) {
    let whole = match parse_stream(file, text) {
        Ok(nodes) => return (nodes, Vec::new()),
        Err(diagnostic) => diagnostic,
    };
    let (mut nodes, mut errors) = (Vec::new(), Vec::new());
    for (lines_before, document) in documents(text) {
        match parse_stream(file, document) {
            Ok(mut read) => {
                read.iter_mut().for_each(|node| node.move_by(lines_before));
                nodes.append(&mut read);
            }
            Err(mut diagnostic) => {
                diagnostic.origin.line += lines_before;
                errors.push(diagnostic);
            }
        }
    }
    if errors.is_empty() {
        // Too much in all, though no document is by itself.
        errors.push(whole);
    }
    (nodes, errors)
}

/// Cuts a stream where documents start, each with the lines before it. `---` at the start of a line
/// is nothing else, not even in a block of text (YAML 1.2.2, section 9.1.2).
fn documents(text: &str) -> Vec<(u32, &str)> {
    let mut cut = Vec::new();
    let (mut start, mut lines_before, mut at) = (0, 0, 0);
    for (number, line) in (0u32..).zip(text.split_inclusive('\n')) {
        let is_marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if is_marker {
            cut.push((lines_before, &text[start..at]));
            (start, lines_before) = (at, number);
        }
        at += line.len();
    }
    cut.push((lines_before, &text[start..]));
    cut
}

fn parse_stream(file: &str, text: &str) -> Result<Vec<Node>, Diagnostic> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        budget: serde_saphyr::budget! {
            max_events: 4 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            max_documents: MAX_NODES,
            max_total_scalar_bytes: 1 << 28,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error
            .location()
            .map_or(0, |location| line_number(location.line()));
        let message = error.to_string();
        let message = message.lines().next().unwrap_or("not YAML");
        // The line is told apart, and counts in the file and not in the document.
        let message = message.split(" at line ").next().unwrap_or(message);
        let origin = Origin {
            file: file.to_owned(),
            line,
        };
        Diagnostic {
            origin,
            object: String::new(),
            path: String::new(),
            message: message.to_owned(),
        }
    })
}

fn line_number(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            line: line_number(spanned.referenced.line()),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(name) = entries.next_key::<Spanned<Option<String>>>()? {
            let key = Key {
                line: line_number(name.referenced.line()),
                // Nothing before the `:`. No field is called so, which is said where fields are read.
                name: name.value.unwrap_or_default(),
            };
            map.push((key, entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}

impl Node {
    /// Moves the node, with all in it, down by some lines.
    fn move_by(&mut self, lines: u32) {
        self.line += lines;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.move_by(lines)),
            Value::Map(fields) => fields.iter_mut().for_each(|(key, value)| {
                key.line += lines;
                value.move_by(lines);
            }),
            _ => {}
        }
    }
}

impl From<serde_json::Value> for Node {
    /// Objects from our own store: no lines.
    fn from(value: serde_json::Value) -> Self {
        let value = match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(value) => Value::Integer(value),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => {
                Value::List(items.into_iter().map(Self::from).collect())
            }
            serde_json::Value::Object(fields) => {
                let key = |name| Key { line: 0, name };
                let fields = fields.into_iter();
                Value::Map(
                    fields
                        .map(|(name, value)| (key(name), Self::from(value)))
                        .collect(),
                )
            }
        };
        Self { line: 0, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_lines_across_documents() {
        let text = "a: 1\nb:\n  - x\n  - {c: true}\n---\n---\nd: 'e'\n";
        let (nodes, errors) = parse("f", text);
        assert!(errors.is_empty());
        assert_eq!(nodes.len(), 2);
        let Value::Map(first) = &nodes[0].value else {
            panic!("{nodes:?}")
        };
        let Value::List(items) = &first[1].1.value else {
            panic!("{nodes:?}")
        };
        assert_eq!((first[1].0.line, items[0].line, items[1].line), (2, 3, 4));
        let Value::Map(second) = &nodes[1].value else {
            panic!("{nodes:?}")
        };
        assert_eq!(second[0].0.line, 7);
    }

    #[test]
    fn hostile_text_is_an_error_with_a_line() {
        let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (to, from) in "bcdefghijk".chars().zip("abcdefghij".chars()) {
            let aliases = vec![format!("*{from}"); 10].join(", ");
            bomb.push_str(&format!("{to}: &{to} [{aliases}]\n"));
        }
        let deep = "[".repeat(100_000);
        for text in [
            bomb.as_str(),
            &deep,
            "a: [",
            "a: b\n c: d",
            "a: 1\na: 2",
            "\u{0}",
            "- *x",
        ] {
            let (_, errors) = parse("f", text);
            assert_eq!(errors[0].origin.file, "f");
            assert!(!errors[0].message.is_empty());
        }
        assert_eq!(parse("f", "a: 1\nb: [\nc: 1").1[0].origin.line, 2);
    }

    #[test]
    fn an_error_hides_no_other_document() {
        let text = "a: [\n--- # second\nb: 1\nc: |\n  ---\n---\n: x\n---\nd: 'e\n";
        let (nodes, errors) = parse("f", text);
        assert_eq!(nodes.len(), 2);
        let Value::Map(fields) = &nodes[0].value else {
            panic!("{nodes:?}")
        };
        assert_eq!((fields[0].0.line, fields[1].0.line), (3, 4));
        let Value::Map(nameless) = &nodes[1].value else {
            panic!("{nodes:?}")
        };
        assert_eq!((nameless[0].0.line, nameless[0].0.name.as_str()), (7, ""));
        let lines: Vec<_> = errors.iter().map(|error| error.origin.line).collect();
        assert_eq!(lines, [1, 9], "{errors:?}");
        assert!(!errors[1].message.contains("line"), "{errors:?}");
    }
}
