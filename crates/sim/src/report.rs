//! What a run came to, second by second of when requests were meant to be sent.

use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::Histogram;
use selvedge_scenario::Scenario;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Each second of the scenario, from its beginning.
    pub seconds: Vec<Second>,
    /// How many of them are the warm-up.
    pub warm_up: usize,
    /// What each client came to while something was wrong, or behind the warm-up where nothing ever is.
    pub clients: Vec<ClientShare>,
}

/// What one client came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientShare {
    /// How many requests it meant to send.
    pub offered: u64,
    /// Those answered well within the objective.
    pub good: u64,
    /// Those answered well, but later.
    pub late: u64,
}

/// Requests that were meant to be sent in one second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// How many clients meant to send.
    pub offered: u64,
    /// Those answered well within the objective.
    pub good: u64,
    /// Those answered well, but later.
    pub late: u64,
    /// Those that the mesh refused.
    pub refused: u64,
    /// Those that a service answered with an error.
    pub failed: u64,
    /// Those that had no answer at their deadline.
    pub expired: u64,
    /// Attempts of all requests at all hops that began in this second.
    pub attempts: u64,
    /// Those of them that were sent where one replica alone had been bad for five seconds.
    pub beside_bad: u64,
    /// Those of these that went to it.
    pub misled: u64,
    /// Microseconds of work that services began in this second.
    pub work_us: u64,
    /// Microseconds of work on the requests that are good answers.
    pub useful_us: u64,
    /// Microseconds from when they were meant to be sent to their good or late answer.
    pub latency_us: Histogram,
}

impl Report {
    /// Of a run of this scenario, in which nothing has happened yet.
    pub fn new(scenario: &Scenario) -> Self {
        let whole = |time: Duration| usize::try_from(time.as_secs()).unwrap_or(0);
        Self {
            seconds: alloc::vec![Second::default(); whole(scenario.length)],
            warm_up: whole(scenario.warm_up),
            clients: alloc::vec![ClientShare::default(); scenario.clients.len()],
        }
    }

    /// The second of a moment; the last one of what comes behind the scenario's end.
    pub fn second(&mut self, at: Duration) -> &mut Second {
        let last = self.seconds.len() - 1;
        let place = usize::try_from(at.as_secs()).unwrap_or(last);
        &mut self.seconds[place.min(last)]
    }

    /// All of it without the warm-up.
    pub fn total(&self) -> Second {
        let mut total = Second::default();
        for second in &self.seconds[self.warm_up..] {
            total.add(second);
        }
        total
    }
}

impl Second {
    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.good += other.good;
        self.late += other.late;
        self.refused += other.refused;
        self.failed += other.failed;
        self.expired += other.expired;
        self.attempts += other.attempts;
        self.beside_bad += other.beside_bad;
        self.misled += other.misled;
        self.work_us += other.work_us;
        self.useful_us += other.useful_us;
        self.latency_us.merge(&other.latency_us);
    }
}
