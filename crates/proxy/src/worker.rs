//! A worker of the proxy path: one thread with a runtime, a listener, buffers and pools of its own.
//! It shares with the others only what is swapped as a whole, and the gates' atomics.

use std::cell::{Cell, RefCell, RefMut};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use selvedge_model::{Instant, Port, Rng};
use selvedge_resilience::Seat;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::accept::accept;
use crate::buffer::Buffers;
use crate::clock::Clock;
use crate::connection;
use crate::counters::Counters;
use crate::error::Error;
use crate::origin::OriginSource;
use crate::pool::{Destination, Pool, Upstream};
use crate::routing::{Routing, SharedRouting};
use crate::scratch::Scratches;

/// What a worker is made with.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) clock: Clock,
    pub(crate) routing: SharedRouting,
    pub(crate) origin: OriginSource,
    pub(crate) counters: Arc<Counters>,
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
    routing: RefCell<Option<Rc<Arc<Routing>>>>,
    pub(crate) origin: OriginSource,
    pub(crate) counters: Arc<Counters>,
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
            counters: setting.counters,
        }
    }

    pub(crate) fn seat(&self) -> RefMut<'_, Seat> {
        self.seat.borrow_mut()
    }

    pub(crate) fn rng(&self) -> RefMut<'_, Rng> {
        self.rng.borrow_mut()
    }

    /// The routing for a connection to this address and port, and whether the port goes through the
    /// proxy still. A connection whose port does not is served once more.
    pub(crate) fn routing(&self, asked: (Ipv4Addr, Port)) -> Option<(Rc<Arc<Routing>>, bool)> {
        let current = self.current()?;
        if current.table.listener(asked.0, asked.1).is_some() {
            return Some((current, true));
        }
        let departed = current.of_departed(asked.0, asked.1)?;
        Some((Rc::new(Arc::new(departed)), false))
    }

    fn current(&self) -> Option<Rc<Arc<Routing>>> {
        let shared = self.shared.load();
        let shared = shared.as_ref()?;
        let mut known = self.routing.borrow_mut();
        if let Some(known) = &*known
            && Arc::ptr_eq(known, shared)
        {
            return Some(known.clone());
        }
        let current = Rc::new(shared.clone());
        *known = Some(current.clone());
        Some(current)
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

    /// Keeps a connection whose last response is whole for another request.
    pub(crate) fn keep(self: &Rc<Self>, destination: Destination, upstream: Upstream) {
        self.pool.put(self.clock.now(), destination, upstream);
        if !self.is_swept.replace(true) {
            tokio::task::spawn_local(sweep(self.clone()));
        }
    }
}

/// Runs for as long as connections are idle, so that an idle worker has no timer.
async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if !worker.pool.sweep(worker.clock.now()) {
            break;
        }
    }
    worker.is_swept.set(false);
}

/// What the feed thread tells a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve this socket, and the one before no longer.
    Serve(std::net::TcpListener),
    /// Are you alive?
    Probe(oneshot::Sender<()>),
}

/// Serves connections until nobody commands any more.
pub(crate) async fn work(
    worker: Rc<Worker>,
    mut commands: mpsc::Receiver<Command>,
) -> Result<(), Error> {
    let mut serving: Option<oneshot::Sender<()>> = None;
    while let Some(command) = commands.recv().await {
        match command {
            Command::Serve(listener) => {
                let failed = |source| Error::Serve {
                    address: "requests".to_owned(),
                    source,
                };
                let listener = TcpListener::from_std(listener).map_err(failed)?;
                let (retire, retired) = oneshot::channel();
                tokio::task::spawn_local(listen(worker.clone(), listener, retired));
                // Dropping it retires the socket before.
                serving = Some(retire);
            }
            Command::Probe(answer) => drop(answer.send(())),
        }
    }
    drop(serving);
    Ok(())
}

async fn listen(worker: Rc<Worker>, listener: TcpListener, retired: oneshot::Receiver<()>) {
    let admit = |stream: TcpStream| {
        tokio::task::spawn_local(connection::serve(worker.clone(), stream));
    };
    let served = accept(listener, &worker.counters, retired, admit).await;
    if let Err(error) = served {
        eprintln!("selvedge proxy: a listener for requests has failed: {error}");
        // A worker that accepts nothing would lose its share of all connections.
        std::process::exit(1);
    }
}
