//! Workloads: running instances of services.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;

use crate::{Label, ServiceName};

/// A cgroup's id: the inode number of its directory in the cgroup2 file system, which is what
/// `bpf_get_current_cgroup_id` gives. Unique until reboot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupId(pub u64);

impl fmt::Debug for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cgroup:{}", self.0)
    }
}

/// The full name of a workload. Text form: `cart-0.default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName {
    /// Its namespace.
    pub namespace: Label,
    /// Its own name.
    pub name: Label,
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// A running instance on this host: one cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: WorkloadName,
    /// The service it belongs to.
    pub service: ServiceName,
    /// The cgroup that is the workload; processes in cgroups below it belong to it.
    pub cgroup: CgroupId,
    /// What happens to the ports its programs bind.
    pub ports: PortMode,
    /// How its look-ups are answered.
    pub dns: DnsSettings,
}

/// What the bind hook does for a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortMode {
    /// Replicas may bind the same port; all but the first get a private one.
    Shared,
    /// Programs keep the ports they bind (joined cgroups, other network namespaces).
    Kept,
}

/// How look-ups of one workload are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// Search suffixes of the workload's `resolv.conf`, lower case, without a final dot, at most 32.
    pub search: Vec<String>,
    /// Names with fewer dots are tried with the suffixes first, others as they are (`ndots` in
    /// resolv.conf(5)); 0 is as good as 1, which it is as a rule.
    pub ndots: u8,
    /// Name servers of the workload's `resolv.conf`, for what is not a mesh name and came without
    /// the address it was sent to.
    pub nameservers: Vec<SocketAddr>,
    /// Whether a mesh name that is tried with a suffix first is answered NXDOMAIN, so that the bare
    /// name is tried next. Off, such names are forwarded like any other outside name.
    pub shadow_search: bool,
}
