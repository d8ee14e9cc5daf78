//! What the services of a scenario can carry at most.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use crate::{Condition, Scenario};

impl Scenario {
    /// From the first fault or change of load to the end of the last. `None` where nothing changes, or once
    /// and for good.
    pub fn disturbed(&self) -> Option<Range<Duration>> {
        let faults = self.faults.iter().map(|fault| (fault.from, fault.until));
        let changes = self
            .clients
            .iter()
            .flat_map(|client| client.arrivals.changes());
        let times = faults.chain(changes.map(|at| (at, at)));
        let both = times.reduce(|(from, until), next| (from.min(next.0), until.max(next.1)));
        both.map(|(from, until)| from..until)
            .filter(|time| !time.is_empty())
    }

    /// How a replica is at a moment.
    pub fn condition(&self, service: usize, replica: u32, at: Duration) -> Condition {
        let mut on = self.faults.iter().rev().filter(|fault| {
            let is_it = fault.replica.is_none_or(|it| it == replica);
            fault.service == service && is_it && fault.is_on(at)
        });
        on.next().map(|fault| fault.condition).unwrap_or_default()
    }

    /// The replica of a service that requests should go past by now, since it alone has been slow, late or failing for
    /// five seconds.
    pub fn bad_replica(&self, service: usize, at: Duration) -> Option<u32> {
        let mut on = self.faults.iter();
        let mut on = on
            .by_ref()
            .filter(|it| it.service == service && it.is_on(at));
        let only = on.next().filter(|_| on.next().is_none());
        only.and_then(|fault| fault.bad_replica(at))
    }

    /// Requests a second that could be answered at a moment whatever law leads them, where all clients call
    /// the same service: as many as the narrowest service carries of their mean work. Whoever picks the light
    /// ones can answer more; where answers take longer than the objective none are good. `None` where
    /// clients call different services.
    pub fn capacity(&self, at: Duration) -> Option<f64> {
        let root = self.clients.first()?.calls;
        if self.clients.iter().any(|client| client.calls != root) {
            return None;
        }
        let visits = self.visits(root);
        let carried = self.services.iter().enumerate();
        let carried = carried.filter(|(place, _)| visits[*place] > 0.0);
        let carried = carried.map(|(place, _)| self.throughput(place, at) / visits[place]);
        Some(carried.fold(f64::INFINITY, f64::min) / self.work(at))
    }

    /// Mean work of the requests that are asked for at a moment; of all clients alike where rates are not
    /// known.
    fn work(&self, at: Duration) -> f64 {
        let rates = self.clients.iter().map(|client| client.arrivals.rate(at));
        let known: Option<Vec<f64>> = rates.collect();
        let weights = known.filter(|rates| rates.iter().sum::<f64>() > 0.0);
        let weights = weights.unwrap_or_else(|| vec![1.0; self.clients.len()]);
        let weighted = self.clients.iter().zip(&weights);
        let work: f64 = weighted
            .map(|(client, weight)| client.mean_work() * weight)
            .sum();
        work / weights.iter().sum::<f64>()
    }

    /// How often each service is asked for one request to `root`.
    pub(crate) fn visits(&self, root: usize) -> Vec<f64> {
        let mut visits = vec![0.0; self.services.len()];
        visits[root] = 1.0;
        // Who is called stands behind who calls.
        for place in root..self.services.len() {
            for called in self.services[place].calls.iter().flatten() {
                visits[*called] += visits[place];
            }
        }
        visits
    }

    /// Requests a second that one service's replicas answer well.
    fn throughput(&self, place: usize, at: Duration) -> f64 {
        let service = &self.services[place];
        let of_replica = |replica| {
            let condition = self.condition(place, replica, at);
            if condition.absent {
                return 0.0;
            }
            let permits = f64::from(condition.permits.unwrap_or(service.permits));
            permits / (service.time.mean().as_secs_f64() * condition.slow)
        };
        (0..service.replicas).map(of_replica).sum()
    }
}
