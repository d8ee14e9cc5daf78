//! What the proxy has seen of requests on its way to the agent.
//!
//! The agent asks with [`ToProxy::TrafficRequest`](crate::ToProxy::TrafficRequest), or the proxy tells
//! before it asks for metrics. It comes in parts, since with many routes it is long, and each part is
//! far below the bound of a message.

use alloc::vec::Vec;

use prost::Message as _;
use selvedge_model::Traffic;

use crate::convert::traffic as convert;
use crate::message::DecodeError;
use crate::wire::traffic as wire;

/// Bytes after which a part ends. The longest entry, a backend with [`Traffic::MAX_ENDPOINTS`]
/// endpoints, takes some 64 KiB more.
const PART_BYTES: usize = 64 << 10;

/// Part of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficPart {
    content: Traffic,
    is_last: bool,
}

impl TrafficPart {
    /// The parts of a reading, in order. Of what is more than [`Traffic::MAX_ENTRIES`] the first are
    /// told.
    pub fn cut(traffic: &Traffic) -> Vec<Self> {
        let mut cutter = Cutter::default();
        for (path, ends) in traffic.paths.iter().take(Traffic::MAX_ENTRIES) {
            let part = cutter.room(convert::path_out(path, ends).encoded_len());
            part.content.paths.insert(path.clone(), ends.clone());
        }
        for (led, latency) in traffic.latency_us.iter().take(Traffic::MAX_ENTRIES) {
            let part = cutter.room(convert::latency_out((led, latency)).encoded_len());
            part.content.latency_us.insert(led.clone(), latency.clone());
        }
        for (backend, reading) in traffic.backends.iter().take(Traffic::MAX_ENTRIES) {
            let part = cutter.room(convert::backend_out(backend, reading).encoded_len());
            part.content
                .backends
                .insert(backend.clone(), reading.clone());
        }
        cutter.current.is_last = true;
        cutter.parts.push(cutter.current);
        cutter.parts
    }
}

#[derive(Default)]
struct Cutter {
    parts: Vec<TrafficPart>,
    current: TrafficPart,
    bytes: usize,
}

impl Cutter {
    /// The part that an entry of this length belongs to.
    fn room(&mut self, length: usize) -> &mut TrafficPart {
        if self.bytes > 0 && self.bytes + length > PART_BYTES {
            self.parts.push(core::mem::take(&mut self.current));
            self.bytes = 0;
        }
        self.bytes += length;
        &mut self.current
    }
}

impl From<TrafficPart> for wire::TrafficPart {
    fn from(TrafficPart { content, is_last }: TrafficPart) -> Self {
        let paths = content.paths.iter();
        let backends = content.backends.iter();
        Self {
            paths: paths
                .map(|(path, ends)| convert::path_out(path, ends))
                .collect(),
            latencies: content
                .latency_us
                .iter()
                .map(convert::latency_out)
                .collect(),
            backends: backends
                .map(|(backend, reading)| convert::backend_out(backend, reading))
                .collect(),
            last: is_last,
        }
    }
}

impl TryFrom<wire::TrafficPart> for TrafficPart {
    type Error = DecodeError;

    fn try_from(part: wire::TrafficPart) -> Result<Self, DecodeError> {
        let wrong = |_| DecodeError::Traffic;
        let mut content = Traffic::default();
        for path in part.paths {
            let (path, ends) = convert::path_in(path).map_err(wrong)?;
            content.paths.insert(path, ends);
        }
        for latency in part.latencies {
            let (led, latency) = convert::latency_in(latency).map_err(wrong)?;
            content.latency_us.insert(led, latency);
        }
        for reading in part.backends {
            let (backend, reading) = convert::backend_in(reading).map_err(wrong)?;
            content.backends.insert(backend, reading);
        }
        Ok(Self {
            content,
            is_last: part.last,
        })
    }
}

/// Puts the parts of one reading after another together.
#[derive(Debug, Default)]
pub struct TrafficReading {
    content: Traffic,
}

impl TrafficReading {
    /// Takes a part; gives the reading once it is whole.
    ///
    /// # Errors
    /// More than [`Traffic::MAX_ENTRIES`] of anything: close the connection.
    pub fn on_part(&mut self, part: TrafficPart) -> Result<Option<Traffic>, TrafficTooLong> {
        let TrafficPart { content, is_last } = part;
        self.content.paths.extend(content.paths);
        self.content.latency_us.extend(content.latency_us);
        self.content.backends.extend(content.backends);
        let lengths = [
            self.content.paths.len(),
            self.content.latency_us.len(),
            self.content.backends.len(),
        ];
        if lengths
            .into_iter()
            .any(|length| length > Traffic::MAX_ENTRIES)
        {
            return Err(TrafficTooLong);
        }
        Ok(is_last.then(|| core::mem::take(&mut self.content)))
    }
}

