//! What comes in from outside at a port of a Gateway: by host first, then as at a service.
//!
//! Of listeners that share a port the one with the most specific hostname has the request, and no
//! other (Gateway API, listener isolation). Of its routes those with the most specific hostname come
//! first, the others where none of them matches. More specific is exact before a wildcard, and the
//! longer of two wildcards.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use hashbrown::HashMap;

use super::selection::Matches;
use super::{RequestHead, Selected};
use crate::Hostname;

/// A port of the host at which a Gateway listens.
#[derive(Debug)]
pub struct Entrance {
    listeners: ByHost<ByHost<Matches>>,
}

impl Entrance {
    pub(super) fn new(listeners: BTreeMap<Option<Hostname>, ByHost<Matches>>) -> Self {
        let listeners = ByHost::new(listeners);
        Self { listeners }
    }

    /// Selects the rule for a request to this host, which is without its port and of any case.
    pub fn select(&self, host: &[u8], head: &RequestHead<'_>) -> Selected<'_> {
        let mut room = [0; MAX_HOST_BYTES];
        let host = lower(host, &mut room);
        let listener = self.listeners.about(host).next();
        let routes = listener.into_iter().flat_map(|routes| routes.about(host));
        let mut selected = routes.map(|matches| matches.select(head));
        let found = selected.find(|selected| matches!(selected, Selected::Rule { .. }));
        found.unwrap_or(Selected::NoRoute)
    }
}

/// Longest name of a host in bytes (RFC 1035, section 2.3.4). A longer one is nobody's in particular.
const MAX_HOST_BYTES: usize = 253;

/// In lower case, and without the dot that makes a name absolute.
fn lower<'r>(host: &[u8], room: &'r mut [u8; MAX_HOST_BYTES]) -> &'r [u8] {
    let host = host.strip_suffix(b".").unwrap_or(host);
    let Some(room) = room.get_mut(..host.len()) else {
        return &[];
    };
    room.copy_from_slice(host);
    room.make_ascii_lowercase();
    room
}

/// Things found by host.
#[derive(Debug)]
pub(super) struct ByHost<T> {
    exact: HashMap<Box<[u8]>, T>,
    /// By the name that the hosts are below.
    below: HashMap<Box<[u8]>, T>,
    any: Option<T>,
}

impl<T> ByHost<T> {
    pub(super) fn new(things: BTreeMap<Option<Hostname>, T>) -> Self {
        let mut by_host = Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            any: None,
        };
        for (hostname, thing) in things {
            match hostname {
                None => by_host.any = Some(thing),
                Some(Hostname::Exact(host)) => {
                    by_host.exact.insert(host.into_bytes().into(), thing);
                }
                Some(Hostname::Below(above)) => {
                    by_host.below.insert(above.into_bytes().into(), thing);
                }
            }
        }
        by_host
    }

    /// What is about the host, the most specific first.
    fn about<'t, 'h>(&'t self, host: &'h [u8]) -> impl Iterator<Item = &'t T> + use<'t, 'h, T> {
        let dots = host.iter().enumerate().skip(1);
        let dots = dots.filter(|(_, byte)| **byte == b'.');
        let above = dots.filter_map(move |(at, _)| self.below.get(&host[at + 1..]));
        let exact = self.exact.get(host).into_iter();
        exact.chain(above).chain(&self.any)
    }
}
