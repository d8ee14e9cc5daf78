//! Everything of one run: the programs, what stands between them, and who asks.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use selvedge_scenario::Scenario;

use super::envoy::EnvoyPlane;
use super::mesh::MeshPlane;
use super::policy::{DataPlane, LivePolicy};
use super::replica::{Replica, each_replica};
use super::{LiveOptions, pass_until};
use crate::clock::monotonic_ns;
use crate::crew::Worker;
use crate::load::Target;
use crate::measure::Bench;
use crate::protocol::{Asked, Asking, Task};
use crate::replica::ReplicaReport;

/// From when all is ready until the scenario begins.
const LEAD: Duration = Duration::from_millis(500);

/// One run.
pub(super) struct Stage {
    plane: Plane,
    /// Of each service.
    replicas: Vec<Vec<Replica>>,
    /// Of each client, with where it asks.
    clients: Vec<(Worker, Target)>,
    /// Of the programs and clients, and of what stands between.
    cpus: [usize; 2],
}

/// What stands between the programs.
enum Plane {
    Mesh(MeshPlane),
    Envoy(EnvoyPlane),
}

/// What came of a run.
pub(super) struct Played {
    /// Of each client.
    pub(super) asked: Vec<Asked>,
    /// Of each replica of each service.
    pub(super) replicas: Vec<ReplicaReport>,
    /// Share of the time that the processor of the programs was busy, and that of what stands between.
    pub(super) busy: [f64; 2],
    pub(super) envoy_min_rtt_ms: Vec<u64>,
}

impl Stage {
    /// Starts everything, and waits until it is ready.
    pub(super) fn set(
        bench: &mut Bench<'_>,
        scenario: &Scenario,
        policy: &LivePolicy,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let cpu = bench.other_cpu();
        let cpus = [cpu, bench.cpu()];
        let mut stage = match policy.plane {
            DataPlane::Selvedge(ours) => {
                let plane = MeshPlane::start(bench, scenario, ours)?;
                let replicas = each_replica(scenario, seed, cpu, |place, number| {
                    plane.replica_command(scenario, place, number)
                })?;
                let plane = Plane::Mesh(plane);
                Self {
                    plane,
                    replicas,
                    clients: Vec::new(),
                    cpus,
                }
            }
            DataPlane::Envoy(settings) => {
                let mut plane = EnvoyPlane::plan(bench, scenario, settings)?;
                let replicas = each_replica(scenario, seed, cpu, |place, number| {
                    plane.replica_command(scenario, place, number)
                })?;
                plane.start(bench)?;
                let plane = Plane::Envoy(plane);
                Self {
                    plane,
                    replicas,
                    clients: Vec::new(),
                    cpus,
                }
            }
        };
        for client in &scenario.clients {
            let (mut worker, target) = match &stage.plane {
                Plane::Mesh(plane) => plane.client(bench, client.calls)?,
                Plane::Envoy(plane) => plane.client(bench, client.calls)?,
            };
            worker.order(&Task::Pin(cpu))?;
            stage.clients.push((worker, target));
        }
        Ok(stage)
    }

