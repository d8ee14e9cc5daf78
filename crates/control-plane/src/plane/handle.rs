//! Asking the control plane: the commands, and the handle that sends them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use selvedge_model::{
    CgroupId, Diagnostic, Generation, Port, Protocol, ServiceName, Snapshot, WorkloadName,
};
use selvedge_resilience::planner::Plan;
use tokio::sync::{mpsc, oneshot, watch};

use super::view::View;
use crate::document::{CgroupRef, Document, ObjectKey, Spec, WorkloadPlace};
use crate::objects::{Change, DeleteError, PlaceError, PlaceRequest};

/// What an apply is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Change the configuration.
    Change,
    /// Only say what that would do.
    Judge,
    /// Only say what that would do if nobody else owned anything.
    JudgeUnowned,
}

/// What an apply did, or would do.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The generation it is part of.
    pub generation: Generation,
    /// What became of each object, in the order they were given.
    pub changes: Vec<Change>,
    /// What of them has no effect as it is, or another than it seems.
    pub warnings: Vec<Diagnostic>,
}

/// A replica that is now part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What it is called.
    pub name: WorkloadName,
    /// The generation it first is in.
    pub generation: Generation,
}

/// Why a change that somebody asked for was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The objects are wrong.
    #[error("the configuration is wrong in {} places; nothing of it was applied", .0.len())]
    Refused(Vec<Diagnostic>),
    /// The object cannot be deleted.
    #[error(transparent)]
    Delete(DeleteError),
    /// The state could not be stored.
    #[error("the change cannot be stored, so it was not made: {0}")]
    NotStored(Arc<str>),
    /// The agent is stopping.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// The control plane's task has ended: the agent is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Gone;

/// A replica whose cgroup is there.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) request: PlaceRequest,
    pub(super) name: WorkloadName,
    pub(super) reference: CgroupRef,
    pub(super) cgroup: CgroupId,
}

/// What can be asked for.
#[derive(Debug)]
pub(super) enum Command {
    Apply(
        Vec<Document>,
        Effect,
        oneshot::Sender<Result<Applied, ApplyError>>,
    ),
    Delete(ObjectKey, oneshot::Sender<Result<Change, ApplyError>>),
    Folder(String, Result<Vec<Document>, Vec<Diagnostic>>),
    Reserve(
        ServiceName,
        oneshot::Sender<Result<WorkloadName, PlaceError>>,
    ),
    Release(WorkloadName),
    Close,
    Place(Box<Placement>, oneshot::Sender<Result<Placed, PlaceError>>),
    Plan(Plan),
    NotStarted(CgroupRef),
    Emptied(CgroupId),
    PortSeen(CgroupId, Protocol, Port),
    PortGone(CgroupId, Protocol, Port),
    Cgroups {
        found: BTreeMap<CgroupRef, CgroupId>,
        gone: Vec<CgroupRef>,
        reply: oneshot::Sender<()>,
    },
}

impl Command {
    /// Whether it shares no generation with others: because it may have to be taken back, or because
    /// nothing comes after it.
    pub(super) fn stands_alone(&self) -> bool {
        self.must_be_durable() || matches!(self, Self::Close)
    }

    /// Whether it is refused when it cannot be stored.
    pub(super) fn must_be_durable(&self) -> bool {
        matches!(self, Self::Apply(..) | Self::Delete(..))
    }
}

/// An answer, held back until what it tells of is durable.
pub(super) enum Reply {
    Apply(
        Result<Applied, ApplyError>,
        oneshot::Sender<Result<Applied, ApplyError>>,
    ),
    Delete(
        Result<Change, ApplyError>,
        oneshot::Sender<Result<Change, ApplyError>>,
    ),
    Reserve(
        Result<WorkloadName, PlaceError>,
        oneshot::Sender<Result<WorkloadName, PlaceError>>,
    ),
    Place(
        Result<Placed, PlaceError>,
        oneshot::Sender<Result<Placed, PlaceError>>,
    ),
    Done(oneshot::Sender<()>),
}

impl Reply {
    /// Answers; `refused` is why the change was taken back. Whoever asked may be gone by now.
    pub(super) fn send(self, refused: Option<&str>) {
        let refused = refused.map(|why| ApplyError::NotStored(why.into()));
        match self {
            Self::Apply(result, reply) => {
                let _ = reply.send(refused.map_or(result, Err));
            }
            Self::Delete(result, reply) => {
                let _ = reply.send(refused.map_or(result, Err));
            }
            Self::Reserve(result, reply) => {
                let _ = reply.send(result);
            }
            Self::Place(result, reply) => {
                let _ = reply.send(result);
            }
            Self::Done(reply) => {
                let _ = reply.send(());
            }
        }
    }
}

