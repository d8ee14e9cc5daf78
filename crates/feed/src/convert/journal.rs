//! The journal of controllers and what is held, to their wire twins and back.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::{
    ControllerState, Decision, Doubt, Fates, HeldBy, Holds, Instant, JournalEntry, JournalEvent,
    Limited, Tail, Why, WindowSummary,
};

use super::requests::nanos;
use super::traffic::route;
use super::{Defect, at_most, collect, place_in, place_out, port};
use crate::wire::journal as twin;

impl From<&Limited> for twin::Limited {
    fn from(limited: &Limited) -> Self {
        Self {
            body: Some(match limited {
                Limited::Endpoint {
                    backend,
                    place,
                    port,
                } => twin::LimitedBody::Endpoint(twin::LimitedEndpoint {
                    place: Some(place_out(*place)),
                    backend: backend.into(),
                    port: port.get().into(),
                }),
                Limited::Entry { service, route } => twin::LimitedBody::Entry(twin::LimitedEntry {
                    service: service.into(),
                    route: super::traffic::cut(route),
                }),
            }),
        }
    }
}

impl TryFrom<twin::Limited> for Limited {
    type Error = Defect;

    fn try_from(wire: twin::Limited) -> Result<Self, Defect> {
        Ok(match wire.body.ok_or(Defect::Missing("what is limited"))? {
            twin::LimitedBody::Endpoint(endpoint) => Self::Endpoint {
                backend: endpoint.backend.try_into()?,
                place: place_in(endpoint.place)?,
                port: port(endpoint.port)?,
            },
            twin::LimitedBody::Entry(entry) => Self::Entry {
                service: entry.service.try_into()?,
                route: route(entry.route)?,
            },
        })
    }
}

impl From<&JournalEntry> for twin::JournalEntry {
    fn from(entry: &JournalEntry) -> Self {
        Self {
            about: (&entry.about).into(),
            event: Some(match &entry.event {
                JournalEvent::State(state) => twin::JournalEvent::State(twin::State {
                    at_ns: state.at.as_nanos(),
                    objective_ns: nanos(state.objective),
                    fixed: state.fixed,
                    applied: state.is_applied,
                    limit: state.limit,
                    memory: state.memory.clone(),
                }),
                JournalEvent::Decided { window, decision } => {
                    twin::JournalEvent::Decided(decided_out(window, decision))
                }
                JournalEvent::Held { at, limit, by } => twin::JournalEvent::Held(twin::Held {
                    at_ns: at.as_nanos(),
                    limit: *limit,
                    resting: *by == HeldBy::Freeze,
                    doubt: match by {
                        HeldBy::Doubt(doubt) => *doubt as u32,
                        _ => 0,
                    },
                }),
                JournalEvent::Gone => twin::JournalEvent::Gone(twin::Gone {}),
            }),
        }
    }
}

fn decided_out(window: &WindowSummary, decision: &Decision) -> twin::Decided {
    twin::Decided {
        began_ns: window.began.as_nanos(),
        ended_ns: window.ended.as_nanos(),
        limit_before: window.limit,
        peak: window.peak,
        samples: window.times.samples,
        mean: window.times.mean,
        median: window.times.median,
        q95: window.times.q95,
        q95_low: window.times.q95_low,
        q95_high: window.times.q95_high,
        refused: window.refused,
        refused_share: window.refused_share,
        ended: window.fates.ended,
        refused_behind: window.fates.refused,
        late_behind: window.fates.late,
        wasted: window.fates.wasted,
        limit: decision.limit,
        fresh: decision.is_fresh,
        why: decision.why as u32,
        floor: decision.floor,
        applied: window.is_applied,
    }
}

