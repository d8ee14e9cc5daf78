//! What `selvedge run` does to the objects: a Workload for each replica and, where nobody wrote one,
//! a Service.
//!
//! These are ordinary objects, marked as made by `run`. A Service made without ports has the ports
//! that its replicas are seen to listen on. It stays when its last replica ends: callers find its
//! name and address again, and what was counted keeps its name. Only one of which no program ever
//! started goes. Read next: `plane.rs`.

use std::sync::Arc;

use selvedge_model::{
    Diagnostic, Generation, Label, Port, PortMode, Protocol, ServiceName, WorkloadName,
};

use super::{Action, Change, Objects, Owner};
use crate::address::VirtualRange;
use crate::document::{
    self, CgroupRef, Document, Kind, Metadata, ObjectKey, Publish, ResolverSpec, ServiceSpec,
    ServiceSpecPort, Spec, TargetPort, WorkloadPlace, WorkloadPort, WorkloadSpec,
};

/// Marks a Service whose ports are those its replicas are seen to listen on.
const PORTS: &str = "selvedge.dev/ports";
const PORTS_SEEN: &str = "seen";
/// Where made objects come from, in messages.
const ORIGIN: &str = "selvedge run";
/// Most ports a Service may be seen to have. A program that listens on more is not understood.
const MAX_SEEN_PORTS: usize = 64;
/// Most replicas of one service on this host.
const MAX_REPLICAS: usize = 10_000;

/// A replica to place.
#[derive(Clone, Debug)]
pub struct PlaceRequest {
    /// The service it is to be a replica of; made where there is none.
    pub service: ServiceName,
    /// Ports to serve; empty means those it is seen to listen on.
    pub ports: Vec<WorkloadPort>,
    /// Ports on which callers outside the mesh reach the service.
    pub publish: Vec<Publish>,
    /// How its look-ups are answered.
    pub resolver: ResolverSpec,
    /// What happens to the ports it binds.
    pub port_mode: PortMode,
}

/// Why a replica was not placed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// No name is left.
    #[error("service {service} has {MAX_REPLICAS} replicas on this host, which is the most")]
    TooMany {
        /// The service.
        service: ServiceName,
    },
    /// The objects that would be made are wrong.
    #[error("service {service} cannot be run like this")]
    Refused {
        /// The service.
        service: ServiceName,
        /// Everything that is wrong.
        diagnostics: Vec<Diagnostic>,
    },
}

/// What came of a port that a replica is seen to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The service has it from now on.
    Served,
    /// The service has it already, or has only the ports that were declared.
    NotServed,
    /// The service has as many ports as it may be seen to have.
    NoRoom,
}

impl Objects {
    /// The first name of the form `service-N` that no Workload has and that is not reserved.
    pub(crate) fn free_replica_name(
        &self,
        service: &ServiceName,
        is_reserved: impl Fn(&WorkloadName) -> bool,
    ) -> Result<WorkloadName, PlaceError> {
        let namespace = &service.namespace;
        // Room for "-9999": a long service's replicas are named by its beginning.
        let stem = service.name.as_str().get(..Label::MAX_BYTES - 5);
        let stem = stem.unwrap_or(service.name.as_str());
        for number in 0..MAX_REPLICAS {
            let Ok(name) = Label::new(&format!("{stem}-{number}")) else {
                continue;
            };
            let key = ObjectKey::new(Kind::Workload, namespace, name.as_str());
            let name = WorkloadName {
                namespace: namespace.clone(),
                name,
            };
            if !self.map.contains_key(&key) && !is_reserved(&name) {
                return Ok(name);
            }
        }
        Err(PlaceError::TooMany {
            service: service.clone(),
        })
    }

    /// The Workload that publishes the port for a service other than `service`, and that service.
    pub(crate) fn published_for_another(
        &self,
        service: &ServiceName,
        wanted: &Publish,
    ) -> Option<(&Document, ServiceName)> {
        self.documents().find_map(|document| {
            let Spec::Workload(spec) = &document.spec else {
                return None;
            };
            let is_same = |publish: &Publish| {
                (publish.protocol, publish.port) == (wanted.protocol, wanted.port)
            };
            let other = service_of(document).filter(|other| other != service)?;
            spec.publish
                .iter()
                .any(is_same)
                .then_some((document, other))
        })
    }

    /// Stores a replica that now runs in `cgroup`, and its service where there is none.
    pub(crate) fn place(
        &mut self,
        request: &PlaceRequest,
        name: &WorkloadName,
        cgroup: &CgroupRef,
        generation: Generation,
        range: VirtualRange,
    ) -> Result<Vec<Change>, PlaceError> {
        let spec = WorkloadSpec {
            service: request.service.name.clone(),
            place: WorkloadPlace::Cgroup(cgroup.clone()),
            port_mode: request.port_mode,
            ports: request.ports.clone(),
            publish: request.publish.clone(),
            resolver: request.resolver.clone(),
        };
        let key = ObjectKey::new(Kind::Workload, &name.namespace, name.name.as_str());
        let made = Metadata::made_by_run();
        let mut documents = vec![Document::made(ORIGIN, key, made, Spec::Workload(spec))];
        documents.extend(self.service_for(request));
        let errors = documents.iter().flat_map(unreadable).collect();
        let accepted = self.accept(documents, Owner::Api, generation, range, errors);
        accepted.map_err(|diagnostics| PlaceError::Refused {
            service: request.service.clone(),
            diagnostics,
        })
    }

