//! `matches` of a rule: which requests it is about.

use std::collections::BTreeSet;

use selvedge_model::http_text::{
    MAX_NAME_BYTES, MAX_PARAMETER_VALUE_BYTES, MAX_PATH_BYTES, is_field_name, is_of_the_mesh,
    is_parameter_text, is_path,
};
use selvedge_model::{HttpMatch, HttpRule, PathMatch, Pattern, TextMatch, ValueMatch};
use serde_json::{Value, json};

use super::filters::{read_field_name, read_field_value};
use crate::document::cursor::Cursor;
use crate::document::fields::Fields;
use crate::document::without_nulls;

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// Every request, where a rule says nothing else.
fn all() -> HttpMatch {
    HttpMatch {
        path: every_path(),
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
    }
}

fn every_path() -> PathMatch {
    PathMatch::Prefix("/".to_owned())
}

pub(super) fn read(rule: &Fields<'_>) -> Option<Vec<HttpMatch>> {
    let matches = rule.optional("matches", |cursor| {
        let matches = cursor.list(read_match)?;
        if matches.len() > HttpRule::MAX_MATCHES {
            let (found, most) = (matches.len(), HttpRule::MAX_MATCHES);
            cursor.error(format!("takes at most {most} matches, found {found}"));
            return None;
        }
        Some(matches)
    });
    let matches = matches?.filter(|matches| !matches.is_empty());
    Some(matches.unwrap_or_else(|| vec![all()]))
}

fn read_match(cursor: &Cursor<'_>) -> Option<HttpMatch> {
    cursor.mark();
    let fields = cursor.fields(&["path", "headers", "queryParams", "method"])?;
    let path = fields.optional("path", read_path);
    let headers = read_values(&fields, "headers", read_header);
    let query = read_values(&fields, "queryParams", read_parameter);
    let method = fields.optional("method", |cursor| {
        cursor.one_of(&METHODS.map(|method| (method, method)))
    });
    Some(HttpMatch {
        path: path?.unwrap_or_else(every_path),
        headers: headers?,
        query: query?,
        method: method?.map(str::to_owned),
    })
}

#[derive(Clone, Copy)]
enum PathType {
    Exact,
    Prefix,
    Regex,
}

fn read_path(cursor: &Cursor<'_>) -> Option<PathMatch> {
    let fields = cursor.fields(&["type", "value"])?;
    let words = [
        ("PathPrefix", PathType::Prefix),
        ("Exact", PathType::Exact),
        ("RegularExpression", PathType::Regex),
    ];
    let kind = fields.optional("type", |cursor| cursor.one_of(&words));
    let kind = kind?.unwrap_or(PathType::Prefix);
    let value = fields.optional("value", |cursor| match kind {
        PathType::Exact => read_plain_path(cursor).map(PathMatch::Exact),
        PathType::Prefix => read_plain_path(cursor).map(|path| PathMatch::Prefix(trimmed(path))),
        PathType::Regex => read_pattern(cursor).map(PathMatch::Regex),
    });
    match (value?, kind) {
        (Some(path), _) => Some(path),
        (None, PathType::Prefix) => Some(every_path()),
        (None, PathType::Exact) => Some(PathMatch::Exact("/".to_owned())),
        (None, PathType::Regex) => {
            cursor.error("a RegularExpression needs a value");
            None
        }
    }
}

/// A slash at the end of a prefix means nothing.
fn trimmed(path: String) -> String {
    match path.strip_suffix('/') {
        Some(short) if !short.is_empty() => short.to_owned(),
        _ => path,
    }
}

fn read_plain_path(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.text()?;
    if !is_path(&text) {
        cursor.error(format!(
            "expected a path that begins with `/`, of at most {MAX_PATH_BYTES} characters that may \
             stand in a path, without `//`, `/./`, `/../` and `%2F`; found {text:?}"
        ));
        return None;
    }
    Some(text)
}

fn read_pattern(cursor: &Cursor<'_>) -> Option<Pattern> {
    let text = cursor.text()?;
    cursor.report(Pattern::new(&text))
}

