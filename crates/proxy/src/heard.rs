//! Ports of which nobody has said what they speak, and at which an endpoint has answered a request: no server
//! speaks first there. All workers share it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{PoisonError, RwLock};

use selvedge_model::Port;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// A service's virtual address, and its port.
pub(crate) type Listener = (Ipv4Addr, Port);

/// Where requests were answered: at listeners of the routing, and no others.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    http: RwLock<BTreeSet<Listener>>,
    /// Wakes who waits for such an answer.
    news: Notify,
}

impl Heard {
    /// An endpoint has answered a request there.
    pub(crate) fn answered(&self, listener: Listener) {
        let mut http = self.http.write().unwrap_or_else(PoisonError::into_inner);
        if http.insert(listener) {
            self.news.notify_waiters();
        }
    }

    /// Whether one has.
    pub(crate) fn is_http(&self, listener: Listener) -> bool {
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner);
        http.contains(&listener)
    }

    /// For another routing: of listeners that are as they were, since others may serve elsewhere by now. What is
    /// heard of this one later says nothing there.
    pub(crate) fn carried_over(&self, is_same: impl Fn(Listener) -> bool) -> Self {
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner);
        let same = http.iter().filter(|listener| is_same(**listener));
        Self {
            http: RwLock::new(same.copied().collect()),
            news: Notify::new(),
        }
    }

    /// Waits until that is heard of some listener.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }
}
