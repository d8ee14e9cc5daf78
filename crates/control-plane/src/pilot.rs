//! The agent's side of the controllers: what is known of their limits, the journal of what they did, and what
//! nothing is to move.
//!
//! Controllers run in the proxy, and go on without all this. What it tells is numbered and known here at once, and
//! written by a task that nobody waits for; what finds that behind is lost, and counted. Read next: `journal.rs`.

pub(crate) mod lines;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selvedge_feed::{Decoder, JournalPart, ToProxy};
use selvedge_model::{
    ControllerState, Decision, HeldBy, Holds, Instant, JournalEntry, JournalEvent, Limited,
    WindowSummary,
};
use selvedge_resilience::planner::Told;
use selvedge_telemetry::{log, warn};
use tokio::sync::{Notify, mpsc, watch};

use crate::journal::{Journal, JournalError, Left, remove_segments};
use crate::stored_plan;

pub use lines::{JournalQuery, milliseconds, read_segment};

/// Parts that wait to be written: a second's worth of a busy node is one.
const QUEUE: usize = 16;
/// Limits that are known. There are as many as endpoints and routes of services with objectives.
const MOST_LIMITS: usize = 100_000;
/// How long after a request for states another may come, where entries were lost again.
const ASKING_PAUSE: Duration = Duration::from_secs(10);
/// More entries than this are not lost between two parts: a proxy keeps fewer by far.
const MOST_LOST: u64 = 1 << 32;
const HOLDS: &str = "holds";
/// Longest file of what is held.
const MAX_HOLDS: usize = 4 << 20;

/// What is known of a limit.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// As it was when it was last told, without what the law remembers.
    pub(crate) state: ControllerState,
    /// The last decision and its number.
    pub(crate) last: Option<(u64, WindowSummary, Decision)>,
    /// The last that changed the limit.
    pub(crate) changed: Option<u64>,
    /// Where it is held, and by whom; `None` is no limit.
    pub(crate) held: Option<(Option<u32>, HeldBy)>,
    /// When it was last heard of.
    pub(crate) heard: SystemTime,
}

impl Known {
    /// The 95th percentile without load in us, where that alone is longer than the objective.
    pub(crate) fn out_of_reach(&self) -> Option<f64> {
        let (_, _, decision) = self.last.as_ref()?;
        let objective = self.state.objective.as_secs_f64() * 1e6;
        Some(decision.floor).filter(|floor| *floor > objective)
    }

    /// The limit in force; `None` is none.
    pub(crate) fn limit(&self) -> Option<u32> {
        if !self.state.is_applied {
            return self.state.fixed;
        }
        match self.held {
            Some((limit, _)) => limit,
            None => Some(self.state.limit),
        }
    }
}

/// What is held, by its version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) version: u64,
    pub(crate) holds: Arc<Holds>,
}

/// The agent's side of the controllers.
#[derive(Clone, Debug)]
pub struct Pilot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    state: Mutex<State>,
    queue: mpsc::Sender<JournalPart>,
    /// Wakes whoever asks the proxy for the states that a segment begins with.
    full: Notify,
    wanted: watch::Sender<Held>,
    /// The version that the proxy holds.
    held: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the entry to come.
    next: u64,
    /// Of the proxy that told last, and what it tells next.
    follows: Option<(u64, u64)>,
    /// Entries that were told and are not in the journal, or never came.
    lost: u64,
    limits: BTreeMap<Limited, Known>,
    /// Of limits that are known, or were before states came.
    told: Told,
    /// What was known before states came that are still to be told again.
    before: BTreeMap<Limited, Known>,
    /// Limits that found no room.
    unlisted: u64,
    /// When states were asked for since entries were lost.
    asked: Option<std::time::Instant>,
    /// Why the journal is not written.
    trouble: Option<String>,
    /// Why it is not known what an earlier agent held.
    forgotten: Option<String>,
}

/// How the journal is.
#[derive(Clone, Debug)]
pub(crate) struct JournalHealth {
    pub(crate) next: u64,
    pub(crate) lost: u64,
    pub(crate) trouble: Option<String>,
    /// Why it is not known what an earlier agent held.
    pub(crate) forgotten: Option<String>,
    /// Limits of which nothing is known because there were too many.
    pub(crate) unlisted: u64,
}

/// The proxy told what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Implausible;

