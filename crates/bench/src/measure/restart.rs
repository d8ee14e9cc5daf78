//! Agent and proxy killed at once under load, away for a while, and started again.
//!
//! Nothing that goes through the kernel may notice: new connections to services, connections that are
//! open, look-ups of foreign names. A look-up that was in the proxy's hands is lost with it, and the
//! client's first repetition, 5 s later, must be answered: by the proxy that is back after a short
//! outage, by the server itself during a long one.

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
const DNS: u16 = 53;
/// A client's first repetition, and what its answer may take beside.
const SLOWEST_LOOK_UP_S: f64 = 5.5;
/// Sendings of one query: the first and one repetition.
const MOST_TRIES: u64 = 2;

/// How long both are away, and how often.
#[derive(Clone, Copy)]
struct Outage {
    times: u32,
    away: Duration,
    /// Between two of them: a look-up lost in one is repeated before the next.
    between: Duration,
}

const SHORT: Outage = Outage {
    times: 3,
    away: Duration::from_secs(2),
    between: Duration::from_secs(7),
};
/// Longer than a client waits before it repeats.
const LONG: Outage = Outage {
    times: 1,
    away: Duration::from_secs(8),
    between: Duration::from_secs(1),
};
const QUICK: Outage = Outage {
    times: 1,
    away: Duration::from_millis(300),
    between: Duration::from_millis(300),
};

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mut mesh = bench.mesh()?;
    let mut upstream = bench.plain("upstream")?;
    let dns = upstream.serve(Served::Names, bench.own_address(53, DNS))?;
    let port = PORT.to_string();
    let mut replicas = mesh.run_many(&mut bench.crew, SERVICE, &[&port], REPLICAS)?;
    for replica in &mut replicas {
        replica.serve(Served::Many, every_address(PORT))?;
    }
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(mesh.run(&mut bench.crew, "client", &[])?);
    }
    for outage in bench.sized(vec![SHORT, LONG], vec![QUICK]) {
        begin(&mut clients, dns)?;
        let endured = endure(&mut mesh, outage)?;
        let mut reports = Vec::new();
        for client in &mut clients {
            reports.push(client.ask::<LoadReport>(&Task::End)?);
        }
        judge(outage, &reports, endured, section);
    }
    dismiss(clients);
    dismiss(replicas);
    drop(upstream);
    mesh.down()?;
    section.note("both by SIGKILL at once, then `up`; look-ups are repeated after 5 s, once");
    Ok(())
}

/// Begins one load in each client: connections, kept connections, look-ups as by two libraries.
fn begin(clients: &mut [Worker], dns: SocketAddr) -> anyhow::Result<()> {
    for (number, client) in clients.iter_mut().enumerate() {
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
    }
    Ok(())
}

/// What was seen of the mesh over its outages.
#[derive(Default)]
struct Endured {
    changes: Vec<String>,
    slowest_up: Duration,
}

fn endure(mesh: &mut Mesh, outage: Outage) -> anyhow::Result<Endured> {
    let mut endured = Endured::default();
    interrupt::pass(outage.between.min(Duration::from_secs(1)))?;
    for _ in 0..outage.times {
        let before = Picture::take(mesh)?;
        mesh.kill()?;
        interrupt::pass(outage.away)?;
        endured.slowest_up = endured.slowest_up.max(mesh.up()?);
        endured
            .changes
            .extend(before.changes(&Picture::take(mesh)?));
        interrupt::pass(outage.between)?;
    }
    Ok(endured)
}

fn judge(outage: Outage, reports: &[LoadReport], endured: Endured, section: &mut Section) {
    let [connections, kept, glibc, go] = reports else {
        return;
    };
    let away = format!("{:?} away", outage.away);
    let mut count = |name: &str, value, bar| section.count(&format!("{away}: {name}"), value, bar);
    count("times", u64::from(outage.times), None);
    count("connections", connections.total(), None);
    count("failed connections", connections.failed(), Some(0));
    count("kept connections", kept.total(), None);
    count("kept connections that broke", kept.failed(), Some(0));
    for (client, report) in [("glibc", glibc), ("Go", go)] {
        count(&format!("{client} look-ups"), report.total(), None);
        count(
            &format!("{client} look-ups failed"),
            report.failed(),
            Some(0),
        );
        let tries = u64::from(report.most_tries);
        count(
            &format!("{client} sendings of one"),
            tries,
            Some(MOST_TRIES),
        );
    }
    let changes = endured.changes.len() as u64;
    count("state or counters changed", changes, Some(0));
    for (client, report) in [("glibc", glibc), ("Go", go)] {
        let slowest = report.slowest_ns as f64 / 1e9;
        let name = format!("{away}: {client} slowest");
        section.amount(&name, Unit::Seconds, slowest, Some(SLOWEST_LOOK_UP_S));
    }
    let up = endured.slowest_up.as_secs_f64();
    section.amount(
        &format!("{away}: until both serve"),
        Unit::Seconds,
        up,
        None,
    );
    let changes = endured.changes.into_iter().take(8);
    changes.for_each(|change| section.note(change));
    for failure in reports
        .iter()
        .flat_map(|report| report.failures.iter().take(4))
    {
        let ms = (failure.ended_ns - failure.began_ns) / 1_000_000;
        section.note(format!("{away}: failed after {ms} ms: {}", failure.how));
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
