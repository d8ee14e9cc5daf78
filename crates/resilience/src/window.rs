//! What was counted, and the part of it that lies between two readings.

use selvedge_model::{Histogram, Instant, Reason, Withheld};

use crate::counter::Counter;
use crate::latency::{BUCKETS, Latency};
use crate::outcome::OutcomeKind;

/// How an attempt or a request can end; the place of each in [`Totals::ended`].
const ENDS: usize = 7;

/// Counts of one worker about one upstream or route. Only that worker writes them.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Meters {
    pub(crate) requests: Counter,
    /// Thousandths of retries.
    pub(crate) earned: Counter,
    pub(crate) retries: Counter,
    pub(crate) moves: Counter,
    pub(crate) repeats_succeeded: Counter,
    pub(crate) hedges: Counter,
    pub(crate) hedges_won: Counter,
    answered: [Counter; 5],
    ended: [Counter; ENDS],
    withheld: [Counter; Withheld::ALL.len()],
    refused_no_endpoint: Counter,
    pub(crate) refused_limit: Counter,
    refused_late: Counter,
    latency: Latency,
}

impl Meters {
    pub(crate) fn answer(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5);
        self.answered[class - 1].add(1);
    }

    pub(crate) fn end(&self, kind: OutcomeKind) {
        self.ended[place(kind)].add(1);
    }

    pub(crate) fn withhold(&self, why: Withheld) {
        self.withheld[why as usize].add(1);
    }

    pub(crate) fn refuse(&self, reason: Reason) {
        match reason {
            Reason::RequestLimit => self.refused_limit.add(1),
            Reason::RequestTimeout => self.refused_late.add(1),
            _ => self.refused_no_endpoint.add(1),
        }
    }

    pub(crate) fn took(&self, from: Instant, to: Instant) {
        self.latency.took(from, to);
    }

    /// Adds what is counted here to `totals`.
    pub(crate) fn add_to(&self, totals: &mut Totals) {
        totals.requests += self.requests.get();
        totals.retries += self.retries.get();
        totals.moves += self.moves.get();
        totals.repeats_succeeded += self.repeats_succeeded.get();
        totals.hedges += self.hedges.get();
        totals.hedges_won += self.hedges_won.get();
        totals.refused_no_endpoint += self.refused_no_endpoint.get();
        totals.refused_limit += self.refused_limit.get();
        totals.refused_late += self.refused_late.get();
        add_each(&mut totals.answered, &self.answered);
        add_each(&mut totals.ended, &self.ended);
        add_each(&mut totals.withheld, &self.withheld);
        totals.latency_us.merge(&self.latency.histogram());
    }
}

fn add_each(totals: &mut [u64], counters: &[Counter]) {
    for (total, counter) in totals.iter_mut().zip(counters) {
        *total += counter.get();
    }
}

const fn place(kind: OutcomeKind) -> usize {
    match kind {
        OutcomeKind::Answered { .. } => 0,
        OutcomeKind::ConnectFailed => 1,
        OutcomeKind::Stale => 2,
        OutcomeKind::Cut => 3,
        OutcomeKind::Malformed => 4,
        OutcomeKind::TimedOut => 5,
        OutcomeKind::Cancelled => 6,
    }
}

/// What was counted since the beginning, of all workers: about the attempts into one upstream, or about
/// the requests of one route, which are neither retried nor moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that came to a first attempt; of a route those that were admitted.
    pub requests: u64,
    /// Attempts that were made again by a retry policy.
    pub retries: u64,
    /// Attempts that were made again at once, since the one before had come to nothing.
    pub moves: u64,
    /// Retries and moves that an endpoint answered with less than 500.
    pub repeats_succeeded: u64,
    /// Attempts that were made beside late ones.
    pub hedges: u64,
    /// Those of them that were answered first, and with less than 500.
    pub hedges_won: u64,
    /// Heads of responses by the first figure of their status, 1 to 5.
    pub answered: [u64; 5],
    pub(crate) ended: [u64; ENDS],
    pub(crate) withheld: [u64; Withheld::ALL.len()],
    /// Refused since no endpoint was there that is not ejected.
    pub refused_no_endpoint: u64,
    /// Refused since there were as many requests in flight as may be.
    pub refused_limit: u64,
    /// Refused since the request's time was over.
    pub refused_late: u64,
    /// From the start of an attempt, or a request, to the last byte of its response: of those that
    /// ended whole. What took longer than 67 s stands at that.
    pub latency_us: Histogram,
}

impl Totals {
    /// How many ended so; the status of an answer says nothing here.
    pub const fn ended(&self, kind: OutcomeKind) -> u64 {
        self.ended[place(kind)]
    }

    /// How many retries were wanted and not made, for this reason.
    pub const fn withheld(&self, why: Withheld) -> u64 {
        self.withheld[why as usize]
    }

    /// What came after `earlier`, a reading of the same.
    pub fn since(&self, earlier: &Self) -> Self {
        let less = |later: u64, earlier: u64| later.saturating_sub(earlier);
        Self {
            requests: less(self.requests, earlier.requests),
            retries: less(self.retries, earlier.retries),
            moves: less(self.moves, earlier.moves),
            repeats_succeeded: less(self.repeats_succeeded, earlier.repeats_succeeded),
            hedges: less(self.hedges, earlier.hedges),
            hedges_won: less(self.hedges_won, earlier.hedges_won),
            answered: less_each(self.answered, earlier.answered),
            ended: less_each(self.ended, earlier.ended),
            withheld: less_each(self.withheld, earlier.withheld),
            refused_no_endpoint: less(self.refused_no_endpoint, earlier.refused_no_endpoint),
            refused_limit: less(self.refused_limit, earlier.refused_limit),
            refused_late: less(self.refused_late, earlier.refused_late),
            latency_us: latency_since(&self.latency_us, &earlier.latency_us),
        }
    }
}

/// Never below 0: a count that two threads wrote at once may have gone back.
fn less_each<const N: usize>(mut later: [u64; N], earlier: [u64; N]) -> [u64; N] {
    for (later, earlier) in later.iter_mut().zip(earlier) {
        *later = later.saturating_sub(earlier);
    }
    later
}

fn latency_since(later: &Histogram, earlier: &Histogram) -> Histogram {
    let counts = less_each(buckets(later), buckets(earlier));
    Histogram::from_counts(&counts, later.sum().saturating_sub(earlier.sum()))
}

fn buckets(histogram: &Histogram) -> [u64; BUCKETS] {
    let mut counts = [0; BUCKETS];
    for (bounds, count) in histogram.buckets() {
        counts[Histogram::index(*bounds.start()).min(BUCKETS - 1)] += count;
    }
    counts
}
