//! A worker of the proxy path: one thread with a runtime, a listener, buffers and pools of its own.
//! It shares with the others only what is swapped as a whole, and the gates' atomics.

use std::cell::{Cell, RefCell, RefMut};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use selvedge_feed::{Counter, SocketKind};
use selvedge_model::{Instant, Port, Rng};
use selvedge_resilience::Seat;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::accept::accept;
use crate::access_log::{AccessLog, Logger};
use crate::buffer::Buffers;
use crate::client::Asked;
use crate::clock::Clock;
use crate::connection::{self, Requests};
use crate::counters::Counters;
use crate::handover::{self, Sockets};
use crate::origin::OriginSource;
use crate::patience::Patience;
use crate::pool::{Destination, Pool, Upstream};
use crate::request;
use crate::routing::{Routing, SharedRouting};
use crate::scratch::Scratches;
use crate::slots::Slots;
use crate::traffic::{Sighter, Sightings};

/// What a worker is made with.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) clock: Clock,
    pub(crate) routing: SharedRouting,
    pub(crate) origin: OriginSource,
    pub(crate) patience: Patience,
    pub(crate) counters: Arc<Counters>,
    pub(crate) sightings: Sightings,
    pub(crate) access_log: Arc<AccessLog>,
}

/// State of one worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) clock: Clock,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) scratches: Scratches,
    pool: Pool,
    is_swept: Cell<bool>,
    seat: RefCell<Seat>,
    rng: RefCell<Rng>,
    shared: SharedRouting,
    /// What `shared` held when it was last looked at. Handed out without a count that other threads
    /// would have to agree on.
    routing: RefCell<Option<Rc<Current>>>,
    pub(crate) origin: OriginSource,
    pub(crate) patience: Patience,
    pub(crate) counters: Arc<Counters>,
    pub(crate) sighter: Sighter,
    pub(crate) logger: Logger,
}

/// A routing as one worker counts it.
#[derive(Debug)]
pub(crate) struct Current(Arc<Routing>);

impl Deref for Current {
    type Target = Routing;

    fn deref(&self) -> &Routing {
        &self.0
    }
}

/// How often idle connections to endpoints are looked through, while there are any.
const SWEEP: Duration = Duration::from_secs(5);

impl Worker {
    /// `seed` is of this worker alone.
    pub(crate) fn new(setting: Setting, index: usize, seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let chance = Rng::seeded(rng.next_u64());
        Self {
            clock: setting.clock,
            buffers: Rc::default(),
            scratches: Scratches::default(),
            pool: Pool::default(),
            is_swept: Cell::new(false),
            seat: RefCell::new(Seat::new(index, chance)),
            rng: RefCell::new(rng),
            shared: setting.routing,
            routing: RefCell::new(None),
            origin: setting.origin,
            patience: setting.patience,
            sighter: Sighter::new(&setting.sightings, index, setting.counters.clone()),
            logger: Logger::new(setting.access_log, index),
            counters: setting.counters,
        }
    }

    pub(crate) fn seat(&self) -> RefMut<'_, Seat> {
        self.seat.borrow_mut()
    }

    pub(crate) fn rng(&self) -> RefMut<'_, Rng> {
        self.rng.borrow_mut()
    }

    /// The routing for a connection, and whether what it asked for goes through the proxy still. A
    /// connection to a service's port that does not is served once more.
    pub(crate) fn routing(&self, asked: Asked) -> Option<(Rc<Current>, bool)> {
        let current = self.current()?;
        let (address, port) = match asked {
            Asked::Service(address, port) => (address, port),
            Asked::Gateway(port) => {
                let is_there = current.table.entrance(port).is_some();
                return is_there.then_some((current, true));
            }
        };
        if current.table.listener(address, port).is_some() {
            return Some((current, true));
        }
        let departed = current.of_departed(address, port)?;
        Some((Rc::new(Current(Arc::new(departed))), false))
    }

    /// What a connection from outside asks for, which has reached this port of the host.
    pub(crate) fn outside(&self, reached: Port) -> Option<Asked> {
        let current = self.current()?;
        if current.table.entrance(reached).is_some() {
            return Some(Asked::Gateway(reached));
        }
        let (address, port) = current.table.published(reached)?;
        Some(Asked::Service(address, port))
    }

    fn current(&self) -> Option<Rc<Current>> {
        let shared = self.shared.load();
        let shared = shared.as_ref()?;
        let mut known = self.routing.borrow_mut();
        if let Some(known) = &*known
            && Arc::ptr_eq(&known.0, shared)
        {
            return Some(known.clone());
        }
        let current = Rc::new(Current(shared.clone()));
        *known = Some(current.clone());
        self.sighter.forget_numbers();
        // What idles would hold places of services that have a limit by now.
        self.pool.forget(|destination| current.limits(destination));
        Some(current)
    }

    /// Whether `routing` is what [`Self::routing`] gave last for a port that goes through the proxy.
    pub(crate) fn is_in_force(&self, routing: &Rc<Current>) -> bool {
        let known = self.routing.borrow();
        known
            .as_ref()
            .is_some_and(|known| Rc::ptr_eq(known, routing))
    }

    pub(crate) async fn wait_until(&self, at: Instant) {
        if at > self.clock.now() {
            tokio::time::sleep_until(self.clock.timer(at)).await;
        }
    }

    /// An idle connection to an endpoint.
    pub(crate) fn idle(&self, destination: &Destination) -> Option<Upstream> {
        self.pool.take(destination)
    }

    /// Keeps a connection on which nothing was sent, unless one is there already: else they would grow
    /// with every short connection whose protocol had to be found out.
    pub(crate) fn keep_spare(
        self: &Rc<Self>,
        routing: &Rc<Current>,
        destination: Destination,
        upstream: Upstream,
    ) {
        if !self.pool.has(&destination) {
            self.keep(self.clock.now(), routing, destination, upstream);
        }
    }

    /// Keeps a connection whose last response is whole for another request, unless it would hold a place of
    /// a service that has a limit by now.
    pub(crate) fn keep(
        self: &Rc<Self>,
        now: Instant,
        routing: &Rc<Current>,
        destination: Destination,
        upstream: Upstream,
    ) {
        let current = self.current();
        let is_other = |current: &Rc<Current>| !Rc::ptr_eq(current, routing);
        if current.is_some_and(|current| is_other(&current) && current.limits(&destination)) {
            return;
        }
        if !self.pool.put(now, destination, upstream) {
            self.counters.count(Counter::IdleCrowdedOut);
        }
        if !self.is_swept.replace(true) {
            tokio::task::spawn_local(sweep(self.clone()));
        }
    }
}

