//! `selvedge sim chaos`: one trouble after another, and whether each is over once it is.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use selvedge_bench::{ChaosRow, chaos};
use selvedge_sim::NamedPolicy;
use serde::Serialize;

use super::policy;
use super::sweep::{Format, Shown, Work, policies_or_all, range};
use crate::output::Table;

/// Arguments of `selvedge sim chaos`.
#[derive(Args, Debug)]
pub(crate) struct ChaosArgs {
    /// Numbers of the worlds, the last one not among them.
    #[arg(long, default_value = "1..101", value_parser = range)]
    worlds: Range<u64>,
    /// Policies, with commas between; all without it.
    #[arg(long = "policy", value_delimiter = ',', value_parser = policy)]
    policies: Vec<&'static NamedPolicy>,
    /// How to print it: a row for each policy, or each run for programs.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Write each run as JSON to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn show(args: &ChaosArgs) -> anyhow::Result<ExitCode> {
    let policies = policies_or_all(&args.policies);
    let work = Work {
        what: "runs",
        all: (args.worlds.end - args.worlds.start) as usize * policies.len(),
    };
    let rows = work.watch(|progress| chaos(args.worlds.clone(), &policies, progress))?;
    let shown = Shown {
        text: || text(&policies, &rows),
        csv: || csv(&rows),
        json: json(&rows)?,
    };
    shown.show(args.output, args.json.as_deref())?;
    Ok(work.end(rows.len()))
}

/// A world under a policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    world: u64,
    policy: &'static str,
    goodput: f64,
    troubles: usize,
    /// Those after which it was not well before the next one came.
    stuck: usize,
    /// The longest until it was, of the others.
    slowest_s: u64,
}

impl Line {
    fn of(row: &ChaosRow) -> Self {
        let recovered = row.recoveries.iter().flatten();
        Self {
            world: row.world,
            policy: row.policy,
            goodput: row.goodput,
            troubles: row.recoveries.len(),
            stuck: row.recoveries.iter().filter(|it| it.is_none()).count(),
            slowest_s: recovered.max().map_or(0, |longest| longest.as_secs()),
        }
    }
}

fn json(rows: &[ChaosRow]) -> anyhow::Result<String> {
    let lines: Vec<Line> = rows.iter().map(Line::of).collect();
    Ok(format!("{}\n", serde_json::to_string_pretty(&lines)?))
}

fn csv(rows: &[ChaosRow]) -> String {
    let line = |row: &ChaosRow| {
        let line = Line::of(row);
        format!(
            "{},{},{},{},{},{}\n",
            line.world, line.policy, line.goodput, line.troubles, line.stuck, line.slowest_s
        )
    };
    let lines: String = rows.iter().map(line).collect();
    format!("world,policy,goodput,troubles,stuck,slowestS\n{lines}")
}

fn text(policies: &[&'static NamedPolicy], rows: &[ChaosRow]) -> String {
    let heading = [
        "POLICY",
        "WORLDS",
        "GOODPUT",
        "WORST",
        "TROUBLES",
        "NOT WELL BEFORE THE NEXT",
        "IN WORLDS",
        "WELL AFTER 10 S",
        "SLOWEST",
    ];
    let mut table = Table::new(&heading);
    for policy in policies {
        let rows: Vec<&ChaosRow> = rows
            .iter()
            .filter(|row| row.policy == policy.name)
            .collect();
        if rows.is_empty() {
            continue;
        }
        let goodputs = || rows.iter().map(|row| row.goodput);
        let lines: Vec<Line> = rows.iter().map(|row| Line::of(row)).collect();
        let troubles: usize = lines.iter().map(|line| line.troubles).sum();
        let stuck: usize = lines.iter().map(|line| line.stuck).sum();
        let recoveries = rows.iter().flat_map(|row| row.recoveries.iter().flatten());
        let soon = recoveries.filter(|time| time.as_secs() <= 10).count();
        table.row([
            policy.name.to_owned(),
            rows.len().to_string(),
            format!("{:.3}", goodputs().sum::<f64>() / rows.len().max(1) as f64),
            format!("{:.3}", goodputs().fold(f64::INFINITY, f64::min)),
            troubles.to_string(),
            stuck.to_string(),
            lines
                .iter()
                .filter(|line| line.stuck > 0)
                .count()
                .to_string(),
            soon.to_string(),
            format!(
                "{} s",
                lines.iter().map(|line| line.slowest_s).max().unwrap_or(0)
            ),
        ]);
    }
    table.into_text()
}
