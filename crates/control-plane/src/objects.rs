//! The stored objects and every way they may change.
//!
//! Pure: a change is made on a copy, judged, and only then takes the old set's place (`plane.rs`).
//! The folder given by `--config` owns its objects; nobody else may change them. Read next:
//! `objects/placement.rs` for what `selvedge run` does, then `store.rs`.

mod placement;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use selvedge_model::{Diagnostic, Generation};

use crate::address::VirtualRange;
use crate::compile::service_name;
use crate::document::{Document, Kind, ObjectKey, RunPermission, Spec};

pub(crate) use placement::Seen;
pub use placement::{PlaceError, PlaceRequest};

/// Who may change an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The folder given by `--config`: the object's origin names the file.
    Folder,
    /// Everybody who may use the API.
    Api,
}

/// A stored object.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it says.
    pub document: Document,
    /// Who may change it.
    pub owner: Owner,
    /// The generation it last changed in.
    pub version: Generation,
}

/// What a change did to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The object.
    pub key: ObjectKey,
    /// What became of it.
    pub action: Action,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Created,
    /// It says something else now.
    Changed,
    /// It says what it said.
    Unchanged,
    /// It is gone.
    Deleted,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        })
    }
}

/// All stored objects. Cloning is cheap: a copy is made when one of the two changes.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    map: Arc<BTreeMap<ObjectKey, Arc<Object>>>,
}

impl Objects {
    /// Objects as they were stored.
    pub(crate) fn restored(objects: impl IntoIterator<Item = Object>) -> Self {
        let keyed = |object: Object| (object.document.key.clone(), Arc::new(object));
        let map = objects.into_iter().map(keyed).collect();
        Self { map: Arc::new(map) }
    }

