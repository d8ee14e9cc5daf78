//! The vocabulary of the mesh: names, services, endpoints, workloads and the [`Snapshot`] that every part acts on.
//!
//! Everything here is plain data that cannot be wrong: a [`Label`] is a DNS label, a [`Port`] is not
//! zero, a [`Snapshot`] names only services it holds, but for backends of routes, whose requests are
//! then answered 500. The crate performs no IO, reads no clock and knows no wire format; text becomes
//! these types in `control-plane` (`compile`), bytes in `feed`.
//! Read next: [`Snapshot`], then `crates/control-plane/src/compile.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod diagnostic;
mod gateway;
mod histogram;
mod hostname;
pub mod http_text;
mod instant;
mod name;
mod observation;
mod pattern;
mod pilot;
mod reason;
mod requests;
mod rng;
mod route;
mod route_table;
mod service;
mod snapshot;
mod traffic;
mod urgency;
mod workload;

pub use diagnostic::{Diagnostic, Origin};
pub use gateway::{Gateway, GatewayListener, GatewayName, GatewayParent};
pub use histogram::{Histogram, LogLinear};
pub use hostname::Hostname;
pub use instant::Instant;
pub use name::{Label, NameError, ServiceName};
pub use observation::{
    Drift, Edge, EdgeCounters, EdgeDetail, FeatureState, FeatureStatus, KernelStatus, Listening,
    MapUsage, Observation, Pinned,
};
pub use pattern::{Pattern, PatternError};
pub use pilot::{
    ControllerState, Decision, Doubt, Fates, HeldBy, Hold, Holds, JournalEntry, JournalEvent,
    Limited, Tail, Why, WindowSummary,
};
pub use reason::Reason;
pub use requests::{
    Backoff, Ejection, Objective, PilotMode, RequestPolicy, RetryBudget, RetryPolicy, Timeouts,
    Withheld,
};
pub use rng::Rng;
pub use route::{
    Backend, BackendIndex, FieldChanges, HttpAction, HttpFilters, HttpMatch, HttpRoute, HttpRule,
    PathChange, PathMatch, Redirect, Rewrite, RouteIndex, RouteName, RouteParent, TcpRoute,
    TextMatch, ValueMatch, WeightedBackend,
};
pub use route_table::{
    Entrance, Fields, HiddenAt, HiddenMatch, Listener, MatchPlace, RequestHead, RouteTable, Rule,
    Selected, Spoken,
};
pub use service::{AppProtocol, Endpoint, Place, Port, Protocol, Service, ServicePort, Way};
pub use snapshot::{Generation, Snapshot};
pub use traffic::{
    BackendReading, EndpointPace, EndpointTraffic, Traffic, TrafficEdge, TrafficEnd, TrafficPath,
    TrafficRoute, TrafficUnit,
};
pub use urgency::Urgency;
pub use workload::{CgroupId, DnsSettings, PortMode, Workload, WorkloadName};
