//! The DNS worker: the thread that has the connections of the resolver, and looks after the threads of
//! datagrams.

use std::rc::Rc;
use std::sync::Arc;

use selvedge_feed::SocketKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::dns::datagram::{Pulse, ReceiverHandle};
use crate::dns::{self, Connections, QuerySocket, Responder};
use crate::error::Error;
use crate::handover::{self, Sockets};
use crate::worker::Workers;

/// What the feed thread tells the worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve these sockets, and the ones before no longer.
    Serve(Sockets),
    /// Are you alive?
    Probe(u64),
}

/// The worker's ends of the queues to the feed thread.
pub(crate) struct Queues {
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Numbers of the probes that every thread was alive for.
    pub(crate) probed: mpsc::Sender<u64>,
    /// Whose ends end the process too.
    pub(crate) workers: Workers,
}

/// Serves until something that should not end has ended.
pub(crate) async fn work(
    responder: Arc<Responder>,
    receivers: [ReceiverHandle; 2],
    mut queues: Queues,
) -> Result<(), Error> {
    let mut listeners = Listeners {
        connections: Rc::new(Connections::new(responder.clone())),
        responder,
        receivers,
        current: Vec::new(),
        tasks: JoinSet::new(),
    };
    loop {
        tokio::select! {
            command = queues.commands.recv() => match command {
                Some(Command::Serve(sockets)) => listeners.replace(sockets)?,
                Some(Command::Probe(nonce)) => {
                    let pulses = listeners.receivers.each_ref().map(ReceiverHandle::pulse);
                    let workers = queues.workers.clone();
                    let vouching = vouch(pulses, workers, queues.probed.clone(), nonce);
                    tokio::task::spawn_local(vouching);
                }
                None => return Err(Error::FeedThread),
            },
            error = listeners.failure() => return Err(error),
            () = queues.workers.end() => return Err(Error::WorkerThread),
        }
    }
}

/// Answers a probe once it is known that no thread hangs.
async fn vouch(pulses: [Arc<Pulse>; 2], workers: Workers, probed: mpsc::Sender<u64>, nonce: u64) {
    for pulse in pulses {
        pulse.felt().await;
    }
    workers.vouch().await;
    // Unanswered probes beyond the channel's bound are of no use to anyone.
    let _ = probed.try_send(nonce);
}

/// Everything that is served.
struct Listeners {
    responder: Arc<Responder>,
    connections: Rc<Connections>,
    /// The threads of datagrams, over IPv4 and IPv6.
    receivers: [ReceiverHandle; 2],
    /// Dropping a sender retires its task.
    current: Vec<oneshot::Sender<()>>,
    tasks: JoinSet<Result<(), Error>>,
}

impl Listeners {
    /// New sockets are served before the old ones are drained and closed, so that programs find one
    /// or the other.
    fn replace(&mut self, sockets: Sockets) -> Result<(), Error> {
        let mut own = Vec::new();
        let mut listeners = Vec::new();
        let [mut v4, mut v6] = [None, None];
        for (kind, descriptor) in sockets {
            let failed = |source| Error::Serve {
                address: format!("{kind:?}"),
                source,
            };
            match kind {
                SocketKind::DnsUdpV4 => v4 = Some(QuerySocket::new(descriptor).map_err(failed)?),
                SocketKind::DnsUdpV6 => v6 = Some(QuerySocket::new(descriptor).map_err(failed)?),
                SocketKind::DnsTcpV4 | SocketKind::DnsTcpV6 => {
                    let listener = handover::tcp(descriptor).map_err(failed)?;
                    let address = listener.local_addr().map_err(failed)?;
                    own.push(address);
                    listeners.push((address, listener));
                }
                // Not the resolver's: the feed thread has taken them out.
                SocketKind::Metrics | SocketKind::Captured | SocketKind::Outside => {}
            }
        }
        let datagrams = [&v4, &v6].into_iter().flatten();
        own.extend(datagrams.map(QuerySocket::address));
        self.responder.set_own(own);
        let [over_v4, over_v6] = &mut self.receivers;
        over_v4.serve(v4)?;
        over_v6.serve(v6)?;
        let current = listeners.into_iter().map(|(address, listener)| {
            let (retire, retired) = oneshot::channel();
            let task = dns::serve_tcp(self.connections.clone(), listener, retired);
            let failed = move |source| Error::Serve {
                address: address.to_string(),
                source,
            };
            self.tasks
                .spawn_local(async move { task.await.map_err(failed) });
            retire
        });
        self.current = current.collect();
        Ok(())
    }

    /// Waits until something that should not end has ended.
    async fn failure(&mut self) -> Error {
        let [over_v4, over_v6] = &mut self.receivers;
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => match ended {
                    // Retired.
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return Error::Panicked,
                },
                error = over_v4.end() => return error,
                error = over_v6.end() => return error,
            }
        }
    }
}
