//! The proxy's side: applies updates and says what to answer.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::net::Ipv4Addr;

use selvedge_model::{CgroupId, Generation, Service, ServiceName, Snapshot, Workload};

use crate::convert::{self, Defect};
use crate::message::{Ack, Update};
use crate::settings::Settings;
use crate::wire;

/// What is in force at the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Services and workloads. A workload's service may be missing where it was refused.
    pub snapshot: Snapshot,
    /// How to behave.
    pub settings: Settings,
}

/// Follows the publications of an agent, over any number of connections.
///
/// An update takes effect as a whole, with its last part. The view outlives the connection: without
/// an agent the last one stays in force.
#[derive(Debug, Default)]
pub struct Subscription {
    view: Option<Arc<View>>,
    staged: Option<Staged>,
}

/// What an update led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More parts are to come.
    Partial,
    /// The view is new: see [`Subscription::view`], then send the acknowledgement.
    Complete(Ack),
}

/// Parts of an update that are there so far.
#[derive(Debug)]
struct Staged {
    base: Option<Generation>,
    generation: Generation,
    services: BTreeMap<ServiceName, Service>,
    workloads: BTreeMap<CgroupId, Workload>,
    /// Named by the update, but not to be taken: whatever is there stays.
    kept_services: BTreeSet<ServiceName>,
    kept_workloads: BTreeSet<CgroupId>,
    removed_services: BTreeSet<ServiceName>,
    removed_workloads: BTreeSet<CgroupId>,
    ack: Ack,
}

impl Subscription {
    /// Most resources and removals in one update, over all of its parts.
    pub const MAX_RESOURCES: usize = 250_000;

    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one part of an update. After an error the connection is of no use any more: close it,
    /// call [`Subscription::on_disconnect`] and connect anew, which begins with everything.
    pub fn on_update(&mut self, update: Update) -> Result<Progress, UpdateError> {
        let Update(mut part) = update;
        let mut staged = self.staged_for(&part)?;
        staged.take_part(&mut part);
        if staged.len() > Self::MAX_RESOURCES {
            return Err(UpdateError::TooMany {
                bound: Self::MAX_RESOURCES,
            });
        }
        if !part.last {
            self.staged = Some(staged);
            return Ok(Progress::Partial);
        }
        let range = convert::range(part.range_address, part.range_prefix)?;
        let settings = part.settings.unwrap_or_default().try_into()?;
        let (snapshot, ack) = staged.complete(range, self.view.as_deref());
        self.view = Some(Arc::new(View { snapshot, settings }));
        Ok(Progress::Complete(ack))
    }

    /// Forgets an update that was cut off. The view stays.
    pub fn on_disconnect(&mut self) {
        self.staged = None;
    }

    /// What is in force; `None` until the first update is complete.
    pub fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    fn staged_for(&mut self, part: &wire::Update) -> Result<Staged, UpdateError> {
        let base = part.base.map(Generation);
        let generation = Generation(part.generation);
        if let Some(staged) = self.staged.take() {
            if (staged.base, staged.generation) != (base, generation) {
                return Err(UpdateError::Interleaved {
                    expected: staged.generation,
                    found: generation,
                });
            }
            return Ok(staged);
        }
        let have = self.view.as_ref().map(|view| view.snapshot.generation);
        if base.is_some() && base != have {
            return Err(UpdateError::Base { have, base });
        }
        Ok(Staged::new(base, generation))
    }
}

impl Staged {
    fn new(base: Option<Generation>, generation: Generation) -> Self {
        Self {
            base,
            generation,
            services: BTreeMap::new(),
            workloads: BTreeMap::new(),
            kept_services: BTreeSet::new(),
            kept_workloads: BTreeSet::new(),
            removed_services: BTreeSet::new(),
            removed_workloads: BTreeSet::new(),
            ack: Ack {
                generation,
                ..Ack::default()
            },
        }
    }

    fn len(&self) -> usize {
        self.services.len()
            + self.workloads.len()
            + self.kept_services.len()
            + self.kept_workloads.len()
            + self.removed_services.len()
            + self.removed_workloads.len()
    }

