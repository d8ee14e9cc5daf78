//! `selvedge bench serve`: an origin.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use selvedge_bench::OriginOptions;

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
    output: OutputArgs,
}

/// Serves until a signal asks for the end.
pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let options = OriginOptions {
        listen: args.listen.clone(),
        body_bytes: args.bytes as usize,
        record: args.record.clone(),
    };
    let report = selvedge_bench::serve(&options, &mut io::stderr())?;
    args.output.print(&report, |report| format!("{report}\n"))?;
    Ok(ExitCode::SUCCESS)
}
