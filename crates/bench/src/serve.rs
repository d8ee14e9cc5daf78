//! `selvedge bench serve`: an HTTP/1.1 origin that answers every request alike, as cheaply as one
//! thread can, and records what it got.
//!
//! It never answers a request before that request is in the record, so that a record tells the truth
//! also where the origin was killed. Read next: `serve/origin.rs`.

mod desk;
mod origin;
mod record;
mod report;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;

use crate::interrupt;
use crate::poll::Poller;

pub(crate) use origin::Origin;
pub(crate) use record::Record;
pub use report::OriginReport;

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct OriginOptions {
    /// Addresses to listen at; port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// Bytes of each answer's body, at most [`Self::MOST_BYTES`].
    pub body_bytes: usize,
    /// Where to write a line for each request: its method, and its id or target.
    pub record: Option<PathBuf>,
}

impl OriginOptions {
    /// Largest body: it is held in memory once, and for each client that does not read.
    pub const MOST_BYTES: usize = 16 << 20;
}

/// Serves until SIGINT, SIGTERM or SIGHUP. Prints each address once it listens there.
///
/// # Errors
/// An address cannot be listened at, or the record cannot be written.
pub fn serve(options: &OriginOptions, out: &mut impl Write) -> anyhow::Result<OriginReport> {
    interrupt::watch()?;
    raise_descriptor_limit();
    let mut poller = Poller::new().context("cannot set up polling")?;
    let record = options.record.as_deref().map(Record::create).transpose()?;
    let mut origin = Origin::new(options.body_bytes, record);
    for address in &options.listen {
        let address = origin
            .listen(*address, &poller)
            .with_context(|| format!("cannot listen at {address}: is the port taken?"))?;
        writeln!(out, "listening at {address}")?;
    }
    out.flush()?;
    let mut ready = Vec::new();
    while interrupt::check().is_ok() {
        poller.wait(None, &mut ready).context("cannot poll")?;
        for ready in &ready {
            origin.on_ready(*ready, &poller)?;
        }
        origin.answer()?;
    }
    Ok(origin.report())
}

/// Takes as many descriptors as this user may have: each connection is one.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused the old limit stands, and reaching it is counted.
    let _refused = setrlimit(Resource::Nofile, limit);
}

/// Whether accepting failed for this one connection only, or for want of a descriptor.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::CONNABORTED)
    )
}

#[cfg(test)]
mod tests;
