//! `selvedge bench`: measures the mesh on this machine. The work is done in the crate `bench`.

mod live;
mod load;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use selvedge_bench::{BenchOptions, Interrupted, Measure, Proxy};

/// Exit status of a bench that was broken off, as a shell gives it for SIGINT.
const INTERRUPTED: u8 = 130;

/// Arguments of `selvedge bench`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    tool: Option<Tool>,
    /// What to measure: direct, names, replicas, restart, limit, scale, idle, proxy, losses; all without any.
    #[arg(value_name = "MEASURE")]
    measures: Vec<Measure>,
    /// Interleaved rounds of each comparison: 24, and 5 of `proxy`, where it is not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// What `proxy` compares with, where it is installed.
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,envoy")]
    proxies: Vec<Proxy>,
    /// Only show, in seconds, that each measure works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Write the figures as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Decides every random order; drawn where it is not given, and reported.
    #[arg(long)]
    seed: Option<u64>,
}

/// What measures consist of, for use by hand.
#[derive(Subcommand, Debug)]
enum Tool {
    /// Send HTTP/1.1 requests, in a closed loop or at a rate, and say how they were answered.
    Load(load::LoadArgs),
    /// Play scenarios with real programs under several policies, Envoy's among them, beside the simulator.
    Live(live::LiveArgs),
    /// Answer HTTP/1.1 requests, at once or as a service that takes its time.
    Serve(serve::ServeArgs),
}

/// Measures, and prints what was found. A missed bar is printed as such and is no failure.
pub(crate) fn bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.tool {
        Some(Tool::Live(args)) => return ended(live::live(args)),
        Some(Tool::Load(args)) => return load::load(args),
        Some(Tool::Serve(args)) => return serve::serve(args),
        None => {}
    }
    let options = BenchOptions {
        measures: args.measures.clone(),
        rounds: args.rounds,
        proxies: args.proxies.clone(),
        quick: args.quick,
        json: args.json.clone(),
        seed: args.seed,
        program: None,
    };
    ended(selvedge_bench::run(&options).map(|()| ExitCode::SUCCESS))
}

/// An interrupt is no error, but is told.
fn ended(done: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match done {
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("selvedge: {error}");
            Ok(ExitCode::from(INTERRUPTED))
        }
        done => done,
    }
}

/// Is a worker of a bench.
pub(crate) fn worker(control: &Path, name: &str) -> anyhow::Result<ExitCode> {
    selvedge_bench::run_worker(control, name)?;
    Ok(ExitCode::SUCCESS)
}
