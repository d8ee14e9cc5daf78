//! The first bytes of a feed connection: which listening sockets travel beside them.
//!
//! The agent sends these bytes and the descriptors (`SCM_RIGHTS`) in one message, in the same order.
//! Descriptors only ever flow from the agent to the proxy.

use alloc::vec::Vec;

const MAGIC: &[u8; 4] = b"SELV";
const HEADER_BYTES: usize = MAGIC.len() + 2;

/// What a handed-over socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SocketKind {
    /// DNS over UDP, bound to 127.0.0.1; on a host with IPv6 as an IPv6 socket, to the v4-mapped form.
    DnsUdpV4 = 1,
    /// DNS over UDP, bound to ::1.
    DnsUdpV6 = 2,
    /// DNS over TCP, listening on 127.0.0.1.
    DnsTcpV4 = 3,
    /// DNS over TCP, listening on ::1.
    DnsTcpV6 = 4,
    /// Metrics over HTTP, listening on a loopback address of the user's choice.
    Metrics = 5,
}

impl SocketKind {
    /// Those of the resolver, which share a port.
    pub const RESOLVER: [Self; 4] = [
        Self::DnsUdpV4,
        Self::DnsUdpV6,
        Self::DnsTcpV4,
        Self::DnsTcpV6,
    ];

    /// Every kind there is.
    pub const ALL: [Self; 5] = {
        let [udp4, udp6, tcp4, tcp6] = Self::RESOLVER;
        [udp4, udp6, tcp4, tcp6, Self::Metrics]
    };

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The kinds of the descriptors that come with it, in their order. Each kind at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketList {
    kinds: Vec<SocketKind>,
}

impl SocketList {
    /// Most descriptors that can travel at once.
    pub const MAX_SOCKETS: usize = SocketKind::ALL.len();

    /// Longest list in bytes.
    pub const MAX_BYTES: usize = HEADER_BYTES + Self::MAX_SOCKETS;

    /// Lists `kinds`; the first of equal ones counts.
    pub fn new(kinds: impl IntoIterator<Item = SocketKind>) -> Self {
        let mut list = Self::default();
        for kind in kinds {
            if !list.kinds.contains(&kind) {
                list.kinds.push(kind);
            }
        }
        list
    }

    /// The kinds in order.
    pub fn kinds(&self) -> &[SocketKind] {
        &self.kinds
    }

    /// The bytes to send together with the descriptors.
    pub fn encode(&self) -> Vec<u8> {
        let count =
            u8::try_from(self.kinds.len()).expect("there are few kinds, and each at most once");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.kinds.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[crate::VERSION, count]);
        bytes.extend(self.kinds.iter().map(|kind| *kind as u8));
        bytes
    }

    /// Reads a list and says how many bytes it took; what follows belongs to the first frame.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), SocketListError> {
        let header = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or(SocketListError::Short)?;
        let [magic @ .., version, count] = header;
        if magic != MAGIC {
            return Err(SocketListError::Magic);
        }
        if *version != crate::VERSION {
            return Err(SocketListError::Version { theirs: *version });
        }
        let end = HEADER_BYTES + usize::from(*count);
        let kinds = bytes.get(HEADER_BYTES..end).ok_or(SocketListError::Short)?;
        let mut list = Self::default();
        for byte in kinds {
            match SocketKind::from_byte(*byte) {
                Some(kind) if !list.kinds.contains(&kind) => list.kinds.push(kind),
                _ => return Err(SocketListError::Kind { byte: *byte }),
            }
        }
        Ok((list, end))
    }
}

/// Why the first bytes of a connection are no socket list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SocketListError {
    /// Fewer bytes than the list says it has.
    #[error("the socket list is cut short")]
    Short,
    /// Another protocol.
    #[error("this is no feed connection")]
    Magic,
    /// Another version of the feed.
    #[error(
        "the agent speaks feed version {theirs}, this proxy {}",
        crate::VERSION
    )]
    Version {
        /// What the agent speaks.
        theirs: u8,
    },
    /// Unknown or repeated.
    #[error("socket kind {byte} is unknown or came twice")]
    Kind {
        /// The byte found.
        byte: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_and_leaves_the_first_frame() {
        let list = SocketList::new(SocketKind::ALL);
        let mut bytes = list.encode();
        assert_eq!(bytes, b"SELV\x02\x05\x01\x02\x03\x04\x05");
        assert_eq!(bytes.len(), SocketList::MAX_BYTES);
        bytes.extend_from_slice(b"frame");
        assert_eq!(SocketList::decode(&bytes), Ok((list, 11)));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (bytes, want) in [
            (&b""[..], SocketListError::Short),
            (b"SELV\x02", SocketListError::Short),
            (b"SELV\x02\x02\x01", SocketListError::Short),
            (b"HTTP\x01\x00", SocketListError::Magic),
            (b"SELV\x01\x00", SocketListError::Version { theirs: 1 }),
            (b"SELV\x02\x01\x00", SocketListError::Kind { byte: 0 }),
            (b"SELV\x02\x01\x06", SocketListError::Kind { byte: 6 }),
            (b"SELV\x02\x02\x01\x01", SocketListError::Kind { byte: 1 }),
        ] {
            assert_eq!(SocketList::decode(bytes), Err(want), "{bytes:?}");
        }
    }
}
