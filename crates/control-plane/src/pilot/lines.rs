//! The journal as people and programs read it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use selvedge_feed::JournalPart;
use selvedge_model::{
    Decision, Doubt, Fates, HeldBy, JournalEntry, JournalEvent, Limited, Place, ServiceName,
    Snapshot, Why, WindowSummary,
};
use selvedge_telemetry::log::{self, Timestamp};

use super::{calendar, moment};
use crate::journal::{JournalError, Reader, segments};
use crate::wire::{JournalLine, JournalReply, WindowLine};

/// What of a journal is asked for.
#[derive(Clone, Debug, Default)]
pub struct JournalQuery {
    /// Only of this service.
    pub service: Option<ServiceName>,
    /// Every window, and not only where something changed.
    pub is_full: bool,
    /// So many at most, the last ones.
    pub last: usize,
}

impl JournalQuery {
    /// `fixed` is what the limit does not cross.
    fn wants(&self, entry: &JournalEntry, fixed: u32) -> bool {
        let is_of_it = self.service.as_ref();
        if is_of_it.is_some_and(|service| service != entry.about.service()) {
            return false;
        }
        self.is_full
            || match &entry.event {
                JournalEvent::Decided { window, decision } => {
                    decision.limit.min(fixed) != window.limit
                }
                JournalEvent::State(_) => false,
                JournalEvent::Held { .. } | JournalEvent::Gone => true,
            }
    }
}

/// How a limit is named.
pub(crate) fn about(limited: &Limited, snapshot: Option<&Snapshot>) -> String {
    match limited {
        Limited::Endpoint { place, port, .. } => match place {
            Place::Local(cgroup) => {
                let workload = snapshot.and_then(|it| it.workloads.get(cgroup));
                match workload {
                    Some(workload) => workload.name.to_string(),
                    None => format!("cgroup {}, port {port}", cgroup.0),
                }
            }
            Place::Outside(address) => std::net::SocketAddr::new(*address, port.get()).to_string(),
        },
        Limited::Entry { route, .. } => format!("entry of {route}"),
    }
}

/// The lines of a journal's segment, the oldest first; also whatever is whole of one that is damaged.
///
/// # Errors
/// Where it cannot be opened.
pub fn read_segment(
    path: &Path,
    query: &JournalQuery,
    snapshot: Option<&Snapshot>,
) -> Result<JournalReply, JournalError> {
    let mut reader = Reader::open(path)?;
    let mut lines = VecDeque::new();
    let mut fixed = BTreeMap::new();
    let damage = loop {
        match reader.next_part() {
            Ok(Some(part)) => add(&mut lines, &mut fixed, &part, query, snapshot),
            Ok(None) => break None,
            Err(error) => break Some(log::chain(&error).to_string()),
        }
    };
    Ok(JournalReply {
        lines: lines.into(),
        damage: damage.into_iter().collect(),
    })
}

