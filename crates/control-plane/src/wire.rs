//! What travels over the API: the twins of our types that have a JSON form.
//!
//! `cli` uses the same types, so that both ends agree by construction. Ages are seconds.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::problem::Finding;

/// Asks to create or replace objects.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyRequest {
    /// The documents.
    pub files: Vec<ApplyFile>,
    /// What to do with them.
    #[serde(default)]
    pub mode: ApplyMode,
}

/// What to do with documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ApplyMode {
    /// Put them into force.
    #[default]
    Apply,
    /// Say what that would do.
    DryRun,
    /// Judge them beside what is in force, whoever owns it: a configuration folder can be checked
    /// before it is put in place.
    Check,
}

/// A file of documents.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyFile {
    /// Its name, for messages.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// What an apply did, or would do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApplyReply {
    /// The generation it is part of.
    pub generation: u64,
    /// What became of each object.
    pub changes: Vec<Changed>,
    /// What was accepted but has no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Finding>,
}

/// What became of an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The object, as `Service default/cart`.
    pub object: String,
    /// `created`, `changed`, `unchanged` or `deleted`.
    pub action: String,
}

/// Objects, each in the shape it is written in, with `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObjectList {
    /// The generation they are of.
    pub generation: u64,
    /// The objects, by kind, namespace and name.
    pub items: Vec<serde_json::Value>,
}

/// Asks to place the asking process as a replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRequest {
    /// The service's own name.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// Ports to serve; empty means those it is seen to listen on.
    #[serde(default)]
    pub ports: Vec<RunPort>,
    /// Ports on which callers outside the mesh reach the service.
    #[serde(default)]
    pub publish: Vec<RunPublish>,
    /// Search suffixes of the program's `resolv.conf`.
    #[serde(default)]
    pub search: Vec<String>,
    /// The option `ndots` of the program's `resolv.conf`.
    #[serde(default)]
    pub ndots: Option<u8>,
    /// Name servers of the program's `resolv.conf`.
    #[serde(default)]
    pub nameservers: Vec<SocketAddr>,
    /// Whether it keeps the ports it binds; for programs in another network namespace.
    #[serde(default)]
    pub keep_ports: bool,
}

/// A port to serve.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPort {
    /// Its number.
    pub port: u16,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP`, which is meant where nothing is said, or `UDP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// A port for callers outside the mesh.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunPublish {
    /// The port they use.
    pub port: u16,
    /// `TCP`, which is meant where nothing is said, or `UDP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// For TCP, the service's port; where nothing is said the one of the same number, or else its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_port: Option<u16>,
}

/// The asking process is placed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReply {
    /// What the replica is called.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// The id of its cgroup.
    pub cgroup: u64,
    /// The service's virtual address.
    pub address: Option<Ipv4Addr>,
    /// The generation it is in.
    pub generation: u64,
}

/// Asks to stop the node.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownRequest {
    /// What is to become of workloads that run.
    pub workloads: DownWorkloads,
    /// Whether what was applied is kept for the next start.
    #[serde(default)]
    pub keep_state: bool,
}

/// What is to become of workloads that run when the node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DownWorkloads {
    /// They are in the way: the node does not stop, and lists them.
    Refuse,
    /// They are ended.
    Stop,
    /// They run on, without the mesh.
    Detach,
}

/// The node stops.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DownReply {
    /// Workloads that were ended.
    pub stopped: Vec<String>,
    /// Workloads that run on without the mesh.
    pub detached: Vec<String>,
}

/// How the node is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// The agent.
    pub agent: ProcessReport,
    /// The proxy.
    pub proxy: ProxyReport,
    /// The configuration.
    pub configuration: ConfigurationReport,
    /// The kernel path.
    pub kernel: KernelReport,
    /// Services, by name.
    pub services: Vec<ServiceReport>,
    /// Gateways, by name.
    #[serde(default)]
    pub gateways: Vec<GatewayReport>,
    /// Workloads of this host, by name.
    pub workloads: Vec<WorkloadReport>,
    /// Refusals so far, by reason, of all edges together.
    pub refused: BTreeMap<String, u64>,
    /// Connections so far that went directly because the proxy was away, of all edges together.
    pub bypassed: u64,
    /// What somebody should look at.
    pub warnings: Vec<Warning>,
}

/// A process of the node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessReport {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has run.
    pub age: f64,
    /// Its share of memory (PSS) in KiB, where the kernel tells.
    pub memory_kib: Option<u64>,
}

