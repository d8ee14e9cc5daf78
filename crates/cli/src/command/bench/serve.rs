//! `selvedge bench serve`: an origin, or a replica of a service that takes its time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use selvedge_bench::{Forwarded, OriginOptions, ReplicaOptions, Target, service_time};
use selvedge_scenario::ServiceTime;

use crate::output::OutputArgs;

/// Arguments of `selvedge bench serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Address to listen at; may be given several times. Port 0 is any free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_values_t = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])]
    listen: Vec<SocketAddr>,
    /// Bytes of each answer's body.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(0..=OriginOptions::MOST_BYTES as i64))]
    bytes: u32,
    /// Write a line for each request before it is answered: its method, and its x-bench-id or target.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    working: WorkingArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A replica of a service as scenarios describe one: its work is waiting.
#[derive(Args, Debug)]
struct WorkingArgs {
    /// Work on each request for a time, on so many at once; the others wait in the order they came.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["bytes", "record"], value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    permits: Option<u32>,
    /// How long that takes: 20ms, exponential:20ms, or lognormal:20ms:0.8 (mean, and deviation of the
    /// logarithm); a request for /?work=3 takes three times as long.
    #[arg(long, value_name = "LAW", requires = "permits", default_value = "20ms", value_parser = service_time)]
    time: ServiceTime,
    /// Most that wait; one more is answered 503.
    #[arg(long, value_name = "NUMBER", requires = "permits", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    queue: u32,
    /// Call these at once when the work is done, and answer 503 if a call fails; each further `--call` is a
    /// step after that.
    #[arg(long = "call", value_name = "URL,...", requires = "permits", value_parser = step)]
    calls: Vec<Step>,
    /// What to pass on with the calls for a request.
    #[arg(
        long,
        value_name = "WHAT",
        requires = "permits",
        default_value = "trace"
    )]
    forwards: ForwardsArg,
    /// Listen at this socket for how to be from now on, a line each: {"permits": 3, "slow": 10, "extra_ms": 150,
    /// "errors": 0.5}; what is left out is as it should be.
    #[arg(long, value_name = "SOCKET", requires = "permits")]
    control: Option<PathBuf>,
    /// Decides service times and what fails.
    #[arg(long, requires = "permits", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Debug)]
struct Step(Vec<Target>);

fn step(text: &str) -> Result<Step, String> {
    let targets = text.split(',').map(str::parse);
    let targets: Result<_, _> = targets.collect();
    targets
        .map(Step)
        .map_err(|error: selvedge_bench::MalformedTarget| error.to_string())
}

/// What a program passes on.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ForwardsArg {
    /// All header fields that are not about the connection.
    All,
    /// `traceparent`.
    Trace,
    /// Nothing.
    Nothing,
}

/// Serves until a signal asks for the end.
pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let mut said = io::stderr();
    if let Some(options) = args.working.options(&args.listen) {
        let report = selvedge_bench::perform(&options, &mut said)?;
        args.output.print(&report, |report| format!("{report}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = OriginOptions {
        listen: args.listen.clone(),
        body_bytes: args.bytes as usize,
        record: args.record.clone(),
    };
    let report = selvedge_bench::serve(&options, &mut said)?;
    args.output.print(&report, |report| format!("{report}\n"))?;
    Ok(ExitCode::SUCCESS)
}

impl WorkingArgs {
    fn options(&self, listen: &[SocketAddr]) -> Option<ReplicaOptions> {
        Some(ReplicaOptions {
            listen: listen.to_vec(),
            permits: self.permits?,
            queue: self.queue,
            time: self.time,
            calls: self.calls.iter().map(|step| step.0.clone()).collect(),
            forwards: match self.forwards {
                ForwardsArg::All => Forwarded::All,
                ForwardsArg::Trace => Forwarded::Trace,
                ForwardsArg::Nothing => Forwarded::Nothing,
            },
            control: self.control.clone(),
            seed: self.seed,
        })
    }
}
