//! `gateway.networking.k8s.io/v1/TCPRoute`: where connections to services go.

use selvedge_model::{Label, WeightedBackend};
use serde_json::json;

use super::cursor::Cursor;
use super::route_refs::{
    ParentRef, ParentTarget, backends_to_json, parents_to_json, read_backends, read_parents,
};
use super::without_nulls;

/// What a TCPRoute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpRouteSpec {
    /// The services whose connections it is about.
    pub parents: Vec<ParentRef>,
    /// The name of its only rule, which nothing refers to.
    pub rule_name: Option<Label>,
    /// Where connections go.
    pub backends: Vec<WeightedBackend>,
}

pub(super) fn read(cursor: &Cursor<'_>, namespace: &Label) -> Option<TcpRouteSpec> {
    let fields = cursor.fields(&["parentRefs", "rules", "useDefaultGateways"])?;
    let parents = read_parents(&fields, namespace);
    if let Some((cursor, parents)) = fields.field("parentRefs").zip(parents.as_ref())
        && parents
            .iter()
            .any(|it| matches!(it.target, ParentTarget::Gateway(_)))
    {
        cursor.error(
            "a Gateway has listeners for HTTP alone: attach a TCPRoute to a service, with `kind: \
             Service` and `group: ''`",
        );
        return None;
    }
    let rules = fields.required("rules", |cursor| {
        let mut rules = cursor.list(|rule| read_rule(rule, namespace))?;
        if rules.len() != 1 {
            cursor.error(format!("needs exactly one rule, found {}", rules.len()));
            return None;
        }
        rules.pop()
    });
    let (rule_name, backends) = rules?;
    Some(TcpRouteSpec {
        parents: parents?,
        rule_name,
        backends,
    })
}

fn read_rule(
    cursor: &Cursor<'_>,
    namespace: &Label,
) -> Option<(Option<Label>, Vec<WeightedBackend>)> {
    let fields = cursor.fields(&["name", "backendRefs"])?;
    let name = fields.optional("name", Cursor::label);
    let backends = read_backends(&fields, namespace)?;
    if backends.is_empty() {
        cursor.error("needs at least one backend in backendRefs");
        return None;
    }
    Some((name?, backends))
}

impl TcpRouteSpec {
    pub(super) fn to_json(&self, namespace: &Label) -> serde_json::Value {
        let rule = without_nulls(json!({
            "name": self.rule_name.as_ref().map(Label::as_str),
            "backendRefs": backends_to_json(&self.backends, namespace),
        }));
        json!({
            "parentRefs": parents_to_json(&self.parents, namespace),
            "rules": [rule],
        })
    }
}