/// The last lines of a journal.
///
/// # Errors
/// Where its folder cannot be read.
pub(crate) fn read_journal(
    folder: &Path,
    query: &JournalQuery,
    snapshot: Option<&Snapshot>,
) -> Result<JournalReply, JournalError> {
    let mut reply = JournalReply::default();
    for segment in segments(folder)?.into_iter().rev() {
        let wanted = query.last.saturating_sub(reply.lines.len());
        if wanted == 0 {
            break;
        }
        let query = JournalQuery {
            last: wanted,
            ..query.clone()
        };
        let mut older = match read_segment(&segment.path, &query, snapshot) {
            Ok(older) => older,
            // It may have been the oldest, which has just made room.
            Err(JournalError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        older.lines.append(&mut reply.lines);
        older.damage.append(&mut reply.damage);
        reply = older;
    }
    Ok(reply)
}

/// The entry with a number; `None` where it is not in the journal, or not any more.
pub(crate) fn find(folder: &Path, number: u64) -> Result<Option<JournalEntry>, JournalError> {
    let segments = segments(folder)?;
    let Some(segment) = segments.iter().rev().find(|it| it.first <= number) else {
        return Ok(None);
    };
    let mut reader = Reader::open(&segment.path)?;
    while let Some(part) = reader.next_part()? {
        let place = number.checked_sub(part.number);
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(entry) = place.and_then(|place| part.entries.get(place)) {
            return Ok(Some(entry.clone()));
        }
    }
    Ok(None)
}

fn add(
    lines: &mut VecDeque<JournalLine>,
    fixed: &mut BTreeMap<Limited, u32>,
    part: &JournalPart,
    query: &JournalQuery,
    snapshot: Option<&Snapshot>,
) {
    for (number, entry) in (part.number..).zip(&part.entries) {
        if let JournalEvent::State(state) = &entry.event {
            let most = state.fixed.unwrap_or(u32::MAX);
            fixed.insert(entry.about.clone(), most);
        }
        let fixed = fixed.get(&entry.about).copied().unwrap_or(u32::MAX);
        if query.wants(entry, fixed) {
            if lines.len() == query.last {
                lines.pop_front();
            }
            let mut line = line(number, entry, part.epoch_unix_ns, snapshot);
            line.limit = line.limit.map(|limit| limit.min(fixed));
            lines.push_back(line);
        }
    }
}

fn line(number: u64, entry: &JournalEntry, epoch: u64, snapshot: Option<&Snapshot>) -> JournalLine {
    let at = moment(&entry.event);
    let time = at.map(|at| Timestamp(calendar(epoch, at)).to_string());
    let line = JournalLine {
        number,
        time,
        service: entry.about.service().to_string(),
        about: about(&entry.about, snapshot),
        ..JournalLine::default()
    };
    match &entry.event {
        JournalEvent::State(state) => JournalLine {
            event: "state".to_owned(),
            limit: Some(state.limit),
            objective_us: u64::try_from(state.objective.as_micros()).ok(),
            ..line
        },
        JournalEvent::Decided { window, decision } => JournalLine {
            event: "decided".to_owned(),
            limit_before: Some(window.limit),
            limit: Some(decision.limit),
            why: Some(decision.why.word().to_owned()),
            because: because(window, decision),
            window: Some(window_line(window)),
            ..line
        },
        JournalEvent::Held { limit, by, .. } => JournalLine {
            event: held(*by).to_owned(),
            limit: *limit,
            why: doubt(*by).map(|doubt| doubt.word().to_owned()),
            because: doubt(*by).map_or_else(String::new, |it| it.explanation().to_owned()),
            ..line
        },
        JournalEvent::Gone => JournalLine {
            event: "gone".to_owned(),
            ..line
        },
    }
}

/// The word for how a limit is held.
pub(crate) const fn held(by: HeldBy) -> &'static str {
    match by {
        HeldBy::Freeze => "frozen",
        HeldBy::Pin => "pinned",
        HeldBy::Doubt(_) => "doubted",
    }
}

pub(crate) const fn doubt(by: HeldBy) -> Option<Doubt> {
    match by {
        HeldBy::Doubt(doubt) => Some(doubt),
        _ => None,
    }
}

/// The reason in words, with the figures that it rests on.
pub(crate) fn because(window: &WindowSummary, decision: &Decision) -> String {
    let tail = milliseconds(window.times.q95);
    let peak = window.peak;
    match decision.why {
        Why::Steady => format!("p95 {tail} is where it may be"),
        Why::Room => format!("p95 {tail} leaves room, and {peak} were in flight"),
        Why::Slow => format!("p95 {tail} is too long"),
        Why::NotTheLoad => format!("p95 {tail} is too long, and no less so with less in flight"),
        Why::Wasted => {
            let (wasted, ended) = (window.fates.wasted, window.fates.ended);
            format!("{wasted} of {ended} took a place and found none behind it")
        }
        Why::Behind => {
            let Fates {
                ended,
                refused,
                late,
                ..
            } = window.fates;
            let what = match late > refused {
                true => format!("{late} of {ended} went to an endpoint that takes too long"),
                false => format!("{refused} of {ended} found no place there"),
            };
            format!("p95 {tail} is too long, and limits behind see to that: {what}")
        }
        Why::Unused => format!("{peak} in flight is far less than may be"),
        _ => decision.why.word().to_owned(),
    }
}

/// Microseconds in a unit that is easy to read.
pub fn milliseconds(us: f64) -> String {
    match us {
        ..1e4 => format!("{:.2} ms", us / 1e3),
        1e4..1e6 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

fn window_line(window: &WindowSummary) -> WindowLine {
    let length = window.ended.since(window.began);
    WindowLine {
        length_us: u64::try_from(length.as_micros()).unwrap_or(u64::MAX),
        samples: window.times.samples,
        mean_us: window.times.mean,
        p50_us: window.times.median,
        p95_us: window.times.q95,
        peak: window.peak,
        refused: window.refused,
        refused_share: window.refused_share,
        ended: window.fates.ended,
        refused_behind: window.fates.refused,
        late_behind: window.fates.late,
        wasted: window.fates.wasted,
    }
}
