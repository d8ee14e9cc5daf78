//! `filters` of a rule: what is done to requests and responses.
//!
//! The order of filters in a rule means nothing here: fields are changed first, and what is changed
//! does not meet what a redirect or rewrite changes.

use std::collections::BTreeSet;

use selvedge_model::http_text::{
    MAX_NAME_BYTES, is_field_name, is_field_value, is_host_name, is_path, may_be_changed,
};
use selvedge_model::{FieldChanges, HttpAction, HttpFilters, PathChange, Port, Redirect, Rewrite};
use serde_json::{Value, json};

use crate::document::cursor::Cursor;
use crate::document::without_nulls;

/// Most filters of a rule, as Gateway API has it.
const MAX_FILTERS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum FilterType {
    RequestHeaders,
    ResponseHeaders,
    Redirect,
    Rewrite,
}

/// Each type, its word, and the field that says more.
const TYPES: [(FilterType, &str, &str); 4] = [
    (
        FilterType::RequestHeaders,
        "RequestHeaderModifier",
        "requestHeaderModifier",
    ),
    (
        FilterType::ResponseHeaders,
        "ResponseHeaderModifier",
        "responseHeaderModifier",
    ),
    (FilterType::Redirect, "RequestRedirect", "requestRedirect"),
    (FilterType::Rewrite, "URLRewrite", "urlRewrite"),
];

/// Fields of filters that Gateway API has and the mesh has not.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("requestMirror", "a request goes to one backend"),
    ("cors", "the program answers for its own origins"),
    ("externalAuth", "nobody else is asked about a request"),
    ("extensionRef", "there are no filters but these four"),
];

/// Their types.
const UNSUPPORTED_TYPES: [&str; 4] = ["RequestMirror", "CORS", "ExternalAuth", "ExtensionRef"];

enum Filter {
    RequestHeaders(FieldChanges),
    ResponseHeaders(FieldChanges),
    Action(HttpAction),
}

pub(super) fn read(cursor: &Cursor<'_>) -> Option<HttpFilters> {
    let read = cursor.list(read_filter)?;
    if read.len() > MAX_FILTERS {
        cursor.error(format!(
            "takes at most {MAX_FILTERS} filters, found {}",
            read.len()
        ));
        return None;
    }
    let mut types = BTreeSet::new();
    if let Some((twice, _)) = read.iter().find(|(kind, _)| !types.insert(*kind)) {
        let (_, word, _) = TYPES.iter().find(|(kind, ..)| kind == twice)?;
        cursor.error(format!("has two filters of type {word}; say it in one"));
        return None;
    }
    if types.contains(&FilterType::Redirect) && types.contains(&FilterType::Rewrite) {
        cursor.error("RequestRedirect and URLRewrite exclude each other in a rule");
        return None;
    }
    let mut filters = HttpFilters::default();
    for (_, filter) in read {
        match filter {
            Filter::RequestHeaders(changes) => filters.request = changes,
            Filter::ResponseHeaders(changes) => filters.response = changes,
            Filter::Action(action) => filters.action = Some(action),
        }
    }
    Some(filters)
}

fn read_filter(cursor: &Cursor<'_>) -> Option<(FilterType, Filter)> {
    let own = TYPES.iter().map(|(_, _, field)| *field);
    let others = UNSUPPORTED.iter().map(|(field, _)| *field);
    let known: Vec<_> = ["type"].into_iter().chain(own).chain(others).collect();
    let fields = cursor.fields(&known)?;
    let kind = fields.required("type", read_type)?;
    fields.refuse(UNSUPPORTED);
    for (other, _, field) in TYPES {
        if other != kind
            && let Some(surplus) = fields.field(field)
        {
            surplus.error("belongs to a filter of another type than this one says");
            return None;
        }
    }
    let (_, _, field) = TYPES.iter().find(|(other, ..)| *other == kind)?;
    let filter = fields.required(field, |cursor| match kind {
        FilterType::RequestHeaders => read_changes(cursor).map(Filter::RequestHeaders),
        FilterType::ResponseHeaders => read_changes(cursor).map(Filter::ResponseHeaders),
        FilterType::Redirect => {
            let redirect = read_redirect(cursor)?;
            Some(Filter::Action(HttpAction::Redirect(redirect)))
        }
        FilterType::Rewrite => {
            let rewrite = read_rewrite(cursor)?;
            Some(Filter::Action(HttpAction::Rewrite(rewrite)))
        }
    });
    Some((kind, filter?))
}

