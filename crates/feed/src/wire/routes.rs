//! The twins of routes and of what is said about requests. Times are in nanoseconds.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Name, gateways};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HttpRoute {
    #[prost(message, required, tag = "1")]
    pub(crate) name: Name,
    #[prost(message, repeated, tag = "2")]
    pub(crate) parents: Vec<RouteParent>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) rules: Vec<HttpRule>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) gateways: Vec<gateways::Parent>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) hostnames: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TcpRoute {
    #[prost(message, required, tag = "1")]
    pub(crate) name: Name,
    #[prost(message, repeated, tag = "2")]
    pub(crate) parents: Vec<RouteParent>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) backends: Vec<WeightedBackend>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RouteParent {
    #[prost(message, required, tag = "1")]
    pub(crate) service: Name,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) port: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WeightedBackend {
    #[prost(message, required, tag = "1")]
    pub(crate) service: Name,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) weight: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HttpRule {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) matches: Vec<HttpMatch>,
    #[prost(message, required, tag = "3")]
    pub(crate) request: FieldChanges,
    #[prost(message, required, tag = "4")]
    pub(crate) response: FieldChanges,
    #[prost(oneof = "HttpAction", tags = "5, 6")]
    pub(crate) action: Option<HttpAction>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) backends: Vec<WeightedBackend>,
    #[prost(uint64, optional, tag = "8")]
    pub(crate) request_timeout_ns: Option<u64>,
    #[prost(uint64, optional, tag = "9")]
    pub(crate) backend_request_timeout_ns: Option<u64>,
    #[prost(message, optional, tag = "10")]
    pub(crate) retry: Option<RetryPolicy>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum HttpAction {
    #[prost(message, tag = "5")]
    Redirect(Redirect),
    #[prost(message, tag = "6")]
    Rewrite(Rewrite),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HttpMatch {
    #[prost(oneof = "PathMatch", tags = "1, 2, 3")]
    pub(crate) path: Option<PathMatch>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) headers: Vec<ValueMatch>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) query: Vec<ValueMatch>,
    #[prost(string, optional, tag = "6")]
    pub(crate) method: Option<String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum PathMatch {
    #[prost(string, tag = "1")]
    Exact(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    Regex(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValueMatch {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(oneof = "TextMatch", tags = "2, 3")]
    pub(crate) value: Option<TextMatch>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum TextMatch {
    #[prost(string, tag = "2")]
    Exact(String),
    #[prost(string, tag = "3")]
    Regex(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FieldChanges {
    #[prost(message, repeated, tag = "1")]
    pub(crate) set: Vec<Field>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) add: Vec<Field>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) remove: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Field {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Redirect {
    #[prost(string, optional, tag = "1")]
    pub(crate) scheme: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) host: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub(crate) path: Option<PathChange>,
    #[prost(uint32, optional, tag = "4")]
    pub(crate) port: Option<u32>,
    #[prost(uint32, tag = "5")]
    pub(crate) status: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Rewrite {
    #[prost(string, optional, tag = "1")]
    pub(crate) host: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(crate) path: Option<PathChange>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PathChange {
    #[prost(oneof = "NewPath", tags = "1, 2")]
    pub(crate) path: Option<NewPath>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum NewPath {
    #[prost(string, tag = "1")]
    Full(String),
    #[prost(string, tag = "2")]
    Prefix(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RequestPolicy {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) request_timeout_ns: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) attempt_timeout_ns: Option<u64>,
    #[prost(message, optional, tag = "3")]
    pub(crate) retry: Option<RetryPolicy>,
    #[prost(message, optional, tag = "4")]
    pub(crate) retry_budget: Option<RetryBudget>,
    /// 0 is no limit.
    #[prost(uint32, tag = "5")]
    pub(crate) requests_per_endpoint: u32,
    #[prost(message, optional, tag = "6")]
    pub(crate) ejection: Option<Ejection>,
    #[prost(message, optional, tag = "7")]
    pub(crate) objective: Option<Objective>,
    #[prost(message, optional, tag = "8")]
    pub(crate) share: Option<Objective>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) caller_weights: Vec<CallerWeight>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CallerWeight {
    #[prost(message, required, tag = "1")]
    pub(crate) caller: super::Name,
    #[prost(uint32, tag = "2")]
    pub(crate) weight: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Objective {
    #[prost(uint64, tag = "1")]
    pub(crate) latency_ns: u64,
    #[prost(enumeration = "PilotMode", tag = "2")]
    pub(crate) mode: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub(crate) enum PilotMode {
    Off = 0,
    Observe = 1,
    Guard = 2,
    Drive = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RetryPolicy {
    #[prost(uint32, tag = "1")]
    pub(crate) attempts: u32,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) statuses: Vec<u32>,
    #[prost(uint64, tag = "3")]
    pub(crate) least_wait_ns: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) base_wait_ns: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) most_wait_ns: u64,
    #[prost(bool, tag = "6")]
    pub(crate) non_idempotent: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RetryBudget {
    #[prost(uint32, tag = "1")]
    pub(crate) percent: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) per_second: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ejection {
    #[prost(uint32, tag = "1")]
    pub(crate) consecutive_failures: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) duration_ns: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) most_percent: u32,
}