/// The parts of a reading hold more than any reading: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reading of more than {} entries came", Traffic::MAX_ENTRIES)]
pub struct TrafficTooLong;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_TO_AGENT_BYTES, ToAgent};
    use alloc::{format, vec};
    use selvedge_model::{
        BackendReading, EndpointPace, EndpointTraffic, Histogram, Place, Port, TrafficEdge,
        TrafficEnd, TrafficPath, TrafficUnit,
    };

    fn path(number: usize) -> TrafficPath {
        TrafficPath {
            edge: TrafficEdge {
                source: None,
                destination: Some("cart".parse().unwrap()),
            },
            unit: TrafficUnit::Request,
            route: Some(format!("HTTPRoute/default/{number}/0")),
            backend: None,
        }
    }

    fn whole(parts: impl IntoIterator<Item = TrafficPart>) -> Result<Traffic, TrafficTooLong> {
        let mut reading = TrafficReading::default();
        let mut whole = None;
        for part in parts {
            assert!(whole.is_none(), "nothing comes behind the last part");
            whole = reading.on_part(part)?;
        }
        Ok(whole.expect("the last part came"))
    }

    #[test]
    fn ten_thousand_routes_and_their_longest_backend_arrive_in_messages_that_are_short_enough() {
        let ends = [(TrafficEnd::new(200, None), 7)].into();
        let paths = (0..10_000).map(|number| (path(number), Clone::clone(&ends)));
        let mut latency_us = Histogram::new();
        (0..1 << 26)
            .step_by(1 << 14)
            .for_each(|us| latency_us.record(us));
        let endpoint = |number: u16| EndpointTraffic {
            place: Place::Outside([0xffff; 8].into()),
            port: Port::new(number).unwrap(),
            in_flight: u32::MAX,
            is_ejected: true,
            ejections: u64::MAX,
            pace: Some(EndpointPace {
                mean_us: u32::MAX,
                good_per_mille: 1000,
            }),
        };
        let backend = selvedge_model::Backend {
            service: "cart".parse().unwrap(),
            port: Port::MAX,
        };
        let reading = BackendReading {
            latency_us,
            endpoints: (1..=1024).map(endpoint).collect(),
            ..BackendReading::default()
        };
        let traffic = Traffic {
            paths: paths.collect(),
            backends: [(backend, reading)].into(),
            ..Traffic::default()
        };
        let parts = TrafficPart::cut(&traffic);
        assert!(parts.len() > 5);
        let arrived = parts.into_iter().map(|part| {
            let frame = ToAgent::Traffic(part).encode();
            assert!(frame.len() < MAX_TO_AGENT_BYTES, "{}", frame.len());
            match ToAgent::decode(&frame[4..]) {
                Ok(ToAgent::Traffic(part)) => part,
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(whole(arrived), Ok(traffic));
    }

    #[test]
    fn more_than_the_bound_is_neither_told_nor_taken() {
        let ends = || [(TrafficEnd::default(), 1)].into();
        let paths = (0..=Traffic::MAX_ENTRIES).map(|number| (path(number), ends()));
        let traffic = Traffic {
            paths: paths.collect(),
            ..Traffic::default()
        };
        let told = whole(TrafficPart::cut(&traffic)).unwrap();
        assert_eq!(told.paths.len(), Traffic::MAX_ENTRIES);
        let hostile = TrafficPart {
            content: traffic,
            is_last: false,
        };
        assert_eq!(
            TrafficReading::default().on_part(hostile),
            Err(TrafficTooLong)
        );
    }

    #[test]
    fn what_no_proxy_says_is_refused() {
        let end = |class| wire::TrafficEnd {
            class,
            reason: 0,
            count: 1,
        };
        let edge = wire::TrafficEdge::default();
        let part = |class, route: &str, first| wire::TrafficPart {
            paths: vec![wire::TrafficPath {
                edge: edge.clone(),
                route: Some(route.into()),
                ends: vec![end(class)],
                ..wire::TrafficPath::default()
            }],
            latencies: vec![wire::RouteLatency {
                edge: edge.clone(),
                latency_us: wire::Histogram {
                    first,
                    counts: vec![1; 3],
                    sum: 1,
                },
                route: Some(route.into()),
            }],
            ..wire::TrafficPart::default()
        };
        let is_taken = |part| TrafficPart::try_from(part).is_ok();
        assert!(is_taken(part(5, "r", 493)));
        assert!(!is_taken(part(6, "r", 493)));
        assert!(!is_taken(part(5, "\u{1b}[2J", 493)));
        assert!(!is_taken(part(5, &"r".repeat(513), 493)));
        assert!(!is_taken(part(5, "r", 494)));
        assert!(!is_taken(part(5, "r", u32::MAX)));
    }
}
