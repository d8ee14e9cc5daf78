//! Agent and proxy killed at once under load, away for a while, and started again.
//!
//! Nothing that goes through the kernel may notice: new connections to services, connections that are
//! open, look-ups of foreign names. A look-up that was in the proxy's hands is lost with it, and the
//! client's first repetition must be answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{Bench, every_address, full_name};
use crate::crew::{Worker, dismiss};
use crate::interrupt;
use crate::mesh::Mesh;
use crate::protocol::{Load, LoadReport, Resolver, Served, Task};
use crate::report::{Section, Unit};

const SERVICE: &str = "steady";
const PORT: u16 = 7025;
const REPLICAS: usize = 3;
const CYCLES: usize = 3;
const DNS: u16 = 53;
/// A client's first repetition, and what its answer may take beside.
const SLOWEST_LOOK_UP_S: f64 = 5.5;
/// Sendings of one query: the first and one repetition.
const MOST_TRIES: u64 = 2;

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mut mesh = bench.mesh()?;
    let mut upstream = bench.crew.start("upstream")?;
    let dns = upstream.serve(Served::Names, bench.own_address(53, DNS))?;
    let port = PORT.to_string();
    let mut replicas = mesh.run_many(&mut bench.crew, SERVICE, &[&port], REPLICAS)?;
    for replica in &mut replicas {
        replica.serve(Served::Many, every_address(PORT))?;
    }
    let mut clients = clients(bench, &mesh, dns)?;
    let (cycles, phase) = bench.sized(
        (CYCLES, Duration::from_secs(2)),
        (1, Duration::from_millis(300)),
    );
    let mut changes = Vec::new();
    let mut slowest_up = Duration::ZERO;
    for _ in 0..cycles {
        interrupt::pass(phase)?;
        let before = Picture::take(&mesh)?;
        mesh.kill()?;
        interrupt::pass(phase)?;
        slowest_up = slowest_up.max(mesh.up()?);
        changes.extend(before.changes(&Picture::take(&mesh)?));
    }
    interrupt::pass(phase)?;
    let mut reports = Vec::new();
    for client in &mut clients {
        reports.push(client.ask::<LoadReport>(&Task::End)?);
    }
    dismiss(clients);
    dismiss(replicas);
    drop(upstream);
    mesh.down()?;
    judge(&reports, section);
    section.count(
        "services, endpoints or counters changed",
        changes.len() as u64,
        Some(0),
    );
    section.amount(
        "slowest start until both serve",
        Unit::Seconds,
        slowest_up.as_secs_f64(),
        None,
    );
    changes.truncate(8);
    changes.into_iter().for_each(|change| section.note(change));
    section.note(format!(
        "{cycles} times SIGKILL to both, {phase:?} away, then `up`"
    ));
    Ok(())
}

/// Workloads, each with one load that has begun.
fn clients(bench: &mut Bench<'_>, mesh: &Mesh, dns: SocketAddr) -> anyhow::Result<Vec<Worker>> {
    let mut clients = Vec::new();
    for number in 0..4 {
        let mut client = mesh.run(&mut bench.crew, "client", &[])?;
        let name = full_name(SERVICE);
        let to = client.ask(&Task::Resolve { name, port: PORT })?;
        let lookups = |client| Load::Lookups {
            server: dns,
            client,
            threads: 4,
            pause_us: 1000,
        };
        let load = match number {
            0 => Load::Connections {
                to,
                threads: 4,
                hold_every: 64,
                hold_ms: 50,
                pause_us: 200,
            },
            1 => Load::Kept {
                to,
                connections: 12,
            },
            2 => lookups(Resolver::Glibc),
            _ => lookups(Resolver::Go),
        };
        client.order(&Task::Begin(load))?;
        clients.push(client);
    }
    Ok(clients)
}

fn judge(reports: &[LoadReport], section: &mut Section) {
    let [connections, kept, glibc, go] = reports else {
        return;
    };
    section.count("connections", connections.total(), None);
    section.count("failed connections", connections.failed(), Some(0));
    section.count("kept connections", kept.total(), None);
    section.count("kept connections that broke", kept.failed(), Some(0));
    for (client, report) in [("glibc", glibc), ("Go", go)] {
        section.count(
            &format!("foreign look-ups, as {client}"),
            report.total(),
            None,
        );
        section.count(&format!("failed, as {client}"), report.failed(), Some(0));
        let tries = u64::from(report.most_tries);
        section.count(
            &format!("most sendings of one, as {client}"),
            tries,
            Some(MOST_TRIES),
        );
        let slowest = report.slowest_ns as f64 / 1e9;
        let name = format!("slowest, as {client}");
        section.amount(&name, Unit::Seconds, slowest, Some(SLOWEST_LOOK_UP_S));
    }
    for report in reports {
        for failure in report.failures.iter().take(4) {
            let ms = (failure.ended_ns - failure.began_ns) / 1_000_000;
            section.note(format!("failed after {ms} ms: {}", failure.how));
        }
    }
}

/// What must be the same after a restart, or greater.
struct Picture {
    services: Value,
    counters: BTreeMap<String, u64>,
}

impl Picture {
    fn take(mesh: &Mesh) -> anyhow::Result<Self> {
        let mut status = mesh.get("/v1/status")?;
        Ok(Self {
            services: status["services"].take(),
            counters: mesh.edge_counters()?,
        })
    }

    /// What is not as it was, in words.
    fn changes(&self, after: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.services != after.services {
            changes.push(format!("{} became {}", self.services, after.services));
        }
        if self.counters.is_empty() {
            changes.push("no edge was counted".to_owned());
        }
        for (series, before) in &self.counters {
            match after.counters.get(series) {
                Some(after) if after >= before => {}
                after => changes.push(format!("{series} was {before} and became {after:?}")),
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn picture(address: &str, count: u64) -> Picture {
        Picture {
            services: json!([{"name": "cart", "address": address}]),
            counters: [("selvedge_connections_total{}".to_owned(), count)].into(),
        }
    }

    #[test]
    fn a_moved_service_and_a_smaller_counter_are_changes() {
        let before = picture("127.96.0.1", 5);
        assert!(before.changes(&picture("127.96.0.1", 9)).is_empty());
        assert_eq!(before.changes(&picture("127.96.0.2", 5)).len(), 1);
        assert_eq!(before.changes(&picture("127.96.0.1", 4)).len(), 1);
    }
}
