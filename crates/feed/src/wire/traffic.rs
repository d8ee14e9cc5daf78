//! The protobuf twins of what the proxy has seen of requests.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Name, Place};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrafficPart {
    #[prost(message, repeated, tag = "1")]
    pub(crate) paths: Vec<TrafficPath>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) latencies: Vec<RouteLatency>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) backends: Vec<BackendReading>,
    /// Whether this is the last part.
    #[prost(bool, tag = "4")]
    pub(crate) last: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrafficEdge {
    #[prost(message, optional, tag = "1")]
    pub(crate) source: Option<Name>,
    #[prost(message, optional, tag = "2")]
    pub(crate) destination: Option<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Backend {
    #[prost(message, required, tag = "1")]
    pub(crate) service: Name,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrafficPath {
    #[prost(message, required, tag = "1")]
    pub(crate) edge: TrafficEdge,
    /// Whether whole connections are counted, and not requests.
    #[prost(bool, tag = "2")]
    pub(crate) connections: bool,
    #[prost(string, optional, tag = "3")]
    pub(crate) route: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub(crate) backend: Option<Backend>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) ends: Vec<TrafficEnd>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrafficEnd {
    #[prost(uint32, tag = "1")]
    pub(crate) class: u32,
    /// The number of a reason; 0 is none.
    #[prost(uint32, tag = "2")]
    pub(crate) reason: u32,
    #[prost(uint64, tag = "3")]
    pub(crate) count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RouteLatency {
    #[prost(message, required, tag = "1")]
    pub(crate) edge: TrafficEdge,
    #[prost(message, required, tag = "2")]
    pub(crate) latency_us: Histogram,
    #[prost(string, optional, tag = "3")]
    pub(crate) route: Option<String>,
}

/// Counts of the buckets from the first to the last that is not empty.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Histogram {
    #[prost(uint32, tag = "1")]
    pub(crate) first: u32,
    #[prost(uint64, repeated, tag = "2")]
    pub(crate) counts: Vec<u64>,
    #[prost(uint64, tag = "3")]
    pub(crate) sum: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BackendReading {
    #[prost(message, required, tag = "1")]
    pub(crate) backend: Backend,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) limit: Option<u32>,
    #[prost(uint64, tag = "3")]
    pub(crate) requests: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) retries: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) moves: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) repeats_succeeded: u64,
    /// In the order of `Withheld::ALL`.
    #[prost(uint64, repeated, tag = "7")]
    pub(crate) withheld: Vec<u64>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) failed: Vec<TrafficEnd>,
    #[prost(message, required, tag = "9")]
    pub(crate) latency_us: Histogram,
    #[prost(message, repeated, tag = "10")]
    pub(crate) endpoints: Vec<EndpointTraffic>,
    #[prost(uint64, tag = "11")]
    pub(crate) hedges: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) hedges_won: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EndpointTraffic {
    #[prost(oneof = "Place", tags = "1, 2")]
    pub(crate) place: Option<Place>,
    #[prost(uint32, tag = "3")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) in_flight: u32,
    #[prost(bool, tag = "5")]
    pub(crate) ejected: bool,
    #[prost(uint64, tag = "6")]
    pub(crate) ejections: u64,
    #[prost(message, optional, tag = "7")]
    pub(crate) pace: Option<EndpointPace>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct EndpointPace {
    #[prost(uint32, tag = "1")]
    pub(crate) mean_us: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) good_per_mille: u32,
}
