//! Where requests and connections go: all routes of a snapshot as one table that answers at once.
//!
//! [`RouteTable::of`] is pure and total; what it makes never changes. Looking up and selecting
//! allocate nothing and take as long with 10,000 routes as with 10: a hash for the listener, one for
//! the exact path, one per path element that the deepest prefix of the listener has. Only matches of
//! the very same path are tried one after the other, and regular expressions, which cannot be hashed.
//! Read next: `route_table/selection.rs` for the order of precedence, `route_table/rule.rs` for what
//! comes out.

mod build;
mod entrance;
mod head;
mod hidden;
mod rule;
mod selection;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use hashbrown::HashMap;

use crate::{Backend, BackendIndex, Port, RouteIndex, ServiceName, Snapshot};
pub use entrance::Entrance;
pub use head::{Fields, RequestHead};
pub use hidden::{HiddenAt, HiddenMatch, MatchPlace};
pub use rule::Rule;
use selection::Matches;

/// All routes of a snapshot.
#[derive(Debug, Default)]
pub struct RouteTable {
    listeners: HashMap<(Ipv4Addr, Port), Listener>,
    published: HashMap<Port, (Ipv4Addr, Port)>,
    entrances: HashMap<Port, Entrance>,
    rules: Vec<Arc<Rule>>,
    backends: Vec<Backend>,
}

impl RouteTable {
    /// The table of a snapshot: a listener for each TCP port whose way leads through the proxy.
    pub fn of(snapshot: &Snapshot) -> Self {
        build::table(snapshot)
    }

    /// Matches of a snapshot that no request ever gets, most likely by mistake: what somebody should
    /// be told who writes them. Not for traffic.
    pub fn hidden_matches(snapshot: &Snapshot) -> impl Iterator<Item = HiddenMatch<'_>> {
        hidden::matches(snapshot).into_iter()
    }

    /// What is known about connections to this virtual address and port.
    pub fn listener(&self, address: Ipv4Addr, port: Port) -> Option<&Listener> {
        self.listeners.get(&(address, port))
    }

    /// The virtual address and port that a TCP port of the host leads to, which is published for
    /// callers outside the mesh.
    pub fn published(&self, port: Port) -> Option<(Ipv4Addr, Port)> {
        self.published.get(&port).copied()
    }

    /// What is known about connections from outside to this port of the host, where it is a Gateway's.
    pub fn entrance(&self, port: Port) -> Option<&Entrance> {
        self.entrances.get(&port)
    }

    /// Every rule, a [`RouteIndex`] being its place. The ends of listeners that no route is attached
    /// to are among them.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The rule at this place, which is one of this table.
    pub fn rule(&self, index: RouteIndex) -> &Arc<Rule> {
        &self.rules[index.0 as usize]
    }

    /// Every port of a service that requests or connections may go to, a [`BackendIndex`] being its
    /// place.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The backend at this place, which is one of this table.
    pub fn backend(&self, index: BackendIndex) -> &Backend {
        &self.backends[index.0 as usize]
    }
}

/// A port of a service to which connections come through the proxy.
#[derive(Debug)]
pub struct Listener {
    /// The service that was called.
    pub service: ServiceName,
    /// Its port that was called.
    pub port: Port,
    /// What comes over connections.
    pub spoken: Spoken,
    /// Where everything goes that no HTTPRoute has a say about.
    default: Arc<Rule>,
    /// What HTTPRoutes say, where any is attached.
    matches: Option<Matches>,
}

impl Listener {
    /// Selects the rule for a request.
    pub fn select(&self, head: &RequestHead<'_>) -> Selected<'_> {
        match &self.matches {
            Some(matches) => matches.select(head),
            None => Selected::Rule {
                rule: &self.default,
                prefix_bytes: 0,
            },
        }
    }

    /// The rule for a connection as a whole, where no requests are seen in it: that of the TCPRoute,
    /// or all to the service itself.
    pub fn connection_rule(&self) -> &Arc<Rule> {
        &self.default
    }
}

/// What comes over the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spoken {
    /// HTTP/1.1 requests: a HTTPRoute or `appProtocol` says so.
    Http,
    /// Bytes that nobody looks into: a TCPRoute or `appProtocol` says so.
    Tcp,
    /// Nobody said: the first bytes show it.
    Detect,
}

/// What was selected for a request.
#[derive(Clone, Copy, Debug)]
pub enum Selected<'t> {
    /// A rule, that of a listener without HTTPRoutes included.
    Rule {
        /// Which.
        rule: &'t Arc<Rule>,
        /// How many bytes of the path the match's prefix has, for [`crate::PathChange::Prefix`]: 0
        /// for `/` and where the path was matched in another way.
        prefix_bytes: usize,
    },
    /// HTTPRoutes are attached and no rule of them matches: 404, as Gateway API has it. So it is where
    /// a route should be attached and none is here, because it could not be taken.
    NoRoute,
}