fn decided_in(wire: &twin::Decided) -> Result<JournalEvent, Defect> {
    let times = [
        wire.mean,
        wire.median,
        wire.q95,
        wire.q95_low,
        wire.q95_high,
    ];
    let numbers = [wire.refused_share, wire.floor];
    if !times.iter().chain(&numbers).all(|it| it.is_finite()) {
        return Err(Defect::Missing("a number"));
    }
    let window = WindowSummary {
        began: Instant::from_nanos(wire.began_ns),
        ended: Instant::from_nanos(wire.ended_ns),
        limit: wire.limit_before,
        is_applied: wire.applied,
        peak: wire.peak,
        times: Tail {
            samples: wire.samples,
            mean: wire.mean,
            median: wire.median,
            q95: wire.q95,
            q95_low: wire.q95_low,
            q95_high: wire.q95_high,
        },
        refused: wire.refused,
        refused_share: wire.refused_share,
        fates: Fates {
            ended: wire.ended,
            refused: wire.refused_behind,
            wasted: wire.wasted,
            late: wire.late_behind,
        },
    };
    let why = Why::from_number(wire.why).ok_or(Defect::Range {
        what: "a reason",
        value: wire.why,
    })?;
    let decision = Decision {
        limit: wire.limit,
        is_fresh: wire.fresh,
        why,
        floor: wire.floor,
    };
    Ok(JournalEvent::Decided { window, decision })
}

impl TryFrom<twin::JournalEntry> for JournalEntry {
    type Error = Defect;

    fn try_from(wire: twin::JournalEntry) -> Result<Self, Defect> {
        let event = match wire.event.ok_or(Defect::Missing("what happened"))? {
            twin::JournalEvent::State(state) => {
                let longest = ControllerState::MAX_MEMORY;
                at_most("bytes of memory", state.memory.len(), longest)?;
                JournalEvent::State(ControllerState {
                    at: Instant::from_nanos(state.at_ns),
                    objective: Duration::from_nanos(state.objective_ns),
                    fixed: state.fixed,
                    is_applied: state.applied,
                    limit: state.limit,
                    memory: state.memory,
                })
            }
            twin::JournalEvent::Decided(decided) => decided_in(&decided)?,
            twin::JournalEvent::Held(held) => JournalEvent::Held {
                at: Instant::from_nanos(held.at_ns),
                limit: held.limit,
                by: held_by(&held)?,
            },
            twin::JournalEvent::Gone(twin::Gone {}) => JournalEvent::Gone,
        };
        Ok(Self {
            about: wire.about.try_into()?,
            event,
        })
    }
}

fn held_by(wire: &twin::Held) -> Result<HeldBy, Defect> {
    Ok(match (wire.doubt, wire.resting) {
        (0, true) => HeldBy::Freeze,
        (0, false) => HeldBy::Pin,
        (value, _) => {
            let what = "a doubt";
            let doubt = Doubt::from_number(value).ok_or(Defect::Range { what, value })?;
            HeldBy::Doubt(doubt)
        }
    })
}

pub(crate) fn holds_out(version: u64, holds: &Holds) -> twin::Holds {
    twin::Holds {
        version,
        everything: holds.everything,
        services: holds
            .services
            .iter()
            .take(Holds::MOST)
            .map(Into::into)
            .collect(),
        pins: pins_out(&holds.pins),
        rests: pins_out(&holds.rests),
    }
}

fn pins_out(pins: &BTreeMap<Limited, Option<u32>>) -> Vec<twin::Pin> {
    let pin = |(about, limit): (&Limited, &Option<u32>)| twin::Pin {
        about: about.into(),
        limit: *limit,
    };
    pins.iter().take(Holds::MOST).map(pin).collect()
}

fn pins_in(pins: Vec<twin::Pin>) -> Result<BTreeMap<Limited, Option<u32>>, Defect> {
    at_most("limits", pins.len(), Holds::MOST)?;
    let pin = |pin: twin::Pin| Ok((pin.about.try_into()?, pin.limit));
    Ok(collect(pins, pin)?.into_iter().collect())
}

pub(crate) fn holds_in(wire: twin::Holds) -> Result<(u64, Holds), Defect> {
    at_most("services", wire.services.len(), Holds::MOST)?;
    let holds = Holds {
        everything: wire.everything,
        services: collect(wire.services, TryInto::try_into)?
            .into_iter()
            .collect(),
        pins: pins_in(wire.pins)?,
        rests: pins_in(wire.rests)?,
    };
    Ok((wire.version, holds))
}
