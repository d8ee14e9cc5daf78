//! Events from kernel programs: bytes of the ring in, [`Event`]s out. Pure.

use selvedge_model::{CgroupId, Port, Protocol};
use zerocopy::FromBytes;

use crate::abi;

/// Something the kernel saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A workload's first socket listens on a port.
    Listening {
        /// Whose.
        cgroup: CgroupId,
        /// The port it asked for.
        port: Port,
        /// TCP or UDP.
        protocol: Protocol,
    },
    /// Its last socket on that port is gone.
    Gone {
        /// Whose.
        cgroup: CgroupId,
        /// The port it asked for.
        port: Port,
        /// TCP or UDP.
        protocol: Protocol,
    },
    /// The last process of a workload has ended.
    Emptied {
        /// Whose.
        cgroup: CgroupId,
    },
}

impl Event {
    /// Reads one record of the ring; `None` for what no program of ours writes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let event = abi::Event::read_from_bytes(bytes).ok()?;
        let cgroup = CgroupId(event.cgroup);
        let port = Port::new(u16::from_be(event.asked))?;
        let protocol = Protocol::from_number(event.protocol)?;
        match event.kind {
            abi::EVENT_LISTENING => Some(Self::Listening {
                cgroup,
                port,
                protocol,
            }),
            abi::EVENT_GONE => Some(Self::Gone {
                cgroup,
                port,
                protocol,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn only_whole_known_events_are_read() {
        let raw = abi::Event {
            cgroup: 7,
            asked: 8080u16.to_be(),
            actual: 61000u16.to_be(),
            kind: abi::EVENT_LISTENING,
            protocol: 6,
            pad: [0; 2],
        };
        let port = Port::new(8080).unwrap();
        let want = Event::Listening {
            cgroup: CgroupId(7),
            port,
            protocol: Protocol::Tcp,
        };
        assert_eq!(Event::decode(raw.as_bytes()), Some(want));
        for cut in 0..size_of::<abi::Event>() {
            assert_eq!(Event::decode(&raw.as_bytes()[..cut]), None);
        }
        for wrong in [
            abi::Event { kind: 9, ..raw },
            abi::Event { protocol: 1, ..raw },
            abi::Event { asked: 0, ..raw },
        ] {
            assert_eq!(Event::decode(wrong.as_bytes()), None);
        }
    }
}