/// Reads a list of matches of values, of which each name may have one: all must hold.
fn read_values(
    fields: &Fields<'_>,
    name: &str,
    read: impl Fn(&Cursor<'_>) -> Option<ValueMatch>,
) -> Option<Vec<ValueMatch>> {
    let values = fields.optional(name, |cursor| {
        let values = cursor.list(&read)?;
        let most = HttpMatch::MAX_VALUES;
        if values.len() > most {
            cursor.error(format!("takes at most {most}, found {}", values.len()));
            return None;
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = values.iter().find(|value| !names.insert(&value.name)) {
            cursor.error(format!(
                "names {} twice; one match of it counts",
                twice.name
            ));
            return None;
        }
        Some(values)
    });
    values.map(Option::unwrap_or_default)
}

fn read_header(cursor: &Cursor<'_>) -> Option<ValueMatch> {
    let fields = cursor.fields(&["type", "name", "value"])?;
    let name = fields.required("name", |cursor| {
        let name = read_field_name(cursor)?;
        let is_seen = !is_of_the_mesh(&name);
        if !is_seen {
            cursor.error("is the proxy's own: no match sees what callers put there");
        }
        is_seen.then_some(name)
    });
    let value = read_value(&fields, read_field_value);
    Some(ValueMatch {
        name: name?,
        value: value?,
    })
}

fn read_parameter(cursor: &Cursor<'_>) -> Option<ValueMatch> {
    let fields = cursor.fields(&["type", "name", "value"])?;
    let name = fields.required("name", |cursor| {
        let text = cursor.text()?;
        let is_name = is_field_name(&text) && is_parameter_text(&text);
        if !is_name {
            cursor.error(format!(
                "expected the name of a parameter, of at most {MAX_NAME_BYTES} letters, digits or \
                 marks such as `-` and `_`; found {text:?}"
            ));
        }
        is_name.then_some(text)
    });
    let value = read_value(&fields, |cursor| {
        let text = cursor.text()?;
        let length = 1..=MAX_PARAMETER_VALUE_BYTES;
        let is_value = is_parameter_text(&text) && length.contains(&text.len());
        if !is_value {
            cursor.error(format!(
                "expected a value as it is sent, of at most {MAX_PARAMETER_VALUE_BYTES} characters: \
                 nothing is decoded, so a space is `%20`; found {text:?}"
            ));
        }
        is_value.then_some(text)
    });
    Some(ValueMatch {
        name: name?,
        value: value?,
    })
}

fn read_value(
    fields: &Fields<'_>,
    read_exact: impl Fn(&Cursor<'_>) -> Option<String>,
) -> Option<TextMatch> {
    let words = [("Exact", false), ("RegularExpression", true)];
    let is_pattern = fields.optional("type", |cursor| cursor.one_of(&words));
    let is_pattern = is_pattern?.unwrap_or(false);
    fields.required("value", |cursor| match is_pattern {
        true => read_pattern(cursor).map(TextMatch::Regex),
        false => read_exact(cursor).map(TextMatch::Exact),
    })
}

pub(super) fn to_json(http: &HttpMatch) -> Value {
    let (kind, path) = match &http.path {
        PathMatch::Exact(path) => ("Exact", path.as_str()),
        PathMatch::Prefix(path) => ("PathPrefix", path.as_str()),
        PathMatch::Regex(pattern) => ("RegularExpression", pattern.as_str()),
    };
    let values = |values: &[ValueMatch]| -> Option<Vec<Value>> {
        (!values.is_empty()).then(|| values.iter().map(value_to_json).collect())
    };
    without_nulls(json!({
        "path": {"type": kind, "value": path},
        "headers": values(&http.headers),
        "queryParams": values(&http.query),
        "method": http.method,
    }))
}

fn value_to_json(wanted: &ValueMatch) -> Value {
    let (kind, value) = match &wanted.value {
        TextMatch::Exact(text) => ("Exact", text.as_str()),
        TextMatch::Regex(pattern) => ("RegularExpression", pattern.as_str()),
    };
    json!({"type": kind, "name": wanted.name, "value": value})
}
