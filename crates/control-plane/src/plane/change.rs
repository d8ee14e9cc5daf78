//! What each command does to the configuration.
//!
//! Nothing here waits: a command is carried out at once on what is now, and `plane.rs` then makes
//! the outcome durable and visible.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use selvedge_model::{CgroupId, Diagnostic, Generation, Port, Protocol, WorkloadName};
use selvedge_resilience::planner::Plan;
use selvedge_telemetry::{info, warn};

use super::Plane;
use super::configuration::Configuration;
use super::handle::{Applied, ApplyError, Command, Effect, Placed, Placement, Reply};
use super::view::FolderState;
use crate::document::{CgroupRef, Document, Kind};
use crate::objects::{Action, Change, DeleteError, Objects, PlaceError, Seen};
use crate::{ConditionReason, ObjectKey};

/// Ports seen at most; more are served without being noted, and counted.
const MAX_SEEN: usize = 65_536;

impl Plane {
    /// Carries out a command; what is to be answered comes back.
    pub(super) fn handle(&mut self, command: Command) -> Option<Reply> {
        match command {
            Command::Apply(documents, effect, reply) => {
                Some(Reply::Apply(self.apply(documents, effect), reply))
            }
            Command::Delete(key, reply) => Some(Reply::Delete(self.delete(&key), reply)),
            Command::Reserve(service, reply) => {
                let is_reserved = |name: &WorkloadName| self.reserved.contains(name);
                let found = self.now.objects.free_replica_name(&service, is_reserved);
                if let Ok(name) = &found {
                    self.reserved.insert(name.clone());
                }
                Some(Reply::Reserve(found, reply))
            }
            Command::Place(placement, reply) => Some(Reply::Place(self.place(*placement), reply)),
            Command::Cgroups { found, gone, reply } => {
                self.take_cgroups(found, &gone);
                Some(Reply::Done(reply))
            }
            Command::Release(name) => {
                self.reserved.remove(&name);
                None
            }
            // Ends the task before it comes here; nothing is left to do.
            Command::Close => None,
            Command::Folder(path, read) => {
                self.take_folder(path, read);
                None
            }
            Command::Plan(plan) => {
                self.take_plan(plan);
                None
            }
            Command::NotStarted(reference) => {
                self.note_not_started(reference);
                None
            }
            Command::Emptied(cgroup) => {
                self.take_away(cgroup);
                None
            }
            Command::PortSeen(cgroup, protocol, port) => {
                self.note_port(cgroup, protocol, port);
                None
            }
            Command::PortGone(cgroup, protocol, port) => {
                self.seen.remove(&(cgroup, protocol, port));
                None
            }
        }
    }

    /// Tries a change on a copy of what is now.
    fn attempt<T, E: From<Vec<Diagnostic>>>(
        &self,
        change: impl FnOnce(
            &mut Objects,
            &mut BTreeMap<CgroupRef, CgroupId>,
            Generation,
        ) -> Result<T, E>,
    ) -> Result<(T, Configuration), E> {
        let generation = self.next_generation();
        self.now.with(generation, self.range, |objects, cgroups| {
            change(objects, cgroups, generation)
        })
    }

    /// The generation that everything carried out until the next commit belongs to.
    fn next_generation(&self) -> Generation {
        Generation(self.view.snapshot.generation.0 + 1)
    }

