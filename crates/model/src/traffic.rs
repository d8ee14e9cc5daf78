//! What the proxy has seen of requests and connections since it started.
//!
//! Plain data, made by `proxy` and read by `control-plane` (`status`, `graph`, metrics), which never
//! name each other; `feed` carries it. Unlike what the kernel counts it begins anew with each proxy.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::{Backend, Histogram, Place, Port, Reason, ServiceName, Withheld};

/// Everything, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How requests and connections ended, by their path.
    pub paths: BTreeMap<TrafficPath, BTreeMap<TrafficEnd, u64>>,
    /// From the first byte of a request to the last of its response, in microseconds: of those that
    /// an endpoint answered whole.
    pub latency_us: BTreeMap<TrafficRoute, Histogram>,
    /// What was seen of backends.
    pub backends: BTreeMap<Backend, BackendReading>,
}

impl Traffic {
    /// Most paths, routes of edges and backends, each.
    pub const MAX_ENTRIES: usize = 16 << 10;
    /// Most endpoints of a backend.
    pub const MAX_ENDPOINTS: usize = 1024;
}

/// Who calls whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrafficEdge {
    /// The calling service; `None` is whoever is no workload that the proxy knows.
    pub source: Option<ServiceName>,
    /// The called service; `None` where it is gone.
    pub destination: Option<ServiceName>,
}

/// Which rule leads requests of whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrafficRoute {
    /// Who calls whom.
    pub edge: TrafficEdge,
    /// The name of the rule, as [`crate::Rule::name`]; `None` is every rule that there was no room for.
    pub route: Option<String>,
}

/// Where requests or connections come from and go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrafficPath {
    /// Who calls whom.
    pub edge: TrafficEdge,
    /// What is counted.
    pub unit: TrafficUnit,
    /// The name of the rule that led them, as [`crate::Rule::name`]; `None` where they came to none.
    pub route: Option<String>,
    /// The backend that was drawn; `None` where they came to none.
    pub backend: Option<Backend>,
}

impl TrafficPath {
    /// Longest name of a route in bytes; what is longer is cut.
    pub const MAX_ROUTE_BYTES: usize = 512;
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficUnit {
    /// Requests of HTTP.
    Request,
    /// Connections in which no request is seen.
    Connection,
}

/// How a request or a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficEnd {
    /// The first figure of the status that the client got, 1 to 5; 0 where it got none.
    pub class: u8,
    /// Why it came to nothing or not to its end, where it did.
    pub reason: Option<Reason>,
}

impl TrafficEnd {
    /// How many classes there are.
    pub const CLASSES: usize = 6;

    /// What belongs to a status; 0 is none.
    pub const fn new(status: u16, reason: Option<Reason>) -> Self {
        let class = match status / 100 {
            class @ 0..=5 => class as u8,
            _ => 5,
        };
        Self { class, reason }
    }
}

/// A backend as requests meet it, of all callers together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendReading {
    /// Most requests in flight into one endpoint; `None` is no limit.
    pub limit: Option<u32>,
    /// First attempts at requests.
    pub requests: u64,
    /// Attempts made again by a retry policy.
    pub retries: u64,
    /// Attempts made again at once at another endpoint, since the one before had come to nothing.
    pub moves: u64,
    /// Retries and moves that an endpoint answered with less than 500.
    pub repeats_succeeded: u64,
    /// Attempts made beside late ones.
    pub hedges: u64,
    /// Those of them that an endpoint answered first, and with less than 500.
    pub hedges_won: u64,
    /// Retries that were wanted and not made; what was never counted may be left out.
    pub withheld: BTreeMap<Withheld, u64>,
    /// Attempts that came to no whole response, by what they came to.
    pub failed: BTreeMap<Reason, u64>,
    /// From the start of an attempt to the last byte of its response, in microseconds.
    pub latency_us: Histogram,
    /// Its endpoints.
    pub endpoints: Vec<EndpointTraffic>,
}

/// An endpoint of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointTraffic {
    /// Where it is.
    pub place: Place,
    /// Its port.
    pub port: Port,
    /// Requests in flight into it.
    pub in_flight: u32,
    /// Whether it is ejected at this moment, or tried again.
    pub is_ejected: bool,
    /// How often it was.
    pub ejections: u64,
    /// How it answers, where requests go by that and something is known of it.
    pub pace: Option<EndpointPace>,
}

/// How an endpoint answers of late, as requests are led by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointPace {
    /// Mean time to the head of a good answer in microseconds.
    pub mean_us: u32,
    /// Good answers of a thousand.
    pub good_per_mille: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_its_class() {
        let classes = [0, 101, 204, 304, 404, 503, 999].map(|it| TrafficEnd::new(it, None).class);
        assert_eq!(classes, [0, 1, 2, 3, 4, 5, 5]);
    }
}
