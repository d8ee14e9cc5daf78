//! `selvedge demo pilot`: a web app loses half of its capacity while more is asked of it, three times: without a
//! policy, under the best fixed limit that was found beforehand, and under an objective alone.
//!
//! The figures are of this machine and of one run each: what is asked for is measured out by what the app carries
//! here. Read next: `stage.rs`.

use std::num::NonZeroUsize;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use selvedge_bench::LoadReport;
use serde_json::Value;

use super::acts::listening;
use super::program::Program;
use super::say;
use super::stage::Stage;

/// What 95 of 100 requests are to keep, and how long a client waits.
const OBJECTIVE: &str = "250ms";
const TIMEOUT: &str = "1s";
/// The best of 2, 4, 6, 8, 12, 16 and 24 in one run of this play on two cores: of what was asked for while half was
/// gone 60, 60, 62, 64, 52, 3 and 3 % were answered in time. Elsewhere another may be.
const BEST_STATIC: u32 = 8;
const CONNECTIONS: &str = "400";

/// How long the parts take.
pub(super) struct Pace {
    measuring: Duration,
    before: Duration,
    halved: Duration,
    after: Duration,
}

impl Pace {
    /// For an audience.
    pub(super) const FULL: Self = Self {
        measuring: Duration::from_secs(4),
        before: Duration::from_secs(8),
        halved: Duration::from_secs(16),
        after: Duration::from_secs(10),
    };

    /// For a test, which looks at the plot and not at the figures.
    pub(super) const BRIEF: Self = Self {
        measuring: Duration::from_secs(1),
        before: Duration::from_secs(1),
        halved: Duration::from_secs(2),
        after: Duration::from_secs(1),
    };
}

/// What is applied before a part is played.
struct Column {
    name: String,
    policy: Option<String>,
}

/// What came of the three parts of a column.
type Parts = [LoadReport; 3];

/// Plays it, and says what came of it.
pub(super) fn play(stage: &mut Stage, pace: &Pace, is_judged: bool) -> anyhow::Result<()> {
    say!("Selvedge demo: half of the capacity goes away, and more is asked for\n");
    say!("1  A mesh, Redis, and a web app that computes for 8 ms a request");
    say!("   $ selvedge up");
    stage.start_mesh()?;
    stage.run("redis", "redis -- redis-server redis.conf")?;
    stage.run("web", &format!("web --replicas 2 {APP}"))?;
    let third = start_third(stage)?;
    let carried = carried(stage, pace)?;
    drop(third);
    let (usual, high) = (carried * 0.5, carried * 0.8);
    say!(
        "   it carries {carried:.0} requests a second here; asked for are {usual:.0}, and {high:.0} for a while\n"
    );
    let columns = [
        Column {
            name: "no policy".to_owned(),
            policy: None,
        },
        Column {
            name: format!("static {BEST_STATIC}"),
            policy: Some(static_limit()),
        },
        Column {
            name: "self-driving".to_owned(),
            policy: Some(objective()),
        },
    ];
    let mut found = Vec::new();
    for (number, column) in (2..).zip(&columns) {
        say!("{number}  {}", column.name);
        found.push(column.play(stage, pace, usual, high)?);
        say!("");
    }
    print(&columns, &found);
    explain(stage)?;
    if is_judged {
        let good = |column: usize| found[column][1].good.unwrap_or(0);
        ensure!(
            good(2) > good(0),
            "an objective is to be worth something: {} good answers with it, {} without",
            good(2),
            good(0)
        );
    }
    Ok(())
}

const APP: &str = "-- gunicorn --log-level warning --bind 0.0.0.0:8000 app:app";

/// The replica that comes and goes.
fn start_third(stage: &mut Stage) -> anyhow::Result<Program> {
    let words: Vec<_> = format!("run web {APP}")
        .split(' ')
        .map(str::to_owned)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let third = Program::start("web-third", stage.folder(), stage.selvedge(&words))?;
    stage.await_that("three replicas", |stage| listening(stage, "web") == 3)?;
    Ok(third)
}

/// Requests a second that all replicas together answer, as many at once as keep them busy.
fn carried(stage: &mut Stage, pace: &Pace) -> anyhow::Result<f64> {
    let report = load(stage, "measuring", pace.measuring, &["--connections", "12"])?;
    ensure!(report.per_second > 1.0, "the app does not answer: {report}");
    Ok(report.per_second)
}

/// A load from within the mesh, to its end.
fn load(
    stage: &mut Stage,
    name: &str,
    duration: Duration,
    more: &[&str],
) -> anyhow::Result<LoadReport> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = program.to_str().context("this program's path is no text")?;
    let length = format!("{}ms", duration.as_millis());
    let fixed = [
        "run",
        "client",
        "--",
        program,
        "bench",
        "load",
        "http://web:8000/work",
        "--warm-up",
        "0s",
        "--timeout",
        TIMEOUT,
        "--objective",
        OBJECTIVE,
        "-o",
        "json",
        "--duration",
        &length,
    ];
    let words = [&fixed, more].concat();
    let mut client = Program::start(name, stage.folder(), stage.selvedge(&words))?;
    let patience = duration + Duration::from_secs(20);
    let is_over = stage
        .interrupt
        .until(patience, || client.ended().is_some())?;
    let printed = client.printed();
    let json = printed.find('{').filter(|_| is_over);
    let json = json.ok_or_else(|| client.failure("gave no figures"))?;
    serde_json::from_str(&printed[json..]).with_context(|| {
        client
            .failure("gave figures that cannot be read")
            .to_string()
    })
}

