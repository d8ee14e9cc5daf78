//! The DNS worker: one thread, one runtime, all sockets of the resolver.

use std::net::SocketAddr;
use std::rc::Rc;

use selvedge_feed::SocketKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use crate::dns::{self, Server};
use crate::error::Error;
use crate::handover::{self, Sockets};

/// What the feed thread tells the worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve these sockets, and the ones before no longer.
    Serve(Sockets),
    /// Are you alive?
    Probe(u64),
}

/// Serves until something that should not end has ended.
pub(crate) async fn work(
    server: Rc<Server>,
    mut commands: mpsc::Receiver<Command>,
    probed: mpsc::Sender<u64>,
) -> Result<(), Error> {
    let mut listeners = Listeners::default();
    let mut tasks = JoinSet::new();
    let sweep = server.clone().sweep();
    tokio::pin!(sweep);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Serve(sockets)) => listeners.replace(&server, &mut tasks, sockets)?,
                // Unanswered probes beyond the channel's bound are of no use to anyone.
                Some(Command::Probe(nonce)) => drop(probed.try_send(nonce)),
                None => return Err(Error::FeedThread),
            },
            Some(ended) = tasks.join_next() => listener_ended(ended)?,
            never = &mut sweep => match never {},
        }
    }
}

fn listener_ended(ended: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    ended.map_err(|_| Error::Panicked)?
}

/// The tasks of the sockets in use. Dropping a sender retires its task.
#[derive(Default)]
struct Listeners {
    current: Vec<oneshot::Sender<()>>,
}

impl Listeners {
    /// New sockets are served before the old ones are drained and closed, so that programs find one
    /// or the other.
    fn replace(
        &mut self,
        server: &Rc<Server>,
        tasks: &mut JoinSet<Result<(), Error>>,
        sockets: Sockets,
    ) -> Result<(), Error> {
        server.forget_sockets();
        let mut current = Vec::with_capacity(sockets.len());
        for (kind, descriptor) in sockets {
            let (retire, retired) = oneshot::channel();
            current.push(retire);
            let serve = |source| Error::Serve {
                address: format!("{kind:?}"),
                source,
            };
            match kind {
                SocketKind::DnsUdpV4 | SocketKind::DnsUdpV6 => {
                    let socket = Rc::new(handover::udp(descriptor).map_err(serve)?);
                    let address = socket.local_addr().map_err(serve)?;
                    server.add_own(address);
                    server.set_reply_socket(socket.clone()).map_err(serve)?;
                    let task = dns::serve_udp(server.clone(), socket, retired);
                    tasks.spawn_local(async move { task.await.map_err(at(address)) });
                }
                SocketKind::DnsTcpV4 | SocketKind::DnsTcpV6 => {
                    let listener = handover::tcp(descriptor).map_err(serve)?;
                    let address = listener.local_addr().map_err(serve)?;
                    server.add_own(address);
                    let task = dns::serve_tcp(server.clone(), listener, retired);
                    tasks.spawn_local(async move { task.await.map_err(at(address)) });
                }
                // The feed thread's, which keeps it to itself.
                SocketKind::Metrics => {}
            }
        }
        self.current = current;
        Ok(())
    }
}

fn at(address: SocketAddr) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Serve {
        address: address.to_string(),
        source,
    }
}
