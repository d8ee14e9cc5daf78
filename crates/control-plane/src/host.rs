//! What the API needs from the node. The wiring in `cli` implements it; the planes never name each
//! other.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use selvedge_model::{
    CgroupId, Generation, KernelStatus, Observation, Pinned, Port, Protocol, ServiceName,
    WorkloadName,
};
use tokio::sync::watch;

use crate::document::CgroupRef;
use crate::problem::Problem;

/// The node, as the API sees it. Calls are short: they read kernel maps and write cgroup files.
pub trait Host: Send + Sync + 'static {
    /// Makes the cgroup of a replica and moves the asking process into it, and no other even if that
    /// one ends meanwhile. Also refuses what cannot be published. On an error nothing is left behind.
    fn place(&self, placement: &HostPlacement<'_>) -> Result<PlacedCgroup, Problem>;

    /// Takes [`Self::place`] back: the process has been told that it is not placed and will end.
    fn abandon(&self, name: &WorkloadName);

    /// The limits of the peer's own cgroup that it would leave behind by being placed, in words, as
    /// `memory.max 512M in /user.slice`. Empty where there are none.
    fn limits_of(&self, peer: &Peer) -> Result<Vec<String>, Problem>;

    /// The cgroup that the peer is in.
    fn cgroup_of(&self, peer: &Peer) -> Result<CgroupRef, Problem>;

    /// Whether processes are in the cgroup at this moment. What becomes of an object whose processes
    /// have ended takes a moment longer.
    fn is_populated(&self, cgroup: &CgroupRef) -> bool;

    /// The kernel path at this moment.
    fn kernel(&self) -> Result<KernelStatus, Problem>;

    /// The ports of the host that Gateways are to have, and of those that they have not why.
    fn gateway_ports(&self) -> BTreeMap<Port, Result<(), String>>;

    /// Connections that go directly though their service's port goes through the proxy.
    fn pinned(&self) -> Result<Vec<Pinned>, Problem>;

    /// What the kernel path counted.
    fn observe(&self) -> Result<Observation, Problem>;

    /// The generation that the kernel's maps hold, whenever it changes.
    fn applied(&self) -> watch::Receiver<Generation>;

    /// What `status` should warn of that only the host knows: nscd, nss-resolve and the like.
    fn hints(&self) -> Vec<Hint>;
}

/// A replica to be placed.
#[derive(Debug)]
pub struct HostPlacement<'a> {
    /// What it will be called.
    pub name: &'a WorkloadName,
    /// The service it is to be a replica of.
    pub service: &'a ServiceName,
    /// The process to move.
    pub peer: &'a Peer,
    /// Ports on which callers outside the mesh are to reach it.
    pub publish: &'a [(Protocol, Port)],
}

/// A cgroup that a process was moved into.
#[derive(Clone, Debug)]
pub struct PlacedCgroup {
    /// What names it for ever.
    pub reference: CgroupRef,
    /// What names it until reboot.
    pub id: CgroupId,
}

/// Who is at the other end of a connection, as the kernel says (SO_PEERCRED, SO_PEERPIDFD).
#[derive(Clone, Debug)]
pub struct Peer {
    /// Effective user id when it connected.
    pub uid: u32,
    /// Effective group id when it connected.
    pub gid: u32,
    /// Process id when it connected.
    pub pid: i32,
    /// The process that connected, as a pidfd: while it lives, `pid` is its number and no other's.
    pub process: Arc<OwnedFd>,
}

impl Peer {
    /// Whether it may do everything.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Something worth a warning in `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// What it is about, as `workload cart-0.default` or `host`.
    pub about: String,
    /// What is the matter.
    pub what: String,
    /// What to do.
    pub next: String,
}
