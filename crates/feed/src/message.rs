//! Messages as closed types, and the bounds on what the other side may put into them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use prost::Message as _;
use selvedge_model::{Generation, Holds};

use crate::convert::journal::{holds_in, holds_out};
use crate::wire::{self, ToAgentBody, ToProxyBody};
use crate::{Counter, JournalPart, MetricsPart, TrafficPart, frame};

/// What the agent tells the proxy.
#[derive(Clone, Debug, PartialEq)]
pub enum ToProxy {
    /// Configuration, for [`crate::Subscription::on_update`].
    Update(Update),
    /// Are you alive? To be answered with the same number.
    Probe(u64),
    /// Part of what [`ToAgent::MetricsRequest`] asked for, for [`crate::MetricsAnswer::on_part`].
    Metrics(MetricsPart),
    /// What was seen of requests, please. To be sent again only when the answer is whole.
    TrafficRequest,
    /// Where the access log goes from here on: to the descriptor that travels beside the first byte of
    /// this frame. `None`, with no descriptor, is nowhere.
    AccessLog(Option<AccessLog>),
    /// The journal is to begin anew, with the states of all controllers.
    JournalRequest,
    /// What nothing is to move, in the place of what that was before.
    Hold {
        /// To be said in [`ToAgent::Held`].
        version: u64,
        /// What it is.
        holds: Holds,
    },
}

/// What the access log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Of so many requests one is logged, and every one that is refused.
    pub one_of: NonZeroU32,
    /// Whether with the query of its target, which may hold secrets.
    pub has_query: bool,
}

impl ToProxy {
    /// The message as a frame.
    pub fn encode(self) -> Vec<u8> {
        let body = match self {
            Self::Update(Update(update)) => ToProxyBody::Update(update),
            Self::Probe(nonce) => ToProxyBody::Probe(nonce),
            Self::Metrics(MetricsPart { text, is_last }) => {
                ToProxyBody::Metrics(wire::MetricsPart {
                    text,
                    last: is_last,
                })
            }
            Self::TrafficRequest => ToProxyBody::TrafficRequest(wire::TrafficRequest {}),
            Self::AccessLog(log) => ToProxyBody::AccessLog(wire::AccessLog {
                one_of: log.map_or(0, |log| log.one_of.get()),
                query: log.is_some_and(|log| log.has_query),
            }),
            Self::JournalRequest => ToProxyBody::JournalRequest(wire::journal::JournalRequest {}),
            Self::Hold { version, holds } => ToProxyBody::Hold(holds_out(version, &holds)),
        };
        frame::encode(&wire::ToProxy { body: Some(body) })
    }

    /// Reads what a [`crate::Decoder`] cut out.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        match wire::ToProxy::decode(message)?.body {
            Some(ToProxyBody::Update(update)) => Ok(Self::Update(Update(update))),
            Some(ToProxyBody::Probe(nonce)) => Ok(Self::Probe(nonce)),
            Some(ToProxyBody::Metrics(wire::MetricsPart { text, last })) => {
                Ok(Self::Metrics(MetricsPart {
                    text,
                    is_last: last,
                }))
            }
            Some(ToProxyBody::TrafficRequest(wire::TrafficRequest {})) => Ok(Self::TrafficRequest),
            Some(ToProxyBody::AccessLog(wire::AccessLog { one_of, query })) => {
                let log = |one_of| AccessLog {
                    one_of,
                    has_query: query,
                };
                Ok(Self::AccessLog(NonZeroU32::new(one_of).map(log)))
            }
            Some(ToProxyBody::JournalRequest(wire::journal::JournalRequest {})) => {
                Ok(Self::JournalRequest)
            }
            Some(ToProxyBody::Hold(holds)) => {
                let (version, holds) = holds_in(holds).map_err(|_| DecodeError::Journal)?;
                Ok(Self::Hold { version, holds })
            }
            None => Err(DecodeError::Unknown),
        }
    }
}

/// One part of a change, not yet looked into: a [`crate::Subscription`] does that.
#[derive(Clone, Debug, PartialEq)]
pub struct Update(pub(crate) Box<wire::Update>);

/// What the proxy tells the agent, who treats it as hostile.
#[derive(Clone, Debug, PartialEq)]
pub enum ToAgent {
    /// The first message of a connection.
    Hello {
        /// The feed version the proxy speaks.
        version: u32,
        /// Its process id, as it says; for messages only.
        pid: u32,
    },
    /// A generation is in force.
    Ack(Ack),
    /// The number of a probe.
    ProbeReply(u64),
    /// What the proxy counted.
    Report(Report),
    /// All metrics, please. To be sent again only when the answer is whole.
    MetricsRequest,
    /// Part of what was seen of requests, for [`crate::TrafficReading::on_part`]: the answer to
    /// [`ToProxy::TrafficRequest`], and before a request for metrics.
    Traffic(TrafficPart),
    /// What the controllers did.
    Journal(JournalPart),
    /// What came with this version of [`ToProxy::Hold`] is held.
    Held(u64),
}