impl Pilot {
    /// Goes on where an earlier agent has left its journal in this folder. The future writes it; a journal that
    /// cannot be written is told of, and changes nothing else.
    pub fn open(folder: &Path) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, parts) = mpsc::channel(QUEUE);
        let (journal, left) = match Journal::open(folder) {
            Ok((journal, left)) => (Some(journal), left),
            Err(error) => {
                warn!(
                    "there is no journal of the controllers: {}",
                    log::chain(&error)
                );
                let left = Left {
                    next: 1,
                    damage: Some(error),
                    ..Left::default()
                };
                (None, left)
            }
        };
        let mut state = State {
            next: left.next,
            trouble: left.damage.as_ref().map(|it| log::chain(it).to_string()),
            ..State::default()
        };
        for part in &left.parts {
            state.take_in(part);
            state.follows = Some(follows(part));
        }
        let holds = read_holds(folder).unwrap_or_else(|error| {
            warn!("what was frozen or put back is not known any more: {error}");
            state.forgotten = Some(error);
            Holds::default()
        });
        let version = 1;
        let holds = Arc::new(holds);
        let pilot = Self(Arc::new(Inner {
            folder: folder.to_owned(),
            state: Mutex::new(state),
            queue,
            full: Notify::new(),
            wanted: watch::Sender::new(Held { version, holds }),
            held: watch::Sender::new(0),
        }));
        (pilot.clone(), pilot.write(journal, parts))
    }

    /// Removes what [`Self::open`] made, for a node that is to leave nothing behind.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn remove(folder: &Path) -> Result<(), JournalError> {
        remove_segments(folder)?;
        for name in [HOLDS.to_owned(), unfinished()] {
            let _absent = fs::remove_file(folder.join(name));
        }
        stored_plan::remove(folder);
        let _not_empty = fs::remove_dir(folder);
        Ok(())
    }

    /// Where the journal is.
    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Takes what the proxy tells.
    pub(crate) fn on_part(&self, mut part: JournalPart) -> Result<(), Implausible> {
        let mut state = self.lock();
        let (epoch, next) = follows(&part);
        let mut missing = 0;
        if let Some((known, expected)) = state.follows
            && known == epoch
        {
            missing = part.sequence.saturating_sub(expected);
            if missing > MOST_LOST {
                return Err(Implausible);
            }
        }
        let count = part.entries.len() as u64;
        state.follows = Some((epoch, next));
        part.number = state.next.saturating_add(missing);
        state.next = part.number.checked_add(count).ok_or(Implausible)?;
        state.take_in(&part);
        let rests = rests(&part);
        // Where states have just come, what follows is founded.
        let is_founded = part.is_beginning || missing == 0;
        let is_queued = self.0.queue.try_send(part).is_ok();
        let lost = missing + if is_queued { 0 } else { count };
        state.lost = state.lost.saturating_add(lost);
        if !is_founded || !is_queued {
            self.ask_anew(&mut state);
        }
        drop(state);
        self.keep_rests(rests);
        Ok(())
    }

    /// Has the proxy asked for states, since what comes follows from nothing else.
    fn ask_anew(&self, state: &mut State) {
        let asked = state.asked;
        if asked.is_none_or(|asked| asked.elapsed() >= ASKING_PAUSE) {
            state.asked = Some(std::time::Instant::now());
            self.0.full.notify_one();
        }
    }

    /// Keeps where limits have come to rest, since a later proxy does not know the minutes before.
    fn keep_rests(&self, rests: Vec<(Limited, Option<u32>)>) {
        if rests.is_empty() {
            return;
        }
        let mut next = None;
        // The proxy knows these: it has told them.
        self.0.wanted.send_if_modified(|held| {
            let mut holds = Holds::clone(&held.holds);
            for (limited, limit) in rests {
                let has_room = holds.rests.len() < Holds::MOST;
                if has_room && holds.rests(limited.service()) {
                    holds.rests.insert(limited, limit);
                }
            }
            if holds != *held.holds {
                held.holds = Arc::new(holds);
                next = Some(held.holds.clone());
            }
            false
        });
        if let Some(holds) = next
            && let Err(error) = write_holds(&self.0.folder, &holds)
        {
            warn!("where limits rest is not stored: {error}");
        }
    }

    /// The proxy holds what is wanted in this version.
    pub(crate) fn on_held(&self, version: u64) {
        self.0.held.send_replace(version);
    }

    /// The proxy is another one, which holds nothing yet.
    pub(crate) fn on_connect(&self) {
        self.0.held.send_replace(0);
    }

    /// Waits until the journal wants to begin anew.
    pub(crate) async fn is_full(&self) {
        self.0.full.notified().await;
    }

    /// What is to be held, as it changes.
    pub(crate) fn wanted(&self) -> watch::Receiver<Held> {
        self.0.wanted.subscribe()
    }

    /// The version that the proxy holds, as it changes.
    pub(crate) fn held(&self) -> watch::Receiver<u64> {
        self.0.held.subscribe()
    }

    /// Has this held from now on, also by a later agent; the version by which that is known.
    ///
    /// # Errors
    /// Where it cannot be stored; nothing changes then.
    pub(crate) fn hold(&self, holds: Holds) -> std::io::Result<u64> {
        let mut version = 0;
        write_holds(&self.0.folder, &holds)?;
        self.lock().forgotten = None;
        self.0.wanted.send_modify(|held| {
            held.version += 1;
            held.holds = Arc::new(holds);
            version = held.version;
        });
        Ok(version)
    }

    /// Tails without load, as far as they are known.
    pub(crate) fn take_told(&self) -> Told {
        let mut state = self.lock();
        let told = state.told.clone();
        state.told.mark_planned();
        told
    }

    /// What is known of each limit.
    pub(crate) fn limits(&self) -> BTreeMap<Limited, Known> {
        self.lock().limits.clone()
    }

    /// How many limits there are of which this holds.
    pub(crate) fn count(&self, holds: impl Fn(&Known) -> bool) -> usize {
        let state = self.lock();
        state.limits.values().filter(|known| holds(known)).count()
    }

    /// How the journal is.
    pub(crate) fn journal(&self) -> JournalHealth {
        let state = self.lock();
        JournalHealth {
            next: state.next,
            lost: state.lost,
            trouble: state.trouble.clone(),
            forgotten: state.forgotten.clone(),
            unlisted: state.unlisted,
        }
    }

    async fn write(self, mut journal: Option<Journal>, mut parts: mpsc::Receiver<JournalPart>) {
        let mut is_asked = false;
        // The least number that the journal does not have.
        let mut next = 0;
        while let Some(mut part) = parts.recv().await {
            let count = part.entries.len() as u64;
            let mut opened = match journal.take() {
                Some(opened) => opened,
                None => match self.open_anew(part.number).await {
                    Ok((opened, left)) => {
                        next = left;
                        opened
                    }
                    Err(error) => {
                        self.note(count, Err(error));
                        continue;
                    }
                },
            };
            // Those that waited were numbered before a journal was found that has their numbers.
            part.number = part.number.max(next);
            next = part.number + count;
            is_asked &= !part.is_beginning;
            let appending = move || {
                let appended = opened.append(part);
                (opened, appended)
            };
            let Ok((opened, appended)) = tokio::task::spawn_blocking(appending).await else {
                continue;
            };
            self.note(count, appended);
            if opened.is_full() && !is_asked {
                is_asked = true;
                self.0.full.notify_one();
            }
            journal = Some(opened);
        }
    }

    /// Opens the journal where that could not be done before; with the number that it goes on with. What is told from
    /// now on has its number behind that too.
    async fn open_anew(&self, number: u64) -> Result<(Journal, u64), JournalError> {
        let folder = self.0.folder.clone();
        let opening = tokio::task::spawn_blocking(move || Journal::open(&folder)).await;
        let (journal, left) = opening.unwrap_or_else(|panic| {
            Err(JournalError::Io {
                action: "open",
                path: self.0.folder.clone(),
                source: std::io::Error::other(panic),
            })
        })?;
        let mut state = self.lock();
        let more = left.next.saturating_sub(number);
        state.next = state.next.saturating_add(more);
        Ok((journal, left.next))
    }

    fn note(&self, count: u64, appended: Result<(), JournalError>) {
        let mut state = self.lock();
        let trouble = match appended {
            Ok(()) => None,
            Err(error) => {
                state.lost = state.lost.saturating_add(count);
                self.ask_anew(&mut state);
                Some(log::chain(&error).to_string())
            }
        };
        if trouble != state.trouble
            && let Some(trouble) = &trouble
        {
            warn!("the journal of the controllers cannot be written: {trouble}");
        }
        state.trouble = trouble;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of which process a part is, and the number of what that tells next.
fn follows(part: &JournalPart) -> (u64, u64) {
    let next = part.sequence.saturating_add(part.entries.len() as u64);
    (part.epoch_unix_ns, next)
}

/// Where the limits of a part have come to rest.
fn rests(part: &JournalPart) -> Vec<(Limited, Option<u32>)> {
    let entries = part.entries.iter();
    let rests = entries.filter_map(|entry| match entry.event {
        JournalEvent::Held {
            limit,
            by: HeldBy::Freeze,
            ..
        } => Some((entry.about.clone(), limit)),
        _ => None,
    });
    rests.collect()
}

/// A moment of a part in calendar time.
pub(crate) fn calendar(epoch_unix_ns: u64, at: Instant) -> SystemTime {
    let since = epoch_unix_ns.saturating_add(at.as_nanos());
    UNIX_EPOCH + Duration::from_nanos(since)
}

/// When an entry was, as far as it says.
pub(crate) fn moment(event: &JournalEvent) -> Option<Instant> {
    match event {
        JournalEvent::State(state) => Some(state.at),
        JournalEvent::Decided { window, .. } => Some(window.ended),
        JournalEvent::Held { at, .. } => Some(*at),
        JournalEvent::Gone => None,
    }
}

impl State {
    /// Takes in what entries say, which have their numbers.
    fn take_in(&mut self, part: &JournalPart) {
        if part.is_beginning {
            self.told.retain(|it| self.limits.contains_key(it));
            self.before = std::mem::take(&mut self.limits);
        }
        for (number, entry) in (part.number..).zip(&part.entries) {
            self.take_in_entry(number, entry, part.epoch_unix_ns);
        }
    }

    fn take_in_entry(&mut self, number: u64, entry: &JournalEntry, epoch: u64) {
        if self.limits.contains_key(&entry.about) {
            self.told.on_event(&entry.about, &entry.event);
        }
        let heard = calendar(epoch, moment(&entry.event).unwrap_or_default());
        let has_room = self.limits.len() < MOST_LIMITS;
        match &entry.event {
            JournalEvent::State(state) => {
                let before = self.limits.remove(&entry.about);
                let before = before.or_else(|| self.before.remove(&entry.about));
                if !has_room {
                    self.unlisted = self.unlisted.saturating_add(1);
                    return;
                }
                let before = before.filter(|it| it.state.objective == state.objective);
                let state = ControllerState {
                    memory: Vec::new(),
                    ..state.clone()
                };
                let (last, changed) = before.map_or((None, None), |it| (it.last, it.changed));
                let known = Known {
                    state,
                    last,
                    changed,
                    held: None,
                    heard,
                };
                self.limits.insert(entry.about.clone(), known);
            }
            JournalEvent::Decided { window, decision } => {
                if let Some(known) = self.limits.get_mut(&entry.about) {
                    known.heard = heard;
                    known.last = Some((number, *window, *decision));
                    let fixed = known.state.fixed.unwrap_or(u32::MAX);
                    known.state.limit = decision.limit.min(fixed);
                    if known.state.limit != window.limit {
                        known.changed = Some(number);
                    }
                }
            }
            JournalEvent::Held { limit, by, .. } => {
                if let Some(known) = self.limits.get_mut(&entry.about) {
                    known.heard = heard;
                    known.held = Some((*limit, *by));
                }
            }
            JournalEvent::Gone => drop(self.limits.remove(&entry.about)),
        }
    }
}

fn unfinished() -> String {
    format!("{HOLDS}.unfinished")
}

/// What an earlier agent held; nothing where there is no such file.
fn read_holds(folder: &Path) -> Result<Holds, String> {
    let path = folder.join(HOLDS);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Holds::default()),
        other => other.map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let damaged = || format!("{} is not what was written", path.display());
    let mut decoder = Decoder::new(MAX_HOLDS);
    decoder.push(&bytes);
    let message = decoder.next_message().ok().flatten().ok_or_else(damaged)?;
    match ToProxy::decode(message) {
        Ok(ToProxy::Hold { holds, .. }) => Ok(holds),
        _ => Err(damaged()),
    }
}

/// Stores what is held, so that after a crash there is that or what was held before.
fn write_holds(folder: &Path, holds: &Holds) -> std::io::Result<()> {
    let frame = ToProxy::Hold {
        version: 0,
        holds: holds.clone(),
    };
    let beside = folder.join(unfinished());
    fs::write(&beside, frame.encode())?;
    fs::File::open(&beside)?.sync_all()?;
    fs::rename(&beside, folder.join(HOLDS))?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
