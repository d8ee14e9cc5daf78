//! The agent: node, control plane, API and the proxy's supervision, wired together.
//!
//! Everything runs on one thread but what the kernel is waited for. Read in the order of a start:
//! [`Agent::start`], then the loops below it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Context;
use selvedge_control_plane::{
    AccessLog, CgroupRef, ControlPlane, Disk, Folder, Metrics, Options as PlaneOptions, Pilot,
    Planning, ProxyHealth, Publisher, Store, VirtualRange, stored_plan,
};
use selvedge_feed::Settings;
use selvedge_model::{CgroupId, Generation, Snapshot, WorkloadName};
use selvedge_node::{Beside, Event, Events, Link, Node, ProxyOptions, supervise};
use selvedge_telemetry::{info, log, warn};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::host::{NodeHost, ProxySockets, SharedNode};

/// How an agent is started.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) node: selvedge_node::Options,
    pub(crate) proxy: ProxyOptions,
    pub(crate) state_dir: PathBuf,
    pub(crate) virtual_range: VirtualRange,
    pub(crate) config: Option<PathBuf>,
    /// Who may have the proxy's ports already.
    pub(crate) beside: Beside,
    /// The listening socket at which the proxy is to serve metrics.
    pub(crate) metrics: Option<OwnedFd>,
    /// Where the proxy is to log requests.
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) started: Instant,
}

/// How long the last change may take to be stored when the agent stops.
const STORING: Duration = Duration::from_secs(10);

/// Where the journal of the controllers is, in the state folder.
pub(crate) fn journal_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("journal")
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) plane: ControlPlane,
    pub(crate) host: Arc<NodeHost>,
    pub(crate) health: watch::Receiver<ProxyHealth>,
    /// The number of the last question about requests.
    pub(crate) traffic: watch::Sender<u64>,
    pub(crate) pilot: Pilot,
    pub(crate) tasks: JoinSet<anyhow::Result<()>>,
    /// Ends, with everything stored, once nobody can ask the control plane any more.
    driven: JoinHandle<()>,
}

impl Agent {
    /// Sets up or adopts the kernel path, brings it to the stored configuration and starts the
    /// proxy. When this returns, programs are served.
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        // First, since what runs is to be left as it is where its configuration cannot be read.
        let files = Disk::open(&options.state_dir).with_context(|| {
            format!(
                "could not use the state folder {}",
                options.state_dir.display()
            )
        })?;
        let (store, restored) = Store::open(files)
            .with_context(|| format!("the state in {}", options.state_dir.display()))?;
        let node = SharedNode::new(Node::start(options.node)?);
        let plane_options = PlaneOptions {
            virtual_range: options.virtual_range,
            floor: node.lock().newest_generation()?,
        };
        let (plane, driven) = selvedge_control_plane::start(store, restored, plane_options);
        let driven = tokio::spawn(driven);
        let journal = journal_folder(&options.state_dir);
        plane.set_plan(stored_plan(&journal)).await?;
        let mut tasks = JoinSet::new();

        report_replicas(&node, &plane).await?;
        let mut snapshots = plane.snapshots();
        let first = snapshots.borrow_and_update().clone();
        node.lock().apply(&first)?;
        let (applied, applied_now) = watch::channel(first.generation);
        let events = node.lock().events()?;
        report_listening(&node, &plane).await?;
        tasks.spawn(follow_snapshots(
            node.clone(),
            plane.clone(),
            snapshots,
            applied,
        ));
        tasks.spawn(follow_events(node.clone(), plane.clone(), events));

        let (links, linked) = mpsc::channel(1);
        let (health, healthy) = watch::channel(ProxyHealth::default());
        let (traffic, questioned) = watch::channel(0);
        let (pilot, writing) = Pilot::open(&journal);
        tasks.spawn(async {
            writing.await;
            Ok(())
        });
        let host = Arc::new(NodeHost {
            node: node.clone(),
            applied: applied_now,
            snapshots: plane.snapshots(),
            closed: AtomicBool::new(false),
        });
        let planning = Planning {
            plane: plane.clone(),
            host: host.clone(),
            pilot: pilot.clone(),
        };
        tasks.spawn(async { Ok(planning.run().await?) });
        let metrics = Metrics {
            plane: plane.clone(),
            host: host.clone(),
            proxy: healthy.clone(),
            pilot: pilot.clone(),
            started: options.started,
        };
        let publisher = Publisher {
            snapshots: plane.snapshots(),
            settings: Settings::default(),
            health,
            metrics: Arc::new(move || metrics.exposition()),
            traffic: questioned,
            pilot: pilot.clone(),
            access_log: options.access_log,
        };
        tasks.spawn(publish(publisher, linked));
        let sockets = ProxySockets::new(node.clone(), options.beside, options.metrics);
        tasks.spawn(async move {
            supervise(options.proxy, sockets, links, |text| warn!("{text}")).await?;
            Ok(())
        });
        if let Some(config) = options.config {
            let following = Folder::new(config).follow(plane.clone());
            tasks.spawn(async { Ok(following.await?) });
        }
        Ok(Self {
            plane,
            host,
            health: healthy,
            traffic,
            pilot,
            tasks,
            driven,
        })
    }

    /// Ends every part of the agent. The proxy, the kernel path and the workloads stay.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.plane.close().await;
        if timeout(STORING, self.driven).await.is_err() {
            warn!("the state's disk takes longer than {STORING:?}; what is not stored yet is lost");
        }
    }

    /// Waits until the proxy has connected and has a generation, or for as long as a caller would.
    pub(crate) async fn wait_for_proxy(&mut self) {
        let ready = self.health.wait_for(|health| health.generation.is_some());
        if timeout(Duration::from_secs(5), ready).await.is_err() {
            warn!("the proxy is not ready yet; names are resolved once it is");
        }
    }
}

