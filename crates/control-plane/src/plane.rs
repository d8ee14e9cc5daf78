//! The one owner of the configuration: every change goes through its queue, one after another.
//!
//! A change is tried on a copy, compiled, stored and then published as a new generation, so nobody
//! ever sees half of one. What people ask for (`apply`, `delete`) is refused when it cannot be made
//! durable: a configuration that is gone after the next start would be a lie. What has happened
//! already (replicas placed, ports seen, the folder's text) takes effect even then, and `status`
//! says that the state is not durable. Read next: `plane/change.rs` for what the commands do,
//! `plane/handle.rs` for asking, `plane/view.rs` for what everybody can read.

mod change;
mod configuration;
mod handle;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_model::{CgroupId, Generation, Port, Protocol, ServiceName, Snapshot, WorkloadName};
use selvedge_telemetry::{info, log, warn};
use tokio::sync::{mpsc, watch};
use tokio::time::{self, timeout_at};

use crate::address::VirtualRange;
use crate::document::CgroupRef;
use crate::store::{Disk, Restored, Store, StoreError};

use configuration::Configuration;
use handle::Command;
pub use handle::{Applied, ApplyError, ControlPlane, Effect, Gone, Placed};
pub use view::{FolderState, StoreState, View};

/// Commands that may wait; callers wait for room beyond it.
const QUEUE: usize = 256;
/// Commands that become durable together at most.
const BATCH: usize = 256;
/// When to try again to store what could not be stored.
const RETRY: Duration = Duration::from_secs(30);

/// How the control plane starts.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where virtual addresses lie.
    pub virtual_range: VirtualRange,
    /// The generation that kernel or proxy hold already: new ones come after it, also when the
    /// state is older or lost.
    pub floor: Generation,
}

/// Starts the control plane on what `store` held. The future is to be driven by one task; it ends
/// with [`ControlPlane::close`], or when every [`ControlPlane`] is dropped.
pub fn start(
    mut store: Store<Disk>,
    restored: Restored,
    options: Options,
) -> (ControlPlane, impl Future<Output = ()> + Send + 'static) {
    for error in &restored.left_out {
        warn!("part of the state is left out: {}", log::chain(error));
    }
    let generation = Generation(restored.generation.0.max(options.floor.0) + 1);
    let range = options.virtual_range;
    let (now, refused) = Configuration::restore(restored.objects, generation, range);
    for diagnostic in &refused {
        warn!("the stored configuration is not in force: {diagnostic}");
    }
    let saved = store.save(generation, &now.objects);
    let view = View {
        snapshot: now.snapshot.clone(),
        objects: now.objects.clone(),
        conditions: now.conditions.clone(),
        plan: now.plan.clone(),
        since: Instant::now(),
        store: StoreState::Durable.after(saved),
        folder: None,
        refused: refused.into(),
        unseen_ports: 0,
    };
    let (commands, queue) = mpsc::channel(QUEUE);
    let (snapshots, snapshot) = watch::channel(view.snapshot.clone());
    let (views, shown) = watch::channel(Arc::new(view.clone()));
    let plane = Plane {
        now,
        view,
        range,
        reserved: BTreeSet::new(),
        unproven: BTreeMap::new(),
        seen: BTreeSet::new(),
        tried: time::Instant::now(),
        store: Some(store),
        snapshots,
        views,
    };
    (
        ControlPlane::new(commands, shown, snapshot),
        plane.run(queue),
    )
}

struct Plane {
    /// What the commands so far have made.
    now: Configuration,
    /// What is published.
    view: View,
    range: VirtualRange,
    /// Names of replicas that are being placed.
    reserved: BTreeSet<WorkloadName>,
    /// Services that `run` made and of which no program is known to have started, each with its
    /// replicas whose program did not.
    unproven: BTreeMap<ServiceName, BTreeSet<CgroupRef>>,
    /// Ports that workloads listen on at this moment.
    seen: BTreeSet<(CgroupId, Protocol, Port)>,
    /// When it was last tried to store them.
    tried: time::Instant,
    /// `None` only while a save is under way.
    store: Option<Store<Disk>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    views: watch::Sender<Arc<View>>,
}

