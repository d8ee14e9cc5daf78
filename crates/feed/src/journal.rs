//! The journal of controllers: on its way to the agent, and in the files where that keeps it.
//!
//! Both are frames of the same message, so that what is read from a file is what was told, bit for bit.
//! The proxy tells unasked, after [`ToProxy::JournalRequest`](crate::ToProxy::JournalRequest) first the states
//! of all controllers.

use alloc::vec::Vec;

use prost::Message as _;
use selvedge_model::JournalEntry;

use crate::message::DecodeError;
use crate::wire::journal as wire;
use crate::{MAX_TO_AGENT_BYTES, frame};

/// Bytes after which a part ends, so that its frame is far below the bound of a message.
const PART_BYTES: usize = 64 << 10;

/// Entries that follow each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalPart {
    /// When the moment 0 of its entries was, in ns since 1970: each process of the proxy has its own.
    pub epoch_unix_ns: u64,
    /// How many entries that process had told before. Those between two parts are lost.
    pub sequence: u64,
    /// The number of the first entry, by which users name it; 0 before the agent has given it one.
    pub number: u64,
    /// Whether the entries begin with the states of all controllers.
    pub is_beginning: bool,
    /// The entries.
    pub entries: Vec<JournalEntry>,
}

impl JournalPart {
    /// Longest frame in bytes.
    pub const MAX_BYTES: usize = MAX_TO_AGENT_BYTES;

    /// Cuts it into parts that are short enough to be told. One without entries stays one.
    pub fn cut(self) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut current = Self {
            entries: Vec::new(),
            ..self
        };
        let mut bytes = 0;
        for entry in self.entries {
            let length = wire::JournalEntry::from(&entry).encoded_len();
            if bytes > 0 && bytes + length > PART_BYTES {
                let count = current.entries.len() as u64;
                let next = Self {
                    sequence: current.sequence + count,
                    number: match current.number {
                        0 => 0,
                        number => number + count,
                    },
                    is_beginning: false,
                    entries: Vec::new(),
                    ..current
                };
                parts.push(core::mem::replace(&mut current, next));
                bytes = 0;
            }
            bytes += length;
            current.entries.push(entry);
        }
        parts.push(current);
        parts
    }

    /// As a frame, for a file.
    pub fn encode(self) -> Vec<u8> {
        frame::encode(&wire::JournalPart::from(self))
    }

    /// Reads what a [`crate::Decoder`] cut out of a file.
    ///
    /// # Errors
    /// Where it is no part of a journal of this version.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        wire::JournalPart::decode(message)?.try_into()
    }
}

