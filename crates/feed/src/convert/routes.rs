//! Routes. The way in asks of every text what documents ask, since the proxy writes it into heads.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::http_text::{
    MAX_PARAMETER_VALUE_BYTES, is_field_name, is_field_value, is_host_name, is_parameter_text,
    is_path, may_be_changed,
};
use selvedge_model::{
    Backend, FieldChanges, HttpAction, HttpFilters, HttpMatch, HttpRoute, HttpRule, Label,
    PathChange, PathMatch, Pattern, Redirect, Rewrite, RouteName, RouteParent, ServiceName,
    TcpRoute, TextMatch, ValueMatch, WeightedBackend,
};

use super::gateways;
use super::requests::nanos;
use super::{Defect, at_most, collect, port, small};
use crate::wire::{self, routes};

impl From<&RouteName> for wire::Name {
    fn from(name: &RouteName) -> Self {
        Self {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
        }
    }
}

impl TryFrom<wire::Name> for RouteName {
    type Error = Defect;

    fn try_from(wire: wire::Name) -> Result<Self, Defect> {
        let ServiceName { namespace, name } = wire.try_into()?;
        Ok(Self { namespace, name })
    }
}

impl From<&HttpRoute> for routes::HttpRoute {
    fn from(route: &HttpRoute) -> Self {
        Self {
            name: (&route.name).into(),
            parents: route.parents.iter().map(Into::into).collect(),
            rules: route.rules.iter().map(Into::into).collect(),
            gateways: route.gateways.iter().map(Into::into).collect(),
            hostnames: route.hostnames.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<routes::HttpRoute> for HttpRoute {
    type Error = Defect;

    fn try_from(wire: routes::HttpRoute) -> Result<Self, Defect> {
        let matches = wire.rules.iter().map(|rule| rule.matches.len()).sum();
        at_most("rules", wire.rules.len(), Self::MAX_RULES)?;
        at_most("matches", matches, Self::MAX_MATCHES)?;
        Ok(Self {
            name: wire.name.try_into()?,
            parents: parents(wire.parents)?,
            gateways: gateways::parents(wire.gateways)?,
            hostnames: gateways::hostnames(wire.hostnames)?,
            rules: collect(wire.rules, HttpRule::try_from)?,
        })
    }
}

impl From<&TcpRoute> for routes::TcpRoute {
    fn from(route: &TcpRoute) -> Self {
        Self {
            name: (&route.name).into(),
            parents: route.parents.iter().map(Into::into).collect(),
            backends: route.backends.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<routes::TcpRoute> for TcpRoute {
    type Error = Defect;

    fn try_from(wire: routes::TcpRoute) -> Result<Self, Defect> {
        Ok(Self {
            name: wire.name.try_into()?,
            parents: parents(wire.parents)?,
            backends: backends(wire.backends)?,
        })
    }
}

impl From<&RouteParent> for routes::RouteParent {
    fn from(parent: &RouteParent) -> Self {
        Self {
            service: (&parent.service).into(),
            port: parent.port.map(|port| port.get().into()),
        }
    }
}

fn parents(wire: Vec<routes::RouteParent>) -> Result<Vec<RouteParent>, Defect> {
    at_most("parents", wire.len(), RouteParent::MAX)?;
    collect(wire, |parent| {
        Ok(RouteParent {
            service: parent.service.try_into()?,
            port: parent.port.map(port).transpose()?,
        })
    })
}

impl From<&WeightedBackend> for routes::WeightedBackend {
    fn from(WeightedBackend { backend, weight }: &WeightedBackend) -> Self {
        Self {
            service: (&backend.service).into(),
            port: backend.port.get().into(),
            weight: *weight,
        }
    }
}

fn backends(wire: Vec<routes::WeightedBackend>) -> Result<Vec<WeightedBackend>, Defect> {
    at_most("backends", wire.len(), WeightedBackend::MAX)?;
    collect(wire, |wire| {
        if wire.weight > WeightedBackend::MAX_WEIGHT {
            return Err(Defect::Range {
                what: "the weight of a backend",
                value: wire.weight,
            });
        }
        let backend = Backend {
            service: wire.service.try_into()?,
            port: port(wire.port)?,
        };
        let weight = wire.weight;
        Ok(WeightedBackend { backend, weight })
    })
}

impl From<&HttpRule> for routes::HttpRule {
    fn from(rule: &HttpRule) -> Self {
        Self {
            name: rule.name.as_ref().map(ToString::to_string),
            matches: rule.matches.iter().map(Into::into).collect(),
            request: (&rule.filters.request).into(),
            response: (&rule.filters.response).into(),
            action: rule.filters.action.as_ref().map(Into::into),
            backends: rule.backends.iter().map(Into::into).collect(),
            request_timeout_ns: rule.request_timeout.map(nanos),
            backend_request_timeout_ns: rule.backend_request_timeout.map(nanos),
            retry: rule.retry.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<routes::HttpRule> for HttpRule {
    type Error = Defect;

    fn try_from(wire: routes::HttpRule) -> Result<Self, Defect> {
        at_most("matches of a rule", wire.matches.len(), Self::MAX_MATCHES)?;
        Ok(Self {
            name: wire.name.as_deref().map(Label::new).transpose()?,
            matches: collect(wire.matches, HttpMatch::try_from)?,
            filters: HttpFilters {
                request: wire.request.try_into()?,
                response: wire.response.try_into()?,
                action: wire.action.map(TryInto::try_into).transpose()?,
            },
            backends: backends(wire.backends)?,
            request_timeout: wire.request_timeout_ns.map(Duration::from_nanos),
            backend_request_timeout: wire.backend_request_timeout_ns.map(Duration::from_nanos),
            retry: wire.retry.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&HttpMatch> for routes::HttpMatch {
    fn from(http: &HttpMatch) -> Self {
        Self {
            path: Some(match &http.path {
                PathMatch::Exact(path) => routes::PathMatch::Exact(path.clone()),
                PathMatch::Prefix(path) => routes::PathMatch::Prefix(path.clone()),
                PathMatch::Regex(pattern) => routes::PathMatch::Regex(pattern.as_str().into()),
            }),
            headers: http.headers.iter().map(Into::into).collect(),
            query: http.query.iter().map(Into::into).collect(),
            method: http.method.clone(),
        }
    }
}

impl TryFrom<routes::HttpMatch> for HttpMatch {
    type Error = Defect;

    fn try_from(wire: routes::HttpMatch) -> Result<Self, Defect> {
        at_most("headers", wire.headers.len(), Self::MAX_VALUES)?;
        at_most("parameters", wire.query.len(), Self::MAX_VALUES)?;
        let is_parameter =
            |text: &str| text.len() <= MAX_PARAMETER_VALUE_BYTES && is_parameter_text(text);
        let header = |wire| value_match(wire, is_lower_field_name, is_field_value);
        let parameter = |wire| value_match(wire, is_field_name, is_parameter);
        Ok(Self {
            path: match wire.path.ok_or(Defect::Missing("the path of a match"))? {
                routes::PathMatch::Exact(path) => PathMatch::Exact(sound("path", path, is_path)?),
                routes::PathMatch::Prefix(path) => PathMatch::Prefix(sound("path", path, is_path)?),
                routes::PathMatch::Regex(text) => PathMatch::Regex(Pattern::new(&text)?),
            },
            headers: collect(wire.headers, header)?,
            query: collect(wire.query, parameter)?,
            method: match wire.method {
                Some(method) => Some(sound("method", method, is_field_name)?),
                None => None,
            },
        })
    }
}

impl From<&ValueMatch> for routes::ValueMatch {
    fn from(wanted: &ValueMatch) -> Self {
        Self {
            name: wanted.name.clone(),
            value: Some(match &wanted.value {
                TextMatch::Exact(text) => routes::TextMatch::Exact(text.clone()),
                TextMatch::Regex(pattern) => routes::TextMatch::Regex(pattern.as_str().into()),
            }),
        }
    }
}

fn value_match(
    wire: routes::ValueMatch,
    is_name: impl Fn(&str) -> bool,
    is_value: impl Fn(&str) -> bool,
) -> Result<ValueMatch, Defect> {
    Ok(ValueMatch {
        name: sound("name", wire.name, is_name)?,
        value: match wire.value.ok_or(Defect::Missing("the value of a match"))? {
            routes::TextMatch::Exact(text) => TextMatch::Exact(sound("value", text, is_value)?),
            routes::TextMatch::Regex(text) => TextMatch::Regex(Pattern::new(&text)?),
        },
    })
}

impl From<&FieldChanges> for routes::FieldChanges {
    fn from(changes: &FieldChanges) -> Self {
        let field = |(name, value): &(String, String)| routes::Field {
            name: name.clone(),
            value: value.clone(),
        };
        Self {
            set: changes.set.iter().map(field).collect(),
            add: changes.add.iter().map(field).collect(),
            remove: changes.remove.clone(),
        }
    }
}

impl TryFrom<routes::FieldChanges> for FieldChanges {
    type Error = Defect;

    fn try_from(wire: routes::FieldChanges) -> Result<Self, Defect> {
        let lengths = [wire.set.len(), wire.add.len(), wire.remove.len()];
        for length in lengths {
            at_most("changes of fields", length, Self::MAX)?;
        }
        let name = |name| sound("name of a field to change", name, is_changeable);
        let field = |wire: routes::Field| {
            Ok((
                name(wire.name)?,
                sound("value", wire.value, is_field_value)?,
            ))
        };
        Ok(Self {
            set: collect(wire.set, field)?,
            add: collect(wire.add, field)?,
            remove: collect(wire.remove, name)?,
        })
    }
}

fn is_lower_field_name(name: &str) -> bool {
    is_field_name(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_changeable(name: &str) -> bool {
    is_lower_field_name(name) && may_be_changed(name)
}

impl From<&HttpAction> for routes::HttpAction {
    fn from(action: &HttpAction) -> Self {
        match action {
            HttpAction::Redirect(redirect) => Self::Redirect(routes::Redirect {
                scheme: redirect.scheme.clone(),
                host: redirect.host.clone(),
                path: redirect.path.as_ref().map(Into::into),
                port: redirect.port.map(|port| port.get().into()),
                status: redirect.status.into(),
            }),
            HttpAction::Rewrite(rewrite) => Self::Rewrite(routes::Rewrite {
                host: rewrite.host.clone(),
                path: rewrite.path.as_ref().map(Into::into),
            }),
        }
    }
}

impl TryFrom<routes::HttpAction> for HttpAction {
    type Error = Defect;

    fn try_from(wire: routes::HttpAction) -> Result<Self, Defect> {
        let host = |host: Option<String>| match host {
            Some(host) => sound("host", host, is_host_name).map(Some),
            None => Ok(None),
        };
        Ok(match wire {
            routes::HttpAction::Redirect(wire) => Self::Redirect(Redirect {
                scheme: match wire.scheme {
                    Some(scheme) => Some(sound("scheme", scheme, is_scheme)?),
                    None => None,
                },
                host: host(wire.host)?,
                path: wire.path.map(TryInto::try_into).transpose()?,
                port: wire.port.map(port).transpose()?,
                status: redirect_status(wire.status)?,
            }),
            routes::HttpAction::Rewrite(wire) => Self::Rewrite(Rewrite {
                host: host(wire.host)?,
                path: wire.path.map(TryInto::try_into).transpose()?,
            }),
        })
    }
}

fn is_scheme(text: &str) -> bool {
    matches!(text, "http" | "https")
}

fn redirect_status(value: u32) -> Result<u16, Defect> {
    let what = "the status of a redirect";
    let status: u16 = small(what, value)?;
    let is_known = Redirect::STATUSES.contains(&status);
    is_known
        .then_some(status)
        .ok_or(Defect::Range { what, value })
}

impl From<&PathChange> for routes::PathChange {
    fn from(change: &PathChange) -> Self {
        Self {
            path: Some(match change {
                PathChange::Full(path) => routes::NewPath::Full(path.clone()),
                PathChange::Prefix(path) => routes::NewPath::Prefix(path.clone()),
            }),
        }
    }
}

impl TryFrom<routes::PathChange> for PathChange {
    type Error = Defect;

    fn try_from(wire: routes::PathChange) -> Result<Self, Defect> {
        let is_prefix = |path: &str| path.is_empty() || is_path(path) && !path.ends_with('/');
        Ok(
            match wire.path.ok_or(Defect::Missing("the path of a change"))? {
                routes::NewPath::Full(path) => Self::Full(sound("path", path, is_path)?),
                routes::NewPath::Prefix(path) => Self::Prefix(sound("path", path, is_prefix)?),
            },
        )
    }
}

/// The text, if it may stand where it is to stand.
fn sound(
    what: &'static str,
    text: String,
    is_sound: impl Fn(&str) -> bool,
) -> Result<String, Defect> {
    if is_sound(&text) {
        return Ok(text);
    }
    Err(Defect::Text { what, text })
}
