//! What the controllers did, until the agent is told.
//!
//! Every piece begins with the states of all controllers, so that what comes behind can be replayed; only the
//! first that follows on what was told already need not. While no agent takes them, the last ones are kept.

use std::collections::VecDeque;
use std::mem;

use selvedge_feed::JournalPart;
use selvedge_model::{JournalEntry, JournalEvent, Limited};

/// What nobody has been told yet.
#[derive(Debug)]
pub(crate) struct Journal {
    epoch_unix_ns: u64,
    /// Entries so far, those that were dropped too.
    sequence: u64,
    dropped: u64,
    pieces: VecDeque<Piece>,
}

#[derive(Debug)]
struct Piece {
    /// Entries before it.
    sequence: u64,
    is_beginning: bool,
    entries: Vec<JournalEntry>,
    bytes: usize,
    /// Those of the states that it begins with.
    states: usize,
}

impl Journal {
    /// A piece with so much in it is followed by another.
    const PIECE_BYTES: usize = 256 << 10;
    /// More than this is in none, however many controllers there are. What is not is dropped, and counted.
    const MOST_BYTES: usize = 4 << 20;
    const MOST_PIECES: usize = 3;

    /// Its moments begin then.
    pub(crate) fn new(epoch_unix_ns: u64) -> Self {
        Self {
            epoch_unix_ns,
            sequence: 0,
            dropped: 0,
            pieces: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub(crate) fn record(&mut self, about: &Limited, event: JournalEvent) {
        self.sequence += 1;
        let Some(piece) = self.pieces.back_mut() else {
            self.dropped += 1;
            return;
        };
        let bytes = length(about, &event);
        if piece.bytes + bytes > Self::MOST_BYTES {
            self.dropped += 1;
            // Entries of a piece follow each other.
            piece.bytes = Self::MOST_BYTES;
            return;
        }
        piece.bytes += bytes;
        let about = about.clone();
        piece.entries.push(JournalEntry { about, event });
    }

    /// Whether it is time to [`Self::begin`] anew.
    pub(crate) fn is_full(&self) -> bool {
        let last = self.pieces.back();
        last.is_none_or(|piece| piece.bytes - piece.states >= Self::PIECE_BYTES)
    }

    /// From here on it can be replayed: `tell` records the states of all controllers.
    pub(crate) fn begin(&mut self, tell: impl FnOnce(&mut Self)) {
        if self.pieces.len() == Self::MOST_PIECES {
            let oldest = self.pieces.pop_front();
            self.dropped += oldest.map_or(0, |piece| piece.entries.len() as u64);
        }
        self.pieces.push_back(Piece {
            sequence: self.sequence,
            is_beginning: true,
            entries: Vec::new(),
            bytes: 0,
            states: 0,
        });
        tell(self);
        if let Some(piece) = self.pieces.back_mut() {
            piece.states = piece.bytes;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.iter().all(|piece| piece.entries.is_empty())
    }

    /// Entries that nobody will be told.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// All that is there to be told; what comes next follows on it.
    pub(crate) fn take(&mut self) -> Vec<JournalPart> {
        let next = Piece {
            sequence: self.sequence,
            is_beginning: false,
            entries: Vec::new(),
            bytes: 0,
            states: 0,
        };
        let pieces = mem::replace(&mut self.pieces, [next].into());
        let told = pieces
            .into_iter()
            .filter(|piece| piece.is_beginning || !piece.entries.is_empty());
        let part = |piece: Piece| JournalPart {
            epoch_unix_ns: self.epoch_unix_ns,
            sequence: piece.sequence,
            number: 0,
            is_beginning: piece.is_beginning,
            entries: piece.entries,
        };
        told.flat_map(|piece| part(piece).cut()).collect()
    }
}

/// About the memory that an entry takes.
fn length(about: &Limited, event: &JournalEvent) -> usize {
    let route = match about {
        Limited::Endpoint { .. } => 0,
        Limited::Entry { route, .. } => route.len(),
    };
    let memory = match event {
        JournalEvent::State(state) => state.memory.len(),
        _ => 0,
    };
    size_of::<JournalEntry>() + route + memory
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_model::{ControllerState, Instant};

    fn about() -> Limited {
        Limited::Entry {
            service: "cart".parse().unwrap(),
            route: "r".to_owned(),
        }
    }

    fn state(length: usize) -> JournalEvent {
        JournalEvent::State(ControllerState {
            at: Instant::default(),
            objective: std::time::Duration::from_secs(1),
            fixed: None,
            is_applied: true,
            limit: 8,
            memory: vec![0; length],
        })
    }

    /// Whoever replays begins with states, whatever was dropped before, and each number is told or missing.
    #[test]
    fn without_a_reader_the_last_pieces_are_kept_whole() {
        let mut journal = Journal::new(7);
        let mut recorded = 0;
        for _ in 0..5_000 {
            if journal.is_full() {
                journal.begin(|journal| journal.record(&about(), state(2000)));
                recorded += 1;
            }
            journal.record(&about(), JournalEvent::Gone);
            recorded += 1;
        }
        let dropped = journal.dropped();
        let parts = journal.take();
        let told: usize = parts.iter().map(|part| part.entries.len()).sum();
        assert!(dropped > 0 && told as u64 + dropped == recorded);
        assert!(parts[0].is_beginning);
        for part in &parts {
            assert_eq!(part.epoch_unix_ns, 7);
            let begins = matches!(part.entries[0].event, JournalEvent::State(_));
            assert_eq!(part.is_beginning, begins);
        }
        let mut next = dropped;
        for part in &parts {
            assert_eq!(part.sequence, next, "only the first ones are missing");
            next += part.entries.len() as u64;
        }
        // What was told is followed by what comes.
        assert!(journal.is_empty() && !journal.is_full());
        journal.record(&about(), JournalEvent::Gone);
        let [part] = &journal.take()[..] else {
            panic!("one entry is one part");
        };
        assert_eq!((part.sequence, part.is_beginning), (next, false));
    }

    #[test]
    fn states_of_more_controllers_than_there_is_room_for_are_counted() {
        let mut journal = Journal::new(0);
        journal.begin(|journal| {
            for _ in 0..2_000 {
                journal.record(&about(), state(4096));
            }
        });
        assert!(!journal.is_full(), "to begin anew would not help");
        let dropped = journal.dropped();
        assert!(dropped > 900, "{dropped}");
        let told: usize = journal.take().iter().map(|part| part.entries.len()).sum();
        assert_eq!(told as u64 + dropped, 2_000);
    }
}
