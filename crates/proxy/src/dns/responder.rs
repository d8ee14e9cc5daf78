//! What becomes of one query, and what is counted of it: shared by every thread that takes queries.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use selvedge_feed::{Counter, Settings};

use super::respond::{Action, Transport, respond, server_failure};
use super::shadowed_name;
use crate::counters::Counters;
use crate::origin::{Origin, OriginSource};
use crate::table::SharedTable;

/// The table, and who may ask it what.
#[derive(Debug)]
pub(crate) struct Responder {
    table: SharedTable,
    pub(crate) counters: Arc<Counters>,
    pub(super) origins: OriginSource,
    /// Addresses of our own sockets, at which no query may be aimed.
    own: ArcSwap<Vec<SocketAddr>>,
}

/// What is left to do with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it got no answer and gets none.
    Nothing,
    /// The answer in the buffer goes back to the program.
    Reply,
    /// The query goes to this server as it is.
    Forward(SocketAddr),
}

impl Responder {
    pub(crate) fn new(table: SharedTable, counters: Arc<Counters>, origins: OriginSource) -> Self {
        Self {
            table,
            counters,
            origins,
            own: ArcSwap::default(),
        }
    }

    /// Queries aimed at these addresses would come back to us.
    pub(crate) fn set_own(&self, addresses: Vec<SocketAddr>) {
        self.own.store(Arc::new(addresses));
    }

    /// A message of a program came; an answer is written to `out`.
    pub(super) fn on_query(
        &self,
        message: &[u8],
        origin: Option<Origin>,
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> Next {
        self.counters.count(Counter::Queries);
        let table = self.table.load();
        let Some(table) = table.as_deref() else {
            return Next::Nothing;
        };
        match respond(table, message, origin, transport, out) {
            Action::Drop => {
                self.counters.count(Counter::Dropped);
                Next::Nothing
            }
            Action::Answer(counter) => {
                self.counters.count(counter);
                if counter == Counter::Shadowed
                    && let Some(name) = shadowed_name(message)
                {
                    self.counters.note_shadowed(name);
                }
                Next::Reply
            }
            Action::Forward(server) if self.is_own(server) => {
                self.counters.count(Counter::Looped);
                server_failure(message, out);
                Next::Reply
            }
            Action::Forward(server) => {
                self.counters.count(Counter::Forwarded);
                Next::Forward(server)
            }
        }
    }

    fn is_own(&self, server: SocketAddr) -> bool {
        let local = server.ip().is_loopback() || server.ip().is_unspecified();
        self.own
            .load()
            .iter()
            .any(|own| own.port() == server.port() && (local || own.ip() == server.ip()))
    }

    pub(super) fn with_settings<T>(&self, read: impl FnOnce(&Settings) -> T) -> T {
        match self.table.load().as_deref() {
            Some(table) => read(table.settings()),
            None => read(&Settings::default()),
        }
    }
}
