//! What metrics and `status` show of a node: plain data.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use selvedge_model::{Backend, CgroupId, EndpointPace, Instant, Place, Port};

use crate::eject::Circuit;
use crate::entry::Entry;
use crate::gate::Endpoint;
use crate::limiter::said;
use crate::node::Node;
use crate::slots;
use crate::tables::{Local, Tables};
use crate::upstream::Upstream;
use crate::window::Totals;

/// A node at one moment, as far as there is one while requests go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReading {
    /// In the order of the plan.
    pub upstreams: Vec<UpstreamReading>,
    /// In the order of the plan.
    pub routes: Vec<RouteReading>,
    /// By cgroup.
    pub workloads: Vec<WorkloadReading>,
    /// Slots in use of the table that joins requests into workloads with the calls made for them.
    pub trace_slots_used: usize,
    /// Slots that it has.
    pub trace_slots: usize,
    /// Requests into workloads that found no room in it, since the beginning: what their workloads work
    /// on themselves is estimated.
    pub unjoined_requests: u64,
    /// Requests of clients that are under way where what is made for them is to know of it.
    pub trees_used: usize,
    /// Most of them.
    pub trees: usize,
    /// Those that found no room among them, since the beginning: what is made for them is on its own.
    pub lone_requests: u64,
    /// Requests whose service had too many callers to give theirs a share, since the beginning.
    pub unshared_requests: u64,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamReading {
    /// Which.
    pub backend: Backend,
    /// Most requests in flight into one endpoint, the highest where that differs; `None` is no limit.
    pub limit: Option<u32>,
    /// Requests in flight of callers that are told apart.
    pub in_flight_of_callers: u32,
    /// What was counted.
    pub totals: Totals,
    /// Its endpoints, those that take no requests last.
    pub endpoints: Vec<EndpointReading>,
}

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointReading {
    /// Where it is.
    pub place: Place,
    /// The port of it.
    pub port: Port,
    /// Its share.
    pub weight: u16,
    /// Requests in flight into it.
    pub in_flight: u32,
    /// Those of them without the head of an answer.
    pub unanswered: u32,
    /// Most of them that may be, as they are counted by its law; `None` is no limit.
    pub limit: Option<u32>,
    /// Whether it is ejected.
    pub circuit: Circuit,
    /// How often it was ejected; a probe that failed counts once more.
    pub ejections: u64,
    /// How it answers, where requests go by that and something is known of it.
    pub pace: Option<EndpointPace>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReading {
    /// Its name in the plan.
    pub name: String,
    /// Requests in flight that are at their entry here.
    pub in_flight: u32,
    /// Most of them; `None` is no limit.
    pub limit: Option<u32>,
    /// What was counted, of all its requests.
    pub totals: Totals,
}

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadReading {
    /// Which.
    pub cgroup: CgroupId,
    /// Requests in flight into it, through whichever upstream.
    pub in_flight: u32,
    /// Those of them that have a call outstanding, joined by trace.
    pub waiting: u32,
    /// Calls outstanding that were joined with no request.
    pub unjoined_calls: u32,
}

impl WorkloadReading {
    /// Requests that it has to work on itself: those in flight less those that wait. Each call that
    /// could not be joined is taken for the only one of a request that waits.
    pub fn own(&self) -> u32 {
        self.in_flight
            .saturating_sub(self.waiting)
            .saturating_sub(self.unjoined_calls)
    }
}

impl Node {
    /// See [`NodeReading::unjoined_requests`].
    pub fn unjoined_requests(&self) -> u64 {
        self.tables.traces.0.full()
    }

    /// See [`NodeReading::lone_requests`].
    pub fn lone_requests(&self) -> u64 {
        self.tables.trees.0.full()
    }

    /// See [`NodeReading::unshared_requests`].
    pub fn unshared_requests(&self) -> u64 {
        self.tables.unshared.load(Relaxed)
    }

    /// What there is to see now.
    pub fn reading(&self, now: Instant) -> NodeReading {
        let tables = &*self.tables;
        NodeReading {
            upstreams: tables
                .upstreams
                .iter()
                .map(|it| upstream(now, it))
                .collect(),
            routes: tables.entries.iter().map(route).collect(),
            workloads: workloads(tables),
            trace_slots_used: tables.traces.0.used(),
            trace_slots: slots::CAPACITY,
            unjoined_requests: self.unjoined_requests(),
            trees_used: tables.trees.0.used(),
            trees: slots::CAPACITY,
            lone_requests: self.lone_requests(),
            unshared_requests: self.unshared_requests(),
        }
    }
}

fn upstream(now: Instant, upstream: &Upstream) -> UpstreamReading {
    let endpoint = |endpoint: &Endpoint| EndpointReading {
        place: endpoint.place,
        port: endpoint.port,
        weight: endpoint.weight,
        in_flight: endpoint.in_flight(),
        unanswered: endpoint.state.traffic.0.unanswered.get(),
        limit: said(endpoint.limiter.limit()),
        circuit: endpoint.state.breaker.0.circuit(now),
        ejections: endpoint.state.breaker.0.ejections(),
        pace: upstream.gate.pace_of(now, endpoint),
    };
    UpstreamReading {
        backend: upstream.shared.backend.clone(),
        limit: said(upstream.gate.highest_limit()),
        in_flight_of_callers: upstream.callers.as_ref().map_or(0, |it| it.all_in_flight()),
        totals: upstream.shared.totals(),
        endpoints: upstream.gate.endpoints().iter().map(endpoint).collect(),
    }
}

fn route(entry: &Entry) -> RouteReading {
    RouteReading {
        name: entry.name().to_string(),
        in_flight: entry.in_flight(),
        limit: said(entry.limiter().limit()),
        totals: entry.totals(),
    }
}

fn workloads(tables: &Tables) -> Vec<WorkloadReading> {
    let reading = |local: &Local| WorkloadReading {
        cgroup: local.workload.cgroup(),
        in_flight: 0,
        waiting: local.workload.waiting(),
        unjoined_calls: local.workload.stray(),
    };
    let mut readings: Vec<_> = tables.workloads.iter().map(reading).collect();
    let endpoints = tables.upstreams.iter().flat_map(|it| it.gate.endpoints());
    for endpoint in endpoints {
        let cgroup = endpoint.workload.as_ref().map(|it| it.cgroup());
        if let Some(index) = cgroup.and_then(|cgroup| tables.local(cgroup)) {
            let in_flight = &mut readings[index].in_flight;
            *in_flight = in_flight.saturating_add(endpoint.in_flight());
        }
    }
    readings
}
