//! Everything of one configuration, as the workers look at it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;

use selvedge_model::{BackendIndex, CgroupId, Instant, RouteIndex, Withheld};

use crate::entry::Entry;
use crate::trace::TraceTable;
use crate::tree::{Tree, TreeTable};
use crate::upstream::Upstream;
use crate::workload::Workload;

/// One configuration; what lives longer is shared with those before and after.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) upstreams: Box<[Upstream]>,
    pub(crate) entries: Box<[Entry]>,
    /// By cgroup.
    pub(crate) workloads: Box<[Local]>,
    pub(crate) traces: Arc<TraceTable>,
    pub(crate) trees: Arc<TreeTable>,
    /// Requests whose callers were too many to be told apart.
    pub(crate) unshared: Arc<AtomicU64>,
    pub(crate) workers: usize,
}

/// A workload as one configuration has it.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) workload: Arc<Workload>,
    pub(crate) is_entry: bool,
}

impl Tables {
    pub(crate) fn upstream(&self, index: BackendIndex) -> Option<&Upstream> {
        self.upstreams.get(index.0 as usize)
    }

    pub(crate) fn entry(&self, index: RouteIndex) -> Option<&Entry> {
        self.entries.get(index.0 as usize)
    }

    pub(crate) fn local(&self, cgroup: CgroupId) -> Option<usize> {
        self.workloads
            .binary_search_by_key(&cgroup, |local| local.workload.cgroup())
            .ok()
    }
}

/// A worker's view of a configuration. Each worker counts references to its own, so that requests do
/// not make workers take one line from each other.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Lane {
    pub(crate) tables: Arc<Tables>,
    pub(crate) worker: usize,
}

impl Lane {
    /// Whether a request that failed may be sent again, which takes one of its tries and what it costs.
    pub(crate) fn may_retry(
        &self,
        now: Instant,
        upstream: &Upstream,
        tree: Option<Tree>,
    ) -> Result<(), Withheld> {
        let trees = &self.tables.trees;
        match tree {
            Some(tree) if trees.is_refused(tree) => return Err(Withheld::Shed),
            Some(tree) if !trees.try_again(tree) => return Err(Withheld::AttemptsUsed),
            _ => {}
        }
        match upstream.withdraw(now) {
            true => Ok(()),
            false => Err(Withheld::BudgetSpent),
        }
    }
}