/// The control plane, for whoever asks it. Cheap to clone; the queue behind it is bounded, so asking
/// may wait.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    commands: mpsc::Sender<Command>,
    views: watch::Receiver<Arc<View>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl ControlPlane {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        views: watch::Receiver<Arc<View>>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Self {
        Self {
            commands,
            views,
            snapshots,
        }
    }

    /// The configuration in force, at every generation from the present one on.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Everything to be read, at this moment.
    pub fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    /// Everything to be read, whenever any of it changes.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.clone()
    }

    /// Creates or replaces objects, all or none.
    pub async fn apply(
        &self,
        documents: Vec<Document>,
        effect: Effect,
    ) -> Result<Applied, ApplyError> {
        self.ask(|reply| Command::Apply(documents, effect, reply))
            .await?
    }

    /// Removes an object.
    pub async fn delete(&self, key: ObjectKey) -> Result<Change, ApplyError> {
        self.ask(|reply| Command::Delete(key, reply)).await?
    }

    /// Makes the configuration folder's objects these, or notes why its text cannot be taken.
    pub async fn take_folder(
        &self,
        path: String,
        read: Result<Vec<Document>, Vec<Diagnostic>>,
    ) -> Result<(), Gone> {
        self.tell(Command::Folder(path, read)).await
    }

    /// Finds a name for one more replica of `service` and keeps it until [`Self::place`] or
    /// [`Self::release`].
    pub async fn reserve(
        &self,
        service: ServiceName,
    ) -> Result<Result<WorkloadName, PlaceError>, Gone> {
        self.ask(|reply| Command::Reserve(service, reply)).await
    }

    /// Gives a reserved name back.
    pub async fn release(&self, name: WorkloadName) -> Result<(), Gone> {
        self.tell(Command::Release(name)).await
    }

    /// Makes the objects of a replica under its reserved name. `cgroup` is there, and `reference`
    /// names it for ever.
    pub async fn place(
        &self,
        request: PlaceRequest,
        name: WorkloadName,
        reference: CgroupRef,
        cgroup: CgroupId,
    ) -> Result<Result<Placed, PlaceError>, Gone> {
        let placement = Box::new(Placement {
            request,
            name,
            reference,
            cgroup,
        });
        self.ask(|reply| Command::Place(placement, reply)).await
    }

    /// Has services keep these shares of objectives.
    pub async fn set_plan(&self, plan: Plan) -> Result<(), Gone> {
        self.tell(Command::Plan(plan)).await
    }

    /// The program of the replica that was placed in `cgroup` could not be started; once that is
    /// gone too, nothing is left of it.
    pub async fn not_started(&self, cgroup: CgroupRef) -> Result<(), Gone> {
        self.tell(Command::NotStarted(cgroup)).await
    }

    /// The last process of a cgroup is gone. A Workload that `run` made for it goes too.
    pub async fn emptied(&self, cgroup: CgroupId) -> Result<(), Gone> {
        self.tell(Command::Emptied(cgroup)).await
    }

    /// A workload listens on a port.
    pub async fn port_seen(
        &self,
        cgroup: CgroupId,
        protocol: Protocol,
        port: Port,
    ) -> Result<(), Gone> {
        self.tell(Command::PortSeen(cgroup, protocol, port)).await
    }

    /// A workload no longer listens on a port.
    pub async fn port_gone(
        &self,
        cgroup: CgroupId,
        protocol: Protocol,
        port: Port,
    ) -> Result<(), Gone> {
        self.tell(Command::PortGone(cgroup, protocol, port)).await
    }

    /// The cgroups that Workloads name, whether they exist or not. Who watches cgroups asks again
    /// after every snapshot.
    pub fn cgroups_named(&self) -> BTreeSet<CgroupRef> {
        let view = self.view();
        let cgroups = view
            .objects
            .documents()
            .filter_map(|document| match &document.spec {
                Spec::Workload(spec) => match &spec.place {
                    WorkloadPlace::Cgroup(reference) => Some(reference.clone()),
                    WorkloadPlace::Address(_) => None,
                },
                _ => None,
            });
        cgroups.collect()
    }

    /// Cgroups that exist now, and cgroups that do not. Waits until that is in force. Workloads
    /// that `run` made for what is gone go too, so at a start this says which replicas live on.
    pub async fn set_cgroups(
        &self,
        found: BTreeMap<CgroupRef, CgroupId>,
        gone: Vec<CgroupRef>,
    ) -> Result<(), Gone> {
        self.ask(|reply| Command::Cgroups { found, gone, reply })
            .await
    }

    /// Ends the control plane's task once everything asked for so far is durable. Whoever asks later
    /// is told [`Gone`].
    pub async fn close(&self) {
        let _is_closed_already = self.tell(Command::Close).await;
    }

    async fn tell(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).await.map_err(|_| Gone)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await?;
        answer.await.map_err(|_| Gone)
    }
}