impl Column {
    fn play(&self, stage: &mut Stage, pace: &Pace, usual: f64, high: f64) -> anyhow::Result<Parts> {
        if let Some(policy) = &self.policy {
            let file = stage.folder().join("pilot.yaml");
            std::fs::write(&file, policy).context("cannot write the demo's files")?;
            say!("   $ selvedge apply -f pilot.yaml");
            stage.ask(&["apply", "-f", "pilot.yaml"])?;
        }
        let third = start_third(stage)?;
        let short = self.name.replace(' ', "-");
        let part = |stage: &mut Stage, part: &str, duration, rate: f64| {
            let rate = format!("{rate:.1}");
            let more = ["--rate", &rate, "--connections", CONNECTIONS];
            load(stage, &format!("{short}-{part}"), duration, &more)
        };
        let before = part(stage, "before", pace.before, usual)?;
        say!("   {}", line("as it was", &before));
        drop(third);
        let burners = burners(stage)?;
        let halved = part(stage, "halved", pace.halved, high)?;
        drop(burners);
        say!("   {}", line("a replica gone, others slow", &halved));
        let third = start_third(stage)?;
        let after = part(stage, "after", pace.after, usual)?;
        say!("   {}", line("as it was again", &after));
        drop(third);
        if self.policy.is_some() {
            stage.ask(&["delete", "-f", "pilot.yaml"])?;
        }
        Ok([before, halved, after])
    }
}

/// As many programs that only compute as there are processors.
fn burners(stage: &Stage) -> anyhow::Result<Vec<Program>> {
    let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let burner = |number: usize| {
        let mut command: Command = stage.command("/usr/bin/python3");
        command.args(["-c", "while True: pass"]);
        Program::start(&format!("burner-{number}"), stage.folder(), command)
    };
    (0..count).map(burner).collect()
}

fn static_limit() -> String {
    format!(
        "apiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web}}\nspec:\n  \
         targetRefs: [{{kind: Service, name: web}}]\n  limits: {{requestsPerEndpoint: {BEST_STATIC}}}\n"
    )
}

fn objective() -> String {
    format!(
        "apiVersion: selvedge.dev/v1alpha1\nkind: ServiceObjective\nmetadata: {{name: web}}\n\
         spec: {{targetRefs: [{{kind: Service, name: web}}], latency: {{p95: {OBJECTIVE}}}}}\n"
    )
}

fn line(part: &str, report: &LoadReport) -> String {
    let refused: u64 = report.measured.refusals.values().sum();
    format!(
        "{part:<28} {:>5} of {} in time, {refused} refused, p90 {:.0} ms",
        report.good.unwrap_or(0),
        report.measured.requests,
        report.latency.p90_us / 1e3,
    )
}

fn print(columns: &[Column], found: &[Parts]) {
    say!("Answers within {OBJECTIVE}, of all that were asked for");
    let names: Vec<_> = columns
        .iter()
        .map(|column| format!("{:>14}", column.name))
        .collect();
    say!("   {:<28}{}", "", names.concat());
    let parts = [
        "as it was",
        "a replica gone, others slow",
        "as it was again",
    ];
    for (place, part) in parts.iter().enumerate() {
        let share = |parts: &Parts| {
            let report = &parts[place];
            let share = report.good.unwrap_or(0) as f64 / report.measured.requests.max(1) as f64;
            format!("{:>12.1} %", 100.0 * share)
        };
        let shares: Vec<_> = found.iter().map(share).collect();
        say!("   {part:<28}{}", shares.concat());
    }
    say!(
        "   (one run each on this machine, and no interval: it shows what happens, not by how much)\n"
    );
}

/// Why the limits were what they were.
fn explain(stage: &Stage) -> anyhow::Result<()> {
    say!("5  Why");
    say!("   $ selvedge pilot journal web --last 16");
    for line in stage
        .ask(&["pilot", "journal", "web", "--last", "16"])?
        .lines()
    {
        say!("   {line}");
    }
    let journal = stage.folder().join("state").join("journal");
    let journal = journal.to_str().context("the demo's folder is no text")?;
    say!("\n   $ selvedge pilot replay state/journal");
    let replayed: Value =
        serde_json::from_str(&stage.ask(&["pilot", "replay", journal, "-o", "json"])?)?;
    say!(
        "   {} decisions follow from what is written, bit for bit; {} do not",
        replayed["equal"],
        replayed["differing"]
    );
    Ok(())
}
