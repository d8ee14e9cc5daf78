//! How long requests take where nothing holds them up.

use core::time::Duration;

use selvedge_model::Instant;

use crate::memory::{Reader, Writer};

/// What is older says nothing any more.
const MEMORY: Duration = Duration::from_secs(60);
/// One value for so long, so that a minute has room.
const SPACING: Duration = Duration::from_secs(1);
const VALUES: usize = 64;

/// The median tail of the windows without load in the last minute: of some of few samples the tail is
/// far off, and of most it is not.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    values: [(Instant, f64); VALUES],
    count: usize,
    next: usize,
    /// Of all values; it changes only when one comes.
    median: Option<f64>,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            values: [(Instant::default(), 0.0); VALUES],
            count: 0,
            next: 0,
            median: None,
        }
    }
}

impl Floor {
    /// A window without load had this tail.
    pub(crate) fn add(&mut self, now: Instant, tail: f64) {
        let last = (self.next + VALUES - 1) % VALUES;
        if self.count > 0 && now.since(self.values[last].0) < SPACING {
            return;
        }
        self.values[self.next] = (now, tail);
        self.next = (self.next + 1) % VALUES;
        self.count = (self.count + 1).min(VALUES);
        self.median = Some(self.median_at(now));
    }

    fn median_at(&self, now: Instant) -> f64 {
        let mut recent = [0.0; VALUES];
        let values = self.values[..self.count].iter();
        let values = values.filter(|(at, _)| now.since(*at) <= MEMORY);
        let mut count = 0;
        for (place, (_, tail)) in recent.iter_mut().zip(values) {
            *place = *tail;
            count += 1;
        }
        recent[..count].sort_unstable_by(f64::total_cmp);
        recent[count / 2]
    }

    /// The median; `None` before any window. It stays while none comes, since a minute under load is no reason
    /// to forget what there was before.
    pub(crate) const fn median(&self) -> Option<f64> {
        self.median
    }

    pub(crate) fn write(&self, memory: &mut Writer) {
        memory.list(&self.values[..self.count], |memory, (at, tail)| {
            memory.count(at.as_nanos());
            memory.number(*tail);
        });
        memory.count(self.next as u64);
    }

    pub(crate) fn read(memory: &mut Reader<'_>) -> Option<Self> {
        let mut floor = Self::default();
        let read = |memory: &mut Reader<'_>| {
            Some((Instant::from_nanos(memory.count()?), memory.number()?))
        };
        floor.count = memory.list(&mut floor.values, read)?;
        floor.next = memory.place(VALUES)?;
        let last = floor.values[(floor.next + VALUES - 1) % VALUES].0;
        floor.median = (floor.count > 0).then(|| floor.median_at(last));
        Some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_a_minute_and_stays_where_nothing_comes() {
        let at = |second: u64| Instant::from_nanos(second * 1_000_000_000);
        let mut floor = Floor::default();
        assert_eq!(floor.median(), None);
        for second in 0..100 {
            let tail = if second < 50 { 10.0 } else { 30.0 };
            floor.add(at(second), if second % 7 == 0 { 500.0 } else { tail });
            floor.add(at(second), 1e6);
        }
        // Of seconds 39 to 99.
        assert_eq!(floor.median(), Some(30.0));
        floor.add(at(1000), 20.0);
        assert_eq!(floor.median(), Some(20.0));
    }
}
