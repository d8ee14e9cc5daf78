//! `selvedge bench live`: scenarios with real programs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use selvedge_bench::{LIVE_POLICIES, LiveOptions, LivePolicy};

use crate::command::sim::ForwardsArg;

/// Arguments of `selvedge bench live`.
#[derive(Args, Debug)]
pub(crate) struct LiveArgs {
    /// Scenarios that `sim list` names, or files.
    #[arg(default_values = ["steady", "step", "trigger", "capacity-loss", "transient-errors", "chain-storm", "gray-replica"])]
    scenarios: Vec<String>,
    /// Policies, with commas between; all that can be played without it.
    #[arg(long = "policy", value_delimiter = ',', value_parser = policy)]
    policies: Vec<&'static LivePolicy>,
    /// How often each is played, in random order.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each takes; schedules are drawn together to that.
    #[arg(long, default_value = "40s", value_parser = selvedge_bench::duration)]
    length: Duration,
    /// Kill the mesh's agent as the trouble begins: what is left goes on alone.
    #[arg(long)]
    without_agent: bool,
    /// What programs pass on with the calls that they make, in place of what the scenario says.
    #[arg(long, value_name = "WHAT")]
    forwards: Option<ForwardsArg>,
    /// Seeds that each is simulated with beside, in the same length.
    #[arg(long, value_name = "SEEDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    simulated: u32,
    /// Write every run as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Decides all that is random; drawn where it is not given, and reported.
    #[arg(long)]
    seed: Option<u64>,
}

fn policy(name: &str) -> Result<&'static LivePolicy, String> {
    LivePolicy::find(name).ok_or_else(|| {
        let names = LIVE_POLICIES.map(|policy| policy.name).join(", ");
        format!("expected one of {names}")
    })
}

/// Plays them.
pub(crate) fn live(args: &LiveArgs) -> anyhow::Result<ExitCode> {
    let options = LiveOptions {
        scenarios: args.scenarios.clone(),
        policies: match args.policies.is_empty() {
            true => LIVE_POLICIES.iter().collect(),
            false => args.policies.clone(),
        },
        rounds: args.rounds,
        length: args.length,
        kills_agent: args.without_agent,
        forwards: args.forwards.map(Into::into),
        simulated: args.simulated,
        json: args.json.clone(),
        seed: args.seed,
        program: None,
    };
    selvedge_bench::live(&options)?;
    Ok(ExitCode::SUCCESS)
}
