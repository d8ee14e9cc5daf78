//! Queries for others' names on their way: sent to the server the program addressed, answers passed
//! back. Messages are touched in their id alone.
//!
//! Towards a server the resolver uses *flights*: connected sockets with a random port each, so that
//! the kernel lets in nothing but what comes from that server's address. A flight takes new queries
//! for [`FLIGHT_AGE`] and at most [`FLIGHT_QUERIES`] of them, then the next query opens another.
//!
//! What a forger off the path has to guess is what it would have to guess without the mesh: about
//! 15 bits of port (`ip_local_port_range`) and 16 bits of id, and the question besides. Sharing a
//! port among the queries of a quarter of a second does not lower that: each must still be hit with
//! its own id and its own question, a port is of no use once its flight is over, and since nothing is
//! cached a hit would spoil one answer to one program, whose own check of the id comes on top.
//!
//! Bounds: [`MAX_FLIGHTS`] sockets and `max_in_flight` queries; at either the oldest flight gives
//! way, whose queries have waited longest and are most likely those of a dead server. Programs ask
//! again as if the network had lost the query. A query that a program repeats is sent again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::SendFlags;
use selvedge_feed::Counter;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::message::{HEADER_BYTES, Header, Question, rcode};

/// How long a flight takes new queries.
const FLIGHT_AGE: Duration = Duration::from_millis(250);

/// How many queries a flight takes.
const FLIGHT_QUERIES: usize = 64;

/// Most sockets towards servers, well below the usual limit of 1024 descriptors.
const MAX_FLIGHTS: usize = 512;

/// All flights.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// By age.
    open: BTreeMap<u64, Rc<Flight>>,
    /// Those that take new queries.
    boarding: HashMap<SocketAddr, Rc<Flight>>,
    opened: u64,
    in_flight: usize,
    ids: Ids,
}

/// A socket towards one server, and what was asked on it.
#[derive(Debug)]
pub(super) struct Flight {
    serial: u64,
    server: SocketAddr,
    pub(super) socket: UdpSocket,
    since: Instant,
    taken: Cell<usize>,
    exchanges: RefCell<Vec<Exchange>>,
    /// Headers and questions of the exchanges, one after the other.
    questions: RefCell<Vec<u8>>,
    task: RefCell<Option<AbortHandle>>,
}

/// A query that waits for its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The id it went out with.
    id: u16,
    /// The id the program gave it.
    client_id: u16,
    pub(super) client: SocketAddr,
    since: Instant,
    question: std::ops::Range<usize>,
}

