//! The control plane: documents become a snapshot, snapshots reach the proxy, and everybody can ask.
#![forbid(unsafe_code)]

mod address;
mod compile;
mod document;
mod objects;
mod plane;
mod store;

pub use address::VirtualRange;
pub use compile::{Compiled, Condition, ConditionReason, Facts, compile};
pub use document::{
    CgroupRef, Document, EndpointSlice, Kind, Metadata, ObjectKey, Parsed, PolicyTarget, Publish,
    ResolverSpec, RunPermission, RunRule, RunScope, ServiceSpec, ServiceSpecPort, SliceEndpoint,
    SlicePort, SourceFile, Spec, Subject, TargetPort, TrafficPolicy, Weight, WorkloadPlace,
    WorkloadPort, WorkloadSpec, parse,
};
pub use objects::{Action, Change, DeleteError, Object, Objects, Owner, PlaceError, PlaceRequest};
pub use plane::{
    Applied, ApplyError, ControlPlane, DryRun, FolderState, Gone, Options, Placed, StoreState,
    View, start,
};
pub use store::{Disk, Files, Restored, Store, StoreError};