fn read_type(cursor: &Cursor<'_>) -> Option<FilterType> {
    let text = cursor.text()?;
    if let Some(at) = UNSUPPORTED_TYPES.iter().position(|word| *word == text) {
        cursor.error(format!("{text} is not supported: {}", UNSUPPORTED[at].1));
        return None;
    }
    cursor.one_of(&TYPES.map(|(kind, word, _)| (word, kind)))
}

fn read_changes(cursor: &Cursor<'_>) -> Option<FieldChanges> {
    let fields = cursor.fields(&["set", "add", "remove"])?;
    let set = fields.list("set", read_field);
    let add = fields.list("add", read_field);
    let remove = fields.list("remove", read_changeable_name);
    let changes = FieldChanges {
        set: set?,
        add: add?,
        remove: remove?,
    };
    let most = FieldChanges::MAX;
    let lengths = [changes.set.len(), changes.add.len(), changes.remove.len()];
    if lengths.iter().any(|length| *length > most) {
        cursor.error(format!(
            "takes at most {most} fields each to set, add and remove"
        ));
        return None;
    }
    let valued = changes.set.iter().chain(&changes.add).map(|(name, _)| name);
    let mut names = BTreeSet::new();
    if let Some(twice) = valued
        .chain(&changes.remove)
        .find(|name| !names.insert(*name))
    {
        cursor.error(format!(
            "does more than one thing to {twice}; several values are written with commas between"
        ));
        return None;
    }
    if names.is_empty() {
        cursor.warning("changes nothing");
    }
    Some(changes)
}

fn read_field(cursor: &Cursor<'_>) -> Option<(String, String)> {
    let fields = cursor.fields(&["name", "value"])?;
    let name = fields.required("name", read_changeable_name);
    let value = fields.required("value", read_field_value);
    Some((name?, value?))
}

/// Reads the value of a field.
pub(super) fn read_field_value(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.text()?;
    if !is_field_value(&text) {
        cursor.error("expected visible ASCII, with spaces inside only: the value of a field");
        return None;
    }
    Some(text)
}

fn read_changeable_name(cursor: &Cursor<'_>) -> Option<String> {
    let name = read_field_name(cursor)?;
    if name == "host" {
        cursor.error("is not changed so: write urlRewrite with hostname");
        return None;
    }
    if !may_be_changed(&name) {
        cursor.error("is not to be changed: it frames messages or is the proxy's own");
        return None;
    }
    Some(name)
}

