//! The proxy as a process of its own, without the kernel programs that tell it who asks: every query
//! is taken as meant for one server and sent by one workload. For tests and measurements.
//!
//! `lone_proxy FEED SERVER CGROUP [unfiltered]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use selvedge_model::CgroupId;
use selvedge_proxy::{Calls, Options, Origin, OriginSource, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = options(&arguments) else {
        eprintln!("usage: lone_proxy FEED SERVER CGROUP [unfiltered]");
        return ExitCode::from(2);
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lone_proxy: {error} ({error:?})");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Option<Options> {
    let (feed, server, cgroup, calls) = match arguments {
        [feed, server, cgroup] => (feed, server, cgroup, Calls::Needed),
        [feed, server, cgroup, word] if word == "unfiltered" => (feed, server, cgroup, Calls::All),
        _ => return None,
    };
    let server: SocketAddr = server.parse().ok()?;
    let origin = Origin {
        server,
        workload: CgroupId(cgroup.parse().ok()?),
    };
    Some(Options {
        feed: PathBuf::from(feed),
        origin: OriginSource::Fixed(origin),
        calls,
    })
}
