//! The protobuf twins of the journal of controllers, on its way and in its files, and of what is held.

use alloc::string::String;
use alloc::vec::Vec;

use super::traffic::Backend;
use super::{Name, Place};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JournalPart {
    /// When the moment 0 of the entries was, in ns since 1970.
    #[prost(fixed64, tag = "1")]
    pub(crate) epoch_unix_ns: u64,
    /// How many entries the proxy had told before.
    #[prost(uint64, tag = "2")]
    pub(crate) sequence: u64,
    /// The number of the first entry; 0 before the agent has given it one.
    #[prost(uint64, tag = "3")]
    pub(crate) number: u64,
    /// Whether the states of all controllers come first.
    #[prost(bool, tag = "4")]
    pub(crate) beginning: bool,
    #[prost(message, repeated, tag = "5")]
    pub(crate) entries: Vec<JournalEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JournalEntry {
    #[prost(message, required, tag = "1")]
    pub(crate) about: Limited,
    #[prost(oneof = "JournalEvent", tags = "2, 3, 4, 5")]
    pub(crate) event: Option<JournalEvent>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Limited {
    #[prost(oneof = "LimitedBody", tags = "1, 2")]
    pub(crate) body: Option<LimitedBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum LimitedBody {
    #[prost(message, tag = "1")]
    Endpoint(LimitedEndpoint),
    #[prost(message, tag = "2")]
    Entry(LimitedEntry),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LimitedEndpoint {
    #[prost(oneof = "Place", tags = "1, 2")]
    pub(crate) place: Option<Place>,
    #[prost(message, required, tag = "3")]
    pub(crate) backend: Backend,
    #[prost(uint32, tag = "4")]
    pub(crate) port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LimitedEntry {
    #[prost(message, required, tag = "1")]
    pub(crate) service: Name,
    #[prost(string, tag = "2")]
    pub(crate) route: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum JournalEvent {
    #[prost(message, tag = "2")]
    State(State),
    #[prost(message, tag = "3")]
    Decided(Decided),
    #[prost(message, tag = "4")]
    Held(Held),
    #[prost(message, tag = "5")]
    Gone(Gone),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct State {
    #[prost(uint64, tag = "1")]
    pub(crate) at_ns: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) objective_ns: u64,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) fixed: Option<u32>,
    #[prost(bool, tag = "4")]
    pub(crate) applied: bool,
    #[prost(uint32, tag = "5")]
    pub(crate) limit: u32,
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) memory: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Decided {
    #[prost(uint64, tag = "1")]
    pub(crate) began_ns: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) ended_ns: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) limit_before: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) peak: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) samples: u32,
    #[prost(double, tag = "6")]
    pub(crate) mean: f64,
    #[prost(double, tag = "7")]
    pub(crate) median: f64,
    #[prost(double, tag = "8")]
    pub(crate) q95: f64,
    #[prost(double, tag = "9")]
    pub(crate) q95_low: f64,
    #[prost(double, tag = "10")]
    pub(crate) q95_high: f64,
    #[prost(uint64, tag = "11")]
    pub(crate) refused: u64,
    #[prost(double, tag = "12")]
    pub(crate) refused_share: f64,
    #[prost(uint64, tag = "13")]
    pub(crate) ended: u64,
    #[prost(uint64, tag = "14")]
    pub(crate) wasted: u64,
    #[prost(uint32, tag = "15")]
    pub(crate) limit: u32,
    #[prost(bool, tag = "16")]
    pub(crate) fresh: bool,
    /// The number of a reason.
    #[prost(uint32, tag = "17")]
    pub(crate) why: u32,
    #[prost(double, tag = "18")]
    pub(crate) floor: f64,
    #[prost(bool, tag = "19")]
    pub(crate) applied: bool,
    #[prost(uint64, tag = "20")]
    pub(crate) refused_behind: u64,
    #[prost(uint64, tag = "21")]
    pub(crate) late_behind: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Held {
    #[prost(uint64, tag = "1")]
    pub(crate) at_ns: u64,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) limit: Option<u32>,
    #[prost(bool, tag = "3")]
    pub(crate) resting: bool,
    /// The number of a doubt; 0 is none.
    #[prost(uint32, tag = "4")]
    pub(crate) doubt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Gone {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JournalRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Holds {
    /// By which it is acknowledged.
    #[prost(uint64, tag = "1")]
    pub(crate) version: u64,
    #[prost(bool, tag = "2")]
    pub(crate) everything: bool,
    #[prost(message, repeated, tag = "3")]
    pub(crate) services: Vec<Name>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) pins: Vec<Pin>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) rests: Vec<Pin>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Pin {
    #[prost(message, required, tag = "1")]
    pub(crate) about: Limited,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) limit: Option<u32>,
}
