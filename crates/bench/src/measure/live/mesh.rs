//! A mesh of ours between the programs.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use selvedge_scenario::Scenario;

use super::policy::Ours;
use super::replica::{Start, own_folder};
use crate::crew::Worker;
use crate::load::Target;
use crate::measure::Bench;
use crate::mesh::Mesh;

/// The port of every service, and of every replica.
const PORT: u16 = 8080;

pub(super) struct MeshPlane {
    mesh: Mesh,
    folder: PathBuf,
}

impl MeshPlane {
    pub(super) fn start(
        bench: &mut Bench<'_>,
        scenario: &Scenario,
        ours: Ours,
    ) -> anyhow::Result<Self> {
        let cpu = bench.cpu();
        let mut mesh = bench.mesh_on(Some(cpu))?;
        mesh.apply(&documents(scenario, ours))?;
        let folder = own_folder(bench, &format!("live-{}", bench.meshes))?;
        Ok(Self { mesh, folder })
    }

    pub(super) fn replica_command(
        &self,
        scenario: &Scenario,
        place: usize,
        number: u32,
    ) -> anyhow::Result<Start> {
        let mut command = self.mesh.run_own_command(&name(place), &[PORT]);
        command.args(["bench", "serve", "--listen", &format!("127.0.0.1:{PORT}")]);
        let steps = scenario.services[place].calls.iter();
        let url = |called: &usize| format!("http://{}:{PORT}/", name(*called));
        Ok(Start {
            command,
            name: format!("{}-{number}", name(place)),
            folder: self.folder.clone(),
            calls: steps.map(|step| step.iter().map(url).collect()).collect(),
        })
    }

    /// A client as a workload of the mesh, with where it asks.
    pub(super) fn client(
        &self,
        bench: &mut Bench<'_>,
        calls: usize,
    ) -> anyhow::Result<(Worker, Target)> {
        let worker = self.mesh.run(&mut bench.crew, "client", &[])?;
        let target = format!("http://{}:{PORT}/", name(calls)).parse()?;
        Ok((worker, target))
    }

    /// From now on the mesh has an agent, or none: it is killed for that.
    pub(super) fn has_agent(&mut self, has: bool) -> anyhow::Result<()> {
        match (has, self.mesh.has_agent()) {
            (true, false) => self.mesh.up().map(drop),
            (false, true) => self.mesh.kill_agent(),
            _ => Ok(()),
        }
    }

    pub(super) fn down(mut self) -> anyhow::Result<()> {
        self.has_agent(true)?;
        self.mesh.down()
    }
}

/// A service's name in the mesh: a scenario's own may be none there.
fn name(place: usize) -> String {
    format!("s{place}")
}

fn documents(scenario: &Scenario, ours: Ours) -> String {
    let mut text = String::new();
    for place in 0..scenario.services.len() {
        let name = name(place);
        let is_entry = scenario.clients.iter().any(|client| client.calls == place);
        let mut rules = String::new();
        if is_entry {
            let deadline = millis(scenario.objective.deadline);
            rules += &format!("  timeouts: {{request: {deadline}}}\n");
        }
        if ours != Ours::Nothing {
            rules += "  retry: {attempts: 2, statuses: [500, 503]}\n";
        }
        if let Ours::Limit(limit) = ours {
            rules += &format!("  limits: {{requestsPerEndpoint: {limit}}}\n");
        }
        // Writing to a string does not fail.
        let _infallible = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{ports: [{{name: web, port: {PORT}, appProtocol: http}}]}}\n"
        );
        if !rules.is_empty() {
            let _infallible = write!(
                text,
                "---\napiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}}}\n\
                 spec:\n  targetRefs: [{{kind: Service, name: {name}}}]\n{rules}"
            );
        }
        // What the others are to keep of it is for the planner to say.
        if ours == Ours::Objective && is_entry {
            let latency = millis(scenario.objective.latency);
            let _infallible = write!(
                text,
                "---\napiVersion: selvedge.dev/v1alpha1\nkind: ServiceObjective\nmetadata: {{name: {name}}}\n\
                 spec: {{targetRefs: [{{kind: Service, name: {name}}}], latency: {{p95: {latency}}}}}\n"
            );
        }
    }
    text
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_alone_has_an_objective() {
        let scenario = crate::scenario("chain-storm").unwrap();
        let text = documents(&scenario, Ours::Objective);
        let objectives: Vec<_> = text.lines().filter(|line| line.contains("p95")).collect();
        assert_eq!(objectives.len(), 1, "{text}");
        assert!(objectives[0].contains("p95: 250ms"), "{text}");
        assert_eq!(text.matches("timeouts").count(), 1, "{text}");
        let text = documents(&scenario, Ours::Nothing);
        assert!(!text.contains("retry") && !text.contains("ServiceObjective"));
    }
}
