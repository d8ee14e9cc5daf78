//! What a run is worth.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use selvedge_scenario::Scenario;

use crate::report::{ClientShare, Report, Second};

/// A run in a few figures, its warm-up left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Good answers that were possible: second by second as many as were asked for, or as the services
    /// carry if that is less.
    pub ideal: f64,
    /// Good answers, as share of [`Self::ideal`].
    pub goodput: f64,
    /// The same of the seconds in which the scenario is disturbed; `None` where there are none, or nothing was
    /// possible in them.
    pub goodput_disturbed: Option<f64>,
    /// Answers before the deadline, be they good or late, as share of those possible: while the scenario is
    /// disturbed, or in all where it never is.
    pub carried: f64,
    /// Share of the services' work that was done for requests without a good answer.
    pub waste: f64,
    /// Share of the seconds with requests in which 95 of 100 answers are within the objective, failures and
    /// refusals left out. One without answers is not.
    pub tail: f64,
    /// Attempts at all hops for one request of a client.
    pub attempts: f64,
    /// Of the attempts at services of which one replica alone had been slow, late or failing for five seconds,
    /// those that went to it. `None` where there were none.
    pub misled: Option<f64>,
    /// Answers before the deadline, be they good or late, to the most urgent of several clients that differ in that, as
    /// share of what it asked for while the scenario is disturbed, or ever where it never is.
    pub urgent: Option<f64>,
    /// How evenly good answers were divided among several clients that are alike urgent, in the same time: Jain's index
    /// of what each has of its max-min share, 1 where all have as much of it.
    pub fairness: Option<f64>,
    /// From the end of the disturbance to the first of five seconds in a row whose goodput is 95 % of what
    /// it was before, or of ideal where nothing was judged before. `None` where there is no such end, or no
    /// such seconds.
    pub recovery: Option<Duration>,
}

/// Seconds in a row that have to be well.
const WELL: usize = 5;

impl Report {
    /// Judges the run of this scenario.
    pub fn verdict(&self, scenario: &Scenario) -> Verdict {
        let (goodput, ideal) = self.goodput(scenario, |_| true);
        let during = |time: Range<Duration>| {
            let (goodput, ideal) = self.goodput(scenario, |it| time.contains(&at(it)));
            (ideal > 0.0).then_some(goodput)
        };
        let busy = self.seconds[self.warm_up..].iter();
        let busy = busy.filter(|second| second.offered > 0);
        let in_time = busy.clone().filter(|second| is_in_time(second));
        let total = self.total();
        let work = f64::max(total.work_us as f64, 1.0);
        let all = || Duration::ZERO..Duration::MAX;
        let carried = |time: Range<Duration>| {
            let counts = |place| time.contains(&at(place));
            self.share(scenario, counts, |second| second.good + second.late)
        };
        Verdict {
            carried: carried(scenario.disturbed().unwrap_or_else(all)).0,
            waste: 1.0 - f64::min(total.useful_us as f64 / work, 1.0),
            ideal,
            goodput,
            goodput_disturbed: scenario.disturbed().and_then(during),
            tail: in_time.count() as f64 / f64::max(busy.count() as f64, 1.0),
            attempts: total.attempts as f64 / f64::max(total.offered as f64, 1.0),
            misled: (total.beside_bad > 0).then(|| total.misled as f64 / total.beside_bad as f64),
            urgent: self.urgent(scenario),
            fairness: self.fairness(scenario),
            recovery: self.recovery(scenario),
        }
    }

    /// Good answers of those possible in the judged seconds from then on.
    pub fn goodput_since(&self, scenario: &Scenario, from: Duration) -> f64 {
        self.goodput(scenario, |place| at(place) >= from).0
    }

    fn goodput(&self, scenario: &Scenario, counts: impl Fn(usize) -> bool) -> (f64, f64) {
        self.share(scenario, counts, |second| second.good)
    }

    /// Answers as share of those possible in the judged seconds that count, and how many these are.
    fn share(
        &self,
        scenario: &Scenario,
        counts: impl Fn(usize) -> bool,
        of: impl Fn(&Second) -> u64,
    ) -> (f64, f64) {
        let judged = self.seconds.iter().enumerate().skip(self.warm_up);
        let counted = judged.filter(|(place, _)| counts(*place));
        let (good, ideal) = counted.fold((0.0, 0.0), |(good, all), (place, second)| {
            (
                good + of(second) as f64,
                all + ideal(scenario, place, second),
            )
        });
        (good / f64::max(ideal, 1.0), ideal)
    }