    fn apply(&mut self, documents: Vec<Document>, effect: Effect) -> Result<Applied, ApplyError> {
        let keys: Vec<_> = documents
            .iter()
            .map(|document| document.key.clone())
            .collect();
        let range = self.range;
        let (changes, next) = self.attempt(|objects, _, generation| match effect {
            Effect::JudgeUnowned => objects.judge(documents, generation, range),
            Effect::Change | Effect::Judge => objects.apply(documents, generation, range),
        })?;
        // What refers to nothing is a mistake in what is applied now, though not in what is there.
        let dangling = next.conditions.iter().filter(|condition| {
            condition.reason == ConditionReason::ServiceMissing && keys.contains(&condition.key)
        });
        let dangling: Vec<_> = dangling
            .map(|condition| condition.diagnostic.clone())
            .collect();
        if !dangling.is_empty() {
            return Err(ApplyError::Refused(dangling));
        }
        // Of others too, where this brings it about: a route that takes all requests of another.
        let warnings = next.conditions.iter().filter(|condition| {
            let is_of_this = keys.contains(&condition.key);
            let is_new = || !self.now.conditions.contains(condition);
            condition.reason.is_mistake() && (is_of_this || is_new())
        });
        let warnings = warnings.map(|condition| condition.diagnostic.clone());
        let applied = Applied {
            generation: next.snapshot.generation,
            changes,
            warnings: warnings.collect(),
        };
        if effect == Effect::Change {
            log_changes("api", &applied.changes);
            self.now = next;
        }
        Ok(applied)
    }

    fn delete(&mut self, key: &ObjectKey) -> Result<Change, ApplyError> {
        let (change, next) =
            self.attempt(|objects, _, _| objects.delete(key).map_err(ApplyError::Delete))?;
        log_changes("api", std::slice::from_ref(&change));
        self.now = next;
        Ok(change)
    }

    /// Makes the objects of a replica whose cgroup is there.
    fn place(&mut self, placement: Placement) -> Result<Placed, PlaceError> {
        let Placement {
            request,
            name,
            reference,
            cgroup,
        } = placement;
        self.reserved.remove(&name);
        let range = self.range;
        let placed = self.attempt(|objects, cgroups, generation| {
            cgroups.insert(reference.clone(), cgroup);
            let placed = objects.place(&request, &name, &reference, generation, range);
            placed.map_err(PlaceFailure::Place)
        });
        match placed {
            Ok((changes, next)) => {
                self.now = next;
                let is_new = |change: &Change| {
                    change.key.kind == Kind::Service && change.action == Action::Created
                };
                if changes.iter().any(is_new) {
                    self.unproven.insert(request.service, BTreeSet::new());
                }
            }
            Err(PlaceFailure::Place(error)) => return Err(error),
            Err(PlaceFailure::Compile(diagnostics)) => {
                let service = request.service;
                return Err(PlaceError::Refused {
                    service,
                    diagnostics,
                });
            }
        }
        let seen = self.seen.iter().filter(|(of, _, _)| *of == cgroup).copied();
        for (cgroup, protocol, port) in seen.collect::<Vec<_>>() {
            self.serve_port(cgroup, protocol, port);
        }
        Ok(Placed {
            name,
            generation: self.now.snapshot.generation,
        })
    }

    fn take_folder(&mut self, path: String, read: Result<Vec<Document>, Vec<Diagnostic>>) {
        let range = self.range;
        let taken = read.and_then(|documents| {
            self.attempt(|objects, _, generation| {
                objects.replace_folder(documents, generation, range)
            })
        });
        let errors = match taken {
            Ok((changes, next)) => {
                log_changes(&path, &changes);
                self.now = next;
                Vec::new()
            }
            Err(errors) => {
                errors.iter().for_each(|error| warn!("{error}"));
                warn!("{path} is not taken; the configuration before it stays in force");
                errors
            }
        };
        self.view.folder = Some(FolderState {
            path,
            errors: errors.into(),
            read_at: Instant::now(),
        });
    }

    fn take_plan(&mut self, plan: Plan) {
        if plan == *self.now.plan {
            return;
        }
        match self.now.planned(self.next_generation(), self.range, plan) {
            Ok(next) => self.now = next,
            Err(errors) => errors.iter().for_each(|error| warn!("{error}")),
        }
    }

    /// The last process of a cgroup is gone.
    fn take_away(&mut self, cgroup: CgroupId) {
        self.seen.retain(|(seen, _, _)| *seen != cgroup);
        let named = self.now.cgroups.iter().find(|(_, id)| **id == cgroup);
        if let Some((reference, _)) = named {
            let reference = reference.clone();
            self.take_cgroups(BTreeMap::new(), &[reference]);
        }
    }

