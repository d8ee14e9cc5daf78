//! `selvedge pilot`: what the controllers do and why, and having them stop it.

mod replay;
mod what_if;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use selvedge_control_plane::wire::{
    HoldRequest, JournalLine, JournalReply, LimitReport, PilotReport, ShareReport, UndoRequest,
};
use selvedge_control_plane::{JournalQuery, milliseconds, read_segment};
use selvedge_model::ServiceName;

use crate::client;
use crate::output::{OutputArgs, Table, Tone, age, toned};
use replay::ReplayArgs;
use what_if::WhatIfArgs;

/// Arguments of `selvedge pilot`.
#[derive(Args, Debug)]
pub(crate) struct PilotArgs {
    #[command(subcommand)]
    command: PilotCommand,
}

#[derive(Subcommand, Debug)]
enum PilotCommand {
    /// Show the limits, what they are, and why
    Status(StatusArgs),
    /// Show what was decided, from what, and why
    Journal(JournalArgs),
    /// Have limits rest at what they were in the last minute that held the objective
    Freeze(HoldArgs),
    /// Put the limit before a decision back, and keep it there until it is released
    Undo(UndoArgs),
    /// Let what was frozen or put back move again
    Release(HoldArgs),
    /// Derive the decisions of a journal again from what is written there, and compare
    Replay(ReplayArgs),
    /// Ask a simulation that is fitted to the journal what would have been otherwise
    WhatIf(WhatIfArgs),
}

