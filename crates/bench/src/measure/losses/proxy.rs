//! The proxy is killed amid requests.
//!
//! A service that nothing is attached to never meets it; of one with a route, the connections that
//! are in it break, and new ones wait for the next proxy.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use super::crew::{Callers, Demand, Replica};
use super::ledger::Ledger;
use super::route_document;
use crate::interrupt;
use crate::measure::Bench;
use crate::mesh::Mesh;
use crate::process::{self, age};
use crate::report::{Section, Unit};

const PLAIN: (&str, u16) = ("plain", 7081);
const ROUTED: (&str, u16) = ("routed", 7082);
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(2);
/// How long after its start a proxy may take until it serves.
const SOON_NS: f64 = 100e6;

pub(super) fn dies(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mut mesh = bench.mesh()?;
    let mut replicas = Vec::new();
    for (service, port) in [PLAIN, ROUTED] {
        replicas.push(Replica::start(&mesh, service, port, 0)?);
    }
    mesh.apply(&route_document(ROUTED.0, ROUTED.1))?;
    let demand = Demand {
        connections: 50,
        requests: bench.sized(9000, 1500),
        rate: 1500,
        posts: 0,
    };
    let mut callers = Vec::new();
    for (service, port) in [PLAIN, ROUTED] {
        callers.push(Callers::start(&mesh, service, port, demand)?);
    }
    interrupt::pass(bench.sized(Duration::from_secs(3), Duration::from_millis(500)))?;
    let back = kill(&mesh)?;
    for ((service, _), callers) in [PLAIN, ROUTED].into_iter().zip(callers) {
        let mut ledger = Ledger::default();
        ledger.read_callers(&callers.await_end()?)?;
        let most = if service == PLAIN.0 {
            0
        } else {
            demand.connections
        };
        let count = ledger.requests();
        section.count(&format!("proxy killed, {service}: requests"), count, None);
        let lost = ledger.lost("GET");
        section.count(&format!("proxy killed, {service}: lost"), lost, Some(most));
    }
    let log = fs::read_to_string(mesh.agent_log()).context("the agent has no log")?;
    let is_told = log.contains("the proxy has ended (signal: 9");
    section.count(
        "proxy killed: not in the agent's log",
        u64::from(!is_told),
        Some(0),
    );
    let ns = |time: Duration| time.as_nanos() as f64;
    let (start, kill) = (ns(back.since_start), ns(back.since_kill));
    section.amount(
        "next proxy serves, after its start",
        Unit::Nanoseconds,
        start,
        Some(SOON_NS),
    );
    section.amount(
        "next proxy serves, after the kill",
        Unit::Nanoseconds,
        kill,
        None,
    );
    section.note("the start of a process is known in steps of 10 ms");
    drop(replicas);
    mesh.down()
}

/// How long it took until another proxy served.
struct Back {
    since_start: Duration,
    since_kill: Duration,
}

fn kill(mesh: &Mesh) -> anyhow::Result<Back> {
    let victim = mesh.proxy_pid()?;
    let killed = Instant::now();
    process::signal(victim, Signal::KILL)?;
    while killed.elapsed() < PATIENCE {
        interrupt::check()?;
        let status = mesh.get("/v1/status")?;
        let proxy = &status["proxy"];
        let pid = proxy["pid"]
            .as_u64()
            .filter(|pid| *pid != u64::from(victim));
        if let (Some(pid), Some("serving")) = (pid, proxy["state"].as_str()) {
            let served = proxy["age"]
                .as_f64()
                .context("a serving proxy has no age")?;
            let served = Duration::from_secs_f64(served);
            return Ok(Back {
                since_start: age(u32::try_from(pid)?)?.saturating_sub(served),
                since_kill: killed.elapsed().saturating_sub(served),
            });
        }
        thread::sleep(GLANCE);
    }
    bail!("no other proxy serves after {PATIENCE:?}")
}
