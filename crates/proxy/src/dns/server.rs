//! The resolver at work: what its tasks share, and what each event leads to.
//!
//! Everything here runs on one thread. A task waits for its socket and calls in; nothing in this
//! file waits.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use selvedge_feed::{Counter, Settings};
use selvedge_model::CgroupId;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::forward::{Arrival, Flight, Flights, failure};
use super::respond::{Action, Transport, respond, server_failure};
use super::{shadowed_name, udp};
use crate::clock;
use crate::counters::Counters;
use crate::origin::{Origin, OriginProbe};
use crate::table::{SharedTable, Table};

/// Largest datagram and largest message there is.
pub(super) const MAX_MESSAGE_BYTES: usize = 65_535;

/// How often waiting queries and old flights are looked through, while there are any.
const SWEEP: Duration = Duration::from_millis(250);

/// What the tasks of the resolver share.
#[derive(Debug)]
pub(crate) struct Server {
    table: SharedTable,
    pub(super) counters: Arc<Counters>,
    pub(super) probe: OriginProbe,
    flights: RefCell<Flights>,
    /// Told when the first flight is opened.
    took_off: Notify,
    /// Where datagrams to programs leave from.
    replies: RefCell<Replies>,
    /// Addresses of our own sockets, at which no query may be aimed.
    own: RefCell<Vec<SocketAddr>>,
    /// Connections by workload.
    pub(super) seats: RefCell<HashMap<CgroupId, usize>>,
    pub(super) seated: Cell<usize>,
    pub(super) datagram: RefCell<Vec<u8>>,
    answer: RefCell<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Replies {
    v4: Option<Rc<UdpSocket>>,
    v6: Option<Rc<UdpSocket>>,
}

impl Server {
    pub(crate) fn new(table: SharedTable, counters: Arc<Counters>, probe: OriginProbe) -> Self {
        Self {
            table,
            counters,
            probe,
            flights: RefCell::default(),
            took_off: Notify::new(),
            replies: RefCell::default(),
            own: RefCell::default(),
            seats: RefCell::default(),
            seated: Cell::new(0),
            datagram: RefCell::new(vec![0; MAX_MESSAGE_BYTES]),
            answer: RefCell::new(Vec::with_capacity(super::writer::UDP_BYTES.into())),
        }
    }

    /// Answers to datagrams leave from `socket` from now on.
    pub(crate) fn set_reply_socket(&self, socket: Rc<UdpSocket>) -> io::Result<()> {
        let mut replies = self.replies.borrow_mut();
        match socket.local_addr()? {
            SocketAddr::V4(_) => replies.v4 = Some(socket),
            SocketAddr::V6(_) => replies.v6 = Some(socket),
        }
        Ok(())
    }

    /// Forgets the sockets of the last handover.
    pub(crate) fn forget_sockets(&self) {
        self.replies.take();
        self.own.take();
    }

    /// Queries aimed at this address would come back to us.
    pub(crate) fn add_own(&self, address: SocketAddr) {
        self.own.borrow_mut().push(address);
    }

    /// Looks after time-outs. Never ends; sleeps while nothing is on its way.
    pub(crate) async fn sweep(self: Rc<Self>) -> Infallible {
        loop {
            if self.flights.borrow().is_empty() {
                self.took_off.notified().await;
            }
            tokio::time::sleep(SWEEP).await;
            let timeout = self.with_settings(|settings| settings.forward_timeout);
            let forgotten = self.flights.borrow_mut().on_time(clock::now(), timeout);
            self.counters.add(Counter::TimedOut, forgotten);
        }
    }

    /// A message of a program came; the answer, if there is one at once, is handed to `reply`.
    pub(super) fn on_query(
        &self,
        message: &[u8],
        origin: Option<Origin>,
        transport: Transport,
        reply: impl FnOnce(&[u8]),
    ) -> Option<SocketAddr> {
        self.counters.count(Counter::Queries);
        let table = self.table.load();
        let table: &Table = table.as_deref()?;
        let out = &mut *self.answer.borrow_mut();
        match respond(table, message, origin, transport, out) {
            Action::Drop => {
                self.counters.count(Counter::Dropped);
                None
            }
            Action::Answer(counter) => {
                self.counters.count(counter);
                if counter == Counter::Shadowed
                    && let Some(name) = shadowed_name(message)
                {
                    self.counters.note_shadowed(name);
                }
                reply(out);
                None
            }
            Action::Forward(server) if self.is_own(server) => {
                self.counters.count(Counter::Looped);
                server_failure(message, out);
                reply(out);
                None
            }
            Action::Forward(server) => {
                self.counters.count(Counter::Forwarded);
                Some(server)
            }
        }
    }

