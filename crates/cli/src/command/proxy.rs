//! The processes that the agent starts: the proxy, and the maker of its sockets.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use selvedge_proxy::{Calls, OriginSource};

/// Runs the proxy for ever.
pub(crate) fn proxy(feed: &Path) -> anyhow::Result<ExitCode> {
    let options = selvedge_proxy::Options {
        feed: feed.to_owned(),
        origin: OriginSource::Kernel,
        calls: Calls::Needed,
    };
    selvedge_proxy::run(options).context("the proxy cannot go on")?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the resolver's sockets for the agent at the other end of standard input.
pub(crate) fn make_sockets() -> anyhow::Result<ExitCode> {
    let agent = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("no agent is connected")?;
    selvedge_node::make_sockets(UnixStream::from(agent)).context("could not open the sockets")?;
    Ok(ExitCode::SUCCESS)
}
