//! A rule made ready: what is done to a request, and where it goes.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{BackendIndex, HttpFilters, Objective, RetryPolicy, RouteIndex, ServiceName, Timeouts};

/// A rule of a route, or the one of a listener without routes. A rule that is attached to several
/// services is there once for each, because their policies fill in what it leaves out.
#[derive(Debug)]
pub struct Rule {
    /// Its place in [`crate::RouteTable::rules`].
    pub index: RouteIndex,
    /// Its name in metrics and logs: `HTTPRoute/default/cart-canary/0`, with the rule's own name
    /// where it has one and its number, from 0, elsewhere;
    /// `TCPRoute/default/cart`, or `Service/default/cart/80` for all that no route is attached to.
    pub name: String,
    /// The service whose policy fills in what it leaves out; `None` at a Gateway.
    pub service: Option<ServiceName>,
    /// What is done to requests and responses.
    pub filters: HttpFilters,
    /// How long requests may take: what the route says, else the service's policy.
    pub timeouts: Timeouts,
    /// Which failed requests are sent again: what the route says, else the service's policy.
    pub retry: Option<RetryPolicy>,
    /// What is to be kept where it is asked from outside: as the service's policy says.
    pub objective: Option<Objective>,
    /// Whether CONNECT may make a tunnel of a connection. No rule sees what passes through one, so that
    /// those of a route must name the method for it.
    pub tunnels: bool,
    pub(super) shares: Shares,
}

impl Rule {
    /// Picks the backend that `random`, evenly spread over all values, falls on. `None` is nowhere:
    /// no backend, none with a weight, or one that does not exist. Requests are then answered 500,
    /// as Gateway API has it, and connections are refused.
    pub fn pick(&self, random: u32) -> Option<BackendIndex> {
        self.shares.pick(random)
    }

    /// Every backend that exists, with its weight.
    pub fn backends(&self) -> impl Iterator<Item = (BackendIndex, u32)> {
        let all = self.shares.0.iter();
        all.filter_map(|share| Some((share.backend?, share.weight)))
    }
}

/// Backends by weight. A route names 16 at most.
#[derive(Debug, Default)]
pub(super) struct Shares(pub(super) Vec<Share>);

/// What one backend gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// `None` where the service or its port does not exist: its share goes nowhere.
    pub(super) backend: Option<BackendIndex>,
    /// Relative to its siblings.
    pub(super) weight: u32,
}

impl Shares {
    pub(super) fn all_to(backend: BackendIndex) -> Self {
        let share = Share {
            backend: Some(backend),
            weight: 1,
        };
        Self(alloc::vec![share])
    }

    fn pick(&self, random: u32) -> Option<BackendIndex> {
        let total: u64 = self.0.iter().map(|share| u64::from(share.weight)).sum();
        // Below `total`, since `random` is below 2^32.
        let mut left = (u64::from(random) * total) >> 32;
        for share in &self.0 {
            let weight = u64::from(share.weight);
            if left < weight {
                return share.backend;
            }
            left -= weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_over_all_random_numbers() {
        let share = |backend: Option<u32>, weight| Share {
            backend: backend.map(BackendIndex),
            weight,
        };
        let third = u32::MAX / 3;
        for (shares, random, want) in [
            (alloc::vec![], 0, None),
            (alloc::vec![share(Some(1), 0)], 7, None),
            (alloc::vec![share(Some(1), 1)], u32::MAX, Some(1)),
            (
                alloc::vec![share(Some(1), 0), share(Some(2), 1)],
                0,
                Some(2),
            ),
            (
                alloc::vec![share(Some(1), 1), share(Some(2), 2)],
                third,
                Some(1),
            ),
            (
                alloc::vec![share(Some(1), 1), share(Some(2), 2)],
                third + 1,
                Some(2),
            ),
            (
                alloc::vec![share(Some(1), 1), share(None, 1)],
                u32::MAX,
                None,
            ),
            (
                alloc::vec![share(Some(1), 1_000_000); 16],
                u32::MAX,
                Some(1),
            ),
        ] {
            let shares = Shares(shares);
            assert_eq!(shares.pick(random), want.map(BackendIndex), "{shares:?}");
        }
    }
}