    /// Sends a datagram on; its id is written over.
    pub(super) fn forward(self: &Rc<Self>, message: &mut [u8], client: SocketAddr, to: SocketAddr) {
        let now = clock::now();
        let flight = match self.flight(now, to) {
            Ok(flight) => flight,
            Err(error) => return self.on_unsendable(message, client, &error),
        };
        self.flights
            .borrow_mut()
            .board(now, &flight, client, message);
        match flight.send(message) {
            Ok(()) => {}
            // As if the network had lost it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.count(Counter::Unsent);
            }
            Err(error) => self.on_flight_failure(&flight, &error),
        }
    }

    fn flight(
        self: &Rc<Self>,
        now: tokio::time::Instant,
        to: SocketAddr,
    ) -> io::Result<Rc<Flight>> {
        let max = self.with_settings(|settings| settings.max_in_flight);
        let mut flights = self.flights.borrow_mut();
        let displaced = flights.make_room(usize::try_from(max).unwrap_or(usize::MAX));
        self.counters.add(Counter::Displaced, displaced);
        if let Some(flight) = flights.boarding(now, to) {
            return Ok(flight);
        }
        if flights.is_empty() {
            self.took_off.notify_one();
        }
        let flight = flights.open(now, to)?;
        let task = tokio::task::spawn_local(udp::listen(self.clone(), flight.clone()));
        flight.set_task(task.abort_handle());
        Ok(flight)
    }

    /// A datagram came from a server.
    pub(super) fn on_answer(&self, flight: &Rc<Flight>, message: &mut [u8]) {
        match self.flights.borrow_mut().on_answer(flight, message) {
            Arrival::For(client) => {
                self.counters.count(Counter::Relayed);
                self.reply(client, message);
            }
            Arrival::Mismatch => self.counters.count(Counter::Mismatched),
        }
    }

    /// A server said that it is not there, or the network did: what a program's own socket would
    /// have been told at once, the program is told at once.
    pub(super) fn on_flight_failure(&self, flight: &Rc<Flight>, error: &io::Error) {
        let counter = failure(error);
        let out = &mut *self.answer.borrow_mut();
        self.flights
            .borrow_mut()
            .on_failure(flight, |client, question| {
                self.counters.count(counter);
                server_failure(question, out);
                self.reply(client, out);
            });
    }

    fn on_unsendable(&self, message: &[u8], client: SocketAddr, error: &io::Error) {
        self.counters.count(failure(error));
        let out = &mut *self.answer.borrow_mut();
        server_failure(message, out);
        self.reply(client, out);
    }

    /// Sends a datagram to a program.
    pub(super) fn reply(&self, client: SocketAddr, message: &[u8]) {
        let replies = self.replies.borrow();
        let socket = match client {
            SocketAddr::V4(_) => &replies.v4,
            SocketAddr::V6(_) => &replies.v6,
        };
        let sent = socket
            .as_ref()
            .map(|socket| udp::send_to(socket, message, client));
        if !matches!(sent, Some(Ok(()))) {
            self.counters.count(Counter::Unsent);
        }
    }

    fn is_own(&self, server: SocketAddr) -> bool {
        let own = self.own.borrow();
        let local = server.ip().is_loopback() || server.ip().is_unspecified();
        own.iter()
            .any(|own| own.port() == server.port() && (local || own.ip() == server.ip()))
    }

    fn with_settings<T>(&self, read: impl FnOnce(&Settings) -> T) -> T {
        match self.table.load().as_deref() {
            Some(table) => read(table.settings()),
            None => read(&Settings::default()),
        }
    }
}
