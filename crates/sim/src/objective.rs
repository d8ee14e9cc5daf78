//! What an objective for answers to clients comes to at each service.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use selvedge_model::Rng;
use selvedge_resilience::planner::GUARD;
use selvedge_scenario::{Client, Scenario};

/// Most requests that are drawn for a client, and most service times of all of them.
const DRAWS: usize = 2000;
const TIMES: usize = 20_000_000;

/// The objective of each service's own time: as many times its tail without load as the client's objective is
/// of the tail without load of a whole answer. A service that several clients reach has the nearest.
/// The longest time there is of one that none reaches.
pub(crate) fn of_services(scenario: &Scenario) -> Vec<Duration> {
    let mut objectives = vec![Duration::MAX; scenario.services.len()];
    let mut rng = Rng::seeded(0);
    for client in &scenario.clients {
        let reached = reached(scenario, client.calls);
        let mut idle = Idle::draw(scenario, client, &reached, &mut rng);
        let objective = scenario.objective.latency.as_secs_f64();
        let stretch = objective / f64::max(tail(&mut idle.whole), 1e-9);
        let guard = if reached.len() > 1 { GUARD } else { 1.0 };
        for (service, own) in reached.iter().zip(&mut idle.own) {
            let due = Duration::try_from_secs_f64(tail(own) * stretch * guard);
            let objective = &mut objectives[*service];
            *objective = due.unwrap_or(Duration::MAX).min(*objective);
        }
    }
    objectives
}

/// The services that requests to `root` come to. Who is called stands behind who calls, here as there.
fn reached(scenario: &Scenario, root: usize) -> Vec<usize> {
    let mut is_reached = vec![false; scenario.services.len()];
    is_reached[root] = true;
    for place in root..is_reached.len() {
        if is_reached[place] {
            for called in scenario.services[place].calls.iter().flatten() {
                is_reached[*called] = true;
            }
        }
    }
    (root..is_reached.len())
        .filter(|place| is_reached[*place])
        .collect()
}

/// Seconds that requests of a client take where they wait for nothing.
struct Idle {
    whole: Vec<f64>,
    /// Of each service that is reached.
    own: Vec<Vec<f64>>,
}

impl Idle {
    /// A service that is called several times for a request takes the same time each time.
    fn draw(scenario: &Scenario, client: &Client, reached: &[usize], rng: &mut Rng) -> Self {
        let draws = (TIMES / reached.len()).clamp(100, DRAWS);
        let mut idle = Self {
            whole: Vec::with_capacity(draws),
            own: vec![Vec::with_capacity(draws); reached.len()],
        };
        let mut answers = vec![0.0; scenario.services.len()];
        for _ in 0..draws {
            let work = client.draw_work(rng);
            for (service, own) in reached.iter().zip(&mut idle.own).rev() {
                let about = &scenario.services[*service];
                let link = about
                    .link
                    .map(|link| link.draw(1.0, rng) + link.draw(1.0, rng));
                let time = about.time.draw(work, rng) + link.unwrap_or_default();
                let time = time.as_secs_f64();
                let steps = about.calls.iter().map(|step| {
                    let calls = step.iter().map(|called| answers[*called]);
                    calls.fold(0.0, f64::max)
                });
                answers[*service] = time + steps.sum::<f64>();
                own.push(time);
            }
            idle.whole.push(answers[client.calls]);
        }
        idle
    }
}

/// Of 100 values 95 are no greater.
fn tail(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() * 95 / 100]
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use selvedge_model::Urgency;
    use selvedge_scenario::{Arrivals, Forwards, Objective, Service, ServiceTime};

    /// Each service takes 10 ms and calls the next.
    fn chain(services: usize) -> Scenario {
        let service = |place: usize| Service {
            name: String::new(),
            replicas: 1,
            permits: 1,
            queue: 0,
            time: ServiceTime::Fixed(Duration::from_millis(10)),
            calls: match place + 1 < services {
                true => vec![vec![place + 1]],
                false => vec![],
            },
            forwards: Forwards::default(),
            link: None,
        };
        Scenario {
            name: String::new(),
            about: String::new(),
            length: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            objective: Objective {
                latency: Duration::from_millis(120),
                deadline: Duration::from_secs(1),
            },
            services: (0..services).map(service).collect(),
            clients: vec![Client {
                calls: 0,
                urgency: Urgency::default(),
                arrivals: Arrivals::Open(vec![]),
                classes: vec![],
            }],
            faults: vec![],
            agent_away: None,
        }
    }

    #[test]
    fn an_objective_is_shared_by_times_without_load() {
        assert_eq!(of_services(&chain(1)), [Duration::from_millis(120)]);
        // Three times what the four take, each of which may take a quarter more.
        let four = of_services(&chain(4));
        assert_eq!(four, [Duration::from_micros(37_500); 4]);
        let mut scenario = chain(4);
        scenario.services[1].calls.clear();
        let two = of_services(&scenario);
        assert_eq!(two[..2], [Duration::from_millis(75); 2]);
        assert_eq!(two[2..], [Duration::MAX; 2], "nobody asks them");
    }

    /// As many services as there may be, one behind the other.
    #[test]
    fn a_chain_may_be_as_long_as_a_scenario() {
        let objectives = of_services(&chain(Scenario::MOST_SERVICES));
        assert!(objectives.iter().all(|it| *it < Duration::from_millis(1)));
    }
}
