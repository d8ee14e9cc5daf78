//! The control plane's side: says what to send to one proxy, in which order.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use prost::Message as _;
use selvedge_model::{Generation, ServiceName, Snapshot};

use crate::message::{Ack, ToProxy, Update};
use crate::settings::Settings;
use crate::wire;

/// A part is closed once its resources take this many bytes.
const PART_BYTES: usize = 1 << 20;

/// What one connection to a proxy is to be told.
///
/// One update is under way at a time; snapshots published meanwhile replace one another, so that a
/// slow proxy costs at most one update in memory and is never further behind than one. A new
/// connection gets a new publication.
#[derive(Debug)]
pub struct Publication {
    settings: Settings,
    wanted: Option<Arc<Snapshot>>,
    sent: Option<Sent>,
    queue: VecDeque<Update>,
    /// Names touched by the update that waits for its acknowledgement.
    under_way: Option<BTreeSet<String>>,
    acknowledged: Option<Generation>,
    refusals: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Sent {
    snapshot: Arc<Snapshot>,
    settings: Settings,
}

impl Publication {
    /// Has nothing to say until something is published.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            wanted: None,
            sent: None,
            queue: VecDeque::new(),
            under_way: None,
            acknowledged: None,
            refusals: BTreeMap::new(),
        }
    }

    /// Makes `snapshot` what the proxy should have, unless a newer one was published already. Then
    /// take frames from [`Publication::poll_transmit`].
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        let newest = self.wanted.as_ref().map(|wanted| wanted.generation);
        if newest <= Some(snapshot.generation) {
            self.wanted = Some(snapshot);
        }
    }

    /// Changes the settings. Then take frames from [`Publication::poll_transmit`].
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The next frame to send, or `None` until something is published or acknowledged.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if self.under_way.is_none() {
            self.begin_update();
        }
        let part = self.queue.pop_front()?;
        Some(ToProxy::Update(part).encode())
    }

    /// The proxy says what it has. Then take frames from [`Publication::poll_transmit`]. After an
    /// error close the connection.
    pub fn on_ack(&mut self, ack: &Ack) -> Result<(), UnexpectedAck> {
        let expected = self.sent.as_ref().map(|sent| sent.snapshot.generation);
        let complete = self.queue.is_empty() && expected == Some(ack.generation);
        let Some(touched) = self.under_way.take_if(|_| complete) else {
            return Err(UnexpectedAck {
                found: ack.generation,
            });
        };
        self.acknowledged = Some(ack.generation);
        self.refusals.retain(|name, _| !touched.contains(name));
        for refusal in &ack.refusals {
            if touched.contains(&refusal.resource) {
                self.refusals
                    .insert(refusal.resource.clone(), refusal.message.clone());
            }
        }
        Ok(())
    }

    /// The generation in force at the proxy.
    pub fn acknowledged(&self) -> Option<Generation> {
        self.acknowledged
    }

    /// Resources of the last updates that the proxy could not take, with what it says is wrong.
    pub fn refusals(&self) -> &BTreeMap<String, String> {
        &self.refusals
    }

    fn begin_update(&mut self) {
        let Some(wanted) = self.wanted.clone() else {
            return;
        };
        let unchanged = self.sent.as_ref().is_some_and(|sent| {
            sent.snapshot.generation == wanted.generation && sent.settings == self.settings
        });
        if unchanged {
            return;
        }
        let base = self.sent.as_ref().map(|sent| &*sent.snapshot);
        let mut parts = Parts::new(base, &wanted, &self.settings);
        parts.add_changes(base, &wanted);
        let (queue, touched) = parts.finish();
        self.queue = queue;
        self.under_way = Some(touched);
        self.sent = Some(Sent {
            snapshot: wanted,
            settings: self.settings.clone(),
        });
    }
}

/// Fills updates one after the other.
struct Parts {
    empty: wire::Update,
    open: wire::Update,
    open_bytes: usize,
    full: VecDeque<Update>,
    touched: BTreeSet<String>,
}

impl Parts {
    fn new(base: Option<&Snapshot>, next: &Snapshot, settings: &Settings) -> Self {
        let empty = wire::Update {
            base: base.map(|base| base.generation.0),
            generation: next.generation.0,
            range_address: next.virtual_range.0.to_bits(),
            range_prefix: next.virtual_range.1.into(),
            settings: Some(settings.into()),
            ..wire::Update::default()
        };
        Self {
            open: empty.clone(),
            empty,
            open_bytes: 0,
            full: VecDeque::new(),
            touched: BTreeSet::new(),
        }
    }

