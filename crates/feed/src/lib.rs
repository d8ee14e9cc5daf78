//! What the agent and its proxy tell each other: bytes in, decisions out.
//!
//! The agent publishes [`Snapshot`](selvedge_model::Snapshot)s through a [`Publication`], the proxy
//! follows them with a [`Subscription`]: everything at first, then what changed, by generation. What
//! flows back is a [`ToAgent`]: acknowledgements, answers to probes, counters, what was seen of requests
//! ([`TrafficPart`]), what the controllers did ([`JournalPart`]), and where scrapers are served a request for the metrics ([`MetricsPart`]). A connection begins with a [`SocketList`],
//! which names the descriptors that travel beside it (one for the access log may come later), then both sides speak frames: a length of four
//! bytes, big-endian, and a protobuf message.
//!
//! Nothing here performs IO, reads a clock or trusts the other side: each direction has a bound per
//! frame, each repeated field one of its own, and a resource that cannot be taken is refused by name
//! while its last good version stays in force. Read next: [`Publication`], [`Subscription`], then
//! `crates/proxy/src/discovery.rs` for the proxy's end of the socket.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod convert;
mod counter;
mod frame;
mod handover;
mod journal;
mod message;
mod metrics;
mod publication;
mod settings;
mod subscription;
mod traffic;
mod wire;

pub use counter::Counter;
pub use frame::{Decoder, FrameError};
pub use handover::{SocketKind, SocketList, SocketListError};
pub use journal::JournalPart;
pub use message::{AccessLog, Ack, DecodeError, Refusal, Report, ToAgent, ToProxy, Update};
pub use metrics::{MetricsAnswer, MetricsPart, MetricsTooLong};
pub use publication::{Publication, UnexpectedAck};
pub use settings::{Ipv6Answer, Settings};
pub use subscription::{Progress, Subscription, UpdateError, View};
pub use traffic::{TrafficPart, TrafficReading, TrafficTooLong};

/// Version of what is spoken on the feed socket, in the [`SocketList`] and in [`ToAgent::Hello`]. What
/// a socket of the list brings is part of it: 2 since that for IPv4 says who sent a datagram, 3 since
/// connections to services may come, and updates hold routes, request policies and ways, 4 since the proxy
/// tells what its controllers do.
pub const VERSION: u8 = 6;

/// Longest message the agent sends, in bytes. Updates are cut into parts far below it.
pub const MAX_TO_PROXY_BYTES: usize = 16 << 20;

/// Longest message the proxy sends, in bytes.
pub const MAX_TO_AGENT_BYTES: usize = 256 << 10;

/// Longest text of metrics that is handed to the proxy, in bytes. Some 100,000 samples.
pub const MAX_METRICS_BYTES: usize = 16 << 20;
