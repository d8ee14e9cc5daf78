//! Has the controllers look at what came, and set the gates; tells what they did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use selvedge_feed::JournalPart;
use selvedge_model::{Holds, Instant, Rng};
use selvedge_resilience::Controllers;
use tokio::sync::Notify;

use crate::clock::{self, Clock};
use crate::journal::Journal;
use crate::routing::SharedRouting;

/// How often it is looked whether there is anything to control.
const IDLE: Duration = Duration::from_secs(1);
/// How long what happened gathers before it is told.
const GATHERING: Duration = Duration::from_secs(1);

/// The controllers and their journal. Both tasks that use it are on the thread of the feed.
#[derive(Debug)]
pub(crate) struct Pilot {
    routing: SharedRouting,
    clock: Clock,
    state: Mutex<State>,
    /// Wakes whoever tells the agent.
    due: Notify,
}

#[derive(Debug)]
struct State {
    controllers: Controllers,
    journal: Journal,
}

impl Pilot {
    pub(crate) fn new(routing: SharedRouting, clock: Clock, seed: u64) -> Self {
        let age = Duration::from_nanos(clock.now().as_nanos());
        let now = clock::calendar().duration_since(UNIX_EPOCH);
        let epoch = now.unwrap_or_default().saturating_sub(age);
        Self {
            routing,
            clock,
            state: Mutex::new(State {
                controllers: Controllers::new(Rng::seeded(seed)),
                journal: Journal::new(u64::try_from(epoch.as_nanos()).unwrap_or(u64::MAX)),
            }),
            due: Notify::new(),
        }
    }

    /// Runs as long as the thread that it is on. No request waits for it, and without it the limits stay as they are.
    pub(crate) async fn steer(self: Arc<Self>) {
        let mut told = self.clock.now();
        loop {
            let now = self.clock.now();
            let pause = {
                let mut state = self.lock();
                self.look(&mut state, now);
                if !state.journal.is_empty() && now.since(told) >= GATHERING {
                    told = now;
                    self.due.notify_one();
                }
                match state.controllers.is_idle() {
                    true => IDLE,
                    false => Controllers::TICK,
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// What nothing is to move from now on.
    pub(crate) fn hold(&self, holds: Holds) {
        let mut state = self.lock();
        state.controllers.hold(Arc::new(holds));
        self.look(&mut state, self.clock.now());
    }

    /// Whoever reads the journal begins here.
    pub(crate) fn begin_journal(&self) {
        let (mut state, now) = (self.lock(), self.clock.now());
        self.look(&mut state, now);
        state.begin_journal(now);
    }

    /// Waits until there is something to tell.
    pub(crate) async fn is_due(&self) {
        self.due.notified().await;
    }

    /// What nobody has been told yet.
    pub(crate) fn take_journal(&self) -> Vec<JournalPart> {
        self.lock().journal.take()
    }

    /// Entries of the journal that nobody will be told.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().journal.dropped()
    }

    fn look(&self, state: &mut State, now: Instant) {
        let State {
            controllers,
            journal,
        } = state;
        if let Some(routing) = &*self.routing.load() {
            controllers.tick(now, &routing.node, &mut |about, event| {
                journal.record(about, event);
            });
        }
        if journal.is_full() {
            state.begin_journal(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin_journal(&mut self, now: Instant) {
        let controllers = &self.controllers;
        self.journal.begin(|journal| {
            controllers.tell(now, &mut |about, event| journal.record(about, event));
        });
    }
}
