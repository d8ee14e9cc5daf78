//! What an update says about the resources of one kind.

use alloc::collections::{BTreeMap, BTreeSet};

/// Parts of an update that are there so far, of one kind of resource.
#[derive(Debug)]
pub(super) struct Changes<K, R> {
    pub(super) taken: BTreeMap<K, R>,
    /// Named by the update, but not to be taken: whatever is there stays.
    kept: BTreeSet<K>,
    removed: BTreeSet<K>,
}

impl<K, R> Default for Changes<K, R> {
    fn default() -> Self {
        Self {
            taken: BTreeMap::new(),
            kept: BTreeSet::new(),
            removed: BTreeSet::new(),
        }
    }
}

impl<K: Ord, R> Changes<K, R> {
    pub(super) fn len(&self) -> usize {
        self.taken.len() + self.kept.len() + self.removed.len()
    }

    pub(super) fn take(&mut self, key: K, resource: R) {
        self.taken.insert(key, resource);
    }

    /// Notes that the resource of this key could not be taken.
    pub(super) fn keep(&mut self, key: K) {
        self.kept.insert(key);
    }

    pub(super) fn remove(&mut self, keys: impl Iterator<Item = K>) {
        self.removed.extend(keys);
    }

    /// Removes from what was there before what does not stay.
    pub(super) fn clear(&self, is_everything: bool, there: &mut BTreeMap<K, R>) {
        if is_everything {
            there.retain(|key, _| self.kept.contains(key));
        }
        for key in &self.removed {
            there.remove(key);
        }
    }

    /// Makes what was there before what it is to be.
    pub(super) fn apply(mut self, is_everything: bool, there: &mut BTreeMap<K, R>) {
        self.clear(is_everything, there);
        there.append(&mut self.taken);
    }
}
