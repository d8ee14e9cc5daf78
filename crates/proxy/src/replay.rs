//! What was sent of a request's body, in case the request has to be sent again.

use std::cell::{Cell, Ref, RefCell};

/// A copy of a request's body as it was sent so far, up to a bound.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    bytes: RefCell<Vec<u8>>,
    overflowed: Cell<bool>,
    /// True while something is being sent: whoever stops then knows of no place to go on from.
    is_torn: Cell<bool>,
}

impl Replay {
    /// Larger bodies are not kept: their requests are sent once.
    pub(crate) const MOST_BYTES: usize = 64 << 10;

    /// Begins with nothing; keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.get_mut().clear();
        self.overflowed.set(false);
        self.is_torn.set(false);
    }

    pub(crate) fn keep(&self, part: &[u8]) {
        let mut bytes = self.bytes.borrow_mut();
        if self.overflowed.get() || bytes.len() + part.len() > Self::MOST_BYTES {
            self.overflowed.set(true);
            return;
        }
        bytes.extend_from_slice(part);
    }

    /// Says whether what was kept is all that the connection was read for.
    pub(crate) fn set_torn(&self, torn: bool) {
        self.is_torn.set(torn);
    }

    /// Whether the request can be sent again: not where its body was too much to keep, or sending was
    /// stopped midway.
    pub(crate) fn is_whole(&self) -> bool {
        !self.overflowed.get() && !self.is_torn.get()
    }

    /// What was kept.
    pub(crate) fn bytes(&self) -> Ref<'_, Vec<u8>> {
        self.bytes.borrow()
    }
}