    fn take_part(&mut self, part: &mut wire::Update) {
        for service in part.services.drain(..) {
            self.take_service(service);
        }
        for workload in part.workloads.drain(..) {
            self.take_workload(workload);
        }
        // A name that is none cannot be that of anything here.
        let names = part.removed_services.drain(..);
        let names = names.filter_map(|name| ServiceName::try_from(name).ok());
        self.removed_services.extend(names);
        let cgroups = part.removed_workloads.drain(..);
        self.removed_workloads.extend(cgroups.map(CgroupId));
    }

    fn take_service(&mut self, wire: wire::Service) {
        let resource = format!("Service {}.{}", wire.name.name, wire.name.namespace);
        let name = ServiceName::try_from(wire.name.clone());
        match Service::try_from(wire) {
            Ok(service) => {
                self.services.insert(service.name.clone(), service);
            }
            Err(defect) => {
                self.kept_services.extend(name);
                self.ack.refuse(resource, defect.to_string());
            }
        }
    }

    fn take_workload(&mut self, wire: wire::Workload) {
        let resource = format!("Workload {}.{}", wire.name.name, wire.name.namespace);
        let cgroup = CgroupId(wire.cgroup);
        match Workload::try_from(wire) {
            Ok(workload) => {
                self.workloads.insert(cgroup, workload);
            }
            Err(defect) => {
                self.kept_workloads.insert(cgroup);
                self.ack.refuse(resource, defect.to_string());
            }
        }
    }

    /// Builds the new snapshot on what was there before.
    fn complete(mut self, range: (Ipv4Addr, u8), before: Option<&View>) -> (Snapshot, Ack) {
        let mut next = before.map_or_else(Snapshot::empty, |view| view.snapshot.clone());
        if self.base.is_none() {
            next.services
                .retain(|name, _| self.kept_services.contains(name));
            next.workloads
                .retain(|cgroup, _| self.kept_workloads.contains(cgroup));
        }
        for name in &self.removed_services {
            next.services.remove(name);
        }
        for cgroup in &self.removed_workloads {
            next.workloads.remove(cgroup);
        }
        self.merge_services(&mut next.services);
        next.workloads.append(&mut self.workloads);
        next.generation = self.generation;
        next.virtual_range = range;
        (next, self.ack)
    }

    /// Puts the new services among those that stay. An address has one holder: who holds it already
    /// keeps it, among new ones the first by name gets it.
    fn merge_services(&mut self, services: &mut BTreeMap<ServiceName, Service>) {
        let staying = services
            .values()
            .filter(|service| !self.services.contains_key(&service.name));
        let mut holders: BTreeMap<Ipv4Addr, ServiceName> = staying
            .map(|service| (service.address, service.name.clone()))
            .collect();
        let mut refused = BTreeMap::new();
        for (name, service) in core::mem::take(&mut self.services) {
            if let Some(holder) = holders.get(&service.address) {
                refused.insert(
                    name,
                    Defect::AddressTaken {
                        address: service.address,
                        holder: holder.clone(),
                    },
                );
                continue;
            }
            holders.insert(service.address, name.clone());
            services.insert(name, service);
        }
        for (name, defect) in refused {
            self.ack
                .refuse(format!("Service {name}"), defect.to_string());
            // The last good version stays, unless its address has gone to another service since.
            let old = services.get(&name).map(|service| service.address);
            if old.is_some_and(|address| holders.get(&address).is_some_and(|h| *h != name)) {
                services.remove(&name);
            }
        }
    }
}

/// Why an update cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// A change to a generation that is not here.
    #[error("the update changes generation {base:?}, but {have:?} is in force")]
    Base {
        /// What is in force.
        have: Option<Generation>,
        /// What it changes.
        base: Option<Generation>,
    },
    /// Another update began before the last part of one.
    #[error("a part of generation {found} came amid those of {expected}")]
    Interleaved {
        /// The generation whose parts were under way.
        expected: Generation,
        /// The one that came.
        found: Generation,
    },
    /// More resources than this side keeps.
    #[error("the update names more than {bound} resources")]
    TooMany {
        /// The bound.
        bound: usize,
    },
    /// Settings or virtual range are not sound.
    #[error("the settings are not sound: {message}")]
    Settings {
        /// What is wrong.
        message: alloc::string::String,
    },
}

impl From<Defect> for UpdateError {
    fn from(defect: Defect) -> Self {
        Self::Settings {
            message: defect.to_string(),
        }
    }
}
