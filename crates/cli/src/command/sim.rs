//! `selvedge sim`: what laws do to services, in simulated time.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use selvedge_feed::JournalPart;
use selvedge_model::{Decision, Instant, JournalEntry, JournalEvent, Limited, WindowSummary};
use selvedge_scenario::{Forwards, Scenario};
use selvedge_sim::{FIXED_RETRIES, NamedPolicy, PARTIAL, POLICIES, Report, Verdict, run_and_tell};
use serde::Serialize;

use crate::output::{OutputArgs, Table, print};

mod chaos;
mod plants;
mod sweep;

use chaos::ChaosArgs;
use plants::PlantsArgs;
use sweep::SweepArgs;

/// Arguments of `selvedge sim`.
#[derive(Args, Debug)]
pub(crate) struct SimArgs {
    #[command(subcommand)]
    command: SimCommand,
}

#[derive(Subcommand, Debug)]
enum SimCommand {
    /// List scenarios and policies.
    List,
    /// Run a scenario: the same seed gives the same figures on every machine.
    Run(RunArgs),
    /// Run scenarios under several policies with several seeds, on all processors.
    Sweep(SweepArgs),
    /// Run services drawn at random under policies, and under each of many static limits beside.
    Plants(PlantsArgs),
    /// Run worlds drawn at random in which one thing after another goes wrong.
    Chaos(ChaosArgs),
}

#[derive(Args, Debug)]
struct RunArgs {
    /// A scenario that `list` names, or a file.
    scenario: String,
    /// The policy that all its services have.
    #[arg(long, default_value = "none", value_parser = policy)]
    policy: &'static NamedPolicy,
    /// Decides all that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What programs pass on with the calls that they make, in place of what the scenario says.
    #[arg(long, value_name = "WHAT")]
    forwards: Option<ForwardsArg>,
    /// Draw the schedule together, or apart, to this length.
    #[arg(long, value_name = "TIME", value_parser = selvedge_bench::duration)]
    length: Option<Duration>,
    /// Show each decision of a controller: when, about what, what it saw, and why.
    #[arg(long)]
    decisions: bool,
    /// Write down all that the controllers do, for `pilot journal --file` and `pilot replay`.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// What programs pass on with their calls.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ForwardsArg {
    /// The trace.
    Traces,
    /// Nothing.
    Nothing,
}

/// Has the programs of a scenario pass this on.
fn forward(scenario: &mut Scenario, forwards: Option<ForwardsArg>) {
    let Some(forwards) = forwards else {
        return;
    };
    for service in &mut scenario.services {
        service.forwards = forwards.into();
    }
}

impl From<ForwardsArg> for Forwards {
    fn from(forwards: ForwardsArg) -> Self {
        match forwards {
            ForwardsArg::Traces => Self::Traces,
            ForwardsArg::Nothing => Self::Nothing,
        }
    }
}

