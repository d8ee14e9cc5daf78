//! How long the proxy path waits where nobody has said it.

use std::time::Duration;

/// How long whom is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// For a client's next request, on a connection that is open.
    pub(crate) keep_alive: Duration,
    /// For all of a request's head, from its first byte.
    pub(crate) head: Duration,
    /// For something to move of a body, either way; twice that at most.
    pub(crate) body: Duration,
    /// For a connection to an endpoint, where the request's time is not nearer.
    pub(crate) connect: Duration,
    /// For a client to take an answer of ours.
    pub(crate) reply: Duration,
    /// For a client to close a connection that we have closed.
    pub(crate) linger: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // Long: a client that sends just when its connection is closed has lost the request.
            keep_alive: Duration::from_secs(15 * 60),
            head: Duration::from_secs(30),
            // As nginx has for either direction.
            body: Duration::from_secs(60),
            connect: Duration::from_secs(10),
            reply: Duration::from_secs(10),
            linger: Duration::from_secs(2),
        }
    }
}
