//! What the proxy counts: the one list, for both ends of the feed.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $word:literal;)+) => {
        /// Something the proxy counts since it started. The number travels, the word is the middle of
        /// the metric's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Counter { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl Counter {
            /// Every counter there is, in the order of their numbers, which begin at 0.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The public word: `dns_queries` for the metric `selvedge_dns_queries_total`.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// One line of explanation.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

counters! {
    /// DNS queries that came from workloads, over UDP and TCP.
    Queries = 0, "dns_queries";
    /// Queries answered from the mesh's own names.
    Answered = 1, "dns_answered";
    /// Queries sent on to the server that the program addressed.
    Forwarded = 2, "dns_forwarded";
    /// Answers of other servers that were passed on.
    Relayed = 3, "dns_relayed";
    /// Mesh names with a search suffix, answered NXDOMAIN.
    Shadowed = 4, "dns_shadowed";
    /// Messages that are no query at all, dropped.
    Dropped = 5, "dns_dropped";
    /// Queries that cannot be read, answered FORMERR.
    Malformed = 6, "dns_malformed";
    /// Queries the kernel has no record of, answered REFUSED.
    Unrecorded = 7, "dns_unrecorded";
    /// Queries whose server is this proxy itself, answered SERVFAIL.
    Looped = 8, "dns_looped";
    /// Forwarded queries that got no answer in time.
    TimedOut = 9, "dns_timed_out";
    /// Forwarded queries that gave way to newer ones at the bound of those in flight.
    Displaced = 10, "dns_displaced";
    /// Forwarded queries whose server could not be reached, answered SERVFAIL.
    Unreachable = 11, "dns_unreachable";
    /// Datagrams of other servers that answer nothing that was asked, dropped.
    Mismatched = 12, "dns_mismatched";
    /// Answers that could not be sent to the program because its socket or ours was full.
    Unsent = 13, "dns_unsent";
    /// DNS connections accepted over TCP.
    Connections = 14, "dns_connections";
    /// DNS connections closed at once at the bound of open ones.
    ConnectionsRefused = 15, "dns_connections_refused";
    /// DNS connections closed because nothing happened on them.
    ConnectionsIdle = 16, "dns_connections_idle";
    /// Shadowed outside names that found the list for `status` full.
    ShadowedUnlisted = 17, "dns_shadowed_unlisted";
    /// Failures of our own while forwarding: no socket or port to be had, answered SERVFAIL.
    LocalFailures = 18, "dns_local_failures";
    /// Requests of scrapers over TCP that were answered with the metrics.
    MetricsScrapes = 19, "metrics_scrapes";
    /// Requests of scrapers answered 503: the agent was away or slow, or its text too long.
    MetricsUnavailable = 20, "metrics_unavailable";
    /// Connections of scrapers closed at once at the bound of open ones.
    MetricsConnectionsRefused = 21, "metrics_connections_refused";
    /// Connections of scrapers closed because of their age, or because no request could be read.
    MetricsConnectionsCut = 22, "metrics_connections_cut";
    /// Times that no descriptor was left and a listener paused: connections waited in its queue.
    AcceptPauses = 23, "accept_pauses";
    /// Idle connections to endpoints closed at the bound of those that are kept.
    IdleCrowdedOut = 24, "idle_upstream_connections_crowded_out";
    /// Requests and connections that found the table of their paths full, and are in no other count.
    TrafficUnlisted = 25, "requests_unlisted";
    /// Lines of the access log that found its buffer full, or could not be written.
    AccessLogDropped = 26, "access_log_lines_dropped";
    /// Paths whose requests' times are told without their route: the table of routes' times was full.
    RoutesUntimed = 27, "routes_untimed";
    /// Requests that found the table full by which calls are known to be made for them.
    RequestsUnjoined = 28, "requests_unjoined";
    /// Requests of clients that found the table full by which those made for them know of each other.
    RequestsLone = 29, "requests_lone";
    /// Entries of the journal of controllers that found no room while no agent took them.
    JournalLost = 30, "journal_entries_lost";
    /// Requests of callers that are one too many for their service to give them a share of it.
    RequestsUnshared = 31, "requests_unshared";
}

impl Counter {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        let index = usize::try_from(number).ok()?;
        Self::ALL.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn numbers_are_places_in_the_list_and_words_are_unique() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index, "{counter:?}");
        }
        let words: BTreeSet<_> = Counter::ALL.iter().map(|counter| counter.word()).collect();
        assert_eq!(words.len(), Counter::ALL.len());
    }
}
