//! The protobuf twins of what travels. Tags are never reused; what cannot be wrong is elsewhere:
//! `convert` makes model types of these, `message` closed ones.

pub(crate) mod gateways;
pub(crate) mod journal;
pub(crate) mod routes;
pub(crate) mod traffic;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ToProxy {
    #[prost(oneof = "ToProxyBody", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub(crate) body: Option<ToProxyBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ToProxyBody {
    #[prost(message, boxed, tag = "1")]
    Update(Box<Update>),
    #[prost(fixed64, tag = "2")]
    Probe(u64),
    #[prost(message, tag = "3")]
    Metrics(MetricsPart),
    #[prost(message, tag = "4")]
    TrafficRequest(TrafficRequest),
    #[prost(message, tag = "5")]
    AccessLog(AccessLog),
    #[prost(message, tag = "6")]
    JournalRequest(journal::JournalRequest),
    #[prost(message, tag = "7")]
    Hold(journal::Holds),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AccessLog {
    /// One of so many; 0 is none at all, and then there is no descriptor.
    #[prost(uint32, tag = "1")]
    pub(crate) one_of: u32,
    #[prost(bool, tag = "2")]
    pub(crate) query: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TrafficRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetricsPart {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) text: Vec<u8>,
    #[prost(bool, tag = "2")]
    pub(crate) last: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Update {
    /// The generation this changes; absent: it is everything.
    #[prost(uint64, optional, tag = "1")]
    pub(crate) base: Option<u64>,
    #[prost(uint64, tag = "2")]
    pub(crate) generation: u64,
    /// Whether this is the last part.
    #[prost(bool, tag = "3")]
    pub(crate) last: bool,
    #[prost(fixed32, tag = "4")]
    pub(crate) range_address: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) range_prefix: u32,
    #[prost(message, optional, tag = "6")]
    pub(crate) settings: Option<Settings>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) services: Vec<Service>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) workloads: Vec<Workload>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) removed_services: Vec<Name>,
    #[prost(uint64, repeated, tag = "10")]
    pub(crate) removed_workloads: Vec<u64>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) http_routes: Vec<routes::HttpRoute>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) tcp_routes: Vec<routes::TcpRoute>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) removed_http_routes: Vec<Name>,
    #[prost(message, repeated, tag = "14")]
    pub(crate) removed_tcp_routes: Vec<Name>,
    #[prost(message, repeated, tag = "15")]
    pub(crate) gateways: Vec<gateways::Gateway>,
    #[prost(message, repeated, tag = "16")]
    pub(crate) removed_gateways: Vec<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Settings {
    #[prost(string, tag = "1")]
    pub(crate) cluster_domain: String,
    #[prost(uint32, tag = "2")]
    pub(crate) ttl_s: u32,
    #[prost(bool, tag = "3")]
    pub(crate) ipv6_no_data: bool,
    #[prost(uint32, tag = "4")]
    pub(crate) max_in_flight: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) forward_timeout_ms: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Name {
    #[prost(string, tag = "1")]
    pub(crate) namespace: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Service {
    #[prost(message, required, tag = "1")]
    pub(crate) name: Name,
    #[prost(fixed32, tag = "2")]
    pub(crate) address: u32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) ports: Vec<ServicePort>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) published: Vec<Published>,
    #[prost(uint32, optional, tag = "5")]
    pub(crate) connection_limit: Option<u32>,
    #[prost(bool, tag = "6")]
    pub(crate) detailed_counters: bool,
    #[prost(uint32, repeated, tag = "7")]
    pub(crate) published_udp: Vec<u32>,
    #[prost(message, optional, tag = "8")]
    pub(crate) requests: Option<routes::RequestPolicy>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ServicePort {
    #[prost(string, optional, tag = "1")]
    pub(crate) name: Option<String>,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) protocol: u32,
    #[prost(string, optional, tag = "4")]
    pub(crate) app_protocol: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) endpoints: Vec<Endpoint>,
    /// 0 is direct, 1 through the proxy or direct, 2 through the proxy only.
    #[prost(uint32, tag = "6")]
    pub(crate) way: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Endpoint {
    #[prost(oneof = "Place", tags = "1, 2")]
    pub(crate) place: Option<Place>,
    #[prost(uint32, tag = "3")]
    pub(crate) port: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) weight: u32,
    #[prost(bool, tag = "5")]
    pub(crate) ready: bool,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Place {
    #[prost(uint64, tag = "1")]
    Cgroup(u64),
    /// Four or sixteen bytes.
    #[prost(bytes, tag = "2")]
    Address(Vec<u8>),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Published {
    #[prost(uint32, tag = "1")]
    pub(crate) host_port: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) service_port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Workload {
    #[prost(message, required, tag = "1")]
    pub(crate) name: Name,
    #[prost(message, required, tag = "2")]
    pub(crate) service: Name,
    #[prost(uint64, tag = "3")]
    pub(crate) cgroup: u64,
    #[prost(bool, tag = "4")]
    pub(crate) keeps_ports: bool,
    #[prost(string, repeated, tag = "5")]
    pub(crate) search: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) nameservers: Vec<SocketAddress>,
    #[prost(bool, tag = "7")]
    pub(crate) shadow_search: bool,
    #[prost(uint32, tag = "8")]
    pub(crate) ndots: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SocketAddress {
    /// Four or sixteen bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    /// Interface of a link-local IPv6 address.
    #[prost(uint32, tag = "3")]
    pub(crate) scope: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ToAgent {
    #[prost(oneof = "ToAgentBody", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(crate) body: Option<ToAgentBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ToAgentBody {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Ack(Ack),
    #[prost(fixed64, tag = "3")]
    ProbeReply(u64),
    #[prost(message, tag = "4")]
    Report(Report),
    #[prost(message, tag = "5")]
    MetricsRequest(MetricsRequest),
    #[prost(message, tag = "6")]
    Traffic(traffic::TrafficPart),
    #[prost(message, tag = "7")]
    Journal(journal::JournalPart),
    #[prost(fixed64, tag = "8")]
    Held(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetricsRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) pid: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ack {
    #[prost(uint64, tag = "1")]
    pub(crate) generation: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) refusals: Vec<Refusal>,
    #[prost(uint32, tag = "3")]
    pub(crate) refused: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Refusal {
    #[prost(string, tag = "1")]
    pub(crate) resource: String,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Report {
    #[prost(message, repeated, tag = "1")]
    pub(crate) counters: Vec<CounterValue>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) shadowed: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CounterValue {
    #[prost(uint32, tag = "1")]
    pub(crate) counter: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) value: u64,
}