/// Reads the name of a field, which comes out in lower case.
pub(super) fn read_field_name(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.text()?;
    if !is_field_name(&text) {
        cursor.error(format!(
            "expected the name of a field, of at most {MAX_NAME_BYTES} letters, digits or marks \
             such as `-`; found {text:?}"
        ));
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn read_redirect(cursor: &Cursor<'_>) -> Option<Redirect> {
    let known = &["scheme", "hostname", "path", "port", "statusCode"];
    let fields = cursor.fields(known)?;
    let schemes = [("http", "http"), ("https", "https")];
    let scheme = fields.optional("scheme", |cursor| cursor.one_of(&schemes));
    let host = fields.optional("hostname", read_host);
    let path = fields.optional("path", read_path_change);
    let port = fields.optional("port", Cursor::port);
    let status = fields.optional("statusCode", |cursor| {
        let status = cursor.integer(300..=399u16)?;
        if !Redirect::STATUSES.contains(&status) {
            cursor.error(format!(
                "expected 301, 302, 303, 307 or 308, found {status}"
            ));
            return None;
        }
        Some(status)
    });
    Some(Redirect {
        scheme: scheme?.map(str::to_owned),
        host: host?,
        path: path?,
        port: port?,
        status: status?.unwrap_or(302),
    })
}

fn read_rewrite(cursor: &Cursor<'_>) -> Option<Rewrite> {
    let fields = cursor.fields(&["hostname", "path"])?;
    let host = fields.optional("hostname", read_host);
    let path = fields.optional("path", read_path_change);
    let rewrite = Rewrite {
        host: host?,
        path: path?,
    };
    if rewrite.host.is_none() && rewrite.path.is_none() {
        cursor.warning("changes nothing");
    }
    Some(rewrite)
}

fn read_host(cursor: &Cursor<'_>) -> Option<String> {
    let text = cursor.text()?;
    if !is_host_name(&text) {
        cursor.error(format!(
            "expected the name of a host in lower case, no address and no `*`; found {text:?}"
        ));
        return None;
    }
    Some(text)
}

fn read_path_change(cursor: &Cursor<'_>) -> Option<PathChange> {
    let fields = cursor.fields(&["type", "replaceFullPath", "replacePrefixMatch"])?;
    let words = [("ReplaceFullPath", false), ("ReplacePrefixMatch", true)];
    let is_prefix = fields.required("type", |cursor| cursor.one_of(&words))?;
    let (wanted, other) = match is_prefix {
        true => ("replacePrefixMatch", "replaceFullPath"),
        false => ("replaceFullPath", "replacePrefixMatch"),
    };
    if let Some(surplus) = fields.field(other) {
        surplus.error("belongs to another type than this one says");
        return None;
    }
    fields.required(wanted, |cursor| read_new_path(cursor, is_prefix))
}

fn read_new_path(cursor: &Cursor<'_>, is_prefix: bool) -> Option<PathChange> {
    let text = cursor.text()?;
    if is_prefix && text.is_empty() {
        return Some(PathChange::Prefix(text));
    }
    if !is_path(&text) {
        cursor.error(format!(
            "expected a path that begins with `/`, without `//`, `/./`, `/../` and `%2F`; found \
             {text:?}"
        ));
        return None;
    }
    Some(match is_prefix {
        true => PathChange::Prefix(text.strip_suffix('/').unwrap_or(&text).to_owned()),
        false => PathChange::Full(text),
    })
}

pub(super) fn to_json(filters: &HttpFilters) -> Vec<Value> {
    let mut written = Vec::new();
    let mut write = |kind: FilterType, says: Value| {
        if let Some((_, word, field)) = TYPES.iter().find(|(other, ..)| *other == kind) {
            written.push(json!({"type": word, *field: says}));
        }
    };
    if !filters.request.is_empty() {
        write(
            FilterType::RequestHeaders,
            changes_to_json(&filters.request),
        );
    }
    if !filters.response.is_empty() {
        write(
            FilterType::ResponseHeaders,
            changes_to_json(&filters.response),
        );
    }
    match &filters.action {
        None => {}
        Some(HttpAction::Redirect(redirect)) => {
            write(FilterType::Redirect, redirect_to_json(redirect));
        }
        Some(HttpAction::Rewrite(rewrite)) => {
            write(FilterType::Rewrite, rewrite_to_json(rewrite));
        }
    }
    written
}

fn redirect_to_json(redirect: &Redirect) -> Value {
    without_nulls(json!({
        "scheme": redirect.scheme,
        "hostname": redirect.host,
        "path": redirect.path.as_ref().map(path_change_to_json),
        "port": redirect.port.map(Port::get),
        "statusCode": redirect.status,
    }))
}

fn rewrite_to_json(rewrite: &Rewrite) -> Value {
    without_nulls(json!({
        "hostname": rewrite.host,
        "path": rewrite.path.as_ref().map(path_change_to_json),
    }))
}

fn changes_to_json(changes: &FieldChanges) -> Value {
    let valued = |fields: &[(String, String)]| -> Option<Vec<Value>> {
        let field = |(name, value): &(String, String)| json!({"name": name, "value": value});
        (!fields.is_empty()).then(|| fields.iter().map(field).collect())
    };
    without_nulls(json!({
        "set": valued(&changes.set),
        "add": valued(&changes.add),
        "remove": (!changes.remove.is_empty()).then_some(&changes.remove),
    }))
}

fn path_change_to_json(path: &PathChange) -> Value {
    match path {
        PathChange::Full(path) => json!({"type": "ReplaceFullPath", "replaceFullPath": path}),
        PathChange::Prefix(path) => {
            json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": path})
        }
    }
}