/// The proxy as the agent knows it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyReport {
    /// `serving`, `starting` or `away`.
    pub state: String,
    /// Its process id.
    pub pid: Option<u32>,
    /// How long it has been in this state.
    pub age: Option<f64>,
    /// How long ago it last answered a probe.
    pub answered_age: Option<f64>,
    /// Its share of memory (PSS) in KiB, where the kernel tells.
    pub memory_kib: Option<u64>,
    /// The generation in force there.
    pub generation: Option<u64>,
    /// What it could not take, and why.
    pub refusals: BTreeMap<String, String>,
    /// How often it had to reconnect.
    pub reconnects: u64,
    /// Why its last connection ended.
    pub last_end: Option<String>,
    /// Outside names that are hidden because a mesh name with a search suffix reads the same.
    pub shadowed: Vec<String>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationReport {
    /// Its generation.
    pub generation: u64,
    /// How long it has been in force.
    pub age: f64,
    /// Objects it is made of.
    pub objects: usize,
    /// Whether it would be there after a power loss.
    pub is_durable: bool,
    /// Why the last save failed, where it did.
    pub store_error: Option<String>,
    /// For how long saves have failed.
    pub store_error_age: Option<f64>,
    /// The folder given by `--config`.
    pub folder: Option<FolderReport>,
    /// Why the stored configuration is not in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Finding>,
}

/// The configuration folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FolderReport {
    /// Where it is.
    pub path: String,
    /// How long ago it was read.
    pub age: f64,
    /// Why its text is not in force; empty where it is.
    pub errors: Vec<Finding>,
}

/// The kernel path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KernelReport {
    /// Why nothing of it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long ago it was read.
    pub age: f64,
    /// The generation its maps hold.
    pub generation: Option<u64>,
    /// Its features.
    pub features: Vec<FeatureReport>,
    /// Its maps.
    pub maps: Vec<MapReport>,
    /// Differences between intent and maps.
    pub drift: Vec<String>,
}

/// A feature of the kernel path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FeatureReport {
    /// Its name.
    pub name: String,
    /// `active`, `degraded` or `missing`.
    pub state: String,
    /// What is missing, why, and what that means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How full a kernel map is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MapReport {
    /// Its name.
    pub name: String,
    /// Entries in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Entries it has room for.
    pub capacity: u64,
    /// Its memory in bytes.
    pub bytes: u64,
    /// Insertions that found it full.
    pub full: u64,
}

/// A service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// Its own name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its virtual address.
    pub address: Option<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<ServicePortReport>,
    /// Ports for callers outside the mesh, as `8080 -> 80`.
    pub published: Vec<String>,
    /// Most connections open at once.
    pub connection_limit: Option<u32>,
    /// The objects for which its connections come through the proxy, as `HTTPRoute cart.default`.
    #[serde(default)]
    pub proxied_by: Vec<String>,
    /// Requests to it, where any came through the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestsReport>,
}

/// A Gateway.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayReport {
    /// Its own name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its listeners.
    pub listeners: Vec<GatewayListenerReport>,
}

/// A listener of a Gateway.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayListenerReport {
    /// Its name.
    pub name: String,
    /// The port of the host.
    pub port: u16,
    /// The hosts it is about, where not all.
    pub hostname: Option<String>,
    /// `serving`, `proxy away`, `starting`, or why its port cannot be had.
    pub state: String,
}

/// A port of a service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortReport {
    /// Its name.
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// What is spoken on it.
    pub app_protocol: Option<String>,
    /// How connections get there: `direct`, `proxy`, or `proxy, direct while that is away`.
    #[serde(default)]
    pub way: String,
    /// Who answers.
    pub endpoints: Vec<EndpointReport>,
    /// Connections that go on directly though the port goes through the proxy.
    #[serde(default)]
    pub pinned: u64,
    /// How old the oldest of them is.
    #[serde(default)]
    pub pinned_age: Option<f64>,
}

/// An endpoint of a service's port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EndpointReport {
    /// The workload, or the address outside.
    pub place: String,
    /// The port its program asked for.
    pub port: u16,
    /// The port it really has, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<u16>,
    /// Share of new connections.
    pub weight: u16,
    /// `listening`, `silent` (no socket listens), `ready` or `not ready` (outside), or `unknown`.
    pub state: String,
}

/// A workload of this host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkloadReport {
    /// Its own name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The service it is a replica of.
    pub service: String,
    /// The id of its cgroup.
    pub cgroup: u64,
    /// Ports its programs listen on, as `TCP/8080`.
    pub listening: Vec<String>,
}

/// Something somebody should look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What it is about.
    pub about: String,
    /// What is the matter.
    pub what: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// Who calls whom.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GraphReport {
    /// How long ago the counters were read.
    pub age: f64,
    /// Everybody who calls or is called: `cart.default`, or `outside`.
    pub nodes: Vec<String>,
    /// The edges between them.
    pub edges: Vec<EdgeReport>,
}

/// What happened between a caller and a called service since the kernel's maps exist.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EdgeReport {
    /// Who calls.
    pub source: String,
    /// Who is called.
    pub destination: String,
    /// Connections led to an endpoint, or to the proxy.
    pub connections: u64,
    /// Those that could not be established.
    pub failures: u64,
    /// Those that went to an endpoint directly because the proxy was away.
    pub bypassed: u64,
    /// Refusals by reason.
    pub refused: BTreeMap<String, u64>,
    /// Requests, where any came through the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestsReport>,
    /// What is counted only where the service asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<EdgeDetailReport>,
}

