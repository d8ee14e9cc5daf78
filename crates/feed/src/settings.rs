//! What the control plane sets for the proxy as a whole.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::time::Duration;

/// How the proxy behaves towards every workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Domain of the full names of services, lower case, without a final dot: labels of letters,
    /// digits and hyphens, at most 120 characters in all.
    pub cluster_domain: String,
    /// How long answers for mesh names may be kept, positive and negative ones. Whole seconds, at
    /// most a day.
    pub ttl: Duration,
    /// What a look-up of a service's IPv6 address gives.
    pub ipv6: Ipv6Answer,
    /// Most forwarded queries waiting for an answer at once, of those that came as datagrams over
    /// IPv4 and of those over IPv6; beyond it the oldest give way.
    pub max_in_flight: u32,
    /// How long a forwarded query waits for its answer. Whole milliseconds, at most a minute.
    pub forward_timeout: Duration,
}

/// What a look-up of a service's IPv6 address gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Answer {
    /// The virtual address in its v4-mapped form, which never leaves the machine.
    Mapped,
    /// No data: the service has an IPv4 address only.
    NoData,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_domain: "cluster.local".to_owned(),
            // Short, since a deleted service's name should soon be unknown; long enough that a
            // program which looks up per connection is not slowed by it.
            ttl: Duration::from_secs(5),
            // One address, one attempt: with both forms the C library tries, and nginx counts, the
            // same endpoint twice, and nginx then takes a service for dead that has one dead replica.
            ipv6: Ipv6Answer::NoData,
            // About 2 MiB of queries at their usual size.
            max_in_flight: 4096,
            // glibc, musl and Go ask again after 5 s and none waits longer for one answer.
            forward_timeout: Duration::from_secs(10),
        }
    }
}