fn policy(name: &str) -> Result<&'static NamedPolicy, String> {
    NamedPolicy::find(name).ok_or_else(|| {
        let names: Vec<&str> = NamedPolicy::all().map(|policy| policy.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub(crate) fn sim(args: &SimArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        SimCommand::List => print(&list())?,
        SimCommand::Run(args) => run(args)?,
        SimCommand::Sweep(args) => return sweep::sweep(args),
        SimCommand::Plants(args) => return plants::show(args),
        SimCommand::Chaos(args) => return chaos::show(args),
    }
    Ok(ExitCode::SUCCESS)
}

fn run(args: &RunArgs) -> anyhow::Result<()> {
    let mut scenario = selvedge_bench::scenario(&args.scenario)?;
    if let Some(length) = args.length {
        scenario = scenario.within(length);
    }
    forward(&mut scenario, args.forwards);
    let mut decisions = Vec::new();
    let mut entries = Vec::new();
    let mut record = |about: &Limited, event: JournalEvent| {
        if args.journal.is_some() {
            let (about, event) = (about.clone(), event.clone());
            entries.push(JournalEntry { about, event });
        }
        if let JournalEvent::Decided { window, decision } = event
            && args.decisions
        {
            decisions.push(decided(about, &window, decision));
        }
    };
    let report = run_and_tell(&scenario, &args.policy.policy(), args.seed, &mut record);
    let report = match report {
        Ok(report) => report,
        Err(error) => bail!("{}: {error}", args.scenario),
    };
    if let Some(path) = &args.journal {
        write_journal(path, entries)
            .with_context(|| format!("could not write the journal {}", path.display()))?;
    }
    let mut reply = reply(&scenario, args, &report);
    reply.decisions = decisions;
    args.output.print(&reply, |reply| text(&scenario, reply))
}

/// As a segment of a journal, whose time begins with 1970.
fn write_journal(path: &Path, entries: Vec<JournalEntry>) -> std::io::Result<()> {
    let whole = JournalPart {
        number: 1,
        is_beginning: true,
        entries,
        ..JournalPart::default()
    };
    let mut file = BufWriter::new(File::create(path)?);
    for part in whole.cut() {
        file.write_all(&part.encode())?;
    }
    file.flush()
}

fn list() -> String {
    let mut scenarios = Table::new(&["SCENARIO", "WHAT HAPPENS"]);
    for scenario in selvedge_bench::scenarios() {
        scenarios.row([scenario.name, scenario.about]);
    }
    let mut texts = vec![scenarios.into_text()];
    for (heading, policies) in [
        (["POLICY", "WHAT IT DOES"], &POLICIES[..]),
        (["`adaptive`, BUT", "WHAT IS MISSING"], &PARTIAL),
        (
            ["RETRIES SET BEFOREHAND", "WHAT IS SENT AGAIN"],
            &FIXED_RETRIES,
        ),
    ] {
        let mut table = Table::new(&heading);
        for policy in policies {
            table.row([policy.name.to_owned(), policy.about.to_owned()]);
        }
        texts.push(table.into_text());
    }
    texts.join("\n")
}

/// What a run came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunReply {
    scenario: String,
    policy: &'static str,
    seed: u64,
    #[serde(flatten)]
    figures: Figures,
    seconds: Vec<SecondReply>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decisions: Vec<DecisionReply>,
}

/// A decision of a controller.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionReply {
    at_ms: u128,
    about: String,
    limit_before: u32,
    limit: u32,
    why: String,
    samples: u32,
    p95_us: f64,
    peak: u32,
    refused: u64,
    wasted: u64,
}

fn decided(about: &Limited, window: &WindowSummary, decision: Decision) -> DecisionReply {
    let service = &about.service().name;
    DecisionReply {
        at_ms: window.ended.since(Instant::default()).as_millis(),
        about: match about {
            Limited::Endpoint { port, .. } => format!("{service}.{}", port.get() - 1),
            Limited::Entry { .. } => format!("entry of {service}"),
        },
        limit_before: window.limit,
        limit: decision.limit,
        why: decision.why.word().to_owned(),
        samples: window.times.samples,
        p95_us: window.times.q95.round(),
        peak: window.peak,
        refused: window.refused,
        wasted: window.fates.wasted,
    }
}

/// A [`Verdict`], for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    goodput: f64,
    goodput_disturbed: Option<f64>,
    carried: f64,
    waste: f64,
    tail: f64,
    attempts_per_request: f64,
    misled: Option<f64>,
    urgent: Option<f64>,
    fairness: Option<f64>,
    recovery_s: Option<f64>,
}

