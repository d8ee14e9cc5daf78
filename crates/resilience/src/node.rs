//! A node: all upstreams, routes and workloads of one configuration.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use selvedge_model::{Backend, CgroupId, Instant, Place};

use crate::admission::{Admission, Call};
use crate::budget::Budget;
use crate::callers::Callers;
use crate::entry::Entry;
use crate::gate::{Endpoint, EndpointGate, EndpointState};
use crate::limiter::Limiter;
use crate::plan::{NodePlan, RoutePlan, UpstreamPlan};
use crate::rejection::Rejection;
use crate::retry::RetryRule;
use crate::seat::Seat;
use crate::tables::{Lane, Local, Tables};
use crate::trace::TraceTable;
use crate::tree::TreeTable;
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
    let mut upstreams: Vec<Upstream> = plan.upstreams.iter().map(upstream).collect();
    introduce_siblings(&mut upstreams);
    Tables {
        upstreams: upstreams.into_boxed_slice(),
        entries,
        workloads,
        traces: before.map_or_else(|| Arc::new(TraceTable::new()), |old| old.traces.clone()),
        unshared: before.map_or_else(Arc::default, |old| old.unshared.clone()),
        trees: before.map_or_else(|| Arc::new(TreeTable::new()), |old| old.trees.clone()),
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

fn entries(plan: &NodePlan, before: Option<&Tables>, workers: usize) -> Box<[Entry]> {
    let old = before.map(|tables| tables.entries.iter());
    // A route may be several services', and is another for each.
    let old: BTreeMap<_, &Entry> = old
        .into_iter()
        .flatten()
        .map(|entry| ((entry.name(), entry.service()), entry))
        .collect();
    let entry = |plan: &RoutePlan| {
        let key = (&*plan.name, plan.service.as_ref());
        let old = old.get(&key).copied();
        Entry::new(plan, old, workers)
    };
    plan.routes.iter().map(entry).collect()
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
    let budget = old
        .filter(|old| old.policy.retry_budget == plan.policy.retry_budget)
        .map_or_else(|| Arc::new(Budget::default()), |old| old.budget.clone());
    let endpoints = endpoints(plan, old, workloads, workers);
    Upstream {
        shared,
        rule: plan.policy.retry.as_ref().map(RetryRule::from),
        callers: plan.law.shares_places(plan.is_applied).then(|| {
            let callers = old.and_then(|old| old.callers.clone());
            let callers = callers.unwrap_or_else(|| Arc::new(Callers::new(workers)));
            callers.weigh(&plan.caller_weights);
            callers
        }),
        gate: EndpointGate::new(endpoints, plan.balance, plan.policy.ejection),
        policy: plan.policy.clone(),
        retries: plan.retries,
        budget,
        headroom: old.map_or_else(Arc::default, |old| old.headroom.clone()),
        throttle: old.map_or_else(Arc::default, |old| old.throttle.clone()),
        caller_weights: plan.caller_weights.clone().into_boxed_slice(),
        hedges: plan.hedges,
        hedging: old.map_or_else(Arc::default, |old| old.hedging.clone()),
    }
}

/// The endpoints of an upstream. One that is gone stays without
/// weight while requests are in flight into it, which count should it come back.
fn endpoints(
    plan: &UpstreamPlan,
    old: Option<&Upstream>,
    workloads: &[Local],
    workers: usize,
) -> Vec<Endpoint> {
    let old = old.map(|upstream| upstream.gate.endpoints().iter());
    let mut old: BTreeMap<_, _> = old
        .into_iter()
        .flatten()
        .map(|endpoint| ((endpoint.place, endpoint.port), endpoint))
        .collect();
    let workload = |place| {
        let cgroup = cgroup(place)?;
        let place = workloads.binary_search_by_key(&cgroup, |local| local.workload.cgroup());
        Some(workloads[place.ok()?].workload.clone())
    };
    let fixed = plan.policy.requests_per_endpoint;
    let fixed = fixed.map_or(u32::MAX, |limit| limit.get());
    let limiter = || Arc::new(Limiter::new(plan.law, plan.is_applied, fixed, workers));
    let endpoint = |(place, port), weight, old: Option<&Endpoint>| Endpoint {
        place,
        port,
        weight,
        workload: workload(place),
        siblings: Box::default(),
        state: old.map(|old| old.state.clone()).unwrap_or_default(),
        limiter: old
            .filter(|old| old.limiter.becomes(plan.law, plan.is_applied, fixed))
            .map_or_else(limiter, |old| old.limiter.clone()),
    };
    let mut seen = BTreeSet::new();
    let mut all: Vec<Endpoint> = plan
        .endpoints
        .iter()
        .map(|plan| ((plan.place, plan.port), plan.weight))
        .filter(|(key, _)| seen.insert(*key))
        .map(|(key, weight)| endpoint(key, weight, old.remove(&key)))
        .collect();
    old.retain(|_, endpoint| endpoint.in_flight() > 0);
    let gone = old.into_iter();
    all.extend(gone.map(|(key, old)| endpoint(key, 0, Some(old))));
    all
}

/// Has all endpoints of a workload that is more than one know of each other.
fn introduce_siblings(upstreams: &mut [Upstream]) {
    let mut states: BTreeMap<CgroupId, Vec<Arc<EndpointState>>> = BTreeMap::new();
    let endpoints = upstreams.iter().flat_map(|it| it.gate.endpoints());
    for endpoint in endpoints {
        if let Some(workload) = &endpoint.workload {
            let of_it = states.entry(workload.cgroup()).or_default();
            of_it.push(endpoint.state.clone());
        }
    }
    let endpoints = upstreams.iter_mut().flat_map(|it| it.gate.endpoints_mut());
    for endpoint in endpoints {
        let cgroup = endpoint.workload.as_ref().map(|workload| workload.cgroup());
        let of_it = cgroup.and_then(|cgroup| states.get(&cgroup));
        if let Some(of_it) = of_it.filter(|of_it| of_it.len() > 1) {
            endpoint.siblings = of_it.clone().into_boxed_slice();
        }
    }
}

const fn cgroup(place: Place) -> Option<CgroupId> {
    match place {
        Place::Local(cgroup) => Some(cgroup),
        Place::Outside(_) => None,
    }
}
