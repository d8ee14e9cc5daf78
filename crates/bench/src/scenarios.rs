//! Scenarios as files: those that come with the binary, and a user's own.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use selvedge_model::Urgency;
use selvedge_scenario::{
    Arrivals, Class, Client, Condition, Crowd, Fault, Forwards, Objective, Rate, Scenario,
    ScenarioError, Service, ServiceTime,
};
use serde::{Deserialize, Deserializer};

use crate::chaos::world;
use crate::plants::plant;

/// The files that come with the binary, in the order in which they are listed.
const FILES: [(&str, &str); 33] = [
    ("steady", include_str!("../scenarios/steady.yaml")),
    ("step", include_str!("../scenarios/step.yaml")),
    ("trigger", include_str!("../scenarios/trigger.yaml")),
    (
        "capacity-loss",
        include_str!("../scenarios/capacity-loss.yaml"),
    ),
    (
        "latency-only",
        include_str!("../scenarios/latency-only.yaml"),
    ),
    ("sustained", include_str!("../scenarios/sustained.yaml")),
    (
        "transient-errors",
        include_str!("../scenarios/transient-errors.yaml"),
    ),
    ("chain-storm", include_str!("../scenarios/chain-storm.yaml")),
    (
        "gray-replica",
        include_str!("../scenarios/gray-replica.yaml"),
    ),
    (
        "failing-replica",
        include_str!("../scenarios/failing-replica.yaml"),
    ),
    ("black-hole", include_str!("../scenarios/black-hole.yaml")),
    (
        "noisy-neighbour",
        include_str!("../scenarios/noisy-neighbour.yaml"),
    ),
    ("priorities", include_str!("../scenarios/priorities.yaml")),
    (
        "flooding-caller",
        include_str!("../scenarios/flooding-caller.yaml"),
    ),
    (
        "eight-callers",
        include_str!("../scenarios/eight-callers.yaml"),
    ),
    ("distant", include_str!("../scenarios/distant.yaml")),
    ("stragglers", include_str!("../scenarios/stragglers.yaml")),
    ("heavy-mix", include_str!("../scenarios/heavy-mix.yaml")),
    (
        "chain-steady",
        include_str!("../scenarios/chain-steady.yaml"),
    ),
    (
        "chain-trigger",
        include_str!("../scenarios/chain-trigger.yaml"),
    ),
    (
        "control-plane-loss",
        include_str!("../scenarios/control-plane-loss.yaml"),
    ),
    (
        "chain-sustained",
        include_str!("../scenarios/chain-sustained.yaml"),
    ),
    ("two-routes", include_str!("../scenarios/two-routes.yaml")),
    (
        "two-busy-routes",
        include_str!("../scenarios/two-busy-routes.yaml"),
    ),
    ("fan-out", include_str!("../scenarios/fan-out.yaml")),
    ("cold-start", include_str!("../scenarios/cold-start.yaml")),
    (
        "thesis-overload",
        include_str!("../scenarios/thesis-overload.yaml"),
    ),
    (
        "closed-spikes",
        include_str!("../scenarios/closed-spikes.yaml"),
    ),
    ("near-floor", include_str!("../scenarios/near-floor.yaml")),
    ("below-floor", include_str!("../scenarios/below-floor.yaml")),
    (
        "low-rate-step",
        include_str!("../scenarios/low-rate-step.yaml"),
    ),
    (
        "low-rate-chain",
        include_str!("../scenarios/low-rate-chain.yaml"),
    ),
    (
        "latency-only-callers",
        include_str!("../scenarios/latency-only-callers.yaml"),
    ),
];

/// Why there is no such scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioFileError {
    /// It is no file, and none of those that come with the binary.
    #[error(
        "there is no scenario {0:?}: give a file, or one of those that `selvedge sim list` names"
    )]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Unreadable(String, #[source] std::io::Error),
    /// It is not as a scenario is written.
    #[error("{file}: {what}")]
    Malformed {
        /// Its name.
        file: String,
        /// Line, column and field.
        what: String,
    },
    /// A field of it cannot be as it is.
    #[error("{file}: {error}")]
    Impossible {
        /// Its name.
        file: String,
        /// Which, and why.
        error: ScenarioError,
    },
}

/// The scenarios that come with the binary.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    let read = |(name, text): (&str, &str)| read(&format!("{name}.yaml"), text);
    let scenarios = FILES.into_iter().map(read);
    scenarios.map(|scenario| scenario.expect("a test reads them all"))
}

/// The scenario of this name, be it one drawn at random as `plant-7` or `chaos-7`, or in this file.
///
/// # Errors
/// Where there is none, or it cannot be run.
pub fn scenario(name: &str) -> Result<Scenario, ScenarioFileError> {
    let known = FILES.iter().find(|(known, _)| *known == name);
    if let Some((_, text)) = known {
        return read(&format!("{name}.yaml"), text);
    }
    let drawn = name.split_once('-').and_then(|(kind, number)| {
        let number = number.parse().ok()?;
        match kind {
            "plant" => Some(plant(number)),
            "chaos" => Some(world(number)),
            _ => None,
        }
    });
    if let Some(scenario) = drawn {
        return Ok(scenario);
    }
    if !Path::new(name).exists() {
        return Err(ScenarioFileError::Unknown(name.to_owned()));
    }
    let mut text = String::new();
    let open = File::open(name).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    let length = open.map_err(|error| ScenarioFileError::Unreadable(name.to_owned(), error))?;
    if length as u64 == MOST_BYTES {
        return Err(ScenarioFileError::Malformed {
            file: name.to_owned(),
            what: format!("is longer than {MOST_BYTES} bytes"),
        });
    }
    read(name, &text)
}