    fn urgent(&self, scenario: &Scenario) -> Option<f64> {
        let urgencies = || scenario.clients.iter().map(|client| client.urgency);
        let most = urgencies().min()?;
        if urgencies().all(|urgency| urgency == most) {
            return None;
        }
        let clients = self.clients.iter().zip(urgencies());
        let of_it = clients.filter(|(_, urgency)| *urgency == most);
        let (answered, offered) = of_it.fold((0, 0), |(answered, offered), (client, _)| {
            (
                answered + client.good + client.late,
                offered + client.offered,
            )
        });
        (offered > 0).then(|| answered as f64 / offered as f64)
    }

    /// R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness and Discrimination", DEC TR-301, 1984.
    fn fairness(&self, scenario: &Scenario) -> Option<f64> {
        let first = scenario.clients.first()?;
        let are_alike = scenario
            .clients
            .iter()
            .all(|it| it.urgency == first.urgency);
        if self.clients.len() < 2 || !are_alike {
            return None;
        }
        let good: u64 = self.clients.iter().map(|client| client.good).sum();
        let level = level(&self.clients, good as f64);
        let asking = self.clients.iter().filter(|client| client.offered > 0);
        let shares = asking.map(|it| it.good as f64 / f64::min(it.offered as f64, level));
        let (count, sum, squares) = shares.fold((0.0, 0.0, 0.0), |(count, sum, squares), it| {
            (count + 1.0, sum + it, squares + it * it)
        });
        (squares > 0.0).then(|| sum * sum / (count * squares))
    }

    fn recovery(&self, scenario: &Scenario) -> Option<Duration> {
        let Range { start, end } = scenario.disturbed()?;
        let before = match self.goodput(scenario, |place| at(place) < start) {
            (_, 0.0) => 1.0,
            (goodput, _) => goodput,
        };
        let first = usize::try_from(end.as_secs()).ok()?;
        let after = self.seconds.get(first..)?;
        let is_well = |place: usize| {
            let possible = ideal(scenario, first + place, &after[place]);
            after[place].good as f64 >= 0.95 * before * possible
        };
        let starts = 0..(after.len() + 1).saturating_sub(WELL);
        let mut well = starts.filter(|start| (*start..start + WELL).all(is_well));
        well.next().map(at)
    }
}

/// The most that each has where so much is divided by max and min: who asks for less has all of it.
fn level(clients: &[ClientShare], mut left: f64) -> f64 {
    let mut offered: Vec<u64> = clients.iter().map(|client| client.offered).collect();
    offered.sort_unstable();
    for (place, offered) in offered.iter().enumerate() {
        let even = left / (clients.len() - place) as f64;
        if even <= *offered as f64 {
            return even;
        }
        left -= *offered as f64;
    }
    f64::INFINITY
}

/// By exact counts: the histogram's buckets are too wide to judge by.
const fn is_in_time(second: &Second) -> bool {
    second.good > 0 && 100 * second.good >= 95 * (second.good + second.late)
}

/// Good answers that were possible in a second.
fn ideal(scenario: &Scenario, place: usize, second: &Second) -> f64 {
    // Something may change within it.
    const PARTS: u32 = 20;
    let part = Duration::from_secs(1) / PARTS;
    let capacities = (0..PARTS).map(|nth| scenario.capacity(at(place) + part * nth + part / 2));
    let capacity: Option<f64> = capacities.sum();
    let offered = second.offered as f64;
    capacity.map_or(offered, |sum| offered.min(sum / f64::from(PARTS)))
}

