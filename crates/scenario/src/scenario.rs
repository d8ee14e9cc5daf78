//! A scenario as a whole, and what may be wrong with one.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use selvedge_model::{Rng, Urgency};

use crate::{Arrivals, Fault, Service, ServiceTime, chance};

/// An experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name, by which it is asked for.
    pub name: String,
    /// What it shows, in a line.
    pub about: String,
    /// How long it lasts.
    pub length: Duration,
    /// What comes before this moment is not judged.
    pub warm_up: Duration,
    /// What its clients want.
    pub objective: Objective,
    /// Services; calls and faults name them by their place here.
    pub services: Vec<Service>,
    /// Who asks.
    pub clients: Vec<Client>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// While this lasts there is no agent: nobody plans, and nobody hears what controllers tell. The next one knows no
    /// more than the plan in force.
    pub agent_away: Option<Range<Duration>>,
}

/// When an answer is in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// From when a request was meant to be sent to its answer.
    pub latency: Duration,
    /// When a client gives up, from then on too.
    pub deadline: Duration,
}

/// Somebody outside who asks one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// The service, by its place.
    pub calls: usize,
    /// How requests come.
    pub arrivals: Arrivals,
    /// How urgent they are.
    pub urgency: Urgency,
    /// What they are like; none are all alike.
    pub classes: Vec<Class>,
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// How many there are, relative to the others.
    pub share: f64,
    /// Factor of the service times, at all hops.
    pub work: f64,
}

impl Client {
    /// The work of its next request.
    pub fn draw_work(&self, rng: &mut Rng) -> f64 {
        let Some(last) = self.classes.last() else {
            return 1.0;
        };
        let mut left = chance::unit(rng) * self.shares();
        let drawn = self.classes.iter().find(|class| {
            left -= class.share;
            left <= 0.0
        });
        drawn.unwrap_or(last).work
    }

    /// The mean of it.
    pub fn mean_work(&self) -> f64 {
        if self.classes.is_empty() {
            return 1.0;
        }
        let work = self.classes.iter().map(|class| class.share * class.work);
        work.sum::<f64>() / self.shares()
    }

    fn shares(&self) -> f64 {
        self.classes.iter().map(|class| class.share).sum()
    }
}

