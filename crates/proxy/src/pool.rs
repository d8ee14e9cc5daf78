//! Connections to endpoints that wait for their next request: of one worker, and of nobody else.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::time::Duration;

use hashbrown::HashMap;
use selvedge_model::{Instant, Place, Port};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::buffer::Inbox;

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Inbox,
    /// Whether it has carried a request before.
    pub(crate) reused: bool,
}

/// Where a connection leads.
pub(crate) type Destination = (Place, Port);

/// Idle connections, the one used last on top.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<Destination, Vec<Idle>>>,
    count: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    upstream: Upstream,
    since: Instant,
}

impl Pool {
    /// Most idle connections of a worker.
    const MOST: usize = 1024;
    /// Most of them to one endpoint.
    const MOST_PER_ENDPOINT: usize = 512;
    /// How long one is kept.
    const LIFE: Duration = Duration::from_secs(60);

    /// A connection that is open as far as is known, if one is there.
    pub(crate) fn take(&self, destination: &Destination) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(destination)?;
        while let Some(Idle { upstream, .. }) = connections.pop() {
            self.count.set(self.count.get() - 1);
            if is_quiet(&upstream.stream) {
                return Some(upstream);
            }
        }
        None
    }

    /// Whether any connection to it idles.
    pub(crate) fn has(&self, destination: &Destination) -> bool {
        let idle = self.idle.borrow();
        idle.get(destination).is_some_and(|those| !those.is_empty())
    }

    /// Closes those that lead to what `is_meant`.
    pub(crate) fn forget(&self, is_meant: impl Fn(&Destination) -> bool) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|destination, _| !is_meant(destination));
        self.count.set(idle.values().map(Vec::len).sum());
    }

    /// Keeps a connection whose last response is whole; false where it is closed for want of room.
    pub(crate) fn put(
        &self,
        now: Instant,
        destination: Destination,
        mut upstream: Upstream,
    ) -> bool {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(destination).or_default();
        if self.count.get() == Self::MOST || connections.len() == Self::MOST_PER_ENDPOINT {
            return false;
        }
        upstream.reused = true;
        connections.push(Idle {
            upstream,
            since: now,
        });
        self.count.set(self.count.get() + 1);
        true
    }

    /// Closes what has been idle for too long or was closed by its peer. True if any is left.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, connections| {
            connections
                .retain(|it| now.since(it.since) < Self::LIFE && is_quiet(&it.upstream.stream));
            !connections.is_empty()
        });
        self.count.set(idle.values().map(Vec::len).sum());
        self.count.get() > 0
    }
}

/// Whether nothing has come on a connection on which nothing may come: neither its end nor bytes that
/// nobody has asked for. Asks the runtime, which has heard of what came before it last looked.
fn is_quiet(stream: &TcpStream) -> bool {
    let is_readable = stream.try_io(Interest::READABLE, || Ok(()));
    is_readable.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
