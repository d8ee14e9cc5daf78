//! What the controllers do, and having them stop it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use selvedge_model::{
    Holds, JournalEvent, Limited, PilotMode, RequestPolicy, ServiceName, Snapshot,
};
use tokio::time::timeout;

use super::Api;
use crate::journal::JournalError;
use crate::pilot::lines::{about, because, doubt, find, held, read_journal};
use crate::pilot::{JournalQuery, Known};
use crate::problem::{Problem, ProblemKind};
use crate::stored_plan;
use crate::wire::{
    HoldRequest, JournalReply, JournalReport, LimitReport, PilotReport, UndoRequest,
};

/// How long the proxy may take to do what it is told.
const PATIENCE: Duration = Duration::from_secs(2);
/// Lines of the journal that are told unless asked otherwise, and at most.
const LINES: usize = 50;
const MOST_LINES: usize = 10_000;

/// How the limits are.
pub(super) fn report(api: &Api) -> PilotReport {
    let view = api.plane.view();
    let snapshot = &view.snapshot;
    let wanted = api.pilot.wanted().borrow().clone();
    let journal = api.pilot.journal();
    let limits = api.pilot.limits();
    PilotReport {
        is_frozen: wanted.holds.everything,
        frozen: wanted
            .holds
            .services
            .iter()
            .map(ToString::to_string)
            .collect(),
        pinned: wanted
            .holds
            .pins
            .keys()
            .filter(|it| limits.contains_key(it))
            .count(),
        is_in_force: *api.pilot.held().borrow() == wanted.version,
        limits: by_service(&limits)
            .map(|(limited, known)| limit(limited, known, snapshot))
            .collect(),
        plan: stored_plan::report(&view.plan),
        journal: JournalReport {
            folder: api.pilot.folder().display().to_string(),
            next: journal.next,
            lost: journal.lost,
            trouble: journal.trouble,
        },
    }
}

/// Endpoints before entries, of each service.
fn by_service(limits: &BTreeMap<Limited, Known>) -> impl Iterator<Item = (&Limited, &Known)> {
    let mut sorted: Vec<_> = limits.iter().collect();
    sorted.sort_by_key(|(limited, _)| limited.service());
    sorted.into_iter()
}

fn limit(limited: &Limited, known: &Known, snapshot: &Snapshot) -> LimitReport {
    let state = &known.state;
    let service = snapshot.services.get(limited.service());
    let policy = service.and_then(|service| service.requests.as_ref());
    let mode = policy.and_then(RequestPolicy::of_own).map(|it| it.mode);
    let last = known.last.as_ref();
    let floor = last.map(|(_, _, decision)| decision.floor);
    let floor = floor.filter(|floor| *floor > 0.0);
    let doubt = known.held.and_then(|(_, by)| doubt(by));
    let age = SystemTime::now().duration_since(known.heard);
    LimitReport {
        service: limited.service().to_string(),
        about: about(limited, Some(snapshot)),
        mode: match mode.unwrap_or(PilotMode::Off) {
            PilotMode::Off => "off",
            PilotMode::Observe => "observe",
            PilotMode::Guard => "guard",
            PilotMode::Drive => "drive",
        }
        .to_owned(),
        objective_us: u64::try_from(state.objective.as_micros()).unwrap_or(u64::MAX),
        limit: known.limit(),
        fixed: state.fixed,
        decided: state.limit,
        held: known.held.map(|(_, by)| held(by).to_owned()),
        doubt: doubt.map(|doubt| doubt.word().to_owned()),
        p95_us: last.map(|(_, window, _)| window.times.q95),
        idle_p95_us: floor,
        is_beyond_reach: known.out_of_reach().is_some(),
        refused_share: last.map_or(0.0, |(_, window, _)| window.refused_share),
        why: last.map(|(_, _, decision)| decision.why.word().to_owned()),
        because: match (doubt, last) {
            (Some(doubt), _) => doubt.explanation().to_owned(),
            (None, Some((_, window, decision))) => because(window, decision),
            (None, None) => String::new(),
        },
        changed: known.changed,
        age: age.unwrap_or_default().as_secs_f64(),
    }
}

/// The journal's last lines, by `service=cart.shop&last=50&all`.
pub(super) async fn journal(api: &Api, query: &str) -> Result<JournalReply, Problem> {
    let query = read_query(query)?;
    let folder = api.pilot.folder().to_owned();
    let snapshot = api.plane.view().snapshot.clone();
    let reading = move || read_journal(&folder, &query, Some(&snapshot));
    off_thread(reading).await
}

fn read_query(text: &str) -> Result<JournalQuery, Problem> {
    let mut query = JournalQuery {
        last: LINES,
        ..JournalQuery::default()
    };
    for part in text.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "service" => query.service = Some(service_name(value)?),
            "all" => query.is_full = true,
            "last" => {
                let last = value.parse().ok();
                let last = last.filter(|last| (1..=MOST_LINES).contains(last));
                query.last = last.ok_or_else(|| {
                    let what = format!("last={value:?} is no number from 1 to {MOST_LINES}");
                    Problem::new(ProblemKind::Invalid, what)
                })?;
            }
            _ => {
                let what = format!("lines of the journal are not selected by {key:?}");
                return Err(Problem::new(ProblemKind::Invalid, what));
            }
        }
    }
    Ok(query)
}

/// Has everything rest, or one service.
pub(super) async fn freeze(api: &Api, request: HoldRequest) -> Result<PilotReport, Problem> {
    let service = request.service.as_deref().map(|name| steered(api, name));
    let service = service.transpose()?;
    change(api, |holds| match service {
        None => holds.everything = true,
        Some(service) => drop(holds.services.insert(service)),
    })
    .await
}

