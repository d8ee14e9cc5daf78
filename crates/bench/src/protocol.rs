//! What the bench asks of its workers, and what they answer: one JSON value a line, over a unix
//! socket, which no mesh touches.
//!
//! A worker answers each task in turn; what takes long runs beside ([`Task::Begin`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::load::{self, Target};
use crate::process::Bill;

/// The first a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The name it was started with.
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// What a worker can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Run on this CPU alone; threads started later do too. Answer: nothing.
    Pin(usize),
    /// Answer: CPU time used so far, in nanoseconds.
    CpuTime,
    /// Ask the C library for a name. Answer: [`SocketAddr`].
    Resolve { name: String, port: u16 },
    /// Serve from now on. Answer: the address bound, as [`SocketAddr`].
    Serve { what: Served, at: SocketAddr },
    /// Send `bytes` to and fro on one connection. Answer: [`Batch`].
    PingPong {
        to: SocketAddr,
        bytes: usize,
        for_ms: u64,
    },
    /// Connect, read one byte, close; each address in turn. Answer: [`Batch`].
    Connects { to: Vec<SocketAddr>, for_ms: u64 },
    /// Send one datagram and await its echo. Answer: [`Batch`].
    Datagrams {
        to: SocketAddr,
        connected: bool,
        bytes: usize,
        for_ms: u64,
    },
    /// Ask a DNS server. Answer: [`Batch`].
    Queries {
        server: SocketAddr,
        names: Names,
        window: usize,
        for_ms: u64,
    },
    /// Start a load. Answer: nothing.
    Begin(Load),
    /// Answer: operations the load has ended so far, as `u64`.
    Progress,
    /// End the load, letting each thread finish its operation. Answer: [`LoadReport`].
    End,
    /// Open connections and keep them. Answer: [`Held`].
    Hold { to: SocketAddr, count: usize },
    /// Close what is held. Answer: nothing.
    Release,
    /// Answer: [`Crowd`] of the server of many.
    Crowd,
    /// Listen as an HTTP origin. It answers only while [`Self::Exchange`] or [`Self::Attend`] is
    /// done. Answer: the address bound, as [`SocketAddr`].
    Origin { at: SocketAddr, body_bytes: usize },
    /// Put a load on a proxy in front of the origin. Answer: [`Exchanged`].
    Exchange(HttpLoad),
    /// Be a client of a scenario. Answer: nothing.
    Ask(Asking),
    /// Wait until that has its last answer. Answer: [`Asked`].
    Asked,
    /// Serve the load of others. Answer: [`Attended`].
    Attend {
        warm_up_ms: u64,
        for_ms: u64,
        watched: Vec<u32>,
    },
}

/// What a client of a scenario asks, where, and from when on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asking {
    /// By name or file.
    pub(crate) scenario: String,
    /// How long it takes here.
    pub(crate) length: Duration,
    /// The client, by its place.
    pub(crate) client: usize,
    pub(crate) target: Target,
    /// The scenario's beginning, on the clock of [`crate::clock::monotonic_ns`].
    pub(crate) begins_ns: u64,
    pub(crate) seed: u64,
}

/// How a client of a scenario was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// By when requests were meant to be sent, since the beginning.
    pub(crate) seconds: Vec<AskedSecond>,
    /// Microseconds from when each request was meant to be sent until it was.
    pub(crate) lags_us: Vec<u32>,
    /// Requests that were too many to be sent.
    pub(crate) unsent: u64,
}

/// Requests that were meant to be sent in one second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AskedSecond {
    pub(crate) offered: u64,
    /// Microseconds from then to each good answer.
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) expired: u64,
}

/// An HTTP load, and whose CPU time it costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HttpLoad {
    pub(crate) options: load::LoadOptions,
    pub(crate) to: SocketAddr,
    pub(crate) watched: Vec<u32>,
}

/// How an HTTP load went, and what the watched processes used while its requests counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Exchanged {
    pub(crate) report: load::LoadReport,
    pub(crate) bill: Bill,
}

/// How many requests the origin answered, and what the watched processes used meanwhile.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Attended {
    pub(crate) requests: u64,
    pub(crate) bill: Bill,
}

