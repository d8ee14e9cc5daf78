//! The acts of the demo, in the order they are played, and the summary.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::footprint::{self, Footprint, SERVICES};
use super::load::{Figures, Load};
use super::plain::Plain;
use super::requests;
use super::say;
use super::stage::{Stage, fetch, outside_port};
use super::summary::Findings;

/// How long each act goes on.
pub(super) struct Pace {
    /// Bursts with the mesh, and as many without, in turns.
    pub(super) rounds: usize,
    /// Length of each of them.
    pub(super) burst: Duration,
    /// How long requests go on around a fault.
    fault: Duration,
    /// When in that time the fault happens.
    before_fault: Duration,
    /// How long agent and proxy stay away.
    away: Duration,
    /// How long the idle mesh is watched.
    idle: Duration,
}

impl Pace {
    /// For an audience.
    pub(super) const FULL: Self = Self {
        rounds: 5,
        burst: Duration::from_secs(2),
        fault: Duration::from_secs(6),
        before_fault: Duration::from_secs(2),
        away: Duration::from_secs(2),
        idle: Duration::from_secs(10),
    };

    /// For a test, which looks at the plot and not at the figures.
    pub(super) const BRIEF: Self = Self {
        rounds: 1,
        burst: Duration::from_secs(1),
        fault: Duration::from_secs(3),
        before_fault: Duration::from_millis(500),
        away: Duration::from_millis(500),
        idle: Duration::from_secs(1),
    };
}

/// Most failures that a killed replica may cause: what it was working on, and what came to it
/// before the kernel knew. Each of wrk's connections can lose a request or two.
const REPLICA_BOUND: u64 = 16;

/// Plays all acts.
pub(super) fn play(stage: &mut Stage, pace: &Pace, keep: bool) -> anyhow::Result<()> {
    say!("Selvedge demo: programs that nobody changed, connected by the kernel\n");
    let port = outside_port()?;
    raise_mesh(stage)?;
    start_services(stage, port)?;
    show_names(stage)?;
    let plain = Plain::start(stage)?;
    let (meshed, without) = compare(stage, pace, port, plain)?;
    show_graph(stage)?;
    let replica_killed = kill_replica(stage, pace, port)?;
    let mesh_killed = kill_mesh(stage, pace, port)?;
    requests::understand(stage)?;
    let footprint = watch_idle(stage, pace.idle)?;
    let found = Findings {
        meshed,
        plain: without,
        replica_killed,
        mesh_killed,
        footprint,
    };
    found.print(pace);
    if keep {
        stay_up(stage, port);
    }
    Ok(())
}

fn raise_mesh(stage: &mut Stage) -> anyhow::Result<()> {
    say!("1  A mesh");
    say!("   $ selvedge up");
    let ready = stage.start_mesh()?;
    say!(
        "   agent and proxy are ready after {} ms\n",
        ready.as_millis()
    );
    Ok(())
}

fn start_services(stage: &mut Stage, port: u16) -> anyhow::Result<()> {
    say!("2  Three services, with the ports everybody uses");
    stage.run("redis", "redis -- redis-server redis.conf")?;
    stage.run(
        "web",
        "web --replicas 3 -- gunicorn --bind 0.0.0.0:8000 app:app",
    )?;
    // nginx gives up at its start when a name is not there yet.
    stage.await_that("replicas of web", |stage| listening(stage, "web") == 3)?;
    stage.run(
        "front",
        &format!("front --publish {port} -- nginx -e stderr -c nginx.conf -p ."),
    )?;
    stage.await_that("an answer from outside", |_| fetch(port).is_some())?;
    stage.await_that("three replicas that answer", |_| {
        replicas_seen(port).len() == 3
    })?;
    say!("   three processes listen on port 8000, and each of them believes it is alone\n");
    say!("   $ curl http://127.0.0.1:{port}/");
    for answer in (0..3).filter_map(|_| fetch(port)) {
        say!("   {}", answer.trim());
    }
    say!("");
    Ok(())
}

/// The processes that answer a few requests.
fn replicas_seen(port: u16) -> BTreeSet<i32> {
    let answers = (0..12).filter_map(|_| fetch(port));
    answers
        .filter_map(|answer| answering_process(&answer))
        .collect()
}

/// The number at the end of what the app says.
fn answering_process(answer: &str) -> Option<i32> {
    answer.trim().rsplit(' ').next()?.parse().ok()
}

/// How many endpoints of a service listen.
pub(super) fn listening(stage: &Stage, service: &str) -> usize {
    let Ok(status) = stage.status() else {
        return 0;
    };
    let services = status.services.iter().filter(|it| it.name == service);
    let endpoints = services
        .flat_map(|service| &service.ports)
        .flat_map(|port| &port.endpoints);
    endpoints
        .filter(|endpoint| endpoint.state == "listening")
        .count()
}

fn show_names(stage: &Stage) -> anyhow::Result<()> {
    say!("3  Names, with /etc/resolv.conf as it is");
    for name in ["web", "redis.default.svc.cluster.local"] {
        say!("   $ selvedge run visitor -- getent hosts {name}");
        let answer = stage.ask(&["run", "visitor", "--", "getent", "hosts", name])?;
        say!("   {}", answer.trim());
    }
    say!("");
    Ok(())
}