impl From<Verdict> for Figures {
    fn from(verdict: Verdict) -> Self {
        Self {
            goodput: verdict.goodput,
            goodput_disturbed: verdict.goodput_disturbed,
            carried: verdict.carried,
            waste: verdict.waste,
            tail: verdict.tail,
            attempts_per_request: verdict.attempts,
            misled: verdict.misled,
            urgent: verdict.urgent,
            fairness: verdict.fairness,
            recovery_s: verdict.recovery.map(|time| time.as_secs_f64()),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SecondReply {
    at_s: u64,
    offered: u64,
    good: u64,
    late: u64,
    refused: u64,
    failed: u64,
    expired: u64,
    attempts: u64,
    p50_us: Option<u64>,
    p95_us: Option<u64>,
}

fn reply(scenario: &Scenario, args: &RunArgs, report: &Report) -> RunReply {
    let second = |(at_s, second): (u64, &selvedge_sim::Second)| SecondReply {
        at_s,
        offered: second.offered,
        good: second.good,
        late: second.late,
        refused: second.refused,
        failed: second.failed,
        expired: second.expired,
        attempts: second.attempts,
        p50_us: second.latency_us.quantile(1, 2),
        p95_us: second.latency_us.quantile(95, 100),
    };
    RunReply {
        scenario: scenario.name.clone(),
        policy: args.policy.name,
        seed: args.seed,
        figures: report.verdict(scenario).into(),
        seconds: (0..).zip(&report.seconds).map(second).collect(),
        decisions: Vec::new(),
    }
}

fn decisions(all: &[DecisionReply]) -> String {
    let heading = [
        "AT", "ABOUT", "LIMIT", "WHY", "SAMPLES", "P95", "PEAK", "REFUSED", "WASTED",
    ];
    let mut table = Table::new(&heading);
    for it in all {
        table.row([
            format!("{:.2} s", it.at_ms as f64 / 1e3),
            it.about.clone(),
            format!("{} -> {}", it.limit_before, it.limit),
            it.why.clone(),
            it.samples.to_string(),
            format!("{:.1} ms", it.p95_us / 1e3),
            it.peak.to_string(),
            it.refused.to_string(),
            it.wasted.to_string(),
        ]);
    }
    table.into_text()
}

/// Ten seconds a row, and the figures below.
fn text(scenario: &Scenario, reply: &RunReply) -> String {
    const ROW: usize = 10;
    let mut text = format!("{}: {}\n\n", scenario.name, scenario.about);
    let heading = [
        "FROM", "OFFERED", "GOOD", "LATE", "REFUSED", "FAILED", "EXPIRED", "ATTEMPTS", "P95",
    ];
    let mut table = Table::new(&heading);
    for seconds in reply.seconds.chunks(ROW) {
        let rate = |count: fn(&SecondReply) -> u64| {
            let sum: u64 = seconds.iter().map(count).sum();
            format!("{}/s", sum / seconds.len() as u64)
        };
        let worst = seconds.iter().filter_map(|second| second.p95_us).max();
        table.row([
            format!("{} s", seconds[0].at_s),
            rate(|it| it.offered),
            rate(|it| it.good),
            rate(|it| it.late),
            rate(|it| it.refused),
            rate(|it| it.failed),
            rate(|it| it.expired),
            rate(|it| it.attempts),
            worst.map_or("-".to_owned(), |us| format!("{:.0} ms", us as f64 / 1e3)),
        ]);
    }
    text.push_str(&table.into_text());
    if !reply.decisions.is_empty() {
        text.push('\n');
        text.push_str(&decisions(&reply.decisions));
    }
    let figures = &reply.figures;
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "\npolicy {}, seed {}, answers within {} ms; the first {} s are not judged",
        reply.policy,
        reply.seed,
        scenario.objective.latency.as_millis(),
        scenario.warm_up.as_secs()
    );
    let _ = writeln!(
        text,
        "good answers, of those that were possible  {:.3}",
        figures.goodput
    );
    if let Some(share) = figures.goodput_disturbed {
        let _ = writeln!(
            text,
            "the same while something is wrong           {share:.3}"
        );
        let recovery = figures.recovery_s.map(Duration::from_secs_f64);
        let recovery = recovery.map_or("never".to_owned(), |it| format!("{} s", it.as_secs()));
        let _ = writeln!(
            text,
            "well again after                           {recovery}"
        );
    }
    let others = [
        (
            "attempts at the bad one of its replicas    ",
            figures.misled,
        ),
        (
            "answers before the deadline, most urgent   ",
            figures.urgent,
        ),
        (
            "how evenly clients have good answers       ",
            figures.fairness,
        ),
    ];
    for (what, share) in others {
        if let Some(share) = share {
            let _ = writeln!(text, "{what} {share:.3}");
        }
    }
    let _ = writeln!(
        text,
        "answers before the deadline, in time or not {:.3}",
        figures.carried
    );
    let _ = writeln!(
        text,
        "work for requests without a good answer    {:.3}",
        figures.waste
    );
    let _ = writeln!(
        text,
        "seconds whose 95th percentile is in time   {:.3}",
        figures.tail
    );
    let _ = writeln!(
        text,
        "attempts for a request, at all hops        {:.2}",
        figures.attempts_per_request
    );
    text
}