/// What an answer is found to be.
#[derive(Debug)]
pub(super) enum Arrival {
    /// For this program, and its id is in place.
    For(SocketAddr),
    /// For nobody.
    Mismatch,
}

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The flight that takes a query to `server`, if one does.
    pub(super) fn boarding(&mut self, now: Instant, server: SocketAddr) -> Option<Rc<Flight>> {
        let flight = self.boarding.get(&server)?;
        if flight.taken.get() < FLIGHT_QUERIES && now < flight.since + FLIGHT_AGE {
            return Some(flight.clone());
        }
        let flight = self.boarding.remove(&server)?;
        self.close_if_done(&flight);
        None
    }

    /// Opens one. Then give it the task that reads its socket, see [`Flight::set_task`].
    pub(super) fn open(&mut self, now: Instant, server: SocketAddr) -> io::Result<Rc<Flight>> {
        let socket = connected(server)?;
        self.opened += 1;
        let flight = Rc::new(Flight {
            serial: self.opened,
            server,
            socket,
            since: now,
            taken: Cell::new(0),
            exchanges: RefCell::new(Vec::new()),
            questions: RefCell::new(Vec::new()),
            task: RefCell::new(None),
        });
        self.open.insert(flight.serial, flight.clone());
        self.boarding.insert(server, flight.clone());
        Ok(flight)
    }

    /// Lets the oldest flights go until there is room for one more query, and says how many queries
    /// went with them.
    pub(super) fn make_room(&mut self, max_in_flight: usize) -> u64 {
        let mut displaced = 0;
        while self.in_flight >= max_in_flight || self.open.len() >= MAX_FLIGHTS {
            let Some((_, oldest)) = self.open.first_key_value() else {
                break;
            };
            displaced += self.close(&oldest.clone());
        }
        displaced
    }

    /// Takes a query on board: its id in `message` becomes the one it goes out with.
    pub(super) fn board(
        &mut self,
        now: Instant,
        flight: &Flight,
        client: SocketAddr,
        message: &mut [u8],
    ) {
        let mut exchanges = flight.exchanges.borrow_mut();
        let id = loop {
            let id = self.ids.next();
            if exchanges.iter().all(|exchange| exchange.id != id) {
                break id;
            }
        };
        let mut questions = flight.questions.borrow_mut();
        let start = questions.len();
        let end = Question::parse(message).map_or(HEADER_BYTES, |question| question.end);
        questions.extend_from_slice(&message[..end]);
        let (place, _) = message.split_at_mut(2);
        let client_id = u16::from_be_bytes([place[0], place[1]]);
        place.copy_from_slice(&id.to_be_bytes());
        exchanges.push(Exchange {
            id,
            client_id,
            client,
            since: now,
            question: start..questions.len(),
        });
        flight.taken.set(flight.taken.get() + 1);
        self.in_flight += 1;
    }

    /// Finds the program that `message` answers, and puts its id in place.
    pub(super) fn on_answer(&mut self, flight: &Rc<Flight>, message: &mut [u8]) -> Arrival {
        let Some(exchange) = flight.take_answered(message) else {
            return Arrival::Mismatch;
        };
        message[..2].copy_from_slice(&exchange.client_id.to_be_bytes());
        self.in_flight -= 1;
        if !self.is_boarding(flight) {
            self.close_if_done(flight);
        }
        Arrival::For(exchange.client)
    }

    /// Everything on board has failed: each program with the header and question it sent.
    pub(super) fn on_failure(
        &mut self,
        flight: &Rc<Flight>,
        mut each: impl FnMut(SocketAddr, &[u8]),
    ) {
        let exchanges = flight.exchanges.take();
        let questions = flight.questions.take();
        self.in_flight -= exchanges.len();
        for exchange in exchanges {
            each(exchange.client, &questions[exchange.question]);
        }
        self.close(flight);
    }

    /// Forgets queries that have waited for `timeout` and closes flights that are over. Says how
    /// many queries were forgotten.
    pub(super) fn on_time(&mut self, now: Instant, timeout: Duration) -> u64 {
        let mut forgotten = 0;
        let flights: Vec<_> = self.open.values().cloned().collect();
        for flight in flights {
            let mut exchanges = flight.exchanges.borrow_mut();
            let before = exchanges.len();
            exchanges.retain(|exchange| now < exchange.since + timeout);
            let gone = before - exchanges.len();
            drop(exchanges);
            self.in_flight -= gone;
            forgotten += u64::try_from(gone).unwrap_or(u64::MAX);
            if now >= flight.since + FLIGHT_AGE {
                self.unboard(&flight);
                self.close_if_done(&flight);
            }
        }
        forgotten
    }

    fn is_boarding(&self, flight: &Flight) -> bool {
        let current = self.boarding.get(&flight.server);
        flight.taken.get() < FLIGHT_QUERIES
            && current.is_some_and(|current| current.serial == flight.serial)
    }

    fn unboard(&mut self, flight: &Flight) {
        let current = self.boarding.get(&flight.server);
        if current.is_some_and(|current| current.serial == flight.serial) {
            self.boarding.remove(&flight.server);
        }
    }

    fn close_if_done(&mut self, flight: &Flight) {
        if flight.exchanges.borrow().is_empty() {
            self.close(flight);
        }
    }

    /// Closes the socket, and says how many queries were on board.
    fn close(&mut self, flight: &Flight) -> u64 {
        self.unboard(flight);
        self.open.remove(&flight.serial);
        if let Some(task) = flight.task.take() {
            task.abort();
        }
        let exchanges = flight.exchanges.take();
        self.in_flight -= exchanges.len();
        u64::try_from(exchanges.len()).unwrap_or(u64::MAX)
    }
}

impl Flight {
    /// The task that reads the socket; it ends with the flight.
    pub(super) fn set_task(&self, task: AbortHandle) {
        self.task.replace(Some(task));
    }

    /// Sends at once or not at all; the runtime is not asked, since it knows nothing of a socket that
    /// was opened just now.
    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.socket, message, SendFlags::DONTWAIT)?;
        Ok(())
    }

    /// The exchange that `message` answers: id and question must be those that were sent. A server
    /// that cannot read a query may leave its question out.
    fn take_answered(&self, message: &[u8]) -> Option<Exchange> {
        let header = Header::parse(message).filter(|header| header.is_response())?;
        let mut exchanges = self.exchanges.borrow_mut();
        let found = exchanges
            .iter()
            .position(|exchange| exchange.id == header.id)?;
        let questions = self.questions.borrow();
        let asked = &questions[exchanges[found].question.clone()][HEADER_BYTES..];
        let answers = match header.counts[0] {
            0 => header.rcode() != rcode::NOERROR && header.rcode() != rcode::NXDOMAIN,
            1 => message[HEADER_BYTES..]
                .get(..asked.len())
                .is_some_and(|question| question.eq_ignore_ascii_case(asked)),
            _ => false,
        };
        answers.then(|| exchanges.swap_remove(found))
    }
}

/// A socket that exchanges datagrams with `server` alone, from a port that the kernel picks at
/// random.
fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(server);
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.connect(&server.into())?;
    UdpSocket::from_std(socket.into())
}

/// Query ids nobody can foretell: a keyed hash of a counter, the key from the operating system.
#[derive(Debug, Default)]
struct Ids {
    key: RandomState,
    drawn: u64,
}

impl Ids {
    fn next(&mut self) -> u16 {
        self.drawn += 1;
        (self.key.hash_one(self.drawn) >> 48) as u16
    }
}

/// Why a query could not be sent on, as it is counted.
pub(super) fn failure(error: &io::Error) -> Counter {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL) => {
            Counter::LocalFailures
        }
        _ => Counter::Unreachable,
    }
}
