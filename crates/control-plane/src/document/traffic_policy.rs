//! `selvedge.dev/v1alpha1/TrafficPolicy`: how connections and requests to services are spread,
//! limited and tried again.
//!
//! A policy says nothing of what it leaves out. Two policies may meet in one service as long as they
//! do not say the same thing twice; `compile` judges that. What is about requests is read in
//! `document/requests.rs`.

use std::net::IpAddr;
use std::num::NonZeroU32;

use selvedge_model::{Label, RequestPolicy};
use serde_json::json;

use super::cursor::Cursor;
use super::fields::Fields;
use super::{requests, without_nulls};

/// Largest weight of an endpoint.
const MAX_WEIGHT: u16 = 1000;

/// What a TrafficPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// The services it is about, in its own namespace.
    pub targets: Vec<Label>,
    /// Shares of single endpoints; those not named have 1.
    pub weights: Option<Vec<Weight>>,
    /// Most connections open at once to each target from this node.
    pub connection_limit: Option<u32>,
    /// Whether bytes, connect times and open connections are counted too.
    pub detailed_counters: Option<bool>,
    /// Whether, for workloads of the targets, a mesh name with a search suffix is NXDOMAIN.
    pub shadow_search: Option<bool>,
    /// How requests to the targets are treated.
    pub requests: RequestPolicy,
}

/// The share of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Whose share.
    pub of: PolicyTarget,
    /// Relative to its siblings; 0 takes no new connections.
    pub weight: u16,
}

/// An endpoint as a policy names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyTarget {
    /// A Workload of the service.
    Workload(Label),
    /// An address of an EndpointSlice or Workload.
    Address(IpAddr),
}

pub(super) fn read(cursor: &Cursor<'_>) -> Option<TrafficPolicy> {
    let own = ["targetRefs", "balancing", "limits", "counters", "resolver"];
    let known: Vec<_> = own.into_iter().chain(requests::FIELDS).collect();
    let fields = cursor.fields(&known)?;
    let targets = fields.required("targetRefs", read_targets);
    let weights = block(&fields, "balancing", "weights", |cursor| {
        cursor.list(read_weight)
    });
    let limits = fields.optional("limits", read_limits);
    let words = [("Basic", false), ("Detailed", true)];
    let counters = fields.optional("counters", |cursor| {
        cursor.mark();
        cursor.one_of(&words)
    });
    let shadow = block(&fields, "resolver", "shadowSearch", |cursor| {
        cursor.boolean()
    });
    let (connections, per_endpoint) = limits.map(Option::unwrap_or_default).unzip();
    let requests = requests::read(&fields, per_endpoint.flatten());
    Some(TrafficPolicy {
        targets: targets?,
        weights: weights?,
        connection_limit: connections?,
        detailed_counters: counters?,
        shadow_search: shadow?,
        requests: requests?,
    })
}

/// Reads the limit of connections and that of requests into one endpoint.
fn read_limits(cursor: &Cursor<'_>) -> Option<(Option<u32>, Option<NonZeroU32>)> {
    let fields = cursor.fields(&["connections", "requestsPerEndpoint"])?;
    let read = |name| {
        fields.optional(name, |cursor: &Cursor<'_>| {
            cursor.mark();
            cursor.integer(1..=u32::MAX)
        })
    };
    let (connections, per_endpoint) = (read("connections"), read("requestsPerEndpoint"));
    Some((connections?, per_endpoint?.and_then(NonZeroU32::new)))
}

/// Reads the only field of an optional block.
fn block<T>(
    fields: &Fields<'_>,
    block: &str,
    field: &str,
    read: impl Fn(&Cursor<'_>) -> Option<T>,
) -> Option<Option<T>> {
    let found = fields.optional(block, |cursor| {
        cursor.fields(&[field])?.optional(field, |cursor| {
            cursor.mark();
            read(cursor)
        })
    });
    found.map(Option::flatten)
}

/// Services of the policy's own namespace, at least one.
pub(super) fn read_targets(cursor: &Cursor<'_>) -> Option<Vec<Label>> {
    let targets = cursor.list(read_target)?;
    if targets.is_empty() {
        cursor.error("needs at least one service");
    }
    (!targets.is_empty()).then_some(targets)
}

pub(super) fn target_to_json(name: &Label) -> serde_json::Value {
    json!({"kind": "Service", "name": name.as_str()})
}

fn read_target(cursor: &Cursor<'_>) -> Option<Label> {
    let fields = cursor.fields(&["group", "kind", "name", "namespace", "sectionName"])?;
    fields.refuse(&[
        (
            "namespace",
            "a policy is about services of its own namespace",
        ),
        ("sectionName", "a policy is about a whole service"),
    ]);
    let group = fields.optional("group", |cursor| cursor.one_of(&[("", ()), ("core", ())]));
    let kind = fields.required("kind", |cursor| cursor.one_of(&[("Service", ())]));
    let name = fields.required("name", |cursor| {
        cursor.mark();
        cursor.label()
    });
    group?;
    kind?;
    name
}

fn read_weight(cursor: &Cursor<'_>) -> Option<Weight> {
    let fields = cursor.fields(&["workload", "address", "weight"])?;
    let workload = fields.optional("workload", |cursor| {
        cursor.label().map(PolicyTarget::Workload)
    });
    let address = fields.optional("address", |cursor| {
        cursor.parse("an IP address").map(PolicyTarget::Address)
    });
    let weight = fields.required("weight", |cursor| cursor.integer(0..=MAX_WEIGHT));
    let of = match (workload?, address?) {
        (Some(of), None) | (None, Some(of)) => of,
        _ => {
            cursor.error("needs exactly one of workload and address");
            return None;
        }
    };
    Some(Weight {
        of,
        weight: weight?,
    })
}

impl TrafficPolicy {
    pub(super) fn to_json(&self) -> serde_json::Value {
        let weights = self.weights.as_ref().map(
            |weights| json!({"weights": weights.iter().map(Weight::to_json).collect::<Vec<_>>()}),
        );
        let limits = without_nulls(json!({
            "connections": self.connection_limit,
            "requestsPerEndpoint": self.requests.requests_per_endpoint,
        }));
        let is_limited = limits.as_object().is_some_and(|limits| !limits.is_empty());
        let counters = |detailed| if detailed { "Detailed" } else { "Basic" };
        let mut written = json!({
            "targetRefs": self.targets.iter().map(target_to_json).collect::<Vec<_>>(),
            "balancing": weights,
            "limits": is_limited.then_some(limits),
            "counters": self.detailed_counters.map(counters),
            "resolver": self.shadow_search.map(|shadow| json!({"shadowSearch": shadow})),
        });
        for (name, said) in requests::to_json(&self.requests) {
            written[name] = said.into();
        }
        without_nulls(written)
    }
}

impl Weight {
    fn to_json(&self) -> serde_json::Value {
        match &self.of {
            PolicyTarget::Workload(name) => {
                json!({"workload": name.as_str(), "weight": self.weight})
            }
            PolicyTarget::Address(address) => {
                json!({"address": address.to_string(), "weight": self.weight})
            }
        }
    }
}
