//! `selvedge bench serve --permits`: one replica of a service as scenarios describe them, as a real program.
//!
//! It works on so many requests at once, which takes the time that chance draws, and lets the others wait in
//! the order they came; then it calls whom the service calls, and answers. The work is waiting: a processor is
//! not needed for it, so that a small machine carries services whose capacity is what is to be studied. What
//! waits and what is worked on is decided by the simulator's own `Station`. Read next: `replica/work.rs`.

mod control;
mod work;

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use selvedge_scenario::ServiceTime;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use crate::interrupt::{self, GLANCE};
use crate::load::Target;
use crate::serve::raise_descriptor_limit;

pub(crate) use control::{Controlled, Reply};
use work::Work;

/// What to be.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// Addresses to listen at; port 0 is any free one.
    pub listen: Vec<SocketAddr>,
    /// Requests that are worked on at once.
    pub permits: u32,
    /// Most that wait; one more is answered 503 at once.
    pub queue: u32,
    /// How long the work on one takes.
    pub time: ServiceTime,
    /// Whom it calls when its own work is done, one step after the other, all of a step at once.
    pub calls: Vec<Vec<Target>>,
    /// What it passes on with the calls that it makes for a request.
    pub forwards: Forwarded,
    /// A socket that takes conditions, a line of JSON each.
    pub control: Option<PathBuf>,
    /// Decides how long work takes, and what fails.
    pub seed: u64,
}

/// What a program passes on of a request with the calls that it makes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// All header fields but those that are about this connection and this body.
    All,
    /// The trace alone (W3C Trace Context, `traceparent`).
    Trace,
    /// Nothing.
    Nothing,
}

/// What a replica has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Requests that came.
    pub requests: u64,
    /// Those that it answered with an error because it was told to.
    pub errors: u64,
    /// Those that found no room to wait in.
    pub full: u64,
    /// Those whose work is done.
    pub worked: u64,
    /// Microseconds that were drawn for them.
    pub drawn_us: u64,
    /// Microseconds that their permits were held for.
    pub held_us: u64,
    /// Calls that were not answered well.
    pub failed_calls: u64,
}

impl fmt::Display for ReplicaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests: work done on {}, {} failed as told, {} found no room to wait; {} calls failed",
            self.requests, self.worked, self.errors, self.full, self.failed_calls
        )?;
        let each = |us: u64| us as f64 / 1e3 / self.worked.max(1) as f64;
        let (drawn, held) = (each(self.drawn_us), each(self.held_us));
        write!(
            f,
            "work took {held:.3} ms on average, where {drawn:.3} ms were drawn"
        )
    }
}

/// Serves until SIGINT, SIGTERM or SIGHUP. Prints each address once it listens there.
///
/// # Errors
/// An address or the control socket cannot be listened at.
pub fn perform(options: &ReplicaOptions, out: &mut impl Write) -> anyhow::Result<ReplicaReport> {
    interrupt::watch()?;
    raise_descriptor_limit();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot set up the runtime")?;
    LocalSet::new().block_on(&runtime, serve(options, out))
}

async fn serve(options: &ReplicaOptions, out: &mut impl Write) -> anyhow::Result<ReplicaReport> {
    let work = Work::new(options).context("cannot start the thread that keeps time")?;
    let work = Rc::new(work);
    if let Some(path) = &options.control {
        let control = control::listen(path)?;
        spawn_local(control::serve(control, Rc::clone(&work)));
    }
    for address in &options.listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen at {address}: is the port taken?"))?;
        writeln!(out, "listening at {}", listener.local_addr()?)?;
        spawn_local(accept(listener, Rc::clone(&work)));
    }
    out.flush()?;
    while interrupt::check().is_ok() {
        sleep(GLANCE).await;
    }
    if let Some(path) = &options.control {
        // Somebody else may have removed it.
        let _gone = std::fs::remove_file(path);
    }
    Ok(work.report())
}

async fn accept(listener: TcpListener, work: Rc<Work>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                spawn_local(converse(stream, Rc::clone(&work)));
            }
            // For want of descriptors: some come free.
            Err(_) => sleep(GLANCE).await,
        }
    }
}

async fn converse(stream: TcpStream, work: Rc<Work>) {
    // It is slower without.
    let _ignored = stream.set_nodelay(true);
    let answer = service_fn(|request| {
        let work = Rc::clone(&work);
        // What was begun comes to its end, also for a client that has gone.
        let answer = spawn_local(async move { work.answer(request).await });
        async move { answer.await.map_err(std::io::Error::other) }
    });
    let served = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    // A client that breaks off, or speaks no HTTP, has had its answer from the library.
    drop(served);
}

#[cfg(test)]
mod tests;
