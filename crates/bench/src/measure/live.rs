//! `selvedge bench live`: scenarios with real programs, sockets and proxies, beside the simulator.
//!
//! Each replica of a scenario's services is a program of its own (`replica.rs`), its clients are a worker
//! (`worker/ask.rs`), and what stands between them is a mesh or Envoy. Programs and clients run on one processor
//! and the mesh or Envoy on another, which is enough as long as work is waiting; the figures of a run that was
//! short of either do not count. A run is judged by the same code as a simulated one. Read next: `live/stage.rs`.

mod envoy;
mod mesh;
mod policy;
mod replica;
mod stage;
mod table;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use selvedge_model::Histogram;
use selvedge_scenario::{Forwards, Scenario};
use selvedge_sim::{NamedPolicy, Report};
use serde::Serialize;

use super::Bench;
use crate::interrupt::{self, Interrupted};
use crate::options::BenchOptions;
use crate::protocol::Asked;
use crate::provenance::Provenance;
use crate::spread::quantile;
pub use policy::{LIVE_POLICIES, LivePolicy};
use stage::{Played, Stage};

/// What to play.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// Scenarios, by name or file.
    pub scenarios: Vec<String>,
    /// Policies that each of them is played under.
    pub policies: Vec<&'static LivePolicy>,
    /// How often each of these is played, in random order.
    pub rounds: u32,
    /// How long each of them takes: schedules are drawn together, or apart, to that.
    pub length: Duration,
    /// Whether the mesh's agent is killed as the trouble begins.
    pub kills_agent: bool,
    /// What programs pass on with their calls, instead of what the scenario says.
    pub forwards: Option<Forwards>,
    /// Seeds that each of them is simulated with beside.
    pub simulated: u32,
    /// Where to write every run, after each.
    pub json: Option<PathBuf>,
    /// Decides arrivals, service times and the order of the runs.
    pub seed: Option<u64>,
    /// The binary; the one that runs where it is not given.
    pub program: Option<PathBuf>,
}

/// Busiest that a processor may be: more, and it is the processor that is measured.
const MOST_BUSY: f64 = 0.7;
/// Latest that 99 of 100 requests may be sent after they were meant to be.
const MOST_LAG_US: u32 = 2000;

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Findings {
    provenance: Provenance,
    length_s: u64,
    runs: Vec<Run>,
    simulated: Vec<Run>,
}

/// One run, live or simulated.
#[derive(Clone, Debug, Serialize)]
struct Run {
    scenario: String,
    policy: &'static str,
    seed: u64,
    goodput: f64,
    goodput_disturbed: Option<f64>,
    carried: f64,
    tail: f64,
    p95_ms: Option<f64>,
    /// Of the live ones.
    #[serde(flatten)]
    live: Option<Live>,
}

/// What only a live run has.
#[derive(Clone, Debug, Serialize)]
struct Live {
    refused: u64,
    failed: u64,
    expired: u64,
    unsent: u64,
    /// Requests that came to replicas, for each request of a client.
    attempts: f64,
    /// Share of the time that the processor of the programs was busy, and that of what stands between.
    busy: [f64; 2],
    /// Microseconds that 99 of 100 requests were sent late by at most.
    lag_p99_us: u32,
    /// Time that work took, as a share of what was drawn.
    stretch: f64,
    /// What Envoy took for the latency without load at the end, in milliseconds, of each of its limits.
    envoy_min_rtt_ms: Vec<u64>,
    /// Why it does not count.
    unsound: Option<String>,
}

