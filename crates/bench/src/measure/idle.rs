//! What a mesh costs that has nothing to do.
//!
//! The replicas are real processes, but of another file than agent and proxy, so that their memory is
//! not made to look small by sharing.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Bench, every_address};
use crate::crew::dismiss;
use crate::interrupt;
use crate::mesh::Mesh;
use crate::process::{self, Usage};
use crate::program_time::map_bytes;
use crate::protocol::{Crowd, Served, Task};
use crate::report::{Section, Unit};

const SERVICES: usize = 20;
const REPLICAS: usize = 3;
const PORT: u16 = 7040;
/// Proportional set size of both processes.
const MEMORY: f64 = 15.0 * 1024.0 * 1024.0;
const WAKE_UPS_PER_S: f64 = 5.0;
/// What started is over by then.
const SETTLED: Duration = Duration::from_secs(3);
/// How long until every endpoint is seen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mesh = bench.mesh()?;
    let services = bench.sized(SERVICES, 2);
    let mut replicas = Vec::new();
    for number in 0..services {
        let (service, port) = (format!("idle{number}"), PORT.to_string());
        replicas.extend(mesh.run_many(&mut bench.crew, &service, &[&port], REPLICAS)?);
    }
    for replica in &mut replicas {
        replica.serve(Served::Many, every_address(PORT))?;
    }
    await_endpoints(&mesh, services * REPLICAS)?;
    let (settle, watch) = bench.sized(
        (SETTLED, Duration::from_secs(10)),
        (Duration::from_millis(200), Duration::from_millis(500)),
    );
    let (agent, proxy) = (mesh.agent_pid()?, mesh.proxy_pid()?);
    interrupt::pass(settle)?;
    let (agent_before, proxy_before) = (Usage::read(agent)?, Usage::read(proxy)?);
    let began = Instant::now();
    interrupt::pass(watch)?;
    let seconds = began.elapsed().as_secs_f64();
    let agent_spent = Usage::read(agent)?.since(&agent_before);
    let proxy_spent = Usage::read(proxy)?.since(&proxy_before);
    let agent_rate = agent_spent.wake_ups as f64 / seconds;
    let proxy_rate = proxy_spent.wake_ups as f64 / seconds;
    let (agent_bytes, proxy_bytes) = (
        process::proportional_bytes(agent)? as f64,
        process::proportional_bytes(proxy)? as f64,
    );
    section.count("endpoints", (services * REPLICAS) as u64, None);
    section.amount("memory of agent (PSS)", Unit::Bytes, agent_bytes, None);
    section.amount("memory of proxy (PSS)", Unit::Bytes, proxy_bytes, None);
    let bar = Some(MEMORY);
    section.amount(
        "memory of both (PSS)",
        Unit::Bytes,
        agent_bytes + proxy_bytes,
        bar,
    );
    match map_bytes(&mesh.run_dir()) {
        Ok(bytes) => section.amount("memory of kernel maps", Unit::Bytes, bytes as f64, None),
        Err(error) => section.not_had("memory of kernel maps", format!("{error:#}"), None),
    }
    section.amount("wake-ups of agent", Unit::PerSecond, agent_rate, None);
    section.amount("wake-ups of proxy", Unit::PerSecond, proxy_rate, None);
    let bar = Some(WAKE_UPS_PER_S);
    section.amount(
        "wake-ups of both",
        Unit::PerSecond,
        agent_rate + proxy_rate,
        bar,
    );
    let cpu_rate = (agent_spent.cpu_ns + proxy_spent.cpu_ns) as f64 / seconds;
    section.amount(
        "CPU of both, each second",
        Unit::Nanoseconds,
        cpu_rate,
        None,
    );
    let mut served = 0;
    for replica in &mut replicas {
        served += replica.ask::<Crowd>(&Task::Crowd)?.accepted;
    }
    section.count("connections meanwhile", served, Some(0));
    dismiss(replicas);
    mesh.down()
}

/// Waits until the mesh sees so many endpoints listening.
fn await_endpoints(mesh: &Mesh, wanted: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let text = mesh.get("/v1/status")?["services"].to_string();
        let listening = text.matches(r#""state":"listening""#).count();
        if listening == wanted {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{listening} of {wanted} endpoints listen: {text}"
        );
        interrupt::pass(Duration::from_millis(50))?;
    }
}