/// The same requests to the same programs, with and without the mesh, in turns.
fn compare(
    stage: &Stage,
    pace: &Pace,
    port: u16,
    plain: Plain,
) -> anyhow::Result<(Figures, Figures)> {
    say!("4  Requests from outside, in turns with the same programs on plain ports");
    let burst = |port| Load::start(stage.folder(), port, pace.burst)?.finish(&stage.interrupt);
    let (mut meshed, mut without) = (Vec::new(), Vec::new());
    for _ in 0..pace.rounds {
        without.push(burst(plain.port)?);
        meshed.push(burst(port)?);
    }
    drop(plain);
    let (meshed, without) = (Figures::of(&meshed), Figures::of(&without));
    say!("   $ wrk --connections 4 http://127.0.0.1:{port}/");
    say!(
        "   with the mesh     {:>6} requests per second",
        meshed.rate_per_s()
    );
    say!(
        "   without           {:>6} requests per second\n",
        without.rate_per_s()
    );
    ensure!(meshed.failures == 0, "{} requests failed", meshed.failures);
    Ok((meshed, without))
}

fn show_graph(stage: &Stage) -> anyhow::Result<()> {
    say!("5  Who calls whom");
    say!("   $ selvedge graph");
    indent(&stage.ask(&["graph"])?);
    Ok(())
}

fn indent(text: &str) {
    for line in text.lines() {
        say!("   {line}");
    }
    say!("");
}

fn kill_replica(stage: &mut Stage, pace: &Pace, port: u16) -> anyhow::Result<Figures> {
    say!("6  A replica dies while requests flow");
    let victim = replicas_seen(port)
        .pop_first()
        .context("no replica answers")?;
    let load = Load::start(stage.folder(), port, pace.fault)?;
    stage.interrupt.pause(pace.before_fault)?;
    let pids = processes_beside(victim)?;
    let words: Vec<_> = pids.iter().map(ToString::to_string).collect();
    say!("   $ kill -9 {}", words.join(" "));
    for pid in pids.into_iter().filter_map(Pid::from_raw) {
        let _gone_already = kill_process(pid, Signal::KILL);
    }
    stage.run("web-again", "web -- gunicorn --bind 0.0.0.0:8000 app:app")?;
    let figures = load.finish(&stage.interrupt)?;
    say!(
        "   {} requests, {} of which failed",
        figures.requests,
        figures.failures
    );
    stage.await_that("the new replica", |_| replicas_seen(port).len() == 3)?;
    say!("   three replicas answer again\n");
    ensure!(
        figures.failures <= REPLICA_BOUND,
        "{} requests failed, more than one dead replica explains",
        figures.failures
    );
    Ok(figures)
}

/// The processes in the same cgroup as `pid`, which is the replica.
pub(super) fn processes_beside(pid: i32) -> anyhow::Result<Vec<i32>> {
    let cgroup = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok();
    let replica = cgroup(pid).context("the replica has ended by itself")?;
    let entries = fs::read_dir("/proc")
        .context("cannot list /proc")?
        .flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids
        .filter(|pid| cgroup(*pid).as_ref() == Some(&replica))
        .collect())
}

fn kill_mesh(stage: &mut Stage, pace: &Pace, port: u16) -> anyhow::Result<Figures> {
    say!("7  The mesh itself dies while requests flow");
    let before = connections(stage)?;
    let address = |stage: &Stage| stage.ask(&["run", "visitor", "--", "getent", "hosts", "web"]);
    let address_before = address(stage)?;
    let load = Load::start(stage.folder(), port, pace.fault)?;
    stage.interrupt.pause(pace.before_fault)?;
    let [agent, proxy] = stage.processes()?;
    say!("   $ kill -9 {agent} {proxy}");
    stage.kill_mesh()?;
    stage.interrupt.pause(pace.away)?;
    say!("   {:?} later:", pace.away);
    say!("   $ selvedge up");
    let ready = stage.start_mesh()?;
    say!(
        "   the new agent took over what runs after {} ms",
        ready.as_millis()
    );
    let figures = load.finish(&stage.interrupt)?;
    say!(
        "   {} requests, {} of which failed",
        figures.requests,
        figures.failures
    );
    let after = connections(stage)?;
    ensure!(
        after > before,
        "connections were counted: {before} before, {after} after"
    );
    ensure!(
        address(stage)? == address_before,
        "the service web has another address now"
    );
    ensure!(
        figures.failures == 0,
        "{} requests failed",
        figures.failures
    );
    say!("   same addresses, and the counters went on: {before} connections before, {after} now\n");
    Ok(figures)
}

/// Connections of all edges together, ever.
fn connections(stage: &Stage) -> anyhow::Result<u64> {
    let edges = stage.graph()?.edges;
    Ok(edges.iter().map(|edge| edge.connections).sum())
}

fn watch_idle(stage: &Stage, idle: Duration) -> anyhow::Result<Footprint> {
    say!("9  Nothing happens for {idle:?}, with {SERVICES} services");
    say!("   $ selvedge apply -f more.yaml\n");
    footprint::fill_up(stage)?;
    Footprint::measure(stage, idle)
}

fn stay_up(stage: &Stage, port: u16) {
    say!("\nThe mesh stays up until Ctrl-C. To try, in another terminal:");
    say!("   export SELVEDGE_RUN_DIR={}", stage.run_dir().display());
    say!("   export PATH=$PATH:{}", stage.program_folder().display());
    for command in [
        format!("curl http://127.0.0.1:{port}/"),
        "selvedge graph".to_owned(),
        "selvedge status".to_owned(),
        "selvedge get services".to_owned(),
        "selvedge run shell -- curl http://web:8000/".to_owned(),
        "selvedge run web -- gunicorn --bind 0.0.0.0:8000 --chdir $SELVEDGE_RUN_DIR/.. app:app"
            .to_owned(),
    ] {
        say!("   {command}");
    }
    stage.interrupt.wait();
}
