//! A connection limit under abuse: never one too many, and none lost.
//!
//! The server counts what is open at once, after it has read every end that has arrived; the kernel's
//! own count is read beside it. Two client processes stay, the third is killed twice a second with
//! whatever it has open.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;
use serde_json::Value;

use super::{Bench, every_address, full_name, policy_document, service_document};
use crate::crew::Worker;
use crate::interrupt::{self, GLANCE};
use crate::mesh::Mesh;
use crate::process;
use crate::program_time::dump_map;
use crate::protocol::{Crowd, Held, Load, LoadReport, Served, Task};
use crate::report::{Section, Unit};

const SERVICE: &str = "limited";
const PORT: u16 = 7030;
const LIMIT: usize = 16;
/// Of each of the three client processes.
const THREADS: usize = 24;
const LONGEST: Duration = Duration::from_secs(150);
/// Connections whose closing is under way are gone by then.
const SETTLED: Duration = Duration::from_secs(5);

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mut mesh = bench.mesh()?;
    let limit = format!("limits: {{connections: {LIMIT}}}");
    mesh.apply(&(service_document(SERVICE, &[(PORT, "TCP")]) + &policy_document(SERVICE, &limit)))?;
    let mut server = mesh.run(&mut bench.crew, SERVICE, &[])?;
    server.serve(Served::Many, every_address(PORT))?;
    let (wanted, period) = bench.sized(
        (100_000, Duration::from_millis(500)),
        (2_000, Duration::from_millis(200)),
    );
    let mut staying = [abuser(bench, &mesh)?, abuser(bench, &mesh)?];
    let began = Instant::now();
    let mut killed = 0;
    while server.ask::<Crowd>(&Task::Crowd)?.accepted < wanted && began.elapsed() < LONGEST {
        let victim = abuser(bench, &mesh)?;
        interrupt::pass(period)?;
        process::signal(victim.pid, Signal::KILL)?;
        victim.await_end()?;
        killed += 1;
    }
    let mut report = LoadReport::default();
    for client in &mut staying {
        report.merge(client.ask(&Task::End)?);
    }
    let took = began.elapsed();
    let crowd = settled(&mut server)?;
    section.count("connections accepted by the server", crowd.accepted, None);
    for (outcome, count) in &report.outcomes {
        section.count(
            &format!("attempts of those who stay: {outcome}"),
            *count,
            None,
        );
    }
    section.count("client processes killed", killed, None);
    section.amount("time", Unit::Seconds, took.as_secs_f64(), None);
    section.count(
        "most open at once, at the server",
        crowd.most,
        Some(LIMIT as u64),
    );
    section.count("still open at the server at the end", crowd.open, Some(0));
    kernel_view(&mesh, section);
    let lost = lost_slots(&mut staying)?;
    section.count("slots that cannot be taken at the end", lost, Some(0));
    drop((staying, server));
    mesh.down()?;
    section.note(format!(
        "3 processes of {THREADS} threads; see worker/abuse.rs for what they do"
    ));
    Ok(())
}

fn abuser(bench: &mut Bench<'_>, mesh: &Mesh) -> anyhow::Result<Worker> {
    let mut client = mesh.run(&mut bench.crew, "client", &[])?;
    let to = client.ask(&resolve())?;
    client.order(&Task::Begin(Load::Abuse {
        to,
        threads: THREADS,
        seed: bench.random.next(),
    }))?;
    Ok(client)
}

fn resolve() -> Task {
    Task::Resolve {
        name: full_name(SERVICE),
        port: PORT,
    }
}

/// What the server sees once nobody connects any more.
fn settled(server: &mut Worker) -> anyhow::Result<Crowd> {
    let deadline = Instant::now() + SETTLED;
    loop {
        let crowd: Crowd = server.ask(&Task::Crowd)?;
        if crowd.open == 0 || Instant::now() > deadline {
            return Ok(crowd);
        }
        interrupt::pass(GLANCE)?;
    }
}

/// The kernel's own count, where it can be read.
fn kernel_view(mesh: &Mesh, section: &mut Section) {
    let (most, left) = (
        "most open at once, in the kernel",
        "held in the kernel at the end",
    );
    let limit = LIMIT as u64;
    match dump_map(&mesh.run_dir(), "in_flight") {
        Ok(map) => {
            section.count(most, largest(&map, "highest"), Some(limit));
            section.count(left, largest(&map, "now"), Some(0));
        }
        Err(error) => {
            section.not_had(most, format!("{error:#}"), None);
            section.not_had(left, format!("{error:#}"), None);
        }
    }
}

/// The largest number under `key`, however deep.
fn largest(value: &Value, key: &str) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(|it| largest(it, key)).max().unwrap_or(0),
        Value::Object(fields) => {
            let own = fields.get(key).and_then(Value::as_u64).unwrap_or(0);
            let below = fields
                .values()
                .map(|it| largest(it, key))
                .max()
                .unwrap_or(0);
            own.max(below)
        }
        _ => 0,
    }
}

/// Takes every slot there should be, and says how many could not be taken. One more must be refused.
fn lost_slots(clients: &mut [Worker; 2]) -> anyhow::Result<u64> {
    let [one, other] = clients;
    let to: SocketAddr = one.ask(&resolve())?;
    let held: Held = one.ask(&Task::Hold { to, count: LIMIT })?;
    let more: Held = other.ask(&Task::Hold { to, count: 1 })?;
    ensure!(
        held.opened < LIMIT || more.error.as_deref() == Some("ConnectionRefused"),
        "one connection more than the limit was not refused: {more:?}"
    );
    one.order(&Task::Release)?;
    other.order(&Task::Release)?;
    Ok((LIMIT - held.opened) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_a_dump_of_a_map() {
        let dump = serde_json::json!([
            {"key": ["0x01"], "formatted": {"key": 1, "value": {"now": 0, "highest": 16}}},
            {"formatted": {"value": {"now": 2, "highest": 3}}},
        ]);
        assert_eq!((largest(&dump, "highest"), largest(&dump, "now")), (16, 2));
    }
}