/// Longer than any that a person writes; ten thousand services fit.
const MOST_BYTES: u64 = 4 << 20;

fn read(file: &str, text: &str) -> Result<Scenario, ScenarioFileError> {
    let written: Written =
        serde_saphyr::from_str(text).map_err(|error| ScenarioFileError::Malformed {
            file: file.to_owned(),
            what: error.to_string(),
        })?;
    let checked = written.scenario().and_then(|scenario| {
        scenario.check()?;
        Ok(scenario)
    });
    checked.map_err(|error| ScenarioFileError::Impossible {
        file: file.to_owned(),
        error,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    name: String,
    about: String,
    #[serde(deserialize_with = "time")]
    length: Duration,
    #[serde(default, deserialize_with = "time")]
    warm_up: Duration,
    objective: WrittenObjective,
    services: Vec<WrittenService>,
    clients: Vec<WrittenClient>,
    #[serde(default)]
    faults: Vec<WrittenFault>,
    agent_away: Option<WrittenSpan>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenObjective {
    #[serde(deserialize_with = "time")]
    latency: Duration,
    #[serde(deserialize_with = "time")]
    deadline: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenService {
    name: String,
    #[serde(default = "one")]
    replicas: u32,
    permits: u32,
    #[serde(default = "usual_queue")]
    queue: u32,
    time: WrittenTime,
    #[serde(default)]
    calls: Vec<Vec<String>>,
    #[serde(default)]
    forwards: WrittenForwards,
    link: Option<WrittenTime>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WrittenForwards {
    #[default]
    Traces,
    Nothing,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum WrittenTime {
    Fixed {
        #[serde(deserialize_with = "time")]
        mean: Duration,
    },
    Exponential {
        #[serde(deserialize_with = "time")]
        mean: Duration,
    },
    Lognormal {
        #[serde(deserialize_with = "time")]
        mean: Duration,
        sigma: f64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenClient {
    calls: String,
    open: Option<Vec<WrittenRate>>,
    closed: Option<WrittenUsers>,
    urgency: Option<u8>,
    #[serde(default)]
    classes: Vec<WrittenClass>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenClass {
    share: f64,
    #[serde(default = "unchanged")]
    work: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenUsers {
    users: Vec<WrittenCrowd>,
    #[serde(deserialize_with = "time")]
    think: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCrowd {
    #[serde(default, deserialize_with = "time")]
    from: Duration,
    users: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRate {
    #[serde(default, deserialize_with = "time")]
    from: Duration,
    rate: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSpan {
    #[serde(deserialize_with = "time")]
    from: Duration,
    #[serde(deserialize_with = "time")]
    until: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFault {
    #[serde(deserialize_with = "time")]
    from: Duration,
    #[serde(deserialize_with = "time")]
    until: Duration,
    service: String,
    replica: Option<u32>,
    permits: Option<u32>,
    #[serde(default = "unchanged")]
    slow: f64,
    #[serde(default, deserialize_with = "time")]
    extra: Duration,
    #[serde(default)]
    errors: f64,
    #[serde(default)]
    absent: bool,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::duration(&text).map_err(serde::de::Error::custom)
}

const fn one() -> u32 {
    1
}

const fn usual_queue() -> u32 {
    4096
}

const fn unchanged() -> f64 {
    1.0
}

impl Written {
    fn scenario(self) -> Result<Scenario, ScenarioError> {
        let names: Vec<String> = self.services.iter().map(|it| it.name.clone()).collect();
        let place = |field: String, name: &str| {
            let found = names.iter().position(|known| known == name);
            found.ok_or_else(|| ScenarioError {
                field,
                reason: format!("there is no service {name:?}"),
            })
        };
        let services = self.services.into_iter().enumerate().map(|(number, it)| {
            let steps = it.calls.iter().map(|step| {
                let called = step
                    .iter()
                    .map(|name| place(format!("services[{number}].calls"), name));
                called.collect()
            });
            Ok(Service {
                calls: steps.collect::<Result<_, _>>()?,
                name: it.name,
                replicas: it.replicas,
                permits: it.permits,
                queue: it.queue,
                time: it.time.into(),
                link: it.link.map(Into::into),
                forwards: match it.forwards {
                    WrittenForwards::Traces => Forwards::Traces,
                    WrittenForwards::Nothing => Forwards::Nothing,
                },
            })
        });
        let clients = self.clients.into_iter().enumerate().map(|(number, it)| {
            let class = |it: &WrittenClass| Class {
                share: it.share,
                work: it.work,
            };
            Ok(Client {
                calls: place(format!("clients[{number}].calls"), &it.calls)?,
                arrivals: it.arrivals().map_err(|reason| ScenarioError {
                    field: format!("clients[{number}]"),
                    reason,
                })?,
                urgency: match it.urgency {
                    None => Urgency::default(),
                    Some(urgency) => Urgency::new(urgency).ok_or_else(|| ScenarioError {
                        field: format!("clients[{number}].urgency"),
                        reason: format!(
                            "is {urgency}; the most urgent is 0, the least {}",
                            Urgency::LEAST.get()
                        ),
                    })?,
                },
                classes: it.classes.iter().map(class).collect(),
            })
        });
        let faults = self.faults.into_iter().enumerate().map(|(number, it)| {
            Ok(Fault {
                from: it.from,
                until: it.until,
                service: place(format!("faults[{number}].service"), &it.service)?,
                replica: it.replica,
                condition: Condition {
                    permits: it.permits,
                    slow: it.slow,
                    extra: it.extra,
                    errors: it.errors,
                    absent: it.absent,
                },
            })
        });
        Ok(Scenario {
            services: services.collect::<Result<_, _>>()?,
            clients: clients.collect::<Result<_, _>>()?,
            faults: faults.collect::<Result<_, _>>()?,
            agent_away: self.agent_away.map(|away| away.from..away.until),
            name: self.name,
            about: self.about,
            length: self.length,
            warm_up: self.warm_up,
            objective: Objective {
                latency: self.objective.latency,
                deadline: self.objective.deadline,
            },
        })
    }
}

impl From<WrittenTime> for ServiceTime {
    fn from(written: WrittenTime) -> Self {
        match written {
            WrittenTime::Fixed { mean } => Self::Fixed(mean),
            WrittenTime::Exponential { mean } => Self::Exponential(mean),
            WrittenTime::Lognormal { mean, sigma } => Self::Lognormal { mean, sigma },
        }
    }
}

impl WrittenClient {
    fn arrivals(&self) -> Result<Arrivals, String> {
        match (&self.open, &self.closed) {
            (Some(rates), None) => {
                let rate = |it: &WrittenRate| Rate {
                    from: it.from,
                    per_second: it.rate,
                };
                Ok(Arrivals::Open(rates.iter().map(rate).collect()))
            }
            (None, Some(WrittenUsers { users, think })) => {
                let crowd = |it: &WrittenCrowd| Crowd {
                    from: it.from,
                    users: it.users,
                };
                Ok(Arrivals::Closed {
                    users: users.iter().map(crowd).collect(),
                    think: *think,
                })
            }
            _ => Err("expected either `open` or `closed`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_come_with_the_binary_can_be_run() {
        for (scenario, (name, _)) in scenarios().zip(FILES) {
            assert_eq!(scenario.name, name);
            assert!(scenario.about.len() < 100, "{name}: a line");
        }
    }

    #[test]
    fn the_example_of_the_page_can_be_run() {
        let page = include_str!("../../../docs/simulator.md");
        let lines = page
            .lines()
            .skip_while(|line| !line.starts_with("    name:"));
        let example = lines.map_while(|line| line.strip_prefix("    "));
        let example: Vec<_> = example.collect();
        let scenario = read("page", &example.join("\n")).unwrap();
        assert_eq!((scenario.services.len(), scenario.faults.len()), (2, 1));
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_field() {
        let text = FILES[3].1;
        for (from, to, parts) in [
            ("permits: 8", "permit: 8", &["f.yaml", "permit"][..]),
            ("length: 120s", "length: 120", &["f.yaml", "a unit"]),
            ("length: 120s", "length: 2h", &["f.yaml: length: expected"]),
            (
                "service: a",
                "service: b",
                &["f.yaml: faults[0].service", "\"b\""],
            ),
            (
                "calls: a",
                "calls: c",
                &["f.yaml: clients[0].calls", "\"c\""],
            ),
            ("permits: 8", "permits: 0", &["f.yaml: services[0].permits"]),
            ("open:", "clozed:", &["f.yaml", "clozed"]),
            (
                "calls: a",
                "calls: a\n  closed: {users: [{users: 1}], think: 1s}",
                &["clients[0]: expected either"],
            ),
            (
                "calls: a",
                "calls: a\n  classes: [{share: 0}]",
                &["clients[0].classes"],
            ),
            ("mean: 20ms", "mean: NaN", &["f.yaml"]),
            (
                "clients:",
                "agentAway: {from: 30s, until: 20s}\nclients:",
                &["f.yaml: agentAway.until"],
            ),
            (
                "clients:",
                "agentAway: {from: 3h, until: 4h}\nclients:",
                &["f.yaml: agentAway.from"],
            ),
            (
                "permits: 8",
                "permits: 8\n  link: {fixed: {mean: 2h}}",
                &["f.yaml: services[0].link"],
            ),
        ] {
            assert!(text.contains(from), "{from}");
            let error = read("f.yaml", &text.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            for part in parts {
                assert!(error.contains(part), "{to}: {error}");
            }
        }
        let error = scenario("nowhere").unwrap_err().to_string();
        assert!(error.contains("sim list"), "{error}");
    }
}
