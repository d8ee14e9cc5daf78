//! `selvedge bench load`: a load.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use selvedge_bench::{Arrivals, LoadOptions, Pace, Target, duration};

use crate::output::OutputArgs;

/// Arguments of `selvedge bench load`.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// Where to: `http://HOST:PORT/PATH`, or `HOST:PORT`.
    target: Target,
    /// Connections, all kept open.
    #[arg(long, default_value_t = LoadOptions::CONNECTIONS as u32, value_parser = clap::value_parser!(u32).range(1..=LoadOptions::MOST_CONNECTIONS as i64))]
    connections: u32,
    /// Requests each second, sent whether or not others were answered. Without it each connection
    /// sends its next request once the last is answered.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// How requests at a rate are spread: `poisson` or `even`.
    #[arg(long, requires = "rate", default_value_t = Arrivals::Poisson)]
    arrivals: Arrivals,
    /// Most requests at a rate that are due and wait for a connection; others are counted, not sent.
    #[arg(long, requires = "rate", default_value_t = LoadOptions::QUEUE as u32, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    queue: u32,
    /// How long requests count: `10s`, `500ms`.
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long requests are sent before they count.
    #[arg(long, default_value = "1s", value_parser = duration)]
    warm_up: Duration,
    /// Most requests, those of the warm-up included.
    #[arg(long, default_value_t = LoadOptions::MOST_REQUESTS, value_parser = clap::value_parser!(u64).range(1..=LoadOptions::MOST_REQUESTS))]
    requests: u64,
    /// How long an answer may take.
    #[arg(long, default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Count the good answers that took no longer: `250ms`.
    #[arg(long, value_parser = duration)]
    objective: Option<Duration>,
    /// Of 100 requests, how many are a POST; the others are a GET.
    #[arg(long, value_name = "PER CENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    posts: u8,
    /// Bytes of a POST's body.
    #[arg(long, default_value_t = LoadOptions::BODY_BYTES as u32, value_parser = clap::value_parser!(u32).range(0..=LoadOptions::MOST_BODY_BYTES as i64))]
    body: u32,
    /// Another field of each request; may be given several times. `Host` replaces the target's.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = field)]
    fields: Vec<(String, String)>,
    /// Decides what is random, ids included; the clock's where it is not given, and reported.
    #[arg(long)]
    seed: Option<u64>,
    /// Write a line for each request: its method, its id, and the status or error it ended with.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Puts a load on the target. Requests that fail are in the report, and no failure of the command;
/// none that was answered is.
pub(crate) fn load(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let pace = match args.rate {
        None => Pace::Closed,
        Some(rate) => Pace::Open {
            rate,
            arrivals: args.arrivals,
            queue: args.queue as usize,
        },
    };
    let options = LoadOptions {
        target: args.target.clone(),
        connections: args.connections as usize,
        pace,
        duration: args.duration,
        warm_up: args.warm_up,
        requests: args.requests,
        timeout: args.timeout,
        objective: args.objective,
        posts: args.posts,
        body_bytes: args.body as usize,
        fields: args.fields.clone(),
        seed: args.seed.unwrap_or_else(selvedge_bench::fresh_seed),
        record: args.record.clone(),
    };
    let report = selvedge_bench::load(&options)?;
    args.output.print(&report, |report| format!("{report}\n"))?;
    let answered = report.measured.answered() + report.warm_up.answered();
    Ok(match answered {
        0 => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match (0.001..=1e6).contains(&rate) {
        true => Ok(rate),
        false => Err("a rate is from 0.001 to 1,000,000 requests each second".to_owned()),
    }
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("a field's name has letters, digits and hyphens".to_owned());
    }
    if !value
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return Err("a field's value has no control characters here".to_owned());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_smuggle_others() {
        assert_eq!(field("x-a: b c"), Ok(("x-a".into(), "b c".into())));
        for text in ["x-a", ": b", "x a: b", "x-a: b\r\nx-c: d"] {
            assert!(field(text).is_err(), "{text:?}");
        }
    }
}
