//! `selvedge pilot what-if`: asks a simulation that is fitted to the journal.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Args;
use selvedge_bench::{Answer, Change, Figures, Interval, duration, what_if};
use selvedge_control_plane::wire::PilotReport;
use selvedge_control_plane::{Reader, segments};
use selvedge_sim::Sightings;
use selvedge_telemetry::log::Timestamp;
use serde::Serialize;

use super::service_name;
use crate::client;
use crate::output::{OutputArgs, Table, Tone, count, toned};

/// Arguments of `selvedge pilot what-if`.
#[derive(Args, Debug)]
#[command(
    after_help = "The answer is of a simulation and not of a measurement: one service of as many endpoints, service times and\n\
    places as the journal lets one infer, by itself; what it calls is no part of it. Where the simulation of what was\n\
    is unlike what was recorded, do not believe the rest."
)]
pub(super) struct WhatIfArgs {
    /// The service: NAME or NAME.NAMESPACE
    service: String,
    /// Segments of a journal, in their order, or a folder of them; the running agent's without it
    files: Vec<PathBuf>,
    /// As many times the requests
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = factor)]
    load: f64,
    /// As many times the time of its work
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = factor)]
    slow: f64,
    /// As many times the requests that an endpoint works on at once
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, value_parser = factor)]
    permits: f64,
    /// So many endpoints
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    replicas: Option<u32>,
    /// Another objective for its own time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    objective: Option<Duration>,
    /// A fixed limit of requests per endpoint, instead of one that moves
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU32>,
    /// Limits that move, where the objective only observes
    #[arg(long, conflicts_with = "limit")]
    drive: bool,
    /// How much of the journal, from its end, an hour at most
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    last: Duration,
    /// How many simulations, each with another drawing of what was recorded
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(5..=1000))]
    runs: u32,
    /// Decides all that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: OutputArgs,
}

/// The answer with what it is of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    service: String,
    question: String,
    /// When what was looked at began and ended.
    from: String,
    until: String,
    runs: u32,
    #[serde(flatten)]
    answer: Answer,
}

pub(super) fn ask(run_dir: &Path, args: &WhatIfArgs) -> anyhow::Result<ExitCode> {
    let service = service_name(&args.service)?;
    let mut files = args.files.clone();
    if files.is_empty() {
        let report: PilotReport = client::get(run_dir, "/v1/pilot")?;
        files.push(report.journal.folder.into());
    }
    let mut sightings = Sightings::new(service.clone());
    for path in &files {
        if path.is_dir() {
            for segment in segments(path)? {
                read(&mut sightings, &segment.path)?;
            }
        } else {
            read(&mut sightings, path)?;
        }
    }
    sightings.keep_last(args.last.min(Duration::from_secs(3600)));
    let change = Change {
        load: args.load,
        slow: args.slow,
        permits: args.permits,
        replicas: args.replicas,
        objective: args.objective,
        limit: args.limit,
        drives: args.drive,
    };
    if change == Change::default() {
        bail!("nothing would be otherwise; say what, for instance --load 1.5 or --permits 0.5");
    }
    let answer = what_if(&sightings, &change, args.runs, args.seed)
        .with_context(|| format!("{service} cannot be simulated from this journal"))?;
    let Some(answer) = answer else {
        bail!("interrupted before there was an answer");
    };
    let (from, until) = sightings.span();
    let time = |seconds: f64| {
        let since = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        Timestamp(UNIX_EPOCH + since).to_string()
    };
    let reply = Reply {
        service: service.to_string(),
        question: question(args),
        from: time(from),
        until: time(until),
        runs: args.runs,
        answer,
    };
    args.output.print(&reply, text)?;
    Ok(ExitCode::SUCCESS)
}

fn read(sightings: &mut Sightings, path: &Path) -> anyhow::Result<()> {
    let mut reader = Reader::open(path)?;
    while let Some(part) = reader.next_part()? {
        if part.is_beginning {
            sightings.begin();
        }
        for entry in &part.entries {
            sightings.on_entry(part.epoch_unix_ns, entry);
        }
    }
    Ok(())
}

fn factor(text: &str) -> Result<f64, String> {
    let factor: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.01..=100.0).contains(&factor) {
        true => Ok(factor),
        false => Err("not between 0.01 and 100".to_owned()),
    }
}