impl Plane {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut held = None;
        loop {
            let next = match held.take() {
                Some(command) => Some(command),
                None => self.wait(&mut queue).await,
            };
            let first = match next {
                None | Some(Command::Close) => return,
                Some(command) => command,
            };
            held = self.carry_out(first, &mut queue).await;
        }
    }

    /// The next command. While the state is not durable, storing it is tried again now and then.
    async fn wait(&mut self, queue: &mut mpsc::Receiver<Command>) -> Option<Command> {
        while !self.view.store.is_durable() {
            let due = self.tried + RETRY;
            // Commands that change nothing, and so store nothing, do not put it off.
            if time::Instant::now() < due
                && let Ok(command) = timeout_at(due, queue.recv()).await
            {
                return command;
            }
            self.save().await;
            self.publish_view();
        }
        queue.recv().await
    }

    /// Carries out `first` and what waits behind it, as one generation. What people asked for stays
    /// alone, since it may have to be taken back; met behind others, it is returned for the next
    /// round.
    async fn carry_out(
        &mut self,
        first: Command,
        queue: &mut mpsc::Receiver<Command>,
    ) -> Option<Command> {
        let before = self.now.clone();
        let must_be_durable = first.must_be_durable();
        let mut replies = Vec::new();
        let mut held = None;
        let mut carried_out = 0;
        let mut next = Some(first);
        while let Some(command) = next.take() {
            replies.extend(self.handle(command));
            carried_out += 1;
            if must_be_durable || carried_out == BATCH {
                break;
            }
            match queue.try_recv() {
                Ok(command) if command.stands_alone() => held = Some(command),
                other => next = other.ok(),
            }
        }
        let refused = self.commit(before, must_be_durable).await;
        for reply in replies {
            reply.send(refused.as_deref());
        }
        held
    }

    /// Makes what the commands have made durable and visible. Returns why it was taken back, if it
    /// was.
    async fn commit(&mut self, before: Configuration, must_be_durable: bool) -> Option<Arc<str>> {
        let mut refused = None;
        if !Arc::ptr_eq(&self.now.snapshot, &before.snapshot) {
            let stored = self.view.store.clone();
            self.save().await;
            if must_be_durable && !self.view.store.is_durable() {
                self.now = before;
                refused = self.view.store.trouble();
                self.view.store = stored.refusing(&self.view.store);
            } else {
                self.publish();
            }
        }
        self.publish_view();
        refused
    }

    fn publish(&mut self) {
        self.view.snapshot = self.now.snapshot.clone();
        self.view.conditions = self.now.conditions.clone();
        self.view.refused = Arc::new([]);
        self.view.since = Instant::now();
        self.snapshots.send_replace(self.now.snapshot.clone());
    }

    fn publish_view(&mut self) {
        // Also without a new generation: their text may have moved to other lines.
        self.view.objects = self.now.objects.clone();
        self.view.plan = self.now.plan.clone();
        self.views.send_replace(Arc::new(self.view.clone()));
    }

    /// Stores what is now, off this thread: a disk may take its time.
    async fn save(&mut self) {
        let Some(mut store) = self.store.take() else {
            return;
        };
        let (generation, objects) = (self.now.snapshot.generation, self.now.objects.clone());
        let saving = tokio::task::spawn_blocking(move || {
            let saved = store.save(generation, &objects);
            (store, saved)
        });
        match saving.await {
            Ok((store, saved)) => {
                self.store = Some(store);
                self.note_saved(saved);
            }
            Err(panic) => warn!("saving the state ended early: {panic}"),
        }
        self.tried = time::Instant::now();
    }

    fn note_saved(&mut self, saved: Result<(), StoreError>) {
        match &saved {
            Err(error) => warn!("the state cannot be stored: {}", log::chain(error)),
            Ok(()) if self.view.store.trouble().is_some() => info!("the state is stored again"),
            Ok(()) => {}
        }
        self.view.store = self.view.store.after(saved);
    }
}

#[cfg(test)]
mod tests;
