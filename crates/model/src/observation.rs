//! What is seen of the running mesh: counters of edges, liveness of endpoints, state of the kernel
//! path.
//!
//! Plain data, made by `node` and read by `control-plane` (`status`, `graph`, metrics), which never
//! name each other. Nothing here is configuration, nothing is stored. Counters only grow for as long
//! as the kernel's maps live, over restarts of the agent too; a service is named by its virtual
//! address, which is its identity in those maps.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

use crate::{CgroupId, Generation, Histogram, Port, Protocol, Reason};

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The calling service; `None` for callers outside the mesh (a published port).
    pub source: Option<Ipv4Addr>,
    /// The called service; `None` for virtual addresses that are no service's, all of them together.
    pub destination: Option<Ipv4Addr>,
}

/// What happened on one edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeCounters {
    /// TCP connections and connected or addressed UDP flows that were led to an endpoint or to the
    /// proxy.
    pub connections: u64,
    /// Those of them that could not be established (refused or reset by the endpoint, timed out).
    pub failures: u64,
    /// Those of them that went to an endpoint although the service needs the proxy, which was away.
    pub bypassed: u64,
    /// Refusals by the mesh itself, by reason; none of these is in `connections`.
    pub refused: BTreeMap<Reason, u64>,
    /// What is counted only where the service asks for it.
    pub detail: Option<EdgeDetail>,
}

impl EdgeCounters {
    /// Refusals for whatever reason.
    pub fn refused_total(&self) -> u64 {
        self.refused
            .values()
            .fold(0, |total, count| total.saturating_add(*count))
    }
}

/// Counters that need a kernel callback per state change of each connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeDetail {
    /// Bytes of payload from caller to endpoint, counted when a connection closes.
    pub bytes_sent: u64,
    /// Bytes of payload from endpoint to caller, counted when a connection closes.
    pub bytes_received: u64,
    /// Connections open at this moment.
    pub open: u64,
    /// Time from the first SYN to established, in microseconds.
    pub connect_time_us: Histogram,
}

/// A port that a workload is seen to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Whose it is.
    pub cgroup: CgroupId,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port the program asked for and sees.
    pub port: Port,
    /// The port it really has: another one where a replica already held `port`.
    pub bound: Port,
}

/// One feature of the kernel path: one object file, refused or loaded as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureStatus {
    /// Its public name, as `connect4` or `published-ports`.
    pub name: String,
    /// Whether it works.
    pub state: FeatureState,
}

/// Whether a feature of the kernel path works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureState {
    /// Loaded and attached.
    Active,
    /// Works in part.
    Degraded {
        /// What is missing, why, and what that means for programs.
        reason: String,
    },
    /// Does not work.
    Missing {
        /// What is missing, why, and what that means for programs.
        reason: String,
    },
}

impl fmt::Display for FeatureState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("active"),
            Self::Degraded { reason } => write!(f, "degraded: {reason}"),
            Self::Missing { reason } => write!(f, "missing: {reason}"),
        }
    }
}

/// How full one kernel map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapUsage {
    /// The map's name.
    pub name: String,
    /// Entries in it; `None` for kinds that cannot be counted, or are always full.
    pub entries: Option<u64>,
    /// Entries it has room for.
    pub capacity: u64,
    /// Memory the kernel says it takes, in bytes.
    pub bytes: u64,
    /// Insertions that found it full; what was to be inserted was served without it.
    pub full: u64,
}

/// A difference between what the configuration says and what the kernel's maps hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The map and the key, in words.
    pub place: String,
    /// What is there and what should be.
    pub difference: String,
}

/// The kernel path as found at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelStatus {
    /// How long ago this was read.
    pub age: Duration,
    /// The generation the maps hold, where one was written completely.
    pub generation: Option<Generation>,
    /// Every feature, loaded or not.
    pub features: Vec<FeatureStatus>,
    /// Every map with a bound.
    pub maps: Vec<MapUsage>,
    /// At most 64 differences between intent and maps.
    pub drift: Vec<Drift>,
}

/// What the kernel path counted, as found at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// How long ago this was read.
    pub age: Duration,
    /// Counters by edge.
    pub edges: BTreeMap<Edge, EdgeCounters>,
    /// Refusals that belong to no edge, by reason: no such service, ports exhausted and the like.
    pub refused: BTreeMap<Reason, u64>,
    /// Connections of the proxy to endpoints that were refused, each try of each request, by reason. What
    /// became of the request is the proxy's to say.
    pub upstream_refused: BTreeMap<Reason, u64>,
    /// Ports that workloads listen on.
    pub listening: Vec<Listening>,
}

/// Connections that go straight to endpoints though the port they were made to goes through the proxy:
/// they are from before, or from while that was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The service's virtual address.
    pub service: Ipv4Addr,
    /// Its port.
    pub port: Port,
    /// How many there are.
    pub count: u64,
    /// The age of the oldest.
    pub oldest: Duration,
}