/// A generation is in force at the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Which.
    pub generation: Generation,
    /// Resources that could not be taken; their last good version, if any, stays in force. At most
    /// [`Ack::MAX_REFUSALS`] of them.
    pub refusals: Vec<Refusal>,
    /// How many could not be taken in all.
    pub refused: u32,
}

impl Ack {
    /// Most refusals named in one message.
    pub const MAX_REFUSALS: usize = 64;

    /// Notes that a resource could not be taken.
    pub(crate) fn refuse(&mut self, resource: String, message: String) {
        self.refused = self.refused.saturating_add(1);
        if self.refusals.len() < Self::MAX_REFUSALS {
            self.refusals.push(Refusal::new(resource, message));
        }
    }
}

/// A resource the proxy could not take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Kind and name, as `Service cart.default`.
    pub resource: String,
    /// What is wrong with it.
    pub message: String,
}

impl Refusal {
    /// Longest text in bytes.
    pub const MAX_TEXT_BYTES: usize = 256;

    fn new(resource: String, message: String) -> Self {
        Self {
            resource: printable(resource),
            message: printable(message),
        }
    }
}

/// What the proxy counted since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Totals; what was never counted is left out.
    pub counters: BTreeMap<Counter, u64>,
    /// Outside names that were asked for and answered NXDOMAIN because a mesh service's name with a
    /// search suffix reads the same. At most [`Report::MAX_SHADOWED`] of them.
    pub shadowed: Vec<String>,
}

impl Report {
    /// Most shadowed names in one message.
    pub const MAX_SHADOWED: usize = 64;
}

impl ToAgent {
    /// The message as a frame.
    pub fn encode(self) -> Vec<u8> {
        let body = match self {
            Self::Hello { version, pid } => ToAgentBody::Hello(wire::Hello { version, pid }),
            Self::Ack(ack) => ToAgentBody::Ack(ack.into()),
            Self::ProbeReply(nonce) => ToAgentBody::ProbeReply(nonce),
            Self::Report(report) => ToAgentBody::Report(report.into()),
            Self::MetricsRequest => ToAgentBody::MetricsRequest(wire::MetricsRequest {}),
            Self::Traffic(part) => ToAgentBody::Traffic(part.into()),
            Self::Journal(part) => ToAgentBody::Journal(part.into()),
            Self::Held(version) => ToAgentBody::Held(version),
        };
        frame::encode(&wire::ToAgent { body: Some(body) })
    }

    /// Reads what a [`crate::Decoder`] cut out. Too much of anything is an error, and so is text that
    /// a terminal would not show as it is.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        match wire::ToAgent::decode(message)?.body {
            Some(ToAgentBody::Hello(wire::Hello { version, pid })) => {
                Ok(Self::Hello { version, pid })
            }
            Some(ToAgentBody::Ack(ack)) => ack.try_into().map(Self::Ack),
            Some(ToAgentBody::ProbeReply(nonce)) => Ok(Self::ProbeReply(nonce)),
            Some(ToAgentBody::Report(report)) => report.try_into().map(Self::Report),
            Some(ToAgentBody::MetricsRequest(wire::MetricsRequest {})) => Ok(Self::MetricsRequest),
            Some(ToAgentBody::Traffic(part)) => part.try_into().map(Self::Traffic),
            Some(ToAgentBody::Journal(part)) => part.try_into().map(Self::Journal),
            Some(ToAgentBody::Held(version)) => Ok(Self::Held(version)),
            None => Err(DecodeError::Unknown),
        }
    }
}

impl From<Ack> for wire::Ack {
    fn from(ack: Ack) -> Self {
        let refusal = |refusal: Refusal| wire::Refusal {
            resource: refusal.resource,
            message: refusal.message,
        };
        Self {
            generation: ack.generation.0,
            refusals: ack.refusals.into_iter().map(refusal).collect(),
            refused: ack.refused,
        }
    }
}

impl TryFrom<wire::Ack> for Ack {
    type Error = DecodeError;

    fn try_from(wire: wire::Ack) -> Result<Self, DecodeError> {
        at_most("refusals", wire.refusals.len(), Self::MAX_REFUSALS)?;
        let mut refusals = Vec::with_capacity(wire.refusals.len());
        for refusal in wire.refusals {
            refusals.push(Refusal {
                resource: checked_text(refusal.resource)?,
                message: checked_text(refusal.message)?,
            });
        }
        Ok(Self {
            generation: Generation(wire.generation),
            refusals,
            refused: wire.refused,
        })
    }
}