fn question(args: &WhatIfArgs) -> String {
    let mut parts = Vec::new();
    let mut times = |factor: f64, what: &str| {
        if factor != 1.0 {
            parts.push(format!("{factor} times {what}"));
        }
    };
    times(args.load, "the requests");
    times(args.slow, "the time of work");
    times(args.permits, "the places at each endpoint");
    if let Some(replicas) = args.replicas {
        parts.push(count(replicas as usize, "endpoint"));
    }
    if let Some(objective) = args.objective {
        parts.push(format!("an objective of {objective:?}"));
    }
    if args.drive {
        parts.push("limits that move".to_owned());
    }
    if let Some(limit) = args.limit {
        parts.push(format!("a fixed limit of {limit} for each endpoint"));
    }
    parts.join(" and ")
}

/// Unlike by so much, a simulation is of something else than what was recorded.
const UNLIKE: f64 = 0.25;

/// Writing to a String does not fail, so the outcome of `writeln!` is left aside below.
fn text(reply: &Reply) -> String {
    let mut text = String::new();
    let answer = &reply.answer;
    let _ = writeln!(
        text,
        "what if {} had {}, from {} until {}?",
        reply.service, reply.question, reply.from, reply.until
    );
    let _ = writeln!(
        text,
        "{} of a service fitted to the journal; nothing was measured.",
        count(reply.runs as usize, "simulation")
    );
    let _ = writeln!(
        text,
        "{}, each works on {} at once for {} ms in the mean (deviation of the logarithm {}), {} requests a second\n",
        count(answer.replicas as usize, "endpoint"),
        spread(answer.permits, 1),
        spread(answer.mean_ms, 1),
        spread(answer.sigma, 2),
        spread(answer.rate, 0),
    );
    let mut table = Table::new(&["", "P95 OF ITS OWN TIME", "REFUSED", "WITHIN THE OBJECTIVE"]);
    table.row([
        "recorded".to_owned(),
        format!("{:.0} ms", answer.recorded_p95_ms),
        format!("{:.1} %", 100.0 * answer.recorded_refused),
        "-".to_owned(),
    ]);
    for (name, figures) in [
        (
            match answer.was_applied {
                true => "the same, simulated",
                false => "the same, simulated, without limits",
            },
            &answer.as_it_was,
        ),
        ("what if", &answer.what_if),
    ] {
        table.row(row(name, figures));
    }
    text.push_str(&table.into_text());
    text.push_str("in brackets is where nine of ten simulations lie\n");
    if !answer.is_saturated {
        let line = "the service was never at its limits: how much more it can do than is simulated is not known";
        let _ = writeln!(text, "{}", toned(line, Tone::Poor));
    }
    if answer.is_cut_off {
        let line = "what takes longer than a window is in none, and windows were short against the times in them: all times here are too short";
        let _ = writeln!(text, "{}", toned(line, Tone::Poor));
    }
    let simulated = answer.as_it_was.p95_ms.middle;
    let by_tail = f64::abs(simulated / answer.recorded_p95_ms - 1.0);
    let by_refusals = f64::abs(answer.as_it_was.refused.middle - answer.recorded_refused);
    if by_tail > UNLIKE || by_refusals > UNLIKE / 2.0 {
        let line = "the simulation of what was is unlike what was recorded: do not believe the rest; if its capacity changed meanwhile, look at a part with --last";
        let _ = writeln!(text, "{}", toned(line, Tone::Bad));
    }
    text
}

fn row(name: &str, figures: &Figures) -> [String; 4] {
    let percent = |it: Interval| Interval {
        low: 100.0 * it.low,
        middle: 100.0 * it.middle,
        high: 100.0 * it.high,
    };
    [
        name.to_owned(),
        format!("{} ms", spread(figures.p95_ms, 0)),
        format!("{} %", spread(percent(figures.refused), 1)),
        format!("{} %", spread(percent(figures.in_time), 1)),
    ]
}

fn spread(it: Interval, digits: usize) -> String {
    let Interval { low, middle, high } = it;
    format!("{middle:.digits$} [{low:.digits$}-{high:.digits$}]")
}