/// Requests that have ended, since this proxy started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestsReport {
    /// All of them.
    pub total: u64,
    /// By the class of the status that the client got, as `2xx`; `none` where it got none.
    pub statuses: BTreeMap<String, u64>,
    /// Those refused, cut or left by their client, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// Median of their time in microseconds, of those that an endpoint answered whole.
    pub p50_us: Option<u64>,
    /// 99th percentile of it.
    pub p99_us: Option<u64>,
}

/// Figures of an edge whose service asks for them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeDetailReport {
    /// Connections open now.
    pub open: u64,
    /// Bytes from caller to endpoint.
    pub bytes_sent: u64,
    /// Bytes from endpoint to caller.
    pub bytes_received: u64,
    /// Median of the connect time in microseconds.
    pub connect_p50_us: Option<u64>,
    /// 99th percentile of the connect time in microseconds.
    pub connect_p99_us: Option<u64>,
}

/// What the controllers do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PilotReport {
    /// Whether everything is frozen.
    pub is_frozen: bool,
    /// Services that are frozen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frozen: Vec<String>,
    /// How many limits were put to a value.
    pub pinned: usize,
    /// Whether the proxy does what was last frozen, put back or released.
    pub is_in_force: bool,
    /// The limits, by service.
    pub limits: Vec<LimitReport>,
    /// What is left of objectives for the services that whole answers are made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<ShareReport>,
    /// The journal.
    pub journal: JournalReport,
}

/// What a service is to keep of an objective that comprises others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareReport {
    /// The service.
    pub service: String,
    /// The 95th percentile of its own time that it is to keep.
    pub latency_us: u64,
    /// The service that has the objective.
    pub of: String,
    /// Whether times without load stand behind it; if not, it is all of the objective.
    pub is_measured: bool,
    /// Thousandths of what these would give it: more where whole answers have time to spare.
    #[serde(default = "no_slack")]
    pub slack_per_mille: u32,
}

const fn no_slack() -> u32 {
    1000
}

/// A limit that a controller moves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitReport {
    /// The service whose objective it is for.
    pub service: String,
    /// The endpoint or route.
    pub about: String,
    /// What the controller may do: `observe`, `guard`, `drive`, or `off` where the objective has just gone.
    pub mode: String,
    /// What is to be kept.
    pub objective_us: u64,
    /// What is in force; none is no limit.
    pub limit: Option<u32>,
    /// What no decision crosses.
    pub fixed: Option<u32>,
    /// What was decided last.
    pub decided: u32,
    /// `frozen`, `pinned` or `doubted`, where nothing moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Why its controller does not trust what it sees, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// 95th percentile of the last window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<f64>,
    /// 95th percentile without load, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_p95_us: Option<f64>,
    /// Whether it cannot be kept: also without load requests take longer.
    pub is_beyond_reach: bool,
    /// Share of requests that find no place.
    pub refused_share: f64,
    /// Why it is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// The number of the last decision that changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// Since when nothing was heard of it, in seconds.
    pub age: f64,
}

/// How the journal is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JournalReport {
    /// Its folder.
    pub folder: String,
    /// The number of the entry to come.
    pub next: u64,
    /// Entries that are not in it, since this agent started.
    pub lost: u64,
    /// Why it cannot be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A piece of the journal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JournalReply {
    /// Its lines, the oldest first.
    pub lines: Vec<JournalLine>,
    /// What of it cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
}

/// A line of the journal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalLine {
    /// By which `undo` knows it.
    pub number: u64,
    /// When it was (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The service whose objective it is about.
    pub service: String,
    /// The endpoint or route.
    pub about: String,
    /// `decided`, `frozen`, `pinned`, `gone`, or `state` where a controller begins or goes on.
    pub event: String,
    /// The limit that was decided before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_before: Option<u32>,
    /// The limit from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// What is to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_us: Option<u64>,
    /// What the controller saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowLine>,
}

/// What a controller saw of a window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowLine {
    /// How long it was.
    pub length_us: u64,
    /// Requests whose time counts.
    pub samples: u32,
    /// Their mean time.
    pub mean_us: f64,
    /// Half took no longer.
    pub p50_us: f64,
    /// Of 100 95 took no longer.
    pub p95_us: f64,
    /// Most at once.
    pub peak: u32,
    /// Requests that found no place.
    pub refused: u64,
    /// Share of those, with a memory of half a second.
    pub refused_share: f64,
    /// Requests that ended; at an entry.
    pub ended: u64,
    /// Those of them of which something found no place behind it.
    pub refused_behind: u64,
    /// Those of them that had a place at an endpoint which takes longer than it may.
    pub late_behind: u64,
    /// Those of them that took a place which others lacked, for nothing.
    pub wasted: u64,
}

/// Asks to freeze or to release.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Only this service; none is everything.
    #[serde(default)]
    pub service: Option<String>,
}

/// Asks to put the value before a decision back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    /// The number of the decision.
    pub number: u64,
}