    /// Takes note of cgroups that appeared or went. A Workload that `run` made goes with its cgroup.
    fn take_cgroups(&mut self, found: BTreeMap<CgroupRef, CgroupId>, gone: &[CgroupRef]) {
        for reference in gone {
            self.note_started(reference);
        }
        let taken = self.attempt(|objects, cgroups, _| {
            cgroups.extend(found);
            for reference in gone {
                let service = objects.service_placed_in(reference);
                cgroups.remove(reference);
                objects.remove_placed(reference);
                if let Some(service) = service.filter(|it| self.unproven.contains_key(it)) {
                    objects.remove_unused(&service);
                }
            }
            Ok::<_, Vec<Diagnostic>>(())
        });
        match taken {
            Ok(((), next)) => self.now = next,
            Err(errors) => errors.iter().for_each(|error| warn!("{error}")),
        }
        let services = &self.now.snapshot.services;
        self.unproven.retain(|it, _| services.contains_key(it));
    }

    fn note_not_started(&mut self, reference: CgroupRef) {
        let service = self.now.objects.service_placed_in(&reference);
        if let Some(failed) = service.and_then(|service| self.unproven.get_mut(&service)) {
            failed.insert(reference);
        }
    }

    /// A replica has ended whose program had started, unless it was said that it had not.
    fn note_started(&mut self, reference: &CgroupRef) {
        let Some(service) = self.now.objects.service_placed_in(reference) else {
            return;
        };
        let failed = self.unproven.get_mut(&service);
        if failed.is_some_and(|failed| !failed.remove(reference)) {
            self.unproven.remove(&service);
        }
    }

    fn note_port(&mut self, cgroup: CgroupId, protocol: Protocol, port: Port) {
        if self.seen.len() >= MAX_SEEN {
            self.view.unseen_ports += 1;
            return;
        }
        self.seen.insert((cgroup, protocol, port));
        self.serve_port(cgroup, protocol, port);
    }

    /// Gives a service the port one of its replicas listens on, where it has the ports it is seen on.
    fn serve_port(&mut self, cgroup: CgroupId, protocol: Protocol, port: Port) {
        let workloads = &self.now.snapshot.workloads;
        let Some(workload) = workloads.get(&cgroup) else {
            return;
        };
        let service = &workload.service;
        let replicas = workloads
            .values()
            .filter(|replica| replica.service == *service);
        let replicas: Vec<_> = replicas.map(|replica| replica.cgroup).collect();
        let is_idle = |protocol, port| {
            !replicas
                .iter()
                .any(|replica| self.seen.contains(&(*replica, protocol, port)))
        };
        let served = self.attempt(|objects, _, generation| {
            let seen = objects.see_port(service, protocol, port, is_idle, generation);
            Ok::<_, Vec<Diagnostic>>(seen)
        });
        match served {
            Ok((Seen::NoRoom, _)) => self.view.unseen_ports += 1,
            Ok((_, next)) => self.now = next,
            Err(errors) => errors.iter().for_each(|error| warn!("{error}")),
        }
    }
}

/// Why the objects of a replica were not made.
enum PlaceFailure {
    Place(PlaceError),
    Compile(Vec<Diagnostic>),
}

impl From<Vec<Diagnostic>> for PlaceFailure {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self::Compile(diagnostics)
    }
}

impl From<Vec<Diagnostic>> for ApplyError {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self::Refused(diagnostics)
    }
}

impl From<DeleteError> for ApplyError {
    fn from(error: DeleteError) -> Self {
        Self::Delete(error)
    }
}

fn log_changes(source: &str, changes: &[Change]) {
    for change in changes
        .iter()
        .filter(|change| change.action != Action::Unchanged)
    {
        info!("{source}: {} {}", change.key, change.action);
    }
}
