//! A consistent configuration: objects and the snapshot they compile to.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_model::{CgroupId, Diagnostic, Generation, Snapshot};

use selvedge_resilience::planner::Plan;

use crate::address::VirtualRange;
use crate::compile::{Condition, Facts, compile};
use crate::document::CgroupRef;
use crate::objects::Objects;

/// Objects, the cgroups known, and what they compile to. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Configuration {
    pub(super) objects: Objects,
    pub(super) cgroups: Arc<BTreeMap<CgroupRef, CgroupId>>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) conditions: Arc<[Condition]>,
    /// What is left of objectives for the services behind them.
    pub(super) plan: Arc<Plan>,
}

impl Configuration {
    /// What was stored. It was consistent then, but perhaps with another range: if it contradicts
    /// itself now, nothing of it is in force until it is mended, and the contradictions come back.
    pub(super) fn restore(
        objects: Objects,
        generation: Generation,
        range: VirtualRange,
    ) -> (Self, Vec<Diagnostic>) {
        let mut snapshot = Snapshot::empty();
        snapshot.generation = generation;
        snapshot.virtual_range = range.parts();
        let mut restored = Self {
            objects,
            cgroups: Arc::default(),
            snapshot: Arc::new(snapshot),
            conditions: Arc::new([]),
            plan: Arc::default(),
        };
        let refused = restored
            .compile(generation, range)
            .err()
            .unwrap_or_default();
        (restored, refused)
    }

    /// Tries a change. An error leaves everything as it was; a change that changes nothing keeps
    /// the very same snapshot.
    pub(super) fn with<T, E: From<Vec<Diagnostic>>>(
        &self,
        generation: Generation,
        range: VirtualRange,
        change: impl FnOnce(&mut Objects, &mut BTreeMap<CgroupRef, CgroupId>) -> Result<T, E>,
    ) -> Result<(T, Self), E> {
        let mut next = self.clone();
        let mut cgroups = BTreeMap::clone(&self.cgroups);
        let value = change(&mut next.objects, &mut cgroups)?;
        if next.objects.is_same_as(&self.objects) && cgroups == *self.cgroups {
            return Ok((value, next));
        }
        next.cgroups = Arc::new(cgroups);
        next.compile(generation, range)?;
        Ok((value, next))
    }

    /// With another plan.
    pub(super) fn planned(
        &self,
        generation: Generation,
        range: VirtualRange,
        plan: Plan,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut next = self.clone();
        next.plan = Arc::new(plan);
        next.compile(generation, range)?;
        Ok(next)
    }

    fn compile(
        &mut self,
        generation: Generation,
        virtual_range: VirtualRange,
    ) -> Result<(), Vec<Diagnostic>> {
        let facts = Facts {
            generation,
            virtual_range,
            cgroups: &self.cgroups,
            plan: &self.plan,
        };
        let compiled = compile(self.objects.documents(), facts)?;
        self.snapshot = Arc::new(compiled.snapshot);
        self.conditions = compiled.conditions.into();
        Ok(())
    }
}
