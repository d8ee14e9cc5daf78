//! The loop of a load: time, sockets, and the end.

use std::net::SocketAddr;

use anyhow::Context;

use super::client::Client;
use super::report::LoadReport;
use super::window::Window;
use super::{LoadOptions, Pace};
use crate::clock::monotonic_ns;
use crate::interrupt;
use crate::poll::Poller;
use crate::process::Bill;
use crate::serve::{Origin, raise_descriptor_limit};

/// Puts a load on its target, until it is over or SIGINT, SIGTERM or SIGHUP comes.
///
/// # Errors
/// The target has no address, or a record cannot be written. Requests that fail are no error: they
/// are in the report.
pub fn load(options: &LoadOptions) -> anyhow::Result<LoadReport> {
    interrupt::watch()?;
    let target = &options.target;
    let address = target
        .resolve()
        .with_context(|| format!("cannot find the host of {target}"))?;
    let mut poller = Poller::new().context("cannot set up polling")?;
    let (report, _) = drive(options, address, &mut poller, None, &[])?;
    Ok(report)
}

/// Puts a load on an address. An origin with the same poller is served by the same thread, so that
/// what stands between the two has a CPU of its own where there are but two. The CPU time of `watched`
/// processes is taken while requests count.
pub(crate) fn drive(
    options: &LoadOptions,
    address: SocketAddr,
    poller: &mut Poller,
    mut origin: Option<&mut Origin>,
    watched: &[u32],
) -> anyhow::Result<(LoadReport, Bill)> {
    raise_descriptor_limit();
    let mut client = Client::new(options, address, monotonic_ns())?;
    let mut window = Window::new(watched);
    let mut ready = Vec::new();
    loop {
        let now_ns = monotonic_ns();
        if interrupt::check().is_err() {
            client.end(now_ns);
        }
        window.look(&client, now_ns)?;
        if client.is_done(now_ns) {
            break;
        }
        client.on_time(now_ns, poller);
        let until_ns = Some(client.next_ns());
        poller.wait(until_ns, &mut ready).context("cannot poll")?;
        for ready in &ready {
            match &mut origin {
                Some(origin) if Origin::owns(ready.token) => origin.on_ready(*ready, poller)?,
                _ => client.on_ready(*ready, monotonic_ns(), poller),
            }
        }
        client.write_record()?;
        if let Some(origin) = &mut origin {
            origin.answer()?;
        }
    }
    client.give_up(monotonic_ns())?;
    Ok((
        LoadReport::of(options, &client, &window.span()),
        window.bill(),
    ))
}

impl Pace {
    /// The word for it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
        }
    }
}