const fn at(place: usize) -> Duration {
    Duration::from_secs(place as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use selvedge_model::Urgency;
    use selvedge_scenario::{
        Arrivals, Client, Condition, Fault, Forwards, Objective, Rate, Service, ServiceTime,
    };

    /// A service of 100 requests a second, half of that from second 4 to 8; 80 are asked for.
    fn scenario() -> Scenario {
        let seconds = Duration::from_secs;
        let from = Duration::ZERO;
        let rates = vec![Rate {
            from,
            per_second: 80.0,
        }];
        Scenario {
            name: String::new(),
            about: String::new(),
            length: seconds(20),
            warm_up: seconds(2),
            objective: Objective {
                latency: Duration::from_millis(100),
                deadline: seconds(1),
            },
            services: vec![Service {
                name: String::new(),
                replicas: 1,
                permits: 2,
                queue: 0,
                time: ServiceTime::Fixed(Duration::from_millis(20)),
                calls: vec![],
                forwards: Forwards::default(),
                link: None,
            }],
            clients: vec![Client {
                calls: 0,
                urgency: Urgency::default(),
                arrivals: Arrivals::Open(rates),
                classes: vec![],
            }],
            agent_away: None,
            faults: vec![Fault {
                from: seconds(4),
                until: seconds(8),
                service: 0,
                replica: None,
                condition: Condition {
                    permits: Some(1),
                    ..Condition::default()
                },
            }],
        }
    }

    #[test]
    fn a_run_is_judged_by_what_was_possible() {
        let scenario = scenario();
        let mut report = Report::new(&scenario);
        for (place, second) in report.seconds.iter_mut().enumerate() {
            // Half of what is possible in the fault and two seconds longer, and once again for one second.
            second.good = match place {
                0 | 1 => 0,
                4..8 => 25,
                8 | 9 | 12 => 40,
                _ => 80,
            };
            second.offered = 80;
            second.attempts = 160;
            second.late = if second.good == 80 { 4 } else { 9 };
        }
        let verdict = report.verdict(&scenario);
        assert_eq!(verdict.ideal, 14.0 * 80.0 + 4.0 * 50.0);
        let good = f64::from(11 * 80 + 4 * 25 + 3 * 40);
        assert_eq!(verdict.goodput, good / verdict.ideal);
        assert_eq!(verdict.goodput_disturbed, Some(0.5));
        assert_eq!(verdict.tail, 11.0 / 18.0);
        assert_eq!(verdict.attempts, 2.0);
        // Of seconds 10 and 11 there are no five in a row.
        assert_eq!(verdict.recovery, Some(Duration::from_secs(5)));
    }

    /// As good as it gets is what counts where nothing was judged before.
    #[test]
    fn who_begins_disturbed_has_to_become_ideal() {
        let mut scenario = scenario();
        scenario.faults[0].from = Duration::ZERO;
        let mut report = Report::new(&scenario);
        for second in &mut report.seconds {
            (second.offered, second.good) = (80, 40);
        }
        assert_eq!(report.verdict(&scenario).recovery, None);
        for second in &mut report.seconds[10..] {
            second.good = 80;
        }
        let verdict = report.verdict(&scenario);
        assert_eq!(verdict.recovery, Some(Duration::from_secs(2)));
    }

    /// Half a second without capacity is half of what was possible, and nothing is divided by nothing.
    #[test]
    fn what_changes_within_a_second_counts_for_its_part() {
        let mut scenario = scenario();
        scenario.clients[0].arrivals = Arrivals::Open(vec![Rate {
            from: Duration::ZERO,
            per_second: 200.0,
        }]);
        let fault = &mut scenario.faults[0];
        fault.until = Duration::from_millis(4500);
        fault.condition.absent = true;
        let mut report = Report::new(&scenario);
        for second in &mut report.seconds {
            (second.offered, second.good) = (200, 100);
        }
        let verdict = report.verdict(&scenario);
        assert_eq!(verdict.ideal, 17.0 * 100.0 + 50.0);
        assert_eq!(verdict.goodput_disturbed, Some(2.0));
        scenario.faults[0].from = Duration::from_millis(4200);
        assert_eq!(
            report.verdict(&scenario).goodput_disturbed,
            None,
            "no whole second"
        );
        scenario.faults.clear();
        assert_eq!(report.verdict(&scenario).goodput_disturbed, None);
    }

    #[test]
    fn what_never_recovers_is_said_so() {
        let scenario = scenario();
        let mut report = Report::new(&scenario);
        for (place, second) in report.seconds.iter_mut().enumerate() {
            second.offered = 80;
            second.good = if place < 4 { 80 } else { 70 };
        }
        assert_eq!(report.verdict(&scenario).recovery, None);
    }
}
