//! What a node is made of: plain data out of a configuration.

use alloc::string::String;
use alloc::vec::Vec;

use selvedge_model::{Backend, CgroupId, Place, Port, RequestPolicy, ServiceName};

use crate::balance::BalanceLaw;
use crate::limit::LimitLaw;
use crate::retry::RetryLaw;

/// Everything that requests of one configuration meet. Keys are unique among their siblings: what has
/// the same key in the next configuration goes on with its counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePlan {
    /// Where requests go, by [`selvedge_model::BackendIndex`].
    pub upstreams: Vec<UpstreamPlan>,
    /// What led them there, by [`selvedge_model::RouteIndex`].
    pub routes: Vec<RoutePlan>,
    /// Who makes and serves them on this node. A workload that is an endpoint need not be listed.
    pub workloads: Vec<WorkloadPlan>,
}

/// A port of a service, as requests to it meet it.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamPlan {
    /// Which; its key.
    pub backend: Backend,
    /// What is said about requests to it.
    pub policy: RequestPolicy,
    /// How the limit of each endpoint is set.
    pub law: LimitLaw,
    /// Which endpoint a request goes to.
    pub balance: BalanceLaw,
    /// What retries cost.
    pub retries: RetryLaw,
    /// Whether a request that may be sent twice is sent to a second endpoint where the first is late.
    pub hedges: bool,
    /// Whether what the laws decide is done, and not only told.
    pub is_applied: bool,
    /// Workloads whose shares, where callers have shares, are so many times another's.
    pub caller_weights: Vec<(CgroupId, u16)>,
    /// Who answers.
    pub endpoints: Vec<EndpointPlan>,
}

/// One place where an upstream answers; place and port are its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointPlan {
    /// Where it is.
    pub place: Place,
    /// The port of it.
    pub port: Port,
    /// Share of requests relative to its siblings; 0 takes none.
    pub weight: u16,
}

/// What leads requests somewhere: a rule of a route, or what holds for a service without one.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePlan {
    /// What it is called; with the service, its key.
    pub name: String,
    /// The service whose objective its law holds. Without one no law moves its limit.
    pub service: Option<ServiceName>,
    /// How the limit at its entry is set.
    pub law: LimitLaw,
    /// Whether what the law decides is done, and not only told.
    pub is_applied: bool,
}

/// A workload of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadPlan {
    /// Which; its key.
    pub cgroup: CgroupId,
    /// Whether it serves nothing that goes through the proxy, so that what it sends is at its entry.
    pub is_entry: bool,
}