/// Plays scenarios, prints what came of it beside what the simulator says, and writes JSON where asked to.
///
/// # Errors
/// It is not run as root, was interrupted, a scenario cannot be played, or a run could not be completed.
pub fn live(options: &LiveOptions) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("this needs root: it starts meshes of its own.\nTry: sudo selvedge bench live");
    }
    interrupt::watch()?;
    let plays = plays(options)?;
    let folder = super::run_folder()?;
    let of_bench = BenchOptions {
        measures: Vec::new(),
        rounds: Some(options.rounds),
        proxies: Vec::new(),
        quick: false,
        json: None,
        seed: options.seed,
        program: options.program.clone(),
    };
    let mut bench = Bench::new(&of_bench, folder.path())?;
    let provenance = Provenance::collect(&of_bench, &bench.program, bench.seed);
    let mut out = io::stdout();
    provenance.write(&mut out)?;
    let mut findings = Findings {
        provenance,
        length_s: options.length.as_secs(),
        runs: Vec::new(),
        simulated: Vec::new(),
    };
    let played = play_all(&mut bench, options, &plays, &mut findings);
    // What is finished is kept.
    simulate(options, &plays, &mut findings);
    write_json(options, &findings)?;
    writeln!(out, "\n{}", table::text(&findings))?;
    played
}

/// When the worst moment comes to lose an agent: as the trouble begins.
fn trouble_of(scenario: &Scenario) -> Duration {
    let disturbed = scenario.disturbed();
    disturbed.map_or(scenario.length / 2, |it| it.start)
}

/// A scenario with where it comes from, in the length that it is played in.
struct Play {
    source: String,
    scenario: Scenario,
}

fn plays(options: &LiveOptions) -> anyhow::Result<Vec<Play>> {
    let play = |source: &String| {
        let mut scenario = crate::scenario(source)?.within(options.length);
        if let Some(forwards) = options.forwards {
            let services = scenario.services.iter_mut();
            services.for_each(|service| service.forwards = forwards);
        }
        if options.kills_agent {
            scenario.agent_away = Some(trouble_of(&scenario)..scenario.length);
        }
        scenario
            .check()
            .with_context(|| format!("{source} cannot be played in this length"))?;
        if scenario.faults.iter().any(|it| it.condition.absent) {
            bail!("{source} has replicas come and go, which is only simulated so far");
        }
        if scenario.services.iter().any(|it| it.link.is_some()) {
            bail!("{source} has links that take time, which is only simulated so far");
        }
        let source = source.clone();
        Ok(Play { source, scenario })
    };
    options.scenarios.iter().map(play).collect()
}

fn play_all(
    bench: &mut Bench<'_>,
    options: &LiveOptions,
    plays: &[Play],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let all = options.rounds as usize * plays.len() * options.policies.len();
    for round in 0..options.rounds {
        for play in plays {
            // The same requests for each policy.
            let seed = bench.random.next() >> 11;
            let mut policies = options.policies.clone();
            bench.random.shuffle(&mut policies);
            for policy in policies {
                let number = findings.runs.len() + 1;
                let name = &play.scenario.name;
                eprintln!(
                    "{number} of {all}: {name} under {}, round {}",
                    policy.name,
                    round + 1
                );
                let run = play_one(bench, options, play, policy, seed);
                interrupt::check()?;
                let run = run.with_context(|| format!("{name} under {}", policy.name))?;
                if io::stderr().is_terminal() || run.is_unsound() {
                    eprintln!("  {}", table::line(&run));
                }
                findings.runs.push(run);
                write_json(options, findings)?;
            }
        }
    }
    Ok(())
}

fn play_one(
    bench: &mut Bench<'_>,
    options: &LiveOptions,
    play: &Play,
    policy: &'static LivePolicy,
    seed: u64,
) -> anyhow::Result<Run> {
    let mut stage = Stage::set(bench, &play.scenario, policy, seed)?;
    let played = stage.play(options, &play.source, &play.scenario, seed);
    let struck = stage.strike();
    let played = played?;
    struck?;
    Ok(Run::of_live(&play.scenario, policy.name, seed, &played))
}

fn simulate(options: &LiveOptions, plays: &[Play], findings: &mut Findings) {
    for play in plays {
        for policy in &options.policies {
            let Some(named) = NamedPolicy::find(policy.name) else {
                continue;
            };
            for seed in 1..=u64::from(options.simulated) {
                let report = selvedge_sim::run(&play.scenario, &named.policy(), seed);
                if let Ok(report) = report {
                    let run = Run::of(&play.scenario, policy.name, seed, &report);
                    findings.simulated.push(run);
                }
            }
        }
    }
}