    /// Has the scenario happen.
    pub(super) fn play(
        &mut self,
        options: &LiveOptions,
        source: &str,
        scenario: &Scenario,
        seed: u64,
    ) -> anyhow::Result<Played> {
        let begins_ns = monotonic_ns() + LEAD.as_nanos() as u64;
        for (client, (worker, target)) in self.clients.iter_mut().enumerate() {
            worker.order(&Task::Ask(Asking {
                scenario: source.to_owned(),
                length: options.length,
                client,
                target: target.clone(),
                begins_ns,
                seed: seed ^ client as u64,
            }))?;
        }
        let moment_ns = |at: Duration| begins_ns + at.as_nanos() as u64;
        pass_until(begins_ns)?;
        let before = self.busy_ticks()?;
        let away = scenario.agent_away.as_ref();
        for at in turns(scenario) {
            pass_until(moment_ns(at))?;
            if let Plane::Mesh(plane) = &mut self.plane {
                plane.has_agent(away.is_none_or(|away| !away.contains(&at)))?;
            }
            self.turn(scenario, at)?;
        }
        pass_until(moment_ns(scenario.length))?;
        let after = self.busy_ticks()?;
        let asked = self
            .clients
            .iter_mut()
            .map(|(worker, _)| worker.ask(&Task::Asked));
        let asked = asked.collect::<anyhow::Result<_>>()?;
        Ok(Played {
            asked,
            replicas: self.turn(scenario, scenario.length)?,
            busy: [0, 1].map(|place| share(before[place], after[place])),
            envoy_min_rtt_ms: match &self.plane {
                Plane::Mesh(_) => Vec::new(),
                Plane::Envoy(plane) => plane.min_rtt_ms(),
            },
        })
    }

    fn busy_ticks(&self) -> anyhow::Result<[(u64, u64); 2]> {
        let [programs, plane] = self.cpus;
        Ok([busy_ticks(programs)?, busy_ticks(plane)?])
    }

    /// Has every replica be as it is to be at a moment; gives what they did until then.
    fn turn(&mut self, scenario: &Scenario, at: Duration) -> anyhow::Result<Vec<ReplicaReport>> {
        let mut reports = Vec::new();
        for (place, replicas) in self.replicas.iter_mut().enumerate() {
            for (number, replica) in (0..).zip(replicas) {
                let condition = scenario.condition(place, number, at);
                reports.push(replica.set(&condition)?);
            }
        }
        Ok(reports)
    }

    /// Ends everything.
    pub(super) fn strike(self) -> anyhow::Result<()> {
        drop(self.clients);
        match self.plane {
            // It ends whatever runs in it.
            Plane::Mesh(plane) => plane.down()?,
            Plane::Envoy(plane) => drop(plane),
        }
        for replica in self.replicas.into_iter().flatten() {
            replica.end()?;
        }
        Ok(())
    }
}

/// When something changes at a replica, or the agent comes or goes.
fn turns(scenario: &Scenario) -> Vec<Duration> {
    let faults = scenario.faults.iter();
    let of_faults = faults.flat_map(|fault| [fault.from, fault.until]);
    let away = scenario.agent_away.iter();
    let of_agent = away.flat_map(|away| [away.start, away.end]);
    let all = of_faults.chain(of_agent);
    let turns: BTreeSet<Duration> = all.filter(|at| *at < scenario.length).collect();
    turns.into_iter().collect()
}

/// Ticks that a processor was busy for, and all (proc_stat(5)).
fn busy_ticks(cpu: usize) -> anyhow::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_in(&text, cpu).with_context(|| format!("/proc/stat has nothing of cpu{cpu}"))
}

fn busy_in(text: &str, cpu: usize) -> Option<(u64, u64)> {
    let name = format!("cpu{cpu}");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?;
    let ticks: Vec<u64> = line
        .split(' ')
        .filter_map(|tick| tick.parse().ok())
        .collect();
    // User, nice, system, idle, iowait, irq, softirq, steal; guests are in the first.
    let all = ticks.get(..8)?.iter().sum();
    Some((all - ticks[3] - ticks[4], all))
}

fn share((busy, all): (u64, u64), (busy_later, all_later): (u64, u64)) -> f64 {
    (busy_later - busy) as f64 / all_later.saturating_sub(all).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_as_busy_as_its_line_says() {
        let text =
            "cpu  1 2 3 4 5 6 7 8 9 10\ncpu1 10 0 10 70 10 0 0 0 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_in(text, 1), Some((20, 100)));
        assert_eq!(busy_in(text, 10), Some((6, 8)));
        assert_eq!(busy_in(text, 2), None);
        assert_eq!(share((20, 100), (70, 200)), 0.5);
    }
}
