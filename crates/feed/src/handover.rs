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
    /// Connections of programs to services that need the proxy, which the kernel leads here: TCP,
    /// listening on 127.0.0.1, for IPv6 sockets of programs too. Several on one port (`SO_REUSEPORT`),
    /// over which the kernel spreads connections: one for each thread that is to serve them.
    Captured = 6,
    /// Connections from outside to services and Gateways, which the kernel leads here from the ports
    /// that are published or a Gateway's: TCP, of both families, listening on a loopback address. What
    /// was meant is the port at which such a connection ends. As many as of `Captured`, as one group too.
    Outside = 7,
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
    pub const ALL: [Self; 7] = {
        let [udp4, udp6, tcp4, tcp6] = Self::RESOLVER;
        [
            udp4,
            udp6,
            tcp4,
            tcp6,
            Self::Metrics,
            Self::Captured,
            Self::Outside,
        ]
    };

    /// How many of this kind may travel at once.
    pub const fn most(self) -> usize {
        match self {
            Self::Captured | Self::Outside => 16,
            _ => 1,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The kinds of the descriptors that come with it, in their order. Each at most [`SocketKind::most`]
/// times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketList {
    kinds: Vec<SocketKind>,
}

impl SocketList {
    /// Most descriptors that can travel at once.
    pub const MAX_SOCKETS: usize = {
        let mut most = 0;
        let mut index = 0;
        while index < SocketKind::ALL.len() {
            most += SocketKind::ALL[index].most();
            index += 1;
        }
        most
    };

    /// Longest list in bytes.
    pub const MAX_BYTES: usize = HEADER_BYTES + Self::MAX_SOCKETS;

    /// Lists `kinds`; of one that comes more often than it may the first count.
    pub fn new(kinds: impl IntoIterator<Item = SocketKind>) -> Self {
        let mut list = Self::default();
        for kind in kinds {
            list.add(kind);
        }
        list
    }

    /// False, and nothing done, where there are as many of this kind as there may be.
    fn add(&mut self, kind: SocketKind) -> bool {
        let listed = self.kinds.iter().filter(|it| **it == kind).count();
        let has_room = listed < kind.most();
        if has_room {
            self.kinds.push(kind);
        }
        has_room
    }

    /// The kinds in order.
    pub fn kinds(&self) -> &[SocketKind] {
        &self.kinds
    }

    /// The bytes to send together with the descriptors.
    pub fn encode(&self) -> Vec<u8> {
        let count =
            u8::try_from(self.kinds.len()).expect("there are few kinds, and each has a bound");
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
                Some(kind) if list.add(kind) => {}
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
    /// Unknown, or more often than it may.
    #[error("socket kind {byte} is unknown or came too often")]
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
        assert_eq!(bytes, b"SELV\x06\x07\x01\x02\x03\x04\x05\x06\x07");
        bytes.extend_from_slice(b"frame");
        assert_eq!(SocketList::decode(&bytes), Ok((list, 13)));
    }

    #[test]
    fn each_kind_comes_as_often_as_it_may_and_no_more() {
        let twenty = |kind| core::iter::repeat_n(kind, 20);
        let list = SocketList::new(SocketKind::ALL.into_iter().flat_map(twenty));
        assert_eq!(list.kinds().len(), 5 + 2 * 16);
        let mut bytes = list.encode();
        assert_eq!(bytes.len(), SocketList::MAX_BYTES);
        assert_eq!(SocketList::decode(&bytes), Ok((list, bytes.len())));
        bytes[5] += 1;
        bytes.push(7);
        let too_many = SocketList::decode(&bytes);
        assert_eq!(too_many, Err(SocketListError::Kind { byte: 7 }));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (bytes, want) in [
            (&b""[..], SocketListError::Short),
            (b"SELV\x06", SocketListError::Short),
            (b"SELV\x06\x02\x01", SocketListError::Short),
            (b"HTTP\x01\x00", SocketListError::Magic),
            (b"SELV\x01\x00", SocketListError::Version { theirs: 1 }),
            (b"SELV\x06\x01\x00", SocketListError::Kind { byte: 0 }),
            (b"SELV\x06\x01\x08", SocketListError::Kind { byte: 8 }),
            (b"SELV\x06\x02\x01\x01", SocketListError::Kind { byte: 1 }),
        ] {
            assert_eq!(SocketList::decode(bytes), Err(want), "{bytes:?}");
        }
    }
}