/// Tells the control plane which replicas of an earlier agent live on, and removes what is left of
/// those that do not.
async fn report_replicas(node: &SharedNode, plane: &ControlPlane) -> anyhow::Result<()> {
    let mut found = BTreeMap::new();
    let mut gone = Vec::new();
    let workloads = node.lock().workloads()?;
    for (name, cgroup, is_populated) in workloads {
        let path = CgroupRef::Path(node.lock().workload_path(&name));
        if is_populated {
            found.insert(path, cgroup);
        } else {
            remove_replica(node, &name);
        }
    }
    for reference in plane.cgroups_named() {
        if found.contains_key(&reference) {
            continue;
        }
        match find(node, &reference) {
            Some(cgroup) => drop(found.insert(reference, cgroup)),
            None => gone.push(reference),
        }
    }
    plane.set_cgroups(found, gone).await?;
    Ok(())
}

/// The cgroup that a Workload names, if it is there now.
fn find(node: &SharedNode, reference: &CgroupRef) -> Option<CgroupId> {
    match reference {
        CgroupRef::Path(path) => node.lock().find_cgroup(Path::new(path)).ok(),
        CgroupRef::Unit(unit) => node.lock().find_unit(unit),
    }
}

fn remove_replica(node: &SharedNode, name: &WorkloadName) {
    if let Err(error) = node.lock().remove_workload(name) {
        warn!(
            "what is left of replica {name} stays: {}",
            log::chain(&error)
        );
    }
}

/// Ports that replicas already listen on: their events went to an earlier agent.
async fn report_listening(node: &SharedNode, plane: &ControlPlane) -> anyhow::Result<()> {
    let listening = node.lock().observe()?.listening;
    for it in listening {
        plane.port_seen(it.cgroup, it.protocol, it.port).await?;
    }
    Ok(())
}

/// How often it is looked whether cgroups that Workloads name are there, which come and go with the
/// units and containers that they belong to, and whether a port that a Gateway lacks is free by now. No
/// wake-up where there is neither.
const SEARCH_PERIOD: Duration = Duration::from_secs(5);

/// Brings every new generation to the kernel, and looks for the cgroups it names.
async fn follow_snapshots(
    node: SharedNode,
    plane: ControlPlane,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    applied: watch::Sender<Generation>,
) -> anyhow::Result<()> {
    let mut known = BTreeMap::new();
    loop {
        let names_any = report_named(&node, &plane, &mut known).await?;
        let lacks_ports = node.lock().lacks_ports();
        let changed = snapshots.changed();
        if !names_any && !lacks_ports {
            changed.await?;
        } else if let Ok(changed) = timeout(SEARCH_PERIOD, changed).await {
            changed?;
        }
        let snapshot = snapshots.borrow_and_update().clone();
        if *applied.borrow() == snapshot.generation && !lacks_ports {
            continue;
        }
        match node.lock().apply(&snapshot) {
            Ok(()) => drop(applied.send_replace(snapshot.generation)),
            Err(error) => warn!(
                "generation {} is in the kernel in part only: {}",
                snapshot.generation,
                log::chain(&error)
            ),
        }
    }
}

/// Reports changes among the cgroups outside the mesh that Workloads name; false where none is
/// named.
async fn report_named(
    node: &SharedNode,
    plane: &ControlPlane,
    known: &mut BTreeMap<CgroupRef, Option<CgroupId>>,
) -> anyhow::Result<bool> {
    let own = node.lock().workloads_path();
    let is_ours = |it: &CgroupRef| matches!(it, CgroupRef::Path(path) if path.starts_with(&own));
    let named = plane.cgroups_named();
    let now: BTreeMap<CgroupRef, Option<CgroupId>> = named
        .into_iter()
        .filter(|it| !is_ours(it))
        .map(|it| {
            let cgroup = find(node, &it);
            (it, cgroup)
        })
        .collect();
    if now != *known {
        let found = now
            .iter()
            .filter_map(|(it, id)| Some((it.clone(), (*id)?)))
            .collect();
        let gone = now
            .iter()
            .filter(|(_, id)| id.is_none())
            .map(|(it, _)| it.clone())
            .collect();
        *known = now;
        plane.set_cgroups(found, gone).await?;
    }
    Ok(!known.is_empty())
}

/// Tells the control plane what the kernel sees.
async fn follow_events(
    node: SharedNode,
    plane: ControlPlane,
    mut events: Events,
) -> anyhow::Result<()> {
    while let Some(event) = events.next().await {
        match event {
            Event::Listening {
                cgroup,
                port,
                protocol,
            } => {
                plane.port_seen(cgroup, protocol, port).await?;
            }
            Event::Gone {
                cgroup,
                port,
                protocol,
            } => {
                plane.port_gone(cgroup, protocol, port).await?;
            }
            Event::Emptied { cgroup } => {
                plane.emptied(cgroup).await?;
                let workloads = node.lock().workloads()?;
                let ended = workloads
                    .into_iter()
                    .find(|(_, id, alive)| *id == cgroup && !alive);
                if let Some((name, _, _)) = ended {
                    remove_replica(&node, &name);
                }
            }
        }
    }
    anyhow::bail!("the kernel can no longer be listened to")
}

/// Serves the proxy's feed connections, one after another.
async fn publish(publisher: Publisher, mut links: mpsc::Receiver<Link>) -> anyhow::Result<()> {
    while let Some(link) = links.recv().await {
        info!("the proxy, process {}, is connected", link.pid);
        let end = publisher.serve(link.stream).await;
        warn!("{}", log::chain(&end));
        let _nobody_supervises = link.over.send(());
    }
    Ok(())
}