    /// Whether both hold the same objects at the same versions.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        let one = self.map.iter().map(|(key, object)| (key, object.version));
        let two = other.map.iter().map(|(key, object)| (key, object.version));
        Arc::ptr_eq(&self.map, &other.map) || one.eq(two)
    }

    /// Creates or replaces objects as an API caller, all or none.
    pub fn apply(
        &mut self,
        documents: Vec<Document>,
        generation: Generation,
        range: VirtualRange,
    ) -> Result<Vec<Change>, Vec<Diagnostic>> {
        let mut errors = refuse_doubles(&documents);
        for document in &documents {
            errors.extend(self.refuse_owned(document));
            errors.extend(self.refuse_stale(document));
        }
        self.accept(documents, Owner::Api, generation, range, errors)
    }

    /// As [`Self::apply`], but as if nobody owned anything.
    pub(crate) fn judge(
        &mut self,
        documents: Vec<Document>,
        generation: Generation,
        range: VirtualRange,
    ) -> Result<Vec<Change>, Vec<Diagnostic>> {
        let errors = refuse_doubles(&documents);
        self.accept(documents, Owner::Api, generation, range, errors)
    }

    /// Makes the folder's objects exactly these, all or none. Objects that the API made before the
    /// folder had them become the folder's.
    pub fn replace_folder(
        &mut self,
        documents: Vec<Document>,
        generation: Generation,
        range: VirtualRange,
    ) -> Result<Vec<Change>, Vec<Diagnostic>> {
        let errors = refuse_doubles(&documents);
        let kept: BTreeSet<_> = documents
            .iter()
            .map(|document| document.key.clone())
            .collect();
        let owned = self
            .map
            .values()
            .filter(|object| object.owner == Owner::Folder);
        let owned = owned.map(|object| object.document.key.clone());
        let gone: Vec<_> = owned.filter(|key| !kept.contains(key)).collect();
        let mut changes = self.accept(documents, Owner::Folder, generation, range, errors)?;
        for key in gone {
            Arc::make_mut(&mut self.map).remove(&key);
            changes.push(Change {
                key,
                action: Action::Deleted,
            });
        }
        Ok(changes)
    }

    /// Removes an object as an API caller.
    pub fn delete(&mut self, key: &ObjectKey) -> Result<Change, DeleteError> {
        let Some(object) = self.map.get(key) else {
            return Err(DeleteError::Absent { key: key.clone() });
        };
        if object.owner == Owner::Folder {
            let file = object.document.origin.to_string();
            return Err(DeleteError::Owned {
                key: key.clone(),
                file,
            });
        }
        Arc::make_mut(&mut self.map).remove(key);
        Ok(Change {
            key: key.clone(),
            action: Action::Deleted,
        })
    }

    /// The object with this key.
    pub fn find(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.map.get(key)
    }

    /// All objects, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.map.values()
    }

    /// All documents, in the same order.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.map.values().map(|object| &object.document)
    }

    /// Who may run what; nobody but root where it was not said.
    pub fn run_permission(&self) -> RunPermission {
        let key = RunPermission::key();
        match self.map.get(&key).map(|object| &object.document.spec) {
            Some(Spec::RunPermission(permission)) => permission.clone(),
            _ => RunPermission::default(),
        }
    }

    /// Says what a caller of the API must not change.
    fn refuse_owned(&self, document: &Document) -> Option<Diagnostic> {
        let object = self.map.get(&document.key)?;
        let file = &object.document.origin;
        (object.owner == Owner::Folder)
            .then(|| document.diagnostic("", format!("belongs to {file}; change it there")))
    }

    /// An object read at one version does not overwrite a later one.
    fn refuse_stale(&self, document: &Document) -> Option<Diagnostic> {
        let object = self.map.get(&document.key)?;
        let read_at = document.metadata.resource_version?;
        (read_at != object.version.0).then(|| {
            let now = object.version;
            let message = format!(
                "is {read_at}, but the object has changed since and is at {now}; read it again, \
                 or leave this out to overwrite it"
            );
            document.diagnostic("metadata.resourceVersion", message)
        })
    }

    fn accept(
        &mut self,
        documents: Vec<Document>,
        owner: Owner,
        generation: Generation,
        range: VirtualRange,
        mut errors: Vec<Diagnostic>,
    ) -> Result<Vec<Change>, Vec<Diagnostic>> {
        let mut taken = self.taken_addresses(&documents);
        let mut changes = Vec::with_capacity(documents.len());
        for mut document in documents {
            if let Err(error) = self.settle_address(&mut document, &mut taken, range) {
                errors.push(error);
                continue;
            }
            changes.push(self.put(document, owner, generation));
        }
        if errors.is_empty() {
            Ok(changes)
        } else {
            Err(errors)
        }
    }

    /// Stores a document; an unchanged one keeps its version.
    fn put(&mut self, document: Document, owner: Owner, generation: Generation) -> Change {
        let key = document.key.clone();
        let action = match self.map.get(&key) {
            None => Action::Created,
            Some(old) if old.owner == owner && old.document.says_the_same_as(&document) => {
                Action::Unchanged
            }
            Some(_) => Action::Changed,
        };
        let version = match self.map.get(&key) {
            Some(old) if action == Action::Unchanged => old.version,
            _ => generation,
        };
        // Stored even when unchanged: the text may have moved to another line.
        Arc::make_mut(&mut self.map).insert(
            key.clone(),
            Arc::new(Object {
                document,
                owner,
                version,
            }),
        );
        Change { key, action }
    }

    /// Addresses of stored Services and those the documents ask for.
    fn taken_addresses(&self, documents: &[Document]) -> BTreeSet<Ipv4Addr> {
        let all = self.documents().chain(documents);
        all.filter_map(cluster_ip).collect()
    }

    /// Gives a Service the address it has, or a new one. An address is for life: programs hold it.
    fn settle_address(
        &self,
        document: &mut Document,
        taken: &mut BTreeSet<Ipv4Addr>,
        range: VirtualRange,
    ) -> Result<(), Diagnostic> {
        let before = self
            .map
            .get(&document.key)
            .and_then(|object| cluster_ip(&object.document));
        let Spec::Service(spec) = &document.spec else {
            return Ok(());
        };
        let wanted = match (before, spec.cluster_ip) {
            (Some(before), Some(wanted)) if before != wanted => {
                let message = format!(
                    "is {before} for the life of the service; delete the service to give it another"
                );
                return Err(document.diagnostic("spec.clusterIP", message));
            }
            (before, wanted) => before.or(wanted),
        };
        let Some(name) = service_name(document) else {
            return Ok(());
        };
        let Some(address) = wanted.or_else(|| range.choose(&name, taken)) else {
            return Err(document.diagnostic("spec.clusterIP", "the virtual range is full"));
        };
        taken.insert(address);
        if let Spec::Service(spec) = &mut document.spec {
            spec.cluster_ip = Some(address);
        }
        Ok(())
    }
}

fn cluster_ip(document: &Document) -> Option<Ipv4Addr> {
    match &document.spec {
        Spec::Service(spec) => spec.cluster_ip,
        _ => None,
    }
}

/// An object is written once in a set, and there is one RunPermission.
fn refuse_doubles(documents: &[Document]) -> Vec<Diagnostic> {
    let mut seen = BTreeMap::new();
    let mut errors = Vec::new();
    for document in documents {
        if let Some(first) = seen.insert(&document.key, document) {
            let message = format!("is written twice; the other is at {}", first.origin);
            errors.push(document.diagnostic("", message));
        }
        if document.key.kind == Kind::RunPermission && document.key != RunPermission::key() {
            let message = "there is one RunPermission and its name is `default`: one look shows \
                           everybody who may run what";
            errors.push(document.diagnostic("metadata.name", message));
        }
    }
    errors
}

/// Why an object was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// There is no such object.
    #[error("there is no {key}")]
    Absent {
        /// What was asked for.
        key: ObjectKey,
    },
    /// It belongs to the configuration folder.
    #[error("{key} belongs to {file}; delete it there")]
    Owned {
        /// The object.
        key: ObjectKey,
        /// Where it is written.
        file: String,
    },
}

#[cfg(test)]
mod tests;
