//! `selvedge sim sweep`: many runs, and what they have in common.

use std::fs;
use std::io::{self, IsTerminal};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use selvedge_bench::{SweepOptions, SweptRun, scenario, scenarios};
use selvedge_sim::{NamedPolicy, POLICIES};
use serde::Serialize;

use super::{Figures, ForwardsArg, forward, policy};
use crate::output::{Table, print};

/// Arguments of `selvedge sim sweep`.
#[derive(Args, Debug)]
pub(crate) struct SweepArgs {
    /// Scenarios that `list` names, or files; all that it names without any.
    scenarios: Vec<String>,
    /// Policies, with commas between; all without it.
    #[arg(long = "policy", value_delimiter = ',', value_parser = policy)]
    policies: Vec<&'static NamedPolicy>,
    /// Seeds, the last one not among them.
    #[arg(long, default_value = "1..6", value_parser = range)]
    seeds: Range<u64>,
    /// What programs pass on with the calls that they make, in place of what the scenarios say.
    #[arg(long, value_name = "WHAT")]
    forwards: Option<ForwardsArg>,
    /// Draw schedules together, or apart, to this length.
    #[arg(long, value_name = "TIME", value_parser = selvedge_bench::duration)]
    length: Option<Duration>,
    /// How to print it: a row for each scenario and policy, or each run for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Write each run as JSON to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs, a line for each run.
    Csv,
    /// For programs.
    Json,
}

pub(super) fn range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").and_then(|(from, to)| {
        let bounds = from.parse().ok()?..to.parse().ok()?;
        (bounds.start < bounds.end).then_some(bounds)
    });
    bounds.ok_or_else(|| "write the first and the one behind the last: 1..6".to_owned())
}

pub(crate) fn sweep(args: &SweepArgs) -> anyhow::Result<ExitCode> {
    let named = args.scenarios.iter().map(|name| scenario(name));
    let mut wanted: Vec<_> = match args.scenarios.is_empty() {
        true => scenarios().collect(),
        false => named.collect::<Result<_, _>>()?,
    };
    if let Some(length) = args.length {
        wanted = wanted.into_iter().map(|it| it.within(length)).collect();
    }
    wanted
        .iter_mut()
        .for_each(|scenario| forward(scenario, args.forwards));
    let options = SweepOptions {
        scenarios: wanted,
        policies: policies_or_all(&args.policies),
        seeds: args.seeds.clone(),
    };
    let work = Work {
        what: "runs",
        all: options.runs(),
    };
    let swept = work.watch(|progress| selvedge_bench::sweep(&options, progress))?;
    let shown = Shown {
        text: || text(&swept.runs),
        csv: || csv(&swept.runs),
        json: json(&swept.runs)?,
    };
    shown.show(args.output, args.json.as_deref())?;
    Ok(work.end(swept.runs.len()))
}

/// Work whose progress is shown.
pub(super) struct Work {
    /// What it is made of.
    pub(super) what: &'static str,
    /// How many of these.
    pub(super) all: usize,
}

impl Work {
    /// Does it, with a bar where somebody looks.
    pub(super) fn watch<T>(
        &self,
        work: impl FnOnce(&(dyn Fn(usize) + Sync)) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let is_watched = io::stderr().is_terminal();
        let done = work(&|finished| {
            if is_watched {
                eprint!("\r{}", bar(finished, self.all, self.what));
            }
        })?;
        if is_watched {
            eprintln!();
        }
        Ok(done)
    }