/// Runs for as long as connections are idle, so that an idle worker has no timer.
async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        // Where no request looks, this does.
        let _forgets_what_is_limited = worker.current();
        if !worker.pool.sweep(worker.clock.now()) {
            break;
        }
    }
    worker.is_swept.set(false);
}

/// What the other threads tell a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve these sockets, and the ones before no longer.
    Serve(Sockets),
    /// Are you alive?
    Probe(oneshot::Sender<()>),
}

/// All workers, as the other threads know them.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Vec<mpsc::Sender<Command>>);

/// Commands that may wait for a worker.
const QUEUE: usize = 4;

impl Workers {
    /// Most workers there are; more sockets than this do not come.
    const MOST: usize = SocketKind::Captured.most();

    /// One worker per processor that this process may use, and the threads' ends of their queues.
    pub(crate) fn new() -> (Self, Vec<mpsc::Receiver<Command>>) {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let queues = (0..processors.min(Self::MOST)).map(|_| mpsc::channel(QUEUE));
        let (commands, received) = queues.unzip();
        (Self(commands), received)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Spreads the sockets over the workers. One that has ended takes none, and the process ends too.
    pub(crate) async fn serve(&self, sockets: Sockets) {
        let mut shares: Vec<Sockets> = self.0.iter().map(|_| Vec::new()).collect();
        // Those of one kind come one after the other.
        for (index, socket) in sockets.into_iter().enumerate() {
            shares[index % self.0.len()].push(socket);
        }
        for (worker, share) in self.0.iter().zip(shares) {
            let _ = worker.send(Command::Serve(share)).await;
        }
    }

    /// Waits until every worker has answered.
    pub(crate) async fn vouch(&self) {
        for worker in &self.0 {
            let (answer, answered) = oneshot::channel();
            let asked = worker.send(Command::Probe(answer)).await;
            if asked.is_err() || answered.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until a worker has ended, which none should.
    pub(crate) async fn end(&self) {
        let mut ends: Vec<_> = self
            .0
            .iter()
            .map(|worker| Box::pin(worker.closed()))
            .collect();
        std::future::poll_fn(|cx| {
            let ended = ends.iter_mut().any(|end| end.as_mut().poll(cx).is_ready());
            if ended {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// Serves connections until nobody commands any more, or a socket fails.
pub(crate) async fn work(worker: Worker, mut commands: mpsc::Receiver<Command>) {
    let worker = Rc::new(worker);
    let mut serving: Vec<oneshot::Sender<()>> = Vec::new();
    let mut listening = JoinSet::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Serve(sockets)) => {
                    let retired = std::mem::take(&mut serving);
                    for (kind, socket) in sockets {
                        let (retire, retired) = oneshot::channel();
                        listening.spawn_local(listen(worker.clone(), kind, socket, retired));
                        serving.push(retire);
                    }
                    // The new ones are there before the old ones go.
                    drop(retired);
                }
                Some(Command::Probe(answer)) => drop(answer.send(())),
                None => return,
            },
            Some(ended) = listening.join_next() => match ended {
                // Retired.
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    eprintln!("selvedge proxy: cannot serve connections to services: {error}");
                    return;
                }
                Err(_) => return,
            },
        }
    }
}

fn requests(worker: &Rc<Worker>) -> Requests<impl Future<Output = Infallible> + use<>> {
    let worker = worker.clone();
    Slots::new(move |hand| request::serve_all(worker.clone(), hand))
}

async fn listen(
    worker: Rc<Worker>,
    kind: SocketKind,
    socket: OwnedFd,
    retired: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = handover::tcp(socket)?;
    let requests = Rc::new(requests(&worker));
    let admit = |stream: TcpStream| {
        let serving = connection::serve(worker.clone(), kind, stream, requests.clone());
        tokio::task::spawn_local(serving);
    };
    accept(listener, &worker.counters, retired, admit).await
}

#[cfg(test)]
mod tests;