fn write_json(options: &LiveOptions, findings: &Findings) -> anyhow::Result<()> {
    let Some(path) = &options.json else {
        return Ok(());
    };
    let mut text = serde_json::to_vec_pretty(findings)?;
    text.push(b'\n');
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

impl Run {
    fn of(scenario: &Scenario, policy: &'static str, seed: u64, report: &Report) -> Self {
        let verdict = report.verdict(scenario);
        let p95_us = report.total().latency_us.quantile(95, 100);
        Self {
            scenario: scenario.name.clone(),
            policy,
            seed,
            goodput: verdict.goodput,
            goodput_disturbed: verdict.goodput_disturbed,
            carried: verdict.carried,
            tail: verdict.tail,
            p95_ms: p95_us.map(|us| us as f64 / 1e3),
            live: None,
        }
    }

    fn of_live(scenario: &Scenario, policy: &'static str, seed: u64, played: &Played) -> Self {
        let report = report_of(scenario, &played.asked);
        let total = report.total();
        let unsent = played.asked.iter().map(|it| it.unsent).sum();
        let mut lags: Vec<u32> = played
            .asked
            .iter()
            .flat_map(|it| it.lags_us.clone())
            .collect();
        let lag_p99_us = quantile(&mut lags, 99, 100);
        let offered: u64 = report.seconds.iter().map(|it| it.offered).sum();
        let requests: u64 = played.replicas.iter().map(|it| it.requests).sum();
        let drawn: u64 = played.replicas.iter().map(|it| it.drawn_us).sum();
        let held: u64 = played.replicas.iter().map(|it| it.held_us).sum();
        let is_short = played.busy.iter().any(|busy| *busy > MOST_BUSY);
        let reasons = [
            is_short.then(|| "a processor was short".to_owned()),
            (lag_p99_us > MOST_LAG_US).then(|| "requests were sent late".to_owned()),
            (unsent > 0).then(|| "requests were not sent".to_owned()),
        ];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        let mut run = Self::of(scenario, policy, seed, &report);
        run.live = Some(Live {
            refused: total.refused,
            failed: total.failed,
            expired: total.expired,
            unsent,
            attempts: requests as f64 / offered.max(1) as f64,
            busy: played.busy,
            lag_p99_us,
            stretch: held as f64 / drawn.max(1) as f64,
            envoy_min_rtt_ms: played.envoy_min_rtt_ms.clone(),
            unsound: (!reasons.is_empty()).then(|| reasons.join(", ")),
        });
        run
    }

    fn is_unsound(&self) -> bool {
        self.live.as_ref().is_some_and(|it| it.unsound.is_some())
    }
}

/// What the clients of a scenario heard, as the simulator counts it.
fn report_of(scenario: &Scenario, asked: &[Asked]) -> Report {
    let mut report = Report::new(scenario);
    let objective_us = scenario.objective.latency.as_micros();
    for asked in asked {
        for (second, heard) in report.seconds.iter_mut().zip(&asked.seconds) {
            let mut latency_us = Histogram::new();
            for us in &heard.latencies_us {
                latency_us.record(u64::from(*us));
                let is_good = u128::from(*us) <= objective_us;
                second.good += u64::from(is_good);
                second.late += u64::from(!is_good);
            }
            second.latency_us.merge(&latency_us);
            second.offered += heard.offered;
            second.refused += heard.refused;
            second.failed += heard.failed;
            second.expired += heard.expired;
        }
    }
    report
}

/// Lets time pass until an instant on the monotonic clock.
fn pass_until(at_ns: u64) -> Result<(), Interrupted> {
    let left_ns = at_ns.saturating_sub(crate::clock::monotonic_ns());
    interrupt::pass(Duration::from_nanos(left_ns))
}