/// What is wrong with a scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ScenarioError {
    /// Where, as `services[1].permits`.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl Scenario {
    /// Longest there is: an hour.
    pub const MOST_LENGTH: Duration = Duration::from_secs(3600);
    /// Most services.
    pub const MOST_SERVICES: usize = 10_000;
    /// Most replicas of all services together.
    pub const MOST_REPLICAS: u64 = 100_000;
    /// Most calls that come of one request.
    pub const MOST_VISITS: f64 = 10_000.0;
    /// Most users of a client.
    pub const MOST_USERS: u32 = 1_000_000;
    /// Shortest mean of a user's thinking.
    pub const LEAST_THINK: Duration = Duration::from_millis(1);
    /// Most requests that may come while one waits for its deadline, users among them.
    pub const MOST_UNDER_WAY: f64 = 1e7;
    /// Most that wait at one replica.
    pub const MOST_QUEUE: u32 = 1_000_000;
    /// Most clients, and most faults.
    pub const MOST_PARTS: usize = 100_000;

    /// The same within another time: all that happens at a moment happens at the like one, and lasts in
    /// proportion. What is judged begins at a whole second, not before its like. How long services work,
    /// and answers may take, stays.
    pub fn within(mut self, length: Duration) -> Self {
        let factor = length.as_secs_f64() / self.length.as_secs_f64();
        let like = |moment: &mut Duration| {
            *moment = chance::seconds(moment.as_secs_f64() * factor);
        };
        like(&mut self.warm_up);
        let whole = self.warm_up.as_secs() + u64::from(self.warm_up.subsec_nanos() > 0);
        self.warm_up = Duration::from_secs(whole);
        for client in &mut self.clients {
            match &mut client.arrivals {
                Arrivals::Open(rates) => rates.iter_mut().for_each(|rate| like(&mut rate.from)),
                Arrivals::Closed { users, .. } => {
                    users.iter_mut().for_each(|crowd| like(&mut crowd.from));
                }
            }
        }
        for fault in &mut self.faults {
            like(&mut fault.from);
            like(&mut fault.until);
        }
        if let Some(away) = &mut self.agent_away {
            like(&mut away.start);
            like(&mut away.end);
        }
        self.length = length;
        self
    }

    /// Looks whether it can be run.
    ///
    /// # Errors
    /// The first field that cannot be as it is, and why.
    pub fn check(&self) -> Result<(), ScenarioError> {
        for (field, text) in [("name", &self.name), ("about", &self.about)] {
            let is_line = !text.chars().any(char::is_control);
            require(
                is_line,
                field,
                || "expected a line without control characters",
            )?;
        }
        let is_whole = |time: Duration| time.subsec_nanos() == 0;
        let is_length = !self.length.is_zero() && self.length <= Self::MOST_LENGTH;
        require(
            is_length && is_whole(self.length),
            "length",
            || "expected whole seconds, from one to an hour",
        )?;
        require(
            is_whole(self.warm_up),
            "warmUp",
            || "expected whole seconds",
        )?;
        require(
            self.warm_up < self.length,
            "warmUp",
            || "leaves nothing to judge: expected less than `length`",
        )?;
        let Objective { latency, deadline } = self.objective;
        require(
            !latency.is_zero(),
            "objective.latency",
            || "no answer takes no time",
        )?;
        require(
            latency <= deadline,
            "objective.deadline",
            || "is before the objective's latency: no answer could be late",
        )?;
        require(
            deadline <= Self::MOST_LENGTH,
            "objective.deadline",
            || "expected up to an hour",
        )?;
        self.check_services()?;
        self.check_clients()?;
        self.check_faults()
    }

    fn check_services(&self) -> Result<(), ScenarioError> {
        let count = self.services.len();
        require(
            (1..=Self::MOST_SERVICES).contains(&count),
            "services",
            || format!("expected 1 to {}", Self::MOST_SERVICES),
        )?;
        let replicas: u64 = self.services.iter().map(|it| u64::from(it.replicas)).sum();
        require(replicas <= Self::MOST_REPLICAS, "services", || {
            format!(
                "have {replicas} replicas, more than {}",
                Self::MOST_REPLICAS
            )
        })?;
        let mut names = BTreeSet::new();
        for (place, service) in self.services.iter().enumerate() {
            let at = |field: &str| format!("services[{place}].{field}");
            require(names.insert(&service.name), &at("name"), || {
                format!("{:?} is the name of an earlier one too", service.name)
            })?;
            require(
                (1..=u32::from(u16::MAX)).contains(&service.replicas),
                &at("replicas"),
                || "expected 1 to 65535",
            )?;
            require(
                service.permits > 0,
                &at("permits"),
                || "nothing would be served",
            )?;
            require(service.queue <= Self::MOST_QUEUE, &at("queue"), || {
                format!("expected at most {}", Self::MOST_QUEUE)
            })?;
            let mean = service.time.mean();
            require(
                !mean.is_zero() && mean <= Self::MOST_LENGTH,
                &at("time"),
                || "expected a mean of up to an hour, and more than none",
            )?;
            let link = service.link.map(|link| link.mean()).unwrap_or_default();
            require(
                link <= Self::MOST_LENGTH,
                &at("link"),
                || "expected a mean of up to an hour",
            )?;
            for (field, law) in [("time", Some(service.time)), ("link", service.link)] {
                if let Some(ServiceTime::Lognormal { sigma, .. }) = law {
                    require(
                        (0.0..=5.0).contains(&sigma),
                        &at(field),
                        || "expected a sigma from 0 to 5",
                    )?;
                }
            }
            // Later ones only, so that no request comes back to where it was.
            let is_later = |called: &usize| (place + 1..count).contains(called);
            let are_later = service.calls.iter().flatten().all(is_later);
            require(
                are_later,
                &at("calls"),
                || "expected services that stand behind this one, so that calls have an end",
            )?;
        }
        Ok(())
    }

    fn check_clients(&self) -> Result<(), ScenarioError> {
        require(!self.clients.is_empty(), "clients", || "nobody asks")?;
        let are_few = self.clients.len() <= Self::MOST_PARTS;
        require(are_few, "clients", || {
            format!("expected at most {}", Self::MOST_PARTS)
        })?;
        let most = self
            .clients
            .iter()
            .map(|client| client.arrivals.most(self.objective.deadline));
        let under_way: f64 = most.sum();
        for (place, client) in self.clients.iter().enumerate() {
            let at = |field: &str| format!("clients[{place}].{field}");
            let is_there = client.calls < self.services.len();
            require(is_there, &at("calls"), || "there is no such service")?;
            let visits: f64 = self.visits(client.calls).iter().sum();
            require(visits <= Self::MOST_VISITS, &at("calls"), || {
                format!("one request makes more than {} calls", Self::MOST_VISITS)
            })?;
            let is_class = |class: &Class| {
                (1e-6..=1e6).contains(&class.share) && (0.001..=1000.0).contains(&class.work)
            };
            require(
                client.classes.iter().all(is_class),
                &at("classes"),
                || "expected shares from 0.000001 to 1000000, and work from 0.001 to 1000",
            )?;
            match &client.arrivals {
                Arrivals::Open(rates) => {
                    let in_order = rates.is_sorted_by(|one, next| one.from < next.from);
                    require(
                        !rates.is_empty() && in_order,
                        &at("open"),
                        || "expected one or more, each from a later moment",
                    )?;
                    let are_rates = rates
                        .iter()
                        .all(|rate| (0.0..=Self::MOST_UNDER_WAY).contains(&rate.per_second));
                    require(are_rates, &at("open"), || {
                        format!("expected 0 to {} requests a second", Self::MOST_UNDER_WAY)
                    })?;
                }
                Arrivals::Closed { users, think } => {
                    // Who is refused at once and does not think would ask for ever in one moment.
                    let is_pause = *think >= Self::LEAST_THINK && *think <= Self::MOST_LENGTH;
                    require(is_pause, &at("closed.think"), || "expected 1 ms to an hour")?;
                    let in_order = users.is_sorted_by(|one, next| one.from < next.from);
                    require(
                        !users.is_empty() && in_order,
                        &at("closed.users"),
                        || "expected one or more, each from a later moment",
                    )?;
                    let are_few = users.iter().all(|it| it.users <= Self::MOST_USERS);
                    require(are_few, &at("closed.users"), || {
                        format!("expected at most {}", Self::MOST_USERS)
                    })?;
                }
            }
        }
        require(under_way <= Self::MOST_UNDER_WAY, "clients", || {
            format!(
                "{under_way:.0} requests may come within one deadline, more than {}: lower it, or the rates",
                Self::MOST_UNDER_WAY
            )
        })
    }

    fn check_faults(&self) -> Result<(), ScenarioError> {
        let are_few = self.faults.len() <= Self::MOST_PARTS;
        require(are_few, "faults", || {
            format!("expected at most {}", Self::MOST_PARTS)
        })?;
        for (place, fault) in self.faults.iter().enumerate() {
            let at = |field: &str| format!("faults[{place}].{field}");
            require(
                fault.from < self.length,
                &at("from"),
                || "is behind the scenario's end",
            )?;
            require(
                fault.from < fault.until,
                &at("until"),
                || "is not behind `from`",
            )?;
            let service = self.services.get(fault.service);
            require(
                service.is_some(),
                &at("service"),
                || "there is no such service",
            )?;
            let replicas = service.map_or(0, |service| service.replicas);
            let is_there = fault.replica.is_none_or(|replica| replica < replicas);
            require(is_there, &at("replica"), || "the service has not so many")?;
            let condition = fault.condition;
            let is_factor = (0.001..=1000.0).contains(&condition.slow);
            require(
                is_factor,
                &at("slow"),
                || "expected a factor from 0.001 to 1000",
            )?;
            let is_share = (0.0..=1.0).contains(&condition.errors);
            require(is_share, &at("errors"), || "expected a share from 0 to 1")?;
        }
        let Some(away) = &self.agent_away else {
            return Ok(());
        };
        require(
            away.start < self.length,
            "agentAway.from",
            || "is behind the scenario's end",
        )?;
        require(
            away.start < away.end,
            "agentAway.until",
            || "is not behind `from`",
        )?;
        Ok(())
    }
}

