//! The proxy's side: applies updates and says what to answer.

mod changes;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use selvedge_model::{
    CgroupId, Gateway, GatewayName, Generation, HttpRoute, RouteName, Service, ServiceName,
    Snapshot, TcpRoute, Workload,
};

use crate::convert::{self, Defect};
use crate::message::{Ack, Update};
use crate::settings::Settings;
use crate::wire;
use changes::Changes;

/// What is in force at the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Services, workloads and routes. What they name may be missing where it was refused.
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
    services: Changes<ServiceName, Service>,
    workloads: Changes<CgroupId, Workload>,
    http_routes: Changes<RouteName, HttpRoute>,
    tcp_routes: Changes<RouteName, TcpRoute>,
    gateways: Changes<GatewayName, Gateway>,
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
            services: Changes::default(),
            workloads: Changes::default(),
            http_routes: Changes::default(),
            tcp_routes: Changes::default(),
            gateways: Changes::default(),
            ack: Ack {
                generation,
                ..Ack::default()
            },
        }
    }

    fn len(&self) -> usize {
        let things = self.services.len() + self.workloads.len();
        things + self.http_routes.len() + self.tcp_routes.len() + self.gateways.len()
    }

    fn take_part(&mut self, part: &mut wire::Update) {
        for service in part.services.drain(..) {
            let resource = resource("Service", &service.name);
            let name = ServiceName::try_from(service.name.clone()).ok();
            take(&mut self.services, &mut self.ack, resource, name, service);
        }
        for workload in part.workloads.drain(..) {
            let resource = resource("Workload", &workload.name);
            let cgroup = Some(CgroupId(workload.cgroup));
            take(
                &mut self.workloads,
                &mut self.ack,
                resource,
                cgroup,
                workload,
            );
        }
        for route in part.http_routes.drain(..) {
            let resource = resource("HTTPRoute", &route.name);
            let name = RouteName::try_from(route.name.clone()).ok();
            take(&mut self.http_routes, &mut self.ack, resource, name, route);
        }
        for route in part.tcp_routes.drain(..) {
            let resource = resource("TCPRoute", &route.name);
            let name = RouteName::try_from(route.name.clone()).ok();
            take(&mut self.tcp_routes, &mut self.ack, resource, name, route);
        }
        for gateway in part.gateways.drain(..) {
            let resource = resource("Gateway", &gateway.name);
            let name = GatewayName::try_from(gateway.name.clone()).ok();
            take(&mut self.gateways, &mut self.ack, resource, name, gateway);
        }
        self.services.remove(names(&mut part.removed_services));
        let cgroups = part.removed_workloads.drain(..);
        self.workloads.remove(cgroups.map(CgroupId));
        self.http_routes
            .remove(names(&mut part.removed_http_routes));
        self.tcp_routes.remove(names(&mut part.removed_tcp_routes));
        self.gateways.remove(names(&mut part.removed_gateways));
    }

    /// Builds the new snapshot on what was there before.
    fn complete(mut self, range: (Ipv4Addr, u8), before: Option<&View>) -> (Snapshot, Ack) {
        let mut next = before.map_or_else(Snapshot::empty, |view| view.snapshot.clone());
        let is_everything = self.base.is_none();
        self.services.clear(is_everything, &mut next.services);
        self.merge_services(&mut next.services);
        self.workloads.apply(is_everything, &mut next.workloads);
        self.http_routes.apply(is_everything, &mut next.http_routes);
        self.tcp_routes.apply(is_everything, &mut next.tcp_routes);
        self.gateways.apply(is_everything, &mut next.gateways);
        next.generation = self.generation;
        next.virtual_range = range;
        (next, self.ack)
    }

    /// Puts the new services among those that stay. An address has one holder: who holds it already
    /// keeps it, among new ones the first by name gets it.
    fn merge_services(&mut self, services: &mut BTreeMap<ServiceName, Service>) {
        let staying = services
            .values()
            .filter(|service| !self.services.taken.contains_key(&service.name));
        let mut holders: BTreeMap<Ipv4Addr, ServiceName> = staying
            .map(|service| (service.address, service.name.clone()))
            .collect();
        let mut refused = BTreeMap::new();
        for (name, service) in core::mem::take(&mut self.services.taken) {
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

fn resource(kind: &str, name: &wire::Name) -> String {
    format!("{kind} {}.{}", name.name, name.namespace)
}

/// A name that is none cannot be that of anything here.
fn names<N: TryFrom<wire::Name>>(wire: &mut Vec<wire::Name>) -> impl Iterator<Item = N> {
    wire.drain(..).filter_map(|name| N::try_from(name).ok())
}

/// Takes a resource, or refuses it by name.
fn take<K: Ord, W, R: TryFrom<W, Error = Defect>>(
    changes: &mut Changes<K, R>,
    ack: &mut Ack,
    resource: String,
    key: Option<K>,
    wire: W,
) {
    match (R::try_from(wire), key) {
        (Ok(taken), Some(key)) => changes.take(key, taken),
        (Ok(_), None) => ack.refuse(resource, "it has no name".to_string()),
        (Err(defect), key) => {
            key.into_iter().for_each(|key| changes.keep(key));
            ack.refuse(resource, defect.to_string());
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
