//! How long requests took, of one window.

use alloc::boxed::Box;
use core::array;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::time::Duration;

use selvedge_model::{LogLinear, Tail};

use crate::counter::Counter;

/// Sixteen buckets for each power of two: a tail is known within a sixteenth, and closer by interpolation.
type Law = LogLinear<4>;

/// Up to 71 minutes (2^32 us), and one for all above: no objective is longer than an hour.
const BUCKETS: usize = Law::index(1 << 32) + 1;

/// Times in microseconds, counted by one worker since the beginning. Each count wraps.
#[derive(Debug)]
pub(crate) struct Samples {
    counts: [AtomicU32; BUCKETS],
    sum_us: Counter,
    count: Counter,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            counts: array::from_fn(|_| AtomicU32::new(0)),
            sum_us: Counter::default(),
            count: Counter::default(),
        }
    }
}

impl Samples {
    /// Counts one; by the one worker that does.
    pub(crate) fn took(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let count = &self.counts[Law::index(us).min(BUCKETS - 1)];
        count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
        self.sum_us.add(us);
        self.count.add(1);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }
}

/// What workers had counted when a window began.
#[derive(Debug)]
pub(crate) struct Baseline {
    counts: Box<[u32; BUCKETS]>,
    sum_us: u64,
    count: u64,
}

impl Baseline {
    /// A window that begins now.
    pub(crate) fn of(workers: &[Samples]) -> Self {
        let mut baseline = Self {
            counts: Box::new([0; BUCKETS]),
            sum_us: 0,
            count: 0,
        };
        baseline.close(workers);
        baseline
    }

    /// How many samples have come since.
    pub(crate) fn count(&self, workers: &[Samples]) -> u64 {
        let count: u64 = workers.iter().map(Samples::count).sum();
        count.saturating_sub(self.count)
    }

    /// What has come since; from now on another window counts.
    pub(crate) fn close(&mut self, workers: &[Samples]) -> Tail {
        let mut window = [0; BUCKETS];
        for (place, (then, since)) in self.counts.iter_mut().zip(&mut window).enumerate() {
            let counts = workers.iter().map(|it| it.counts[place].load(Relaxed));
            let count = counts.fold(0, u32::wrapping_add);
            *since = count.wrapping_sub(*then);
            *then = count;
        }
        let sum_us: u64 = workers.iter().map(|it| it.sum_us.get()).sum();
        self.count = workers.iter().map(Samples::count).sum();
        let window = tail(&window, sum_us.saturating_sub(self.sum_us));
        self.sum_us = sum_us;
        window
    }
}

/// Where counted times lie that add up to so much.
fn tail(counts: &[u32; BUCKETS], sum_us: u64) -> Tail {
    let samples: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    if samples == 0 {
        return Tail::default();
    }
    let count = samples as f64;
    let above = 0.05 * count;
    let deviation = libm::sqrt(0.95 * above);
    let ranks = [
        0.5 * count,
        count - above - 0.5 * deviation,
        count - above,
        count - above + 0.25 * deviation,
    ];
    let [median, q95_low, q95, q95_high] = quantiles(counts, ranks);
    Tail {
        samples: u32::try_from(samples).unwrap_or(u32::MAX),
        mean: sum_us as f64 / count,
        median,
        q95,
        q95_low,
        q95_high,
    }
}

/// The times below which so many lie; the ranks rise. Within a bucket they are taken to lie evenly.
fn quantiles<const N: usize>(counts: &[u32; BUCKETS], ranks: [f64; N]) -> [f64; N] {
    let mut found = [0.0; N];
    let mut ranks = ranks.into_iter().zip(&mut found).peekable();
    let mut below = 0.0;
    for (place, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = f64::from(*count);
        while let Some((rank, value)) = ranks.next_if(|(rank, _)| *rank <= below + count) {
            let bounds = Law::bounds(place);
            let width = (bounds.end() - bounds.start() + 1) as f64;
            let share = f64::max(rank - below, 0.0) / count;
            *value = *bounds.start() as f64 + share * width;
        }
        below += count;
        if let Some((_, value)) = ranks.peek_mut() {
            // Where rounding leaves a rank behind the last.
            **value = *Law::bounds(place).end() as f64;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_window_holds_what_all_workers_counted_in_it() {
        let workers = vec![Samples::default(), Samples::default()];
        let mut baseline = Baseline::of(&workers);
        let took = |worker: usize, us| workers[worker].took(Duration::from_micros(us));
        assert_eq!(baseline.close(&workers), Tail::default());
        for us in 1..=500 {
            took(0, 2 * us);
            took(1, 2 * us - 1);
        }
        assert_eq!(baseline.count(&workers), 1000);
        let tail = baseline.close(&workers);
        assert_eq!((tail.samples, tail.mean), (1000, 500.5));
        let near = |value: f64, due: f64| (value / due - 1.0).abs() < 0.005;
        assert!(
            near(tail.median, 500.0) && near(tail.q95, 950.0),
            "{tail:?}"
        );
        // The deviation is of 6.9 samples, and each is 1 us from the next.
        assert!(near(tail.q95_low, 950.0 - 3.45), "{tail:?}");
        assert!(near(tail.q95_high, 950.0 + 1.72), "{tail:?}");
        took(1, 70);
        let tail = baseline.close(&workers);
        assert_eq!((tail.samples, tail.mean), (1, 70.0));
        assert!((68.0..72.0).contains(&tail.q95), "{tail:?}");
        assert_eq!(baseline.close(&workers), Tail::default());
    }

    /// Whatever it took, it is counted, and what is longer than the last bucket stands at that.
    #[test]
    fn what_takes_for_ever_stands_at_the_end() {
        let workers = vec![Samples::default()];
        let mut baseline = Baseline::of(&workers);
        for time in [Duration::MAX, Duration::from_secs(1 << 20), Duration::ZERO] {
            workers[0].took(time);
        }
        let tail = baseline.close(&workers);
        assert_eq!(tail.samples, 3);
        assert!((3.6e9..4.6e9).contains(&tail.q95), "{tail:?}");
    }
}