/// Lets everything go, or one service: what was frozen, and what was put back.
pub(super) async fn release(api: &Api, request: HoldRequest) -> Result<PilotReport, Problem> {
    let Some(name) = request.service else {
        return change(api, |holds| *holds = Holds::default()).await;
    };
    let service = service_name(&name)?;
    let wanted = api.pilot.wanted().borrow().holds.clone();
    if wanted.everything {
        let what = format!("{service} cannot be released: everything is frozen");
        return Err(Problem::new(ProblemKind::Conflict, what).try_next(
            "selvedge pilot release, then selvedge pilot freeze SERVICE for each of the others",
        ));
    }
    let is_pinned = wanted.pins.keys().any(|it| *it.service() == service);
    if !wanted.services.contains(&service) && !is_pinned {
        let what = format!("nothing of {service} is frozen or put back");
        return Err(Problem::new(ProblemKind::NotFound, what).try_next("selvedge pilot status"));
    }
    change(api, |holds| {
        holds.services.remove(&service);
        for limits in [&mut holds.pins, &mut holds.rests] {
            limits.retain(|limited, _| *limited.service() != service);
        }
    })
    .await
}

/// Puts the value before a decision back, and keeps it there.
pub(super) async fn undo(api: &Api, request: UndoRequest) -> Result<PilotReport, Problem> {
    let number = request.number;
    let folder = api.pilot.folder().to_owned();
    let found = off_thread(move || find(&folder, number)).await?;
    let Some(entry) = found else {
        let what = format!("there is no entry {number} in the journal");
        return Err(Problem::new(ProblemKind::NotFound, what)
            .because("it was never written, or has made room for later ones")
            .try_next("selvedge pilot journal"));
    };
    let JournalEvent::Decided { window, .. } = entry.event else {
        let what = format!("entry {number} of the journal is no decision");
        return Err(Problem::new(ProblemKind::Invalid, what).try_next("selvedge pilot journal"));
    };
    let limits = api.pilot.limits();
    let known = limits.get(&entry.about);
    if known.is_some_and(|known| !known.state.is_applied) {
        let what = format!("decision {number} was not done: its service is only observed");
        return Err(Problem::new(ProblemKind::Conflict, what)
            .try_next("a ServiceObjective with the mode Guard or Drive has limits set"));
    }
    if known.is_none() {
        let snapshot = api.plane.view().snapshot.clone();
        let name = about(&entry.about, Some(&snapshot));
        let what = format!("decision {number} is of a limit that is no more: {name}");
        return Err(Problem::new(ProblemKind::Conflict, what)
            .because("the endpoint has ended, or the service has another objective since")
            .try_next("selvedge pilot status shows the limits there are"));
    }
    change(api, |holds| {
        if holds.pins.len() >= Holds::MOST {
            // Of limits that are no more nothing needs to be held.
            holds.pins.retain(|limited, _| limits.contains_key(limited));
        }
        holds.pins.insert(entry.about, Some(window.limit));
    })
    .await
}

/// Changes what is held, waits for the proxy to do so, and tells how the limits are then.
async fn change(api: &Api, change: impl FnOnce(&mut Holds)) -> Result<PilotReport, Problem> {
    let mut holds = Holds::clone(&api.pilot.wanted().borrow().holds);
    change(&mut holds);
    if holds.pins.len() > Holds::MOST || holds.services.len() > Holds::MOST {
        let what = format!("more than {} cannot be held one by one", Holds::MOST);
        return Err(Problem::new(ProblemKind::TooLarge, what)
            .try_next("selvedge pilot release some, or selvedge pilot freeze everything"));
    }
    let version = api.pilot.hold(holds).map_err(|error| {
        let folder = api.pilot.folder().display();
        let what = format!("what is held cannot be stored in {folder}: {error}");
        Problem::new(ProblemKind::Unavailable, what)
            .because("the disk of the state folder is full or broken, or something else is in the way; nothing has changed")
            .try_next("make room there, then try again")
    })?;
    if api.proxy.borrow().is_connected {
        let mut held = api.pilot.held();
        let _slow = timeout(PATIENCE, held.wait_for(|held| *held >= version)).await;
    }
    Ok(report(api))
}

fn service_name(text: &str) -> Result<ServiceName, Problem> {
    text.parse()
        .map_err(|error| Problem::new(ProblemKind::Invalid, format!("service {text:?}: {error}")))
}

/// A service with limits that controllers move.
fn steered(api: &Api, name: &str) -> Result<ServiceName, Problem> {
    let name = service_name(name)?;
    let snapshot = Arc::clone(&api.plane.view().snapshot);
    let Some(service) = snapshot.services.get(&name) else {
        let what = format!("there is no service {name}");
        return Err(Problem::new(ProblemKind::NotFound, what).try_next("selvedge get services"));
    };
    let policy = service.requests.as_ref();
    let objective = policy.and_then(RequestPolicy::of_own);
    if objective.is_none_or(|it| it.mode == PilotMode::Off) {
        let what = format!("{name} has no limits that move: there is no objective for it");
        return Err(
            Problem::new(ProblemKind::Conflict, what).try_next("selvedge get serviceobjectives")
        );
    }
    Ok(name)
}

/// Reads files where nobody waits for it.
async fn off_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, Problem> {
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(|panic| Problem::new(ProblemKind::Failed, panic.to_string()))?;
    read.map_err(|error| {
        let what = selvedge_telemetry::log::chain(&error).to_string();
        Problem::new(ProblemKind::Failed, what)
    })
}
