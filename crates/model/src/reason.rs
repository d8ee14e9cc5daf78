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
    NoEndpoint = 2, "no_endpoint", "ECONNREFUSED; 503 from the proxy";
    /// The service's connection limit is reached.
    ConnectionLimit = 3, "connection_limit", "ECONNREFUSED; 503 from the proxy";
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
    /// The proxy is away and a rule would not be kept without it.
    ProxyAway = 12, "proxy_away", "ECONNREFUSED";
    /// What came is no HTTP request, or one that could be read in two ways.
    MalformedRequest = 32, "malformed_request", "400, or 505 for another version";
    /// No rule of the service's routes is about such a request.
    NoRoute = 33, "no_route", "404";
    /// The rest of a request did not come in time.
    RequestStalled = 34, "request_stalled", "408";
    /// The head of a request has too many bytes or fields.
    HeadTooLarge = 35, "head_too_large", "431";
    /// A feature of HTTP that the proxy does not have.
    NotImplemented = 36, "not_implemented", "501";
    /// The request's rule sends it to no backend.
    NoBackend = 37, "no_backend", "500";
    /// Every endpoint has as many requests in flight as it may.
    RequestLimit = 38, "request_limit", "503";
    /// No connection to the endpoint could be made.
    ConnectFailed = 39, "connect_failed", "502";
    /// The endpoint closed the connection before its response was whole.
    ResponseCut = 40, "response_cut", "502, or a cut response";
    /// What the endpoint sent is no HTTP response, or one that could be read in two ways.
    MalformedResponse = 41, "malformed_response", "502, or a cut response";
    /// The endpoint did not answer in the time that one attempt has.
    AttemptTimeout = 42, "attempt_timeout", "504, or a cut response";
    /// There was no whole response in the time that the request has.
    RequestTimeout = 43, "request_timeout", "504, or a cut response";
    /// The client went away, or took nothing for too long.
    ClientGone = 44, "client_gone", "nothing";
    /// A failed request was not sent again because the retry budget was spent.
    RetryBudget = 45, "retry_budget", "what the last attempt came to";
}

impl Reason {
    /// What a request is answered that is refused for it, if it is about requests.
    pub fn status(self) -> Option<u16> {
        let digits = self.seen_as().get(..3)?;
        digits.parse().ok()
    }

    /// Whether kernel programs count it: only numbers below 16 have room there.
    pub const fn is_counted_by_kernel(self) -> bool {
        (self as u8) < 16
    }

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

    #[test]
    fn requests_are_answered_what_the_page_says() {
        assert_eq!(Reason::AttemptTimeout.status(), Some(504));
        assert_eq!(Reason::NoRoute.status(), Some(404));
        assert_eq!(Reason::ClientGone.status(), None);
        assert_eq!(Reason::Multipath.status(), None);
    }
}
