//! The control API: HTTP/1.1 and JSON over a unix socket.
//!
//! Who may what is decided by SO_PEERCRED and verb: root everything, members of the group `selvedge`
//! read, whoever the RunPermission names runs. Everything a peer can make grow is bounded: open
//! connections, headers, bodies, idle time. Nothing of it is reachable from off the host. Read next:
//! `api/route.rs` for the resources, `wire.rs` for what is sent.

mod identity;
mod objects;
mod pilot;
mod places;
mod route;
mod run;

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use selvedge_telemetry::{Counter, debug, warn};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::host::{Host, Peer};
use crate::pilot::Pilot;
use crate::plane::ControlPlane;
use crate::problem::Problem;
use crate::publish::ProxyHealth;
use crate::wire::{DownReply, DownRequest};
use places::{Place, Places};

/// How long a peer may be silent between and within request heads.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest request head in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Connections closed at the bound or because their peer could not be told.
pub(crate) static REFUSED_CONNECTIONS: Counter = Counter::new();
/// Requests served, whatever came of them.
pub(crate) static REQUESTS: Counter = Counter::new();
/// Requests answered with a problem.
pub(crate) static PROBLEMS: Counter = Counter::new();

/// A request to stop, for the wiring to carry out and answer.
#[derive(Debug)]
pub struct Down {
    /// What is to become of the workloads.
    pub request: DownRequest,
    /// What came of it.
    pub reply: oneshot::Sender<Result<DownReply, Problem>>,
}

/// What the API speaks for.
#[derive(Clone)]
pub struct Api {
    /// The configuration.
    pub plane: ControlPlane,
    /// The node.
    pub host: Arc<dyn Host>,
    /// The proxy.
    pub proxy: watch::Receiver<ProxyHealth>,
    /// The number of the last question about requests; see [`crate::Publisher::traffic`].
    pub traffic: watch::Sender<u64>,
    /// What the controllers do.
    pub pilot: Pilot,
    /// Requests to stop.
    pub down: mpsc::Sender<Down>,
    /// The group whose members read; `None` is root alone.
    pub readers: Option<u32>,
    /// When the agent started.
    pub started: Instant,
}

impl Api {
    /// Serves `listener` until the future is dropped. Connections that are open then end with the
    /// process, so that a `down` is still answered.
    pub async fn serve(self, listener: UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let places = Places::default();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: let some connections end first.
                    warn!("the API cannot accept a connection: {error}");
                    REFUSED_CONNECTIONS.increment();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match admit(&stream, &places) {
                Ok((peer, place)) => {
                    let api = self.clone();
                    // One task a connection; it ends with the connection and holds its place.
                    tokio::spawn(async move {
                        api.serve_connection(&peer, stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    REFUSED_CONNECTIONS.increment();
                    debug!("a connection to the API is not served: {error}");
                }
            }
        }
    }

    async fn serve_connection(&self, peer: &Peer, stream: UnixStream) {
        let service = service_fn(|request| async {
            REQUESTS.increment();
            Ok::<_, std::convert::Infallible>(self.respond(peer, request).await)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            debug!("a connection to the API ended early: {error}");
        }
    }
}

/// Finds out who connected, and a place for the connection.
fn admit(stream: &UnixStream, places: &Places) -> io::Result<(Peer, Place)> {
    let peer = identity::peer(stream)?;
    match places.take(peer.uid) {
        Some(place) => Ok((peer, place)),
        None => Err(io::Error::other(format!(
            "user {} has too many open",
            peer.uid
        ))),
    }
}

#[cfg(test)]
mod tests;