/// What a worker can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Served {
    /// TCP, one connection at a time: everything is sent back.
    Echo,
    /// TCP, one connection at a time: a byte is sent, then the client closes.
    Greeting,
    /// TCP, many at a time: the process id is sent as 8 bytes (big-endian), then everything is sent
    /// back; at [`CLOSE`] the server closes.
    Many,
    /// UDP: everything is sent back.
    Datagrams,
    /// UDP: every DNS question is answered by one address.
    Names,
}

/// The byte at which a server of many closes.
pub(crate) const CLOSE: u8 = 0xff;

/// Which names are asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Names {
    /// This one, every time.
    One(String),
    /// Another one each time, below this.
    Fresh(String),
}

/// What many equal operations took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Batch {
    /// All of them, those included that came before the first that was timed: CPU time is of all.
    pub(crate) operations: u64,
    /// Those whose time was taken; `wall_ns` is of these.
    pub(crate) timed: u64,
    /// Operations that got no answer, or were answered by an error.
    pub(crate) lost: u64,
    pub(crate) wall_ns: u64,
    /// Middle and 99th of 100 single times.
    pub(crate) p50_ns: u32,
    pub(crate) p99_ns: u32,
    pub(crate) slowest_ns: u32,
    /// CPU time of the worker that asked.
    pub(crate) cpu_ns: u64,
}

/// A load that runs until it is ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// Connect, read who serves, send a byte to and fro, close. Every `hold_every`th connection
    /// stays open for `hold_ms`.
    Connections {
        to: SocketAddr,
        threads: usize,
        hold_every: u64,
        hold_ms: u64,
        pause_us: u64,
    },
    /// Keep connections open, with a byte to and fro every 10 ms.
    Kept { to: SocketAddr, connections: usize },
    /// Look up names that are not the mesh's, as a client library does.
    Lookups {
        server: SocketAddr,
        client: Resolver,
        threads: usize,
        pause_us: u64,
    },
    /// Use and abuse a service in every way a client can.
    Abuse {
        to: SocketAddr,
        threads: usize,
        seed: u64,
    },
}

/// How a client library repeats a query that was not answered within 5 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Resolver {
    /// glibc: the same query again on the same socket.
    Glibc,
    /// Go: another query on another socket.
    Go,
}

/// How a load went.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoadReport {
    /// Operations by how they ended; [`SERVED`] is the good end.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// The first failures, at most [`MAX_FAILURES`].
    pub(crate) failures: Vec<Failure>,
    /// Processes that served.
    pub(crate) servers: BTreeMap<u64, u64>,
    pub(crate) slowest_ns: u64,
    /// Most sendings of one query.
    pub(crate) most_tries: u32,
}

/// The outcome of an operation that went well.
pub(crate) const SERVED: &str = "served";
/// Most failures that are told one by one.
pub(crate) const MAX_FAILURES: usize = 4096;

/// An operation that failed. Times are on the clock of [`crate::clock::monotonic_ns`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) began_ns: u64,
    pub(crate) ended_ns: u64,
    /// Who served it, where that was known.
    pub(crate) server: Option<u64>,
    /// What failed: the step and the error.
    pub(crate) how: String,
}

/// What came of opening connections to keep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) opened: usize,
    /// The error that ended it, where fewer were opened than wanted.
    pub(crate) error: Option<String>,
}

/// What a server of many saw.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Crowd {
    pub(crate) accepted: u64,
    pub(crate) open: u64,
    /// Most that were open at once.
    pub(crate) most: u64,
}

impl LoadReport {
    /// Counts one operation that failed.
    pub(crate) fn fail(&mut self, failure: Failure) {
        *self.outcomes.entry(failure.how.clone()).or_default() += 1;
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(failure);
        }
    }

    /// Counts one operation that ended as is said.
    pub(crate) fn count(&mut self, outcome: &str) {
        match self.outcomes.get_mut(outcome) {
            Some(count) => *count += 1,
            None => {
                self.outcomes.insert(outcome.to_owned(), 1);
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        for (server, count) in other.servers {
            *self.servers.entry(server).or_default() += count;
        }
        let room = MAX_FAILURES - self.failures.len();
        self.failures.extend(other.failures.into_iter().take(room));
        self.slowest_ns = self.slowest_ns.max(other.slowest_ns);
        self.most_tries = self.most_tries.max(other.most_tries);
    }

    pub(crate) fn served(&self) -> u64 {
        self.outcomes.get(SERVED).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Operations that failed, told one by one or not.
    pub(crate) fn failed(&self) -> u64 {
        self.total() - self.served()
    }
}