#[derive(Args, Debug)]
struct StatusArgs {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
struct JournalArgs {
    /// Only of this service: NAME or NAME.NAMESPACE
    service: Option<String>,
    /// Every window, and not only where something changed
    #[arg(long)]
    all: bool,
    /// So many lines, the last ones
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    last: u16,
    /// Read this segment of a journal, and ask no agent
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
struct HoldArgs {
    /// Only of this service: NAME or NAME.NAMESPACE; without it, of all
    service: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Debug)]
struct UndoArgs {
    /// The number of the decision, as the journal shows it
    number: u64,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn pilot(run_dir: &Path, args: &PilotArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        PilotCommand::Status(args) => {
            let report: PilotReport = client::get(run_dir, "/v1/pilot")?;
            args.output.print(&report, text)?;
        }
        PilotCommand::Journal(args) => {
            let reply = journal(run_dir, args)?;
            args.output.print(&reply, journal_text)?;
            if !reply.damage.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        PilotCommand::Freeze(args) => hold(run_dir, "/v1/pilot/freeze", args)?,
        PilotCommand::Release(args) => hold(run_dir, "/v1/pilot/release", args)?,
        PilotCommand::Undo(args) => {
            let number = args.number;
            let report: PilotReport =
                client::post(run_dir, "/v1/pilot/undo", &UndoRequest { number })?;
            args.output.print(&report, text)?;
        }
        PilotCommand::Replay(args) => return replay::replay(args),
        PilotCommand::WhatIf(args) => return what_if::ask(run_dir, args),
    }
    Ok(ExitCode::SUCCESS)
}

fn hold(run_dir: &Path, path: &str, args: &HoldArgs) -> anyhow::Result<()> {
    let service = args.service.clone();
    let report: PilotReport = client::post(run_dir, path, &HoldRequest { service })?;
    args.output.print(&report, text)
}

fn service_name(text: &str) -> anyhow::Result<ServiceName> {
    text.parse()
        .map_err(|error| anyhow!("service {text:?}: {error}"))
}

fn journal(run_dir: &Path, args: &JournalArgs) -> anyhow::Result<JournalReply> {
    if let Some(file) = &args.file {
        let service = args.service.as_deref().map(service_name).transpose()?;
        let query = JournalQuery {
            service,
            is_full: args.all,
            last: args.last.into(),
        };
        return Ok(read_segment(file, &query, None)?);
    }
    let mut path = format!("/v1/pilot/journal?last={}", args.last);
    if args.all {
        path.push_str("&all");
    }
    if let Some(service) = &args.service {
        let _ = write!(path, "&service={}", service_name(service)?);
    }
    client::get(run_dir, &path)
}

/// Writing to a String does not fail, so the outcome of `writeln!` is left aside below.
fn text(report: &PilotReport) -> String {
    let mut text = String::new();
    if report.limits.is_empty() {
        text.push_str(
            "no limit moves: there is no ServiceObjective whose mode is not Off, or its service has no endpoint\n",
        );
    } else {
        text.push_str(&table(&report.limits));
    }
    for limit in report.limits.iter().filter(|it| it.is_beyond_reach) {
        let floor = limit.idle_p95_us.map(milliseconds).unwrap_or_default();
        let line = format!(
            "{} of {}: the objective of {} cannot be kept: without load 95 of 100 requests take {floor}",
            limit.about,
            limit.service,
            milliseconds(limit.objective_us as f64),
        );
        let _ = writeln!(text, "{}", toned(&line, Tone::Bad));
    }
    plan(&mut text, &report.plan);
    held(&mut text, report);
    let journal = &report.journal;
    let last = journal.next.saturating_sub(1);
    let _ = writeln!(
        text,
        "journal: {last} entries so far, in {}",
        journal.folder
    );
    if journal.lost > 0 {
        let line = format!("{} entries are not in it", journal.lost);
        let _ = writeln!(text, "  {}", toned(&line, Tone::Poor));
    }
    if let Some(trouble) = &journal.trouble {
        let line = format!("it is not written: {trouble}");
        let _ = writeln!(text, "  {}", toned(&line, Tone::Bad));
    }
    text
}

/// What is left of objectives for the services that whole answers are made of.
fn plan(text: &mut String, plan: &[ShareReport]) {
    for share in plan {
        let why = match share.is_measured {
            true if share.slack_per_mille > 1000 => {
                "by its time without load, and more since whole answers have time to spare"
            }
            true => "by its time without load",
            false => "all of it, until times without load are known",
        };
        let time = milliseconds(share.latency_us as f64);
        let _ = writeln!(
            text,
            "plan: {} is to keep {time} of its own time for the objective of {}, {why}",
            share.service, share.of
        );
    }
}

fn held(text: &mut String, report: &PilotReport) {
    let mut held = Vec::new();
    if report.is_frozen {
        held.push("everything is frozen".to_owned());
    }
    if !report.frozen.is_empty() {
        held.push(format!("frozen: {}", report.frozen.join(", ")));
    }
    if report.pinned > 0 {
        held.push(format!(
            "put back: {}",
            crate::output::count(report.pinned, "limit")
        ));
    }
    if !held.is_empty() {
        let held = held.join("; ");
        let _ = writeln!(text, "{held} (selvedge pilot release)");
    }
    if !report.is_in_force {
        let line = "the proxy does not hold that yet";
        let _ = writeln!(text, "{}", toned(line, Tone::Poor));
    }
}

fn table(limits: &[LimitReport]) -> String {
    let mut table = Table::new(&[
        "SERVICE",
        "LIMIT OF",
        "MODE",
        "OBJECTIVE",
        "P95",
        "LIMIT",
        "REFUSED",
        "WHY",
        "AGE",
    ]);
    for limit in limits {
        let shown = limit
            .limit
            .map_or_else(|| "none".to_owned(), |it| it.to_string());
        let shown = match (&limit.held, &*limit.mode) {
            (Some(held), _) => format!("{shown}, {held}"),
            (None, "observe") => format!("{shown}, would be {}", limit.decided),
            _ => shown,
        };
        let because = match limit.because.is_empty() {
            true => "nothing decided yet",
            false => &limit.because,
        };
        table.row([
            limit.service.clone(),
            limit.about.clone(),
            limit.mode.clone(),
            milliseconds(limit.objective_us as f64),
            limit.p95_us.map_or_else(|| "-".to_owned(), milliseconds),
            shown,
            format!("{:.1} %", 100.0 * limit.refused_share),
            match limit.changed {
                Some(number) => format!("{because} (last change: {number})"),
                None => because.to_owned(),
            },
            age(limit.age),
        ]);
    }
    table.into_text()
}

fn journal_text(reply: &JournalReply) -> String {
    let mut text = String::new();
    let mut table = Table::new(&[
        "NUMBER", "TIME", "SERVICE", "LIMIT OF", "LIMIT", "BECAUSE", "REFUSED",
    ]);
    for line in &reply.lines {
        table.row([
            line.number.to_string(),
            line.time.clone().unwrap_or_else(|| "-".to_owned()),
            line.service.clone(),
            line.about.clone(),
            change(line),
            because(line),
            line.window
                .as_ref()
                .map_or_else(|| "-".to_owned(), |window| window.refused.to_string()),
        ]);
    }
    match (table.is_empty(), reply.damage.is_empty()) {
        (true, true) => text.push_str("nothing is written down that was asked for\n"),
        (true, false) => {}
        (false, _) => text.push_str(&table.into_text()),
    }
    for damage in &reply.damage {
        let line = format!("the rest of a segment is not shown: {damage}");
        let _ = writeln!(text, "{}", toned(&line, Tone::Bad));
    }
    text
}

fn change(line: &JournalLine) -> String {
    let limit = line
        .limit
        .map_or_else(|| "none".to_owned(), |it| it.to_string());
    match line.limit_before {
        Some(before) => format!("{before} -> {limit}"),
        None if line.event == "gone" => "-".to_owned(),
        None => limit,
    }
}

fn because(line: &JournalLine) -> String {
    match &*line.event {
        "decided" | "doubted" => line.because.clone(),
        "state" => "from here on a controller moves it".to_owned(),
        "frozen" => "frozen".to_owned(),
        "pinned" => "put back".to_owned(),
        "gone" => "the limit is no more".to_owned(),
        other => other.to_owned(),
    }
}
