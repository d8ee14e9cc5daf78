//! Stopping a mesh without leaving anything behind, with its agent or after it.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use selvedge_control_plane::wire::{DownReply, DownWorkloads};
use selvedge_control_plane::{Disk, Pilot, Problem, ProblemKind, Store};
use selvedge_node::{Asked, Options, Remains, Whom, end, living_proxy};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::agent::journal_folder;

/// How long workloads get to end by themselves.
const GRACE: Duration = Duration::from_secs(10);

/// What must be known of a mesh to remove it or to go on with it; kept in its run folder.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) node: Options,
    pub(crate) state_dir: PathBuf,
    /// Where its proxy serves metrics.
    pub(crate) metrics: Option<SocketAddr>,
}

/// [`Settings`] as stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    cgroup: String,
    state_dir: PathBuf,
    metrics: Option<SocketAddr>,
}

impl Settings {
    const FILE: &str = "settings.json";

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let stored = Stored {
            cgroup: self.node.cgroup.clone(),
            state_dir: self.state_dir.clone(),
            metrics: self.metrics,
        };
        let path = self.node.run_dir.join(Self::FILE);
        fs::write(&path, serde_json::to_vec(&stored)?)
            .with_context(|| format!("could not write {}", path.display()))
    }

    /// The settings of the mesh in this run folder; `None` where there is none.
    pub(crate) fn read(run_dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = run_dir.join(Self::FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("could not read {}", path.display()))?,
        };
        let stored: Stored = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what `up` wrote", path.display()))?;
        let mut node = Options::new(run_dir.to_owned());
        node.cgroup = stored.cgroup;
        Ok(Some(Self {
            node,
            state_dir: stored.state_dir,
            metrics: stored.metrics,
        }))
    }

    pub(crate) fn remains(&self) -> anyhow::Result<Remains> {
        Ok(Remains::of(self.node.clone())?)
    }

    /// Keeps every other mesh off the state, until the file that is returned is closed: two agents
    /// would write over each other's generations.
    pub(crate) fn hold_state(&self) -> anyhow::Result<File> {
        let folder = &self.state_dir;
        let opened = Disk::open(folder).and_then(|_| File::open(folder));
        let folder_file =
            opened.with_context(|| format!("could not open the state in {}", folder.display()))?;
        if flock(&folder_file, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "the state in {} is that of a mesh that runs with another run folder.\n\
                 Name another with --state-dir, or end that mesh: selvedge --run-dir DIR down",
                folder.display()
            );
        }
        Ok(folder_file)
    }

    fn run_file(&self, name: &str) -> PathBuf {
        self.node.run_dir.join(name)
    }
}

/// Deals with workloads that run: refuses, ends or releases them.
pub(crate) async fn make_way(
    settings: &Settings,
    workloads: DownWorkloads,
) -> Result<DownReply, Problem> {
    let remains = settings.remains().map_err(|error| problem(&error))?;
    let running = remains.running().map_err(|error| problem(&error.into()))?;
    let names: Vec<String> = running.iter().map(|(name, _)| name.to_string()).collect();
    let mut reply = DownReply::default();
    if names.is_empty() {
        return Ok(reply);
    }
    match workloads {
        DownWorkloads::Refuse => {
            let what = format!("workloads are running: {}", names.join(", "));
            return Err(Problem {
                kind: ProblemKind::Conflict,
                what,
                next: "end them with `selvedge down --stop`, or let them run on without the mesh \
                       with `selvedge down --detach`"
                    .to_owned(),
                ..Problem::default()
            });
        }
        DownWorkloads::Stop => {
            if !end_all(&remains).await {
                let left = remains.running().unwrap_or_default();
                let what = format!("processes of {} workloads do not end", left.len());
                return Err(Problem {
                    kind: ProblemKind::Failed,
                    what,
                    ..Problem::default()
                });
            }
            reply.stopped = names;
        }
        DownWorkloads::Detach => {
            remains.release().map_err(|error| problem(&error.into()))?;
            reply.detached = names;
        }
    }
    Ok(reply)
}

/// Ends every workload: programs are asked first, after half the grace all their processes, and who
/// is left at its end is killed. Each time round, since processes start others.
async fn end_all(remains: &Remains) -> bool {
    let mut asked = Asked::default();
    ends_within(remains, GRACE / 2, || {
        remains.terminate(Whom::Programs, &mut asked);
    })
    .await
        || ends_within(remains, GRACE / 2, || {
            remains.terminate(Whom::Everybody, &mut asked);
        })
        .await
        || ends_within(remains, GRACE, || remains.kill()).await
}

/// Whether no process is left within `patience`, while `hasten` is done now and then.
async fn ends_within(remains: &Remains, patience: Duration, mut hasten: impl FnMut()) -> bool {
    let end = Instant::now() + patience;
    loop {
        hasten();
        if remains.running().is_ok_and(|running| running.is_empty()) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Removes everything: the proxy, what is in the kernel, the run folder and, unless it is kept, the
/// state. Nothing runs any more.
pub(crate) async fn remove(settings: &Settings, keep_state: bool) -> anyhow::Result<()> {
    remove_runtime(settings).await?;
    if !keep_state {
        remove_state(&settings.state_dir)?;
    }
    Ok(())
}

/// [`remove`] for everything but the state.
pub(crate) async fn remove_runtime(settings: &Settings) -> anyhow::Result<()> {
    let pid_file = settings.run_file("proxy.pid");
    if let Some((pid, _)) = living_proxy(&pid_file, &settings.run_file("feed.sock")) {
        end(pid);
    }
    let remains = settings.remains()?;
    let give_up = Instant::now() + GRACE;
    loop {
        // A cgroup stays busy for a moment after its last process.
        match remains.clear() {
            Ok(()) => break,
            Err(error) if Instant::now() >= give_up => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
    for file in ["api.sock", "feed.sock", "proxy.pid", Settings::FILE] {
        remove_file(&settings.run_file(file))?;
    }
    Ok(())
}

/// Removes the generations, and the folder if nothing else is in it.
fn remove_state(folder: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    Pilot::remove(&journal_folder(folder))
        .with_context(|| format!("could not remove the journal in {}", folder.display()))?;
    Disk::open(folder)
        .and_then(|mut disk| Store::remove_all(&mut disk))
        .with_context(|| format!("could not remove the state in {}", folder.display()))?;
    let _not_empty = fs::remove_dir(folder);
    Ok(())
}

fn remove_file(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// An error of ours as the API tells it.
pub(crate) fn problem(error: &anyhow::Error) -> Problem {
    Problem {
        kind: ProblemKind::Failed,
        what: format!("{error:#}"),
        ..Problem::default()
    }
}