    fn add_changes(&mut self, base: Option<&Snapshot>, next: &Snapshot) {
        for (name, service) in &next.services {
            if base.and_then(|base| base.services.get(name)) != Some(service) {
                let service = wire::Service::from(service);
                let bytes = service.encoded_len();
                self.part_for(bytes).services.push(service);
                self.touch_service(name);
            }
        }
        for (cgroup, workload) in &next.workloads {
            if base.and_then(|base| base.workloads.get(cgroup)) != Some(workload) {
                let name = format!("Workload {}", workload.name);
                let workload = wire::Workload::from(workload);
                let bytes = workload.encoded_len();
                self.part_for(bytes).workloads.push(workload);
                self.touched.insert(name);
            }
        }
        self.add_routes(base, next);
        if let Some(base) = base {
            self.add_removals(base, next);
        }
    }

    fn add_routes(&mut self, base: Option<&Snapshot>, next: &Snapshot) {
        for (name, route) in &next.http_routes {
            if base.and_then(|base| base.http_routes.get(name)) != Some(route) {
                let route = wire::routes::HttpRoute::from(route);
                let bytes = route.encoded_len();
                self.part_for(bytes).http_routes.push(route);
                self.touched.insert(format!("HTTPRoute {name}"));
            }
        }
        for (name, route) in &next.tcp_routes {
            if base.and_then(|base| base.tcp_routes.get(name)) != Some(route) {
                let route = wire::routes::TcpRoute::from(route);
                let bytes = route.encoded_len();
                self.part_for(bytes).tcp_routes.push(route);
                self.touched.insert(format!("TCPRoute {name}"));
            }
        }
        for (name, gateway) in &next.gateways {
            if base.and_then(|base| base.gateways.get(name)) != Some(gateway) {
                let gateway = wire::gateways::Gateway::from(gateway);
                let bytes = gateway.encoded_len();
                self.part_for(bytes).gateways.push(gateway);
                self.touched.insert(format!("Gateway {name}"));
            }
        }
    }

    fn add_removals(&mut self, base: &Snapshot, next: &Snapshot) {
        for name in base.services.keys() {
            if !next.services.contains_key(name) {
                let removed = wire::Name::from(name);
                let bytes = removed.encoded_len();
                self.part_for(bytes).removed_services.push(removed);
                self.touch_service(name);
            }
        }
        for (cgroup, workload) in &base.workloads {
            if !next.workloads.contains_key(cgroup) {
                self.part_for(size_of::<u64>())
                    .removed_workloads
                    .push(cgroup.0);
                self.touched.insert(format!("Workload {}", workload.name));
            }
        }
        self.add_removed_routes(base, next);
    }

    fn add_removed_routes(&mut self, base: &Snapshot, next: &Snapshot) {
        for name in base.http_routes.keys() {
            if !next.http_routes.contains_key(name) {
                let removed = wire::Name::from(name);
                let bytes = removed.encoded_len();
                self.part_for(bytes).removed_http_routes.push(removed);
                self.touched.insert(format!("HTTPRoute {name}"));
            }
        }
        for name in base.tcp_routes.keys() {
            if !next.tcp_routes.contains_key(name) {
                let removed = wire::Name::from(name);
                let bytes = removed.encoded_len();
                self.part_for(bytes).removed_tcp_routes.push(removed);
                self.touched.insert(format!("TCPRoute {name}"));
            }
        }
        for name in base.gateways.keys() {
            if !next.gateways.contains_key(name) {
                let removed = wire::Name::from(name);
                let bytes = removed.encoded_len();
                self.part_for(bytes).removed_gateways.push(removed);
                self.touched.insert(format!("Gateway {name}"));
            }
        }
    }

    fn touch_service(&mut self, name: &ServiceName) {
        self.touched.insert(format!("Service {name}"));
    }

    /// The part that has room for `bytes` more.
    fn part_for(&mut self, bytes: usize) -> &mut wire::Update {
        if self.open_bytes > 0 && self.open_bytes + bytes > PART_BYTES {
            let full = core::mem::replace(&mut self.open, self.empty.clone());
            self.full.push_back(Update(Box::new(full)));
            self.open_bytes = 0;
        }
        self.open_bytes += bytes;
        &mut self.open
    }

    fn finish(mut self) -> (VecDeque<Update>, BTreeSet<String>) {
        self.open.last = true;
        self.full.push_back(Update(Box::new(self.open)));
        (self.full, self.touched)
    }
}

/// The proxy acknowledged what it was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("generation {found} was acknowledged, but is not the one under way")]
pub struct UnexpectedAck {
    /// What it says it has.
    pub found: Generation,
}