impl From<JournalPart> for wire::JournalPart {
    fn from(part: JournalPart) -> Self {
        Self {
            epoch_unix_ns: part.epoch_unix_ns,
            sequence: part.sequence,
            number: part.number,
            beginning: part.is_beginning,
            entries: part.entries.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::JournalPart> for JournalPart {
    type Error = DecodeError;

    fn try_from(wire: wire::JournalPart) -> Result<Self, DecodeError> {
        let count = wire.entries.len() as u64;
        for first in [wire.sequence, wire.number] {
            first.checked_add(count).ok_or(DecodeError::Journal)?;
        }
        let entries = wire.entries.into_iter();
        let entries: Result<_, _> = entries.map(JournalEntry::try_from).collect();
        Ok(Self {
            epoch_unix_ns: wire.epoch_unix_ns,
            sequence: wire.sequence,
            number: wire.number,
            is_beginning: wire.beginning,
            entries: entries.map_err(|_| DecodeError::Journal)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, ToAgent, ToProxy};
    use alloc::string::ToString;
    use alloc::{format, vec};
    use core::time::Duration;
    use selvedge_model::{
        Backend, CgroupId, ControllerState, Decision, Doubt, HeldBy, Holds, Instant, JournalEvent,
        Limited, Place, Port, Why, WindowSummary,
    };

    fn endpoint(cgroup: u64) -> Limited {
        Limited::Endpoint {
            backend: Backend {
                service: "cart.shop".parse().unwrap(),
                port: Port::MAX,
            },
            place: Place::Local(CgroupId(cgroup)),
            port: Port::MIN,
        }
    }

    fn entry(route: &str) -> Limited {
        Limited::Entry {
            service: "cart".parse().unwrap(),
            route: route.to_string(),
        }
    }

    fn state(length: usize) -> JournalEvent {
        JournalEvent::State(ControllerState {
            at: Instant::from_nanos(1),
            objective: Duration::from_millis(250),
            fixed: Some(7),
            is_applied: true,
            limit: 8,
            memory: vec![7; length],
        })
    }

    fn decided() -> JournalEvent {
        let times = selvedge_model::Tail {
            samples: 1,
            mean: 0.1 + 0.2,
            median: f64::MIN_POSITIVE,
            q95: 1.0 / 3.0,
            q95_low: f64::MAX,
            q95_high: -0.0,
        };
        JournalEvent::Decided {
            window: WindowSummary {
                began: Instant::from_nanos(u64::MAX - 1),
                ended: Instant::NEVER,
                times,
                ..WindowSummary::default()
            },
            decision: Decision {
                limit: u32::MAX,
                is_fresh: true,
                why: Why::NotTheLoad,
                floor: 1.5,
            },
        }
    }

    fn part(entries: Vec<JournalEntry>) -> JournalPart {
        JournalPart {
            epoch_unix_ns: 5,
            sequence: 100,
            number: 0,
            is_beginning: true,
            entries,
        }
    }

    #[test]
    fn a_journal_reads_back_bit_for_bit() {
        let held = |limit, by| JournalEvent::Held {
            at: Instant::from_nanos(3),
            limit,
            by,
        };
        let events = [
            state(3),
            decided(),
            held(Some(9), HeldBy::Freeze),
            held(None, HeldBy::Pin),
            held(Some(3), HeldBy::Doubt(Doubt::Silent)),
            JournalEvent::Gone,
        ];
        let both = |event: JournalEvent| {
            [endpoint(9), entry("r")].map(|about| JournalEntry {
                about,
                event: event.clone(),
            })
        };
        let part = part(events.into_iter().flat_map(both).collect());
        let frame = ToAgent::Journal(part.clone()).encode();
        assert_eq!(
            ToAgent::decode(&frame[4..]),
            Ok(ToAgent::Journal(part.clone()))
        );
        let mut file = Decoder::new(JournalPart::MAX_BYTES);
        file.push(&part.clone().encode());
        let message = file.next_message().unwrap().unwrap();
        assert_eq!(JournalPart::decode(message), Ok(part));
    }

    #[test]
    fn many_entries_are_told_in_parts_that_follow_each_other() {
        let about = entry(&"r".repeat(512));
        let entry = |number: usize| JournalEntry {
            about: about.clone(),
            event: state(ControllerState::MAX_MEMORY - number % 2),
        };
        let whole = part((0..500).map(entry).collect());
        let parts = whole.clone().cut();
        assert!(parts.len() > 20);
        let mut next = whole.sequence;
        for (place, part) in parts.iter().enumerate() {
            assert_eq!((part.sequence, part.is_beginning), (next, place == 0));
            next += part.entries.len() as u64;
            let frame = ToAgent::Journal(part.clone()).encode();
            assert!(frame.len() < MAX_TO_AGENT_BYTES, "{}", frame.len());
        }
        assert_eq!(next, 600);
        let entries = parts.into_iter().flat_map(|part| part.entries);
        assert!(entries.eq(whole.entries));
        assert_eq!(part(vec![]).cut(), [part(vec![])]);
    }

    #[test]
    fn what_no_proxy_says_is_refused() {
        let about = |route: &str| wire::Limited::from(&entry(route));
        let told = |about, event| wire::JournalPart {
            entries: vec![wire::JournalEntry { about, event }],
            ..wire::JournalPart::default()
        };
        let decided = |why| {
            Some(wire::JournalEvent::Decided(wire::Decided {
                why,
                ..wire::Decided::default()
            }))
        };
        let state = |length| {
            Some(wire::JournalEvent::State(wire::State {
                memory: vec![0; length],
                ..wire::State::default()
            }))
        };
        let is_taken = |about, event| JournalPart::try_from(told(about, event)).is_ok();
        assert!(is_taken(about("r"), decided(1)));
        assert!(is_taken(about("r"), state(4096)));
        let absurd = wire::Decided {
            why: 1,
            floor: f64::NAN,
            ..wire::Decided::default()
        };
        assert!(!is_taken(
            about("r"),
            Some(wire::JournalEvent::Decided(absurd))
        ));
        assert!(!is_taken(about("r"), decided(0)));
        assert!(!is_taken(about("r"), decided(256 + 1)));
        assert!(!is_taken(about("r"), state(4097)));
        assert!(!is_taken(about("r"), None));
        assert!(!is_taken(about("\u{1b}[2J"), decided(1)));
        assert!(!is_taken(wire::Limited::default(), decided(1)));
    }

    #[test]
    fn holds_read_back_up_to_their_bound() {
        let name = |number: usize| format!("s{number}").parse().unwrap();
        let mut holds = Holds {
            everything: true,
            services: (0..Holds::MOST).map(name).collect(),
            pins: [(endpoint(1), Some(4)), (entry("r"), None)].into(),
            rests: [(endpoint(2), Some(6))].into(),
        };
        let read = |holds: &Holds| {
            let frame = ToProxy::Hold {
                version: 3,
                holds: holds.clone(),
            }
            .encode();
            match ToProxy::decode(&frame[4..]) {
                Ok(ToProxy::Hold { version: 3, holds }) => holds,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(read(&holds), holds);
        holds.services.insert(name(Holds::MOST));
        assert_eq!(read(&holds).services.len(), Holds::MOST);
        assert_eq!(read(&Holds::default()), Holds::default());
    }
}