    /// So much of it is done: all, or an interrupt came.
    pub(super) fn end(&self, done: usize) -> ExitCode {
        let Self { what, all } = self;
        if done < *all {
            eprintln!("interrupted: {done} of {all} {what} are finished and shown");
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// What was found, in each form.
pub(super) struct Shown<T, C> {
    pub(super) text: T,
    pub(super) csv: C,
    pub(super) json: String,
}

impl<T: FnOnce() -> String, C: FnOnce() -> String> Shown<T, C> {
    /// Prints it as is asked for, and writes what programs read to the file beside.
    pub(super) fn show(self, output: Format, json: Option<&Path>) -> anyhow::Result<()> {
        match output {
            Format::Text => print(&(self.text)())?,
            Format::Csv => print(&(self.csv)())?,
            Format::Json => print(&self.json)?,
        }
        match json {
            Some(path) => write_beside(path, &self.json),
            None => Ok(()),
        }
    }
}

/// The policies that were asked for, or all.
pub(super) fn policies_or_all(asked: &[&'static NamedPolicy]) -> Vec<&'static NamedPolicy> {
    match asked.is_empty() {
        true => POLICIES.iter().collect(),
        false => asked.to_vec(),
    }
}

fn json(runs: &[SweptRun]) -> anyhow::Result<String> {
    let runs: Vec<_> = runs.iter().map(RunRow::of).collect();
    Ok(format!("{}\n", serde_json::to_string_pretty(&runs)?))
}

/// Writes what programs read, beside what is printed.
fn write_beside(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// As `[######..............]  12 of 40 runs`.
fn bar(finished: usize, all: usize, what: &str) -> String {
    const WIDTH: usize = 20;
    let full = finished * WIDTH / all.max(1);
    format!(
        "[{}{}]  {finished} of {all} {what}",
        "#".repeat(full),
        ".".repeat(WIDTH - full)
    )
}

/// One run, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunRow<'r> {
    scenario: &'r str,
    policy: &'r str,
    seed: u64,
    #[serde(flatten)]
    figures: Figures,
}

impl<'r> RunRow<'r> {
    fn of(run: &'r SweptRun) -> Self {
        Self {
            scenario: &run.scenario,
            policy: run.policy,
            seed: run.seed,
            figures: run.verdict.into(),
        }
    }
}

fn csv(runs: &[SweptRun]) -> String {
    let heading = "scenario,policy,seed,goodput,goodputDisturbed,carried,waste,tail,attemptsPerRequest,misled,urgent,fairness,recoveryS\n";
    let optional = |value: Option<f64>| value.map(|it| it.to_string()).unwrap_or_default();
    let line = |run: &SweptRun| {
        let row = RunRow::of(run);
        format!(
            "{},{},{},{},{},{},{},{},{},{},{},{},{}\n",
            quoted(row.scenario),
            row.policy,
            row.seed,
            row.figures.goodput,
            optional(row.figures.goodput_disturbed),
            row.figures.carried,
            row.figures.waste,
            row.figures.tail,
            row.figures.attempts_per_request,
            optional(row.figures.misled),
            optional(row.figures.urgent),
            optional(row.figures.fairness),
            optional(row.figures.recovery_s)
        )
    };
    heading.to_owned() + &runs.iter().map(line).collect::<String>()
}

/// A user names its own scenarios (RFC 4180, section 2).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// Least, mean and most of the seeds.
fn text(runs: &[SweptRun]) -> String {
    let heading = [
        "SCENARIO",
        "POLICY",
        "RUNS",
        "GOODPUT",
        "WHILE DISTURBED",
        "CARRIED",
        "WASTE",
        "TAIL",
        "ATTEMPTS",
        "MISLED",
        "URGENT",
        "FAIRNESS",
        "RECOVERY",
    ];
    let mut table = Table::new(&heading);
    let same = |one: &SweptRun, other: &SweptRun| {
        (&one.scenario, one.policy) == (&other.scenario, other.policy)
    };
    for runs in runs.chunk_by(same) {
        let of = |figure: fn(&SweptRun) -> Option<f64>| {
            let figures: Vec<f64> = runs.iter().filter_map(figure).collect();
            figures
        };
        table.row([
            runs[0].scenario.clone(),
            runs[0].policy.to_owned(),
            runs.len().to_string(),
            spread(&of(|run| Some(run.verdict.goodput))),
            spread(&of(|run| run.verdict.goodput_disturbed)),
            spread(&of(|run| Some(run.verdict.carried))),
            spread(&of(|run| Some(run.verdict.waste))),
            spread(&of(|run| Some(run.verdict.tail))),
            spread(&of(|run| Some(run.verdict.attempts))),
            spread(&of(|run| run.verdict.misled)),
            spread(&of(|run| run.verdict.urgent)),
            spread(&of(|run| run.verdict.fairness)),
            recovery(runs),
        ]);
    }
    table.into_text()
}

/// As `0.948 (0.941-0.955)`.
fn spread(figures: &[f64]) -> String {
    let Some(least) = figures.iter().copied().reduce(f64::min) else {
        return "-".to_owned();
    };
    let most = figures.iter().copied().fold(least, f64::max);
    let mean = figures.iter().sum::<f64>() / figures.len() as f64;
    format!("{mean:.3} ({least:.3}-{most:.3})")
}

/// The longest, and how many never recovered.
fn recovery(runs: &[SweptRun]) -> String {
    if runs[0].verdict.goodput_disturbed.is_none() {
        return "-".to_owned();
    }
    let recovered = runs.iter().filter_map(|run| run.verdict.recovery);
    let never = runs.len() - recovered.clone().count();
    match (recovered.max(), never) {
        (None, _) => "never".to_owned(),
        (Some(longest), 0) => format!("{} s", longest.as_secs()),
        (Some(longest), never) => format!("{} s, {never} never", longest.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range() {
        assert_eq!(range("1..6"), Ok(1..6));
        for text in ["", "3", "6..1", "2..2", "a..b", "-1..2"] {
            assert!(range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn figures_are_given_with_their_spread() {
        assert_eq!(spread(&[0.5, 1.0]), "0.750 (0.500-1.000)");
        assert_eq!(spread(&[]), "-");
        assert_eq!(bar(10, 40, "runs"), "[#####...............]  10 of 40 runs");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