fn require<R: ToString>(
    holds: bool,
    field: &str,
    reason: impl FnOnce() -> R,
) -> Result<(), ScenarioError> {
    if holds {
        return Ok(());
    }
    Err(ScenarioError {
        field: field.to_string(),
        reason: reason().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Forwards, Rate};
    use alloc::vec;

    #[test]
    fn a_schedule_keeps_its_proportions_in_another_time() {
        let seconds = Duration::from_secs;
        let rate = |from, per_second| Rate {
            from: seconds(from),
            per_second,
        };
        let scenario = Scenario {
            name: String::new(),
            about: String::new(),
            length: seconds(120),
            warm_up: seconds(10),
            objective: Objective {
                latency: Duration::from_millis(100),
                deadline: seconds(1),
            },
            services: vec![Service {
                name: String::new(),
                replicas: 1,
                permits: 8,
                queue: 9,
                time: ServiceTime::Fixed(Duration::from_millis(20)),
                calls: vec![],
                forwards: Forwards::default(),
                link: None,
            }],
            clients: vec![Client {
                calls: 0,
                urgency: Urgency::default(),
                arrivals: Arrivals::Open(vec![rate(0, 20.0), rate(30, 100.0)]),
                classes: vec![],
            }],
            agent_away: Some(seconds(30)..seconds(120)),
            faults: vec![Fault {
                from: seconds(30),
                until: seconds(60),
                service: 0,
                replica: None,
                condition: Condition::default(),
            }],
        };
        let third = scenario.clone().within(seconds(40));
        assert_eq!(third.check(), Ok(()));
        assert_eq!((third.length, third.warm_up), (seconds(40), seconds(4)));
        let rates = Arrivals::Open(vec![rate(0, 20.0), rate(10, 100.0)]);
        assert_eq!(third.clients[0].arrivals, rates);
        let fault = &third.faults[0];
        assert_eq!((fault.from, fault.until), (seconds(10), seconds(20)));
        assert_eq!(third.agent_away, Some(seconds(10)..seconds(40)));
        assert_eq!(third.services, scenario.services);
        assert_eq!(third.objective, scenario.objective);
    }
}
