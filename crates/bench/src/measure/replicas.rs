//! Connections while a replica is killed every second and started again.
//!
//! A failure is explained by a death when the connection was open to that very replica, or was under
//! way when it died, or was begun within 100 ms after. Nothing else may fail. Deaths and connections
//! are timed on the same clock, in different processes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;

use super::{Bench, every_address, full_name};
use crate::clock::monotonic_ns;
use crate::crew::Worker;
use crate::interrupt;
use crate::mesh::Mesh;
use crate::process;
use crate::protocol::{Failure, Load, LoadReport, Served, Task};
use crate::report::{Section, Unit};

const SERVICE: &str = "mortal";
const PORT: u16 = 7020;
const REPLICAS: usize = 3;
const THREADS: usize = 16;
/// One connection of so many stays open for so long, so that each death meets open ones.
const HOLD_EVERY: u64 = 16;
const HOLD_MS: u64 = 100;
/// How long after a death a connect may still go wrong.
const GRACE_NS: u64 = 100_000_000;
/// The run ends then, however many connections there were.
const LONGEST: Duration = Duration::from_secs(150);

/// A replica that was killed.
struct Death {
    pid: u32,
    at_ns: u64,
}

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mesh = bench.mesh()?;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(replica(bench, &mesh)?);
    }
    let mut client = mesh.run(&mut bench.crew, "client", &[])?;
    let name = full_name(SERVICE);
    let to: SocketAddr = client.ask(&Task::Resolve { name, port: PORT })?;
    client.order(&Task::Begin(Load::Connections {
        to,
        threads: THREADS,
        hold_every: HOLD_EVERY,
        hold_ms: HOLD_MS,
        pause_us: 0,
    }))?;
    let began = Instant::now();
    let (wanted, period) = bench.sized(
        (100_000, Duration::from_secs(1)),
        (2_000, Duration::from_millis(300)),
    );
    let mut deaths = Vec::new();
    while client.ask::<u64>(&Task::Progress)? < wanted && began.elapsed() < LONGEST {
        interrupt::pass(period)?;
        let victim = replicas.remove(0);
        deaths.push(kill(victim)?);
        replicas.push(replica(bench, &mesh)?);
    }
    interrupt::pass(period)?;
    let report: LoadReport = client.ask(&Task::End)?;
    let took = began.elapsed();
    drop((client, replicas));
    mesh.down()?;
    judge(&report, &deaths, section);
    section.amount("time", Unit::Seconds, took.as_secs_f64(), None);
    section.note(format!(
        "{THREADS} threads; every {HOLD_EVERY}th connection stays open for {HOLD_MS} ms"
    ));
    Ok(())
}

fn replica(bench: &mut Bench<'_>, mesh: &Mesh) -> anyhow::Result<Worker> {
    let mut worker = mesh.run(&mut bench.crew, SERVICE, &[&PORT.to_string()])?;
    worker.serve(Served::Many, every_address(PORT))?;
    Ok(worker)
}

fn kill(victim: Worker) -> anyhow::Result<Death> {
    let death = Death {
        pid: victim.pid,
        at_ns: monotonic_ns(),
    };
    process::signal(death.pid, Signal::KILL).context("cannot kill a replica")?;
    victim.await_end()?;
    Ok(death)
}

fn judge(report: &LoadReport, deaths: &[Death], section: &mut Section) {
    section.count("connections", report.total(), None);
    section.count("deaths", deaths.len() as u64, None);
    section.count("replicas that served", report.servers.len() as u64, None);
    for (how, count) in report
        .outcomes
        .iter()
        .filter(|(how, _)| *how != crate::protocol::SERVED)
    {
        section.count(&format!("failed: {how}"), *count, None);
    }
    let untold = report.failed() - report.failures.len() as u64;
    let unexplained = report
        .failures
        .iter()
        .filter(|failure| !is_explained(failure, deaths));
    let unexplained = unexplained.count() as u64 + untold;
    section.count("failures that no death explains", unexplained, Some(0));
    let late = |failure: &Failure| begun_after(failure, deaths);
    let latest = report.failures.iter().filter_map(late).max();
    let latest = latest.unwrap_or(0) as f64;
    section.amount(
        "latest failed connect, after the death",
        Unit::Nanoseconds,
        latest,
        None,
    );
}

fn is_explained(failure: &Failure, deaths: &[Death]) -> bool {
    deaths.iter().any(|death| match failure.server {
        Some(server) => server == u64::from(death.pid) && failure.ended_ns >= death.at_ns,
        None => failure.began_ns <= death.at_ns + GRACE_NS && failure.ended_ns >= death.at_ns,
    })
}

/// How long after a death a connection was begun that failed, where nothing else explains it: it was
/// not under way when a replica died, and not open to that replica.
fn begun_after(failure: &Failure, deaths: &[Death]) -> Option<u64> {
    let met = |death: &Death| (failure.began_ns..=failure.ended_ns).contains(&death.at_ns);
    if failure.server.is_some() || deaths.iter().any(met) {
        return None;
    }
    let since = |death: &Death| failure.began_ns.checked_sub(death.at_ns);
    deaths.iter().filter_map(since).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn failure(began_ms: u64, ended_ms: u64, server: Option<u64>) -> Failure {
        Failure {
            began_ns: began_ms * MS,
            ended_ns: ended_ms * MS,
            server,
            how: String::new(),
        }
    }

    #[test]
    fn only_a_death_explains_a_failure() {
        let deaths = [Death {
            pid: 7,
            at_ns: 1000 * MS,
        }];
        let explained = [
            failure(900, 1001, Some(7)),
            failure(1050, 1051, Some(7)),
            failure(990, 1001, None),
            failure(1099, 1100, None),
        ];
        let unexplained = [
            failure(900, 1001, Some(8)),
            failure(900, 950, Some(7)),
            failure(990, 999, None),
            failure(1101, 1102, None),
        ];
        assert!(explained.iter().all(|it| is_explained(it, &deaths)));
        assert!(!unexplained.iter().any(|it| is_explained(it, &deaths)));
        assert_eq!(begun_after(&explained[3], &deaths), Some(99 * MS));
        assert_eq!(begun_after(&explained[0], &deaths), None);
    }
}
