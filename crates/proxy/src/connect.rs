//! New connections to endpoints.

use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use selvedge_feed::Counter;
use selvedge_model::Reason;
use selvedge_resilience::OutcomeKind;
use tokio::net::TcpStream;

use crate::accept::is_exhaustion;
use crate::buffer::{Buffers, Inbox};
use crate::counters::Counters;
use crate::pool::{Destination, Upstream};

/// How long to wait for a place among few connections, again and again. The client of a request has its
/// response before the place of that request is given back, and may be faster with its next one.
const GIVEN_BACK: [Duration; 3] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(16),
];

/// Connects to an endpoint of a service that has a connection limit where it is given, by its virtual
/// address. Takes as long as the kernel tries: whoever waits has a deadline.
pub(crate) async fn connect(
    (place, port): &Destination,
    limited: Option<Ipv4Addr>,
    buffers: &Rc<Buffers>,
) -> io::Result<Upstream> {
    let address = place.upstream_address(*port, limited);
    let mut pauses = GIVEN_BACK.into_iter();
    let stream = loop {
        match TcpStream::connect(address).await {
            Err(error) if is_limit(&error) => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            connected => break connected?,
        }
    };
    // A head and what follows it leave in one call: waiting for more would only delay them.
    stream.set_nodelay(true)?;
    Ok(Upstream {
        stream,
        inbox: Inbox::new(buffers.clone()),
        reused: false,
    })
}

fn is_limit(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EDQUOT)
}

/// Whose doing it is that no connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectFault {
    /// The endpoint's: it refuses, or does not answer.
    Endpoint,
    /// The kernel's: the service has as many connections as it may (`Place::upstream_address`).
    Limit,
    /// Ours: no descriptor or memory is left.
    Local,
}

impl ConnectFault {
    pub(crate) fn of(error: &io::Error, counters: &Counters) -> Self {
        if is_limit(error) {
            return Self::Limit;
        }
        if is_exhaustion(error) {
            counters.count(Counter::LocalFailures);
            return Self::Local;
        }
        Self::Endpoint
    }

    /// What it is to the gate, and to whoever is refused. Only the first speaks against the endpoint,
    /// and only then may another one help.
    pub(crate) fn outcome(self) -> (OutcomeKind, Reason) {
        match self {
            Self::Endpoint => (OutcomeKind::ConnectFailed, Reason::ConnectFailed),
            Self::Limit => (OutcomeKind::Cancelled, Reason::ConnectionLimit),
            Self::Local => (OutcomeKind::Cancelled, Reason::ConnectFailed),
        }
    }
}
