//! The control plane: documents become a snapshot, snapshots reach the proxy, and everybody can ask.
#![forbid(unsafe_code)]

mod access_log;
mod address;
mod api;
mod check;
mod compile;
mod document;
mod graph;
mod host;
mod journal;
mod metrics;
mod objects;
mod permission;
mod pilot;
mod plane;
mod planning;
mod problem;
mod publish;
mod source;
mod status;
mod store;
mod stored_plan;
mod traffic;
pub mod wire;

pub use access_log::{AccessLog, LogTarget};
pub use address::VirtualRange;
pub use api::{Api, Down};
pub use check::check;
pub use compile::{Compiled, Condition, ConditionReason, Facts, compile};
pub use document::{
    CgroupRef, Document, EndpointSlice, GatewaySpec, HttpRouteSpec, Kind, Metadata, ObjectKey,
    ParentRef, ParentTarget, Parsed, PolicyTarget, Publish, ResolverSpec, RunPermission, RunRule,
    RunScope, ServiceObjective, ServiceSpec, ServiceSpecPort, SliceEndpoint, SlicePort, SourceFile,
    Spec, Subject, TargetPort, TcpRouteSpec, TrafficPolicy, Weight, WorkloadPlace, WorkloadPort,
    WorkloadSpec, parse,
};
pub use host::{Hint, Host, HostPlacement, Peer, PlacedCgroup};
pub use journal::{JournalError, Reader, Segment, Unread, segments};
pub use metrics::Metrics;
pub use objects::{Action, Change, DeleteError, Object, Objects, Owner, PlaceError, PlaceRequest};
pub use permission::{Identity, Leave};
pub use pilot::{JournalQuery, Pilot, milliseconds, read_segment};
pub use plane::{
    Applied, ApplyError, ControlPlane, Effect, FolderState, Gone, Options, Placed, StoreState,
    View, start,
};
pub use planning::Planning;
pub use problem::{Finding, Problem, ProblemKind};
pub use publish::{FeedEnd, ProxyHealth, Publisher};
pub use selvedge_feed::Settings;
pub use source::{Folder, read_files};
pub use store::{Disk, Files, Restored, Store, StoreError};
pub use stored_plan::read as stored_plan;