impl From<Report> for wire::Report {
    fn from(report: Report) -> Self {
        Self {
            counters: report
                .counters
                .into_iter()
                .map(|(counter, value)| wire::CounterValue {
                    counter: counter as u32,
                    value,
                })
                .collect(),
            shadowed: report.shadowed,
        }
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = DecodeError;

    /// Counters this side does not know are those of another version, and left out.
    fn try_from(wire: wire::Report) -> Result<Self, DecodeError> {
        const MAX_COUNTERS: usize = 1024;
        at_most("counters", wire.counters.len(), MAX_COUNTERS)?;
        at_most("shadowed names", wire.shadowed.len(), Self::MAX_SHADOWED)?;
        let known =
            |value: &wire::CounterValue| Some((Counter::from_number(value.counter)?, value.value));
        Ok(Self {
            counters: wire.counters.iter().filter_map(known).collect(),
            shadowed: wire
                .shadowed
                .into_iter()
                .map(checked_text)
                .collect::<Result<_, _>>()?,
        })
    }
}

fn at_most(what: &'static str, count: usize, bound: usize) -> Result<(), DecodeError> {
    if count > bound {
        return Err(DecodeError::TooMany { what, count, bound });
    }
    Ok(())
}

fn checked_text(text: String) -> Result<String, DecodeError> {
    if text.len() > Refusal::MAX_TEXT_BYTES || text.chars().any(char::is_control) {
        return Err(DecodeError::Text);
    }
    Ok(text)
}

/// Makes `text` one that [`checked_text`] takes.
fn printable(text: String) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        if kept.len() + c.len_utf8() > Refusal::MAX_TEXT_BYTES {
            break;
        }
        kept.push(if c.is_control() { '?' } else { c });
    }
    kept
}

/// Why the bytes of a frame are no message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not protobuf of the right shape.
    #[error("the message cannot be read: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A message of a kind this side does not know.
    #[error("the message is of an unknown kind")]
    Unknown,
    /// More elements than allowed.
    #[error("a message with {count} {what}, at most {bound} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many came.
        count: usize,
        /// The bound.
        bound: usize,
    },
    /// Too long, or with control characters in it.
    #[error("a text is too long or has control characters in it")]
    Text,
    /// A name, a number or a count that no proxy of this version sends.
    #[error("what was seen of requests cannot be as it is told")]
    Traffic,
    /// What no controller of this version does.
    #[error("what the controllers did cannot be as it is told")]
    Journal,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use alloc::vec;

    #[test]
    fn what_the_proxy_says_reads_back() {
        let refusal = Refusal::new("Service a.b".to_owned(), "port 0 is wrong".to_owned());
        for message in [
            ToAgent::Hello { version: 1, pid: 7 },
            ToAgent::ProbeReply(u64::MAX),
            ToAgent::MetricsRequest,
            ToAgent::Ack(Ack {
                generation: Generation(3),
                refusals: vec![refusal],
                refused: 1,
            }),
            ToAgent::Report(Report {
                counters: Counter::ALL.iter().map(|c| (*c, *c as u64 + 1)).collect(),
                shadowed: vec!["cart.corp.example".to_owned()],
            }),
        ] {
            let frame = message.clone().encode();
            assert_eq!(ToAgent::decode(&frame[4..]), Ok(message));
        }
    }

    #[test]
    fn too_much_and_unprintable_is_refused() {
        let check = |report: Report| {
            let frame = ToAgent::Report(report).encode();
            ToAgent::decode(&frame[4..]).map(|_| ())
        };
        let names = |count: usize, name: &str| Report {
            shadowed: vec![name.to_owned(); count],
            ..Report::default()
        };
        assert_eq!(check(names(64, "a.b")), Ok(()));
        assert!(matches!(
            check(names(65, "a.b")),
            Err(DecodeError::TooMany { .. })
        ));
        assert_eq!(check(names(1, "a\u{1b}[2J")), Err(DecodeError::Text));
        assert_eq!(check(names(1, &"a".repeat(257))), Err(DecodeError::Text));
        assert_eq!(ToAgent::decode(&[]), Err(DecodeError::Unknown));
        assert_eq!(ToProxy::decode(&[]), Err(DecodeError::Unknown));
    }

    #[test]
    fn refusals_are_made_so_that_they_pass() {
        let refusal = Refusal::new("ä".repeat(200), "\n".to_owned());
        assert_eq!(refusal.resource.len(), 256);
        assert_eq!(checked_text(refusal.message), Ok("?".to_owned()));
    }
}
