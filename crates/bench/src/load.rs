//! `selvedge bench load`: HTTP/1.1 requests, closed loop or open.
//!
//! Closed: each connection sends its next request once the last is answered. Open: requests are due
//! at instants that do not depend on answers, and their latency counts from that instant, so that a
//! server that stalls is charged for everybody who had to wait (Tene, "How NOT to measure latency",
//! 2013). A run is bounded in time, requests, connections and queue. Read next: `load/client.rs`.

mod arrivals;
mod client;
mod connection;
mod drive;
mod latency;
mod report;
mod request;
mod tally;
mod target;
mod window;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use arrivals::Arrivals;
pub(crate) use drive::drive;
pub use drive::load;
pub use report::{Latency, LoadReport, Outcomes};
pub(crate) use request::ID_FIELD;
pub use target::{MalformedTarget, Target};

/// What to send, how much of it and how fast.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadOptions {
    /// Where to, and which path.
    pub target: Target,
    /// Connections, all kept open; at least 1.
    pub connections: usize,
    /// Who decides when a request is sent.
    pub pace: Pace,
    /// How long requests count; at most [`Self::LONGEST`].
    pub duration: Duration,
    /// How long requests are sent before they count.
    pub warm_up: Duration,
    /// Most requests, those of the warm-up included.
    pub requests: u64,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What an answer is to keep; those that do are counted.
    pub objective: Option<Duration>,
    /// Of 100 requests, how many are a POST; the others are a GET.
    pub posts: u8,
    /// Bytes of a POST's body.
    pub body_bytes: usize,
    /// More fields: name and value of each.
    pub fields: Vec<(String, String)>,
    /// Decides arrivals, which requests are a POST, and the first half of every id.
    pub seed: u64,
    /// Where to write a line for each request: method, id, and status (with the mesh's reason
    /// where it refused) or error.
    pub record: Option<PathBuf>,
}

/// Who decides when a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// The server: one request after the other on each connection.
    Closed,
    /// The clock.
    Open {
        /// Requests each second on average.
        rate: f64,
        /// How they are spread.
        arrivals: Arrivals,
        /// Most requests that are due and wait for a connection; one more is counted and not sent.
        queue: usize,
    },
}

impl LoadOptions {
    /// Connections unless told otherwise.
    pub const CONNECTIONS: usize = 64;
    /// Most connections: with one address of the server there are no more ports.
    pub const MOST_CONNECTIONS: usize = 28_000;
    /// Longest run and longest warm-up.
    pub const LONGEST: Duration = crate::duration::LONGEST;
    /// Most requests unless told otherwise: what ids can be told apart for.
    pub const MOST_REQUESTS: u64 = u32::MAX as u64;
    /// Waiting requests unless told otherwise: 2 s of 5,000 a second.
    pub const QUEUE: usize = 10_000;
    /// Body of a POST unless told otherwise.
    pub const BODY_BYTES: usize = 128;
    /// Largest body of a POST.
    pub const MOST_BODY_BYTES: usize = 16 << 20;

    /// Closed loop for 10 s after 1 s, GET only.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            connections: Self::CONNECTIONS,
            pace: Pace::Closed,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(1),
            requests: Self::MOST_REQUESTS,
            timeout: Duration::from_secs(10),
            objective: None,
            posts: 0,
            body_bytes: Self::BODY_BYTES,
            fields: Vec::new(),
            seed: 0,
            record: None,
        }
    }
}

#[cfg(test)]
mod tests;
