//! `selvedge sim plants`: services drawn at random under one set of parameters.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use selvedge_bench::{PlantFigures, PlantRow, plants};
use selvedge_sim::NamedPolicy;
use serde::Serialize;

use super::policy;
use super::sweep::{Format, Shown, Work, policies_or_all, range};
use crate::output::Table;

/// Arguments of `selvedge sim plants`.
#[derive(Args, Debug)]
pub(crate) struct PlantsArgs {
    /// Numbers of the plants, the last one not among them.
    #[arg(long, default_value = "1..301", value_parser = range)]
    plants: Range<u64>,
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

pub(crate) fn show(args: &PlantsArgs) -> anyhow::Result<ExitCode> {
    let policies = policies_or_all(&args.policies);
    let work = Work {
        what: "plants",
        all: (args.plants.end - args.plants.start) as usize,
    };
    let rows = work.watch(|progress| plants(args.plants.clone(), &policies, progress))?;
    let names: Vec<&str> = policies.iter().map(|policy| policy.name).collect();
    let shown = Shown {
        text: || text(&names, &rows),
        csv: || csv(&names, &rows),
        json: json(&names, &rows)?,
    };
    shown.show(args.output, args.json.as_deref())?;
    Ok(work.end(rows.len()))
}

/// A plant under a policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'n> {
    plant: u64,
    policy: &'n str,
    goodput: f64,
    after: f64,
    oracle: f64,
    oracle_after: f64,
}

fn lines<'n>(names: &[&'n str], rows: &[PlantRow]) -> Vec<Line<'n>> {
    let line = |row: &PlantRow, policy, figures: &PlantFigures| Line {
        plant: row.plant,
        policy,
        goodput: figures.goodput,
        after: figures.after,
        oracle: row.oracle().goodput,
        oracle_after: row.oracle().after,
    };
    let mut lines = Vec::new();
    for row in rows {
        let policies = names.iter().zip(&row.policies);
        lines.extend(policies.map(|(policy, figures)| line(row, *policy, figures)));
    }
    lines
}

fn json(names: &[&str], rows: &[PlantRow]) -> anyhow::Result<String> {
    let lines = serde_json::to_string_pretty(&lines(names, rows))?;
    Ok(format!("{lines}\n"))
}

fn csv(names: &[&str], rows: &[PlantRow]) -> String {
    let line = |line: &Line<'_>| {
        format!(
            "{},{},{},{},{},{}\n",
            line.plant, line.policy, line.goodput, line.after, line.oracle, line.oracle_after
        )
    };
    let lines: String = lines(names, rows).iter().map(line).collect();
    format!("plant,policy,goodput,after,oracle,oracleAfter\n{lines}")
}

/// A row for each policy, the best single static limit and the oracle.
fn text(names: &[&str], rows: &[PlantRow]) -> String {
    let heading = [
        "POLICY",
        "MEDIAN",
        "WORST TENTH",
        "WORST",
        "OF ORACLE",
        "WORST TENTH",
        "WORST",
        "STUCK",
    ];
    let mut table = Table::new(&heading);
    let mut show = |name: String, of: &dyn Fn(&PlantRow) -> PlantFigures| {
        let share = |row: &PlantRow| of(row).goodput / row.oracle().goodput.max(1e-9);
        let is_stuck = |row: &&PlantRow| of(row).after < 0.5 * row.oracle().after;
        let mut cells = vec![name];
        cells.extend(spread(rows.iter().map(|row| of(row).goodput)));
        cells.extend(spread(rows.iter().map(share)));
        cells.push(rows.iter().filter(is_stuck).count().to_string());
        table.row(cells);
    };
    for (place, name) in names.iter().enumerate() {
        show((*name).to_owned(), &|row| row.policies[place]);
    }
    if let Some((place, limit)) = best_static(rows) {
        show(limit, &|row| row.statics[place]);
    }
    show("best static of each".to_owned(), &PlantRow::oracle);
    table.into_text()
}

/// The static limit that is best in the sum over all plants.
fn best_static(rows: &[PlantRow]) -> Option<(usize, String)> {
    let sum = |place: usize| {
        rows.iter()
            .map(|row| row.statics[place].goodput)
            .sum::<f64>()
    };
    let places = 0..rows.first()?.statics.len();
    let best = places.max_by(|one, other| sum(*one).total_cmp(&sum(*other)))?;
    let name = match selvedge_bench::GRID.get(best) {
        Some(limit) => format!("static {limit} for all"),
        None => "no limit".to_owned(),
    };
    Some((best, name))
}

/// Median, worst tenth and worst.
fn spread(shares: impl Iterator<Item = f64>) -> [String; 3] {
    let mut shares: Vec<f64> = shares.collect();
    shares.sort_unstable_by(f64::total_cmp);
    let at = |place: usize| {
        shares
            .get(place)
            .map_or("-".to_owned(), |it| format!("{it:.3}"))
    };
    [at(shares.len() / 2), at(shares.len() / 10), at(0)]
}
