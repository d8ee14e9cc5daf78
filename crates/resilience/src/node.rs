//! A node: all upstreams, routes and workloads of one configuration.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use selvedge_model::{Backend, CgroupId, Instant, Place};

use crate::admission::{Admission, Call};
use crate::budget::Budget;
use crate::controller::Controller;
use crate::entry::Entry;
use crate::gate::{Endpoint, EndpointGate};
use crate::plan::{EndpointPlan, NodePlan, UpstreamPlan};
use crate::rejection::Rejection;
use crate::retry::RetryRule;
use crate::seat::Seat;
use crate::tables::{Lane, Local, Tables};
use crate::trace::TraceTable;
use crate::upstream::{Shared, Upstream};
use crate::workload::Workload;

/// What requests of one configuration are admitted by. A new configuration makes a new node, in which
/// whatever has the same key as before goes on: requests in flight, ejections, budgets, counts.
/// Requests that were admitted by an old one end there.
#[derive(Debug)]
pub struct Node {
    lanes: Box<[Arc<Lane>]>,
    pub(crate) tables: Arc<Tables>,
}

impl Node {
    /// The node of a configuration for this many workers, after the one `before` it.
    ///
    /// # Panics
    /// Where `before` is for another number of workers.
    pub fn new(plan: &NodePlan, before: Option<&Self>, workers: usize) -> Self {
        let before = before.map(|node| &*node.tables);
        if let Some(before) = before {
            assert_eq!(before.workers, workers, "a node keeps its workers");
        }
        let tables = Arc::new(build(plan, before, workers));
        let lane = |worker| {
            let tables = tables.clone();
            Arc::new(Lane { tables, worker })
        };
        Self {
            lanes: (0..workers).map(lane).collect(),
            tables,
        }
    }

    /// Lets a request in, or not. It is counted until the [`Admission`] is gone: at its route's entry
    /// where it comes from there, and as a call of the workload that makes it.
    ///
    /// # Errors
    /// `NoRoute` and `NoBackend` where the node's configuration has no such route or backend,
    /// `RequestLimit` where the route is full.
    ///
    /// # Panics
    /// Where the seat is not one of the node's workers.
    pub fn admit(
        &self,
        now: Instant,
        seat: &mut Seat,
        call: &Call<'_>,
    ) -> Result<Admission, Rejection> {
        Admission::new(&self.lanes[seat.worker], now, call)
    }
}

fn build(plan: &NodePlan, before: Option<&Tables>, workers: usize) -> Tables {
    let workloads = workloads(plan, before);
    let entries = entries(plan, before, workers);
    let old = before.map(|tables| tables.upstreams.iter());
    let old: BTreeMap<&Backend, &Upstream> = old
        .into_iter()
        .flatten()
        .map(|upstream| (&upstream.shared.backend, upstream))
        .collect();
    let upstream = |plan: &UpstreamPlan| {
        let old = old.get(&plan.backend).copied();
        upstream(plan, old, &workloads, workers)
    };
    Tables {
        upstreams: plan.upstreams.iter().map(upstream).collect(),
        entries,
        workloads,
        traces: before.map_or_else(|| Arc::new(TraceTable::new()), |old| old.traces.clone()),
        workers,
    }
}

/// The workloads that are listed, and those that are endpoints.
fn workloads(plan: &NodePlan, before: Option<&Tables>) -> Box<[Local]> {
    let endpoints = plan.upstreams.iter().flat_map(|plan| &plan.endpoints);
    let served = endpoints.filter_map(|endpoint| cgroup(endpoint.place));
    let mut all: BTreeMap<CgroupId, bool> = served.map(|cgroup| (cgroup, false)).collect();
    all.extend(
        plan.workloads
            .iter()
            .map(|plan| (plan.cgroup, plan.is_entry)),
    );
    let local = |(cgroup, is_entry)| {
        let old = before.and_then(|tables| Some(&tables.workloads[tables.local(cgroup)?]));
        let workload = match old {
            Some(old) => old.workload.clone(),
            None => Arc::new(Workload::new(cgroup)),
        };
        Local { workload, is_entry }
    };
    all.into_iter().map(local).collect()
}

fn entries(plan: &NodePlan, before: Option<&Tables>, workers: usize) -> Box<[Arc<Entry>]> {
    let old = before.map(|tables| tables.entries.iter());
    let old: BTreeMap<&str, &Arc<Entry>> = old
        .into_iter()
        .flatten()
        .map(|entry| (entry.name(), entry))
        .collect();
    let entry = |name: &str| match old.get(name) {
        Some(entry) => Arc::clone(entry),
        None => Arc::new(Entry::new(name.into(), workers)),
    };
    plan.routes.iter().map(|plan| entry(&plan.name)).collect()
}

fn upstream(
    plan: &UpstreamPlan,
    old: Option<&Upstream>,
    workloads: &[Local],
    workers: usize,
) -> Upstream {
    let shared = match old {
        Some(old) => old.shared.clone(),
        None => Arc::new(Shared::new(plan.backend.clone(), workers)),
    };
    let is_new =
        old.is_none_or(|old| old.policy.requests_per_endpoint != plan.policy.requests_per_endpoint);
    if is_new {
        shared.apply(Controller::of_upstream(&plan.policy).resting());
    }
    let budget = old
        .filter(|old| old.policy.retry_budget == plan.policy.retry_budget)
        .map_or_else(|| Arc::new(Budget::default()), |old| old.budget.clone());
    let endpoints = endpoints(&plan.endpoints, old, workloads);
    Upstream {
        shared,
        rule: plan.policy.retry.as_ref().map(RetryRule::from),
        gate: EndpointGate::new(endpoints, plan.policy.ejection),
        policy: plan.policy.clone(),
        budget,
    }
}

/// The endpoints of an upstream. One that is gone stays without
/// weight while requests are in flight into it, which count should it come back.
fn endpoints(plans: &[EndpointPlan], old: Option<&Upstream>, workloads: &[Local]) -> Vec<Endpoint> {
    let old = old.map(|upstream| upstream.gate.endpoints().iter());
    let mut old: BTreeMap<_, _> = old
        .into_iter()
        .flatten()
        .map(|endpoint| ((endpoint.place, endpoint.port), endpoint.state.clone()))
        .collect();
    let workload = |place| {
        let cgroup = cgroup(place)?;
        workloads
            .binary_search_by_key(&cgroup, |local| local.workload.cgroup())
            .ok()
    };
    let endpoint = |((place, port), weight, state)| Endpoint {
        place,
        port,
        weight,
        workload: workload(place),
        state,
    };
    let mut seen = BTreeSet::new();
    let mut all: Vec<Endpoint> = plans
        .iter()
        .map(|plan| ((plan.place, plan.port), plan.weight))
        .filter(|(key, _)| seen.insert(*key))
        .map(|(key, weight)| endpoint((key, weight, old.remove(&key).unwrap_or_default())))
        .collect();
    old.retain(|_, state| state.in_flight.0.get() > 0);
    all.extend(
        old.into_iter()
            .map(|(key, state)| endpoint((key, 0, state))),
    );
    all
}

const fn cgroup(place: Place) -> Option<CgroupId> {
    match place {
        Place::Local(cgroup) => Some(cgroup),
        Place::Outside(_) => None,
    }
}
