//! What an objective for answers to clients comes to at each service.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::Rng;
use selvedge_scenario::{Client, Scenario};

/// Requests that are drawn for each client.
const DRAWS: usize = 2000;

/// Inner limits guard, and the entry's holds the objective: they leave it room.
const GUARD: f64 = 1.25;

/// The objective of each service's own time: as many times its tail without load as the client's objective is
/// of the tail without load of a whole answer. A service that several clients reach has the nearest.
/// The longest time there is of one that none reaches.
pub(crate) fn of_services(scenario: &Scenario) -> Vec<Duration> {
    let mut objectives = vec![Duration::MAX; scenario.services.len()];
    let mut rng = Rng::seeded(0);
    for client in &scenario.clients {
        let mut draws = Draws {
            scenario,
            own: vec![Vec::new(); scenario.services.len()],
        };
        let mut whole: Vec<f64> = (0..DRAWS)
            .map(|_| draws.request(client, &mut rng))
            .collect();
        let objective = scenario.objective.latency.as_secs_f64();
        // A service behind others has to be no faster than a client asks if it were alone.
        let stretch = objective / f64::max(tail(&mut whole), 1e-9);
        let inner = if draws.is_chain(client) { GUARD } else { 1.0 };
        for (objective, own) in objectives.iter_mut().zip(&mut draws.own) {
            if !own.is_empty() {
                let due = tail(own) * stretch * inner;
                let due = Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX);
                *objective = due.min(*objective);
            }
        }
    }
    objectives
}

struct Draws<'s> {
    scenario: &'s Scenario,
    /// By service, in seconds.
    own: Vec<Vec<f64>>,
}

impl Draws<'_> {
    /// Seconds that a client's request takes where it waits for nothing.
    fn request(&mut self, client: &Client, rng: &mut Rng) -> f64 {
        let work = client.draw_work(rng);
        self.visit(client.calls, work, rng)
    }

    fn visit(&mut self, service: usize, work: f64, rng: &mut Rng) -> f64 {
        let scenario = self.scenario;
        let about = &scenario.services[service];
        let own = about.time.draw(work, rng).as_secs_f64();
        self.own[service].push(own);
        let steps = about.calls.iter().map(|step| {
            let calls = step.iter().map(|called| self.visit(*called, work, rng));
            calls.fold(0.0, f64::max)
        });
        own + steps.sum::<f64>()
    }

    fn is_chain(&self, client: &Client) -> bool {
        !self.scenario.services[client.calls].calls.is_empty()
    }
}

/// Of 100 values 95 are no greater.
fn tail(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() * 95 / 100]
}