    /// The Service as it must be for this replica; `None` where somebody wrote it.
    fn service_for(&self, request: &PlaceRequest) -> Option<Document> {
        let service = &request.service;
        let key = ObjectKey::new(Kind::Service, &service.namespace, service.name.as_str());
        let mut document = match self.map.get(&key) {
            Some(object) if !object.document.metadata.is_made_by_run() => return None,
            Some(object) => object.document.clone(),
            None => {
                let metadata = Metadata::made_by_run();
                Document::made(ORIGIN, key, metadata, Spec::Service(ServiceSpec::default()))
            }
        };
        if request.ports.is_empty() {
            document
                .metadata
                .annotations
                .insert(PORTS.to_owned(), PORTS_SEEN.to_owned());
        }
        let Spec::Service(spec) = &mut document.spec else {
            return None;
        };
        for port in &request.ports {
            spec.add_port(port);
        }
        Some(document)
    }

    /// Removes the Workload that `run` made for `cgroup`, now that nothing runs in it.
    pub(crate) fn remove_placed(&mut self, cgroup: &CgroupRef) -> Option<Change> {
        let key = self.placed_in(cgroup)?.key.clone();
        Arc::make_mut(&mut self.map).remove(&key);
        Some(Change {
            key,
            action: Action::Deleted,
        })
    }

    /// The service whose replica `run` placed in `cgroup`.
    pub(crate) fn service_placed_in(&self, cgroup: &CgroupRef) -> Option<ServiceName> {
        service_of(self.placed_in(cgroup)?)
    }

    fn placed_in(&self, cgroup: &CgroupRef) -> Option<&Document> {
        self.documents().find(|document| {
            let is_there = matches!(
                &document.spec,
                Spec::Workload(spec) if spec.place == WorkloadPlace::Cgroup(cgroup.clone())
            );
            is_there && document.metadata.is_made_by_run()
        })
    }

    /// Removes a Service that `run` made, unless it has replicas or other endpoints.
    pub(crate) fn remove_unused(&mut self, service: &ServiceName) {
        let key = ObjectKey::new(Kind::Service, &service.namespace, service.name.as_str());
        let made = self.map.get(&key);
        let is_made = made.is_some_and(|object| object.document.metadata.is_made_by_run());
        let is_used = self
            .documents()
            .any(|document| service_of(document).as_ref() == Some(service));
        if is_made && !is_used {
            Arc::make_mut(&mut self.map).remove(&key);
        }
    }

    /// Gives a Service the port that one of its replicas is seen to listen on. Ports on which no
    /// replica listens any more (`is_idle`) leave then, and not earlier: a service whose replicas
    /// all restart keeps its ports, and a program that listens on changing ones does not pile
    /// them up.
    pub(crate) fn see_port(
        &mut self,
        service: &ServiceName,
        protocol: Protocol,
        port: Port,
        is_idle: impl Fn(Protocol, Port) -> bool,
        generation: Generation,
    ) -> Seen {
        let key = ObjectKey::new(Kind::Service, &service.namespace, service.name.as_str());
        let Some(object) = self.map.get(&key) else {
            return Seen::NotServed;
        };
        let mut document = object.document.clone();
        if document
            .metadata
            .annotations
            .get(PORTS)
            .is_none_or(|ports| ports != PORTS_SEEN)
        {
            return Seen::NotServed;
        }
        let Spec::Service(spec) = &mut document.spec else {
            return Seen::NotServed;
        };
        if spec
            .ports
            .iter()
            .any(|known| (known.protocol, known.port) == (protocol, port))
        {
            return Seen::NotServed;
        }
        spec.ports
            .retain(|known| !is_idle(known.protocol, known.port));
        if spec.ports.len() >= MAX_SEEN_PORTS {
            return Seen::NoRoom;
        }
        spec.add_port(&WorkloadPort {
            name: None,
            port,
            protocol,
        });
        if !unreadable(&document).is_empty() {
            return Seen::NoRoom;
        }
        self.put(document, Owner::Api, generation);
        Seen::Served
    }
}

/// The service that an object gives endpoints to.
fn service_of(document: &Document) -> Option<ServiceName> {
    let service = match &document.spec {
        Spec::Workload(spec) => &spec.service,
        Spec::EndpointSlice(slice) => &slice.service,
        _ => return None,
    };
    let namespace = document.key.namespace.clone()?;
    Some(ServiceName::new(namespace, service.clone()))
}

/// What would be wrong with a made object if somebody had written it: it is stored in that form, and
/// people read it back and change it.
fn unreadable(document: &Document) -> Vec<Diagnostic> {
    document::from_json(ORIGIN, document.to_json())
        .err()
        .unwrap_or_default()
}

impl ServiceSpec {
    /// Adds a port under its name or one made of its number, unless it is there.
    fn add_port(&mut self, port: &WorkloadPort) {
        let same = |known: &&mut ServiceSpecPort| {
            (known.protocol, known.port) == (port.protocol, port.port)
        };
        if let Some(known) = self.ports.iter_mut().find(same) {
            known.name = port.name.clone().or_else(|| known.name.clone());
            return;
        }
        let name = port.name.clone().or_else(|| {
            let protocol = port.protocol.to_string().to_ascii_lowercase();
            Label::new(&format!("{protocol}-{}", port.port)).ok()
        });
        self.ports.push(ServiceSpecPort {
            name,
            port: port.port,
            protocol: port.protocol,
            target: TargetPort::Number(port.port),
            app_protocol: None,
        });
    }
}
