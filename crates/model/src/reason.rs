//! Reason codes: the one public word for each refusal.

use core::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $word:literal, $seen:literal;)+) => {
        /// Why a connection or a look-up was refused or went another way. The number is what kernel
        /// programs count under, the word is what people and metrics see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Reason { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The public word.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What the program sees.
            pub const fn seen_as(self) -> &'static str {
                match self { $(Self::$variant => $seen,)+ }
            }

            /// One line of explanation.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// The service exists, but has no such port.
    NoSuchPort = 1, "no_such_port", "ECONNREFUSED";
    /// No endpoint of the service listens at this moment.
    NoEndpoint = 2, "no_endpoint", "ECONNREFUSED";
    /// The service's connection limit is reached.
    ConnectionLimit = 3, "connection_limit", "ECONNREFUSED";
    /// Endpoints listen, but none on an address family this socket can reach.
    AddressFamily = 4, "address_family", "ECONNREFUSED";
    /// The program is in another network namespace, from which local endpoints cannot be reached.
    NetworkNamespace = 5, "network_namespace", "ECONNREFUSED";
    /// The address lies in the virtual range, but no service has it.
    NoSuchService = 6, "no_such_service", "ECONNREFUSED";
    /// A look-up of a mesh name while the mesh's resolver was away: dropped, so that it does not leak.
    ResolverAway = 7, "resolver_away", "a lost query, retried by the program";
    /// A program asked for a port below 1024 without the right to it.
    PrivilegedPort = 8, "privileged_port", "EACCES";
    /// No private port was free for one more replica.
    PortsExhausted = 9, "ports_exhausted", "EADDRINUSE";
    /// A connection from off the host to a replica's private port.
    PrivatePort = 10, "private_port", "RST or ICMP port unreachable";
    /// A multipath TCP socket; programs fall back to TCP.
    Multipath = 11, "multipath", "EPROTONOSUPPORT";
}

impl Reason {
    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| *reason as u8 == number)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn numbers_and_words_are_unique() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_number(*reason as u8), Some(*reason));
        }
        assert_eq!(Reason::from_number(0), None);
    }
}
