//! The planner of the node under test, which knows what a real one does: the objectives that somebody gave, who calls
//! whom, and what the controllers tell.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use selvedge_model::{Instant, Objective, PilotMode, ServiceName};
use selvedge_resilience::planner::{Observation, PERIOD, Plan, Seen, Told, plan};
use selvedge_scenario::Scenario;

#[derive(Debug)]
pub(crate) struct Planning {
    pub(crate) told: Told,
    names: Vec<ServiceName>,
    /// What does not change: objectives and calls.
    observation: Observation,
    in_force: Plan,
    next: Instant,
    /// While there is no agent.
    away: Range<Instant>,
}

impl Planning {
    pub(crate) fn new(scenario: &Scenario, names: Vec<ServiceName>) -> Self {
        let services = scenario.services.iter().enumerate();
        let away = scenario.agent_away.clone().unwrap_or_default();
        let at = |time| Instant::default() + time;
        let seen = |(place, service): (usize, &selvedge_scenario::Service)| {
            let mut clients = scenario.clients.iter();
            let is_asked = clients.any(|client| client.calls == place);
            let objective = Objective {
                latency: scenario.objective.latency,
                mode: PilotMode::Drive,
            };
            let calls = service.calls.iter().flatten();
            let seen = Seen {
                objective: is_asked.then_some(objective),
                calls: calls.map(|called| names[*called].clone()).collect(),
                ..Seen::default()
            };
            (names[place].clone(), seen)
        };
        Self {
            told: Told::default(),
            observation: Observation {
                services: services.map(seen).collect(),
            },
            names,
            in_force: Plan::default(),
            next: Instant::default() + PERIOD,
            away: at(away.start)..at(away.end),
        }
    }

    /// Whether the next plan is to be made now. A new agent knows nothing of what was told to the one before.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        if self.away.contains(&now) {
            self.told = Told::default();
            return false;
        }
        let is_due = now >= self.next;
        if is_due {
            self.next = now + PERIOD;
        }
        is_due
    }

    /// Makes the next plan, and tells whether any of these objectives of services, by their place, are others by it.
    pub(crate) fn plan(&mut self, objectives: &mut [Duration]) -> bool {
        for (service, seen) in &mut self.observation.services {
            self.told.see(service, seen);
        }
        self.told.mark_planned();
        self.in_force = plan(&self.observation, &self.in_force);
        let mut is_other = false;
        for (service, objective) in self.names.iter().zip(objectives) {
            if let Some(share) = self.in_force.shares.get(service) {
                is_other |= share.objective.latency != *objective;
                *objective = share.objective.latency;
            }
        }
        is_other
    }
}
