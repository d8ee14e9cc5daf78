//! Queries for others' names on their way: sent to the server the program addressed, answers passed
//! back. Messages are touched in their id alone.
//!
//! Towards a server the resolver uses *flights*: connected sockets with a random port each, so that
//! the kernel lets in nothing but what comes from that server's address. A flight takes new queries
//! for [`FLIGHT_AGE`], or [`IDLE_AGE`] once all are answered, and at most [`FLIGHT_QUERIES`] of them;
//! then the next query opens another.
//!
//! What a forger off the path has to guess is what it would have to guess without the mesh: about
//! 15 bits of port (`ip_local_port_range`) and 16 bits of id, and the question besides. Sharing a
//! port among the queries of a moment does not lower that: each must still be hit with
//! its own id and its own question, a port is of no use once its flight is over, and since nothing is
//! cached a hit would spoil one answer to one program, whose own check of the id comes on top.
//!
//! Bounds: [`MAX_FLIGHTS`] sockets and `max_in_flight` queries; at either the oldest flight gives
//! way, whose queries have waited longest and are most likely those of a dead server. Programs ask
//! again as if the network had lost the query. A query that a program repeats is sent again.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use selvedge_feed::Counter;
use socket2::{Domain, Protocol, Socket, Type};

use super::message::{HEADER_BYTES, Header, Question, rcode};

/// How long a flight takes new queries while it waits for answers. Longer than [`IDLE_AGE`], so that
/// a server that says nothing does not take up all flights before `forward_timeout`.
const FLIGHT_AGE: Duration = Duration::from_millis(250);

/// How long it does while it waits for none: those of programs that ask for several names, or for one
/// in several forms, at once.
pub(super) const IDLE_AGE: Duration = Duration::from_millis(20);

/// How many queries a flight takes.
const FLIGHT_QUERIES: usize = 64;

/// Most sockets towards servers of a thread: with two threads half of the usual limit of 1024
/// descriptors.
const MAX_FLIGHTS: usize = 256;

/// How many sockets are heard of with one call.
const AT_ONCE: usize = 16;

/// All flights of one thread.
#[derive(Debug)]
pub(super) struct Flights {
    /// By age.
    open: BTreeMap<Serial, Flight>,
    /// Those that take new queries.
    boarding: HashMap<SocketAddr, Serial>,
    opened: u64,
    in_flight: usize,
    ids: Ids,
    /// Waits for all of them at once.
    poll: OwnedFd,
}

/// Names a flight, and what is waited for beside them. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(u64);

/// A socket towards one server, and what was asked on it.
#[derive(Debug)]
struct Flight {
    server: SocketAddr,
    socket: OwnedFd,
    since: Instant,
    taken: usize,
    exchanges: Vec<Exchange>,
    /// Headers and questions of the exchanges, one after the other.
    questions: Vec<u8>,
}

/// A query that waits for its answer.
#[derive(Debug)]
struct Exchange {
    /// The id it went out with.
    id: u16,
    /// The id the program gave it.
    client_id: u16,
    client: SocketAddr,
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

impl Serial {
    /// Of the socket that is waited for beside the flights.
    pub(super) const GUEST: Self = Self(0);
}

impl Flights {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            open: BTreeMap::new(),
            boarding: HashMap::new(),
            opened: 0,
            in_flight: 0,
            ids: Ids::default(),
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// From now on `socket` is waited for as well, as [`Serial::GUEST`].
    pub(super) fn invite(&self, socket: &impl AsFd) -> io::Result<()> {
        Ok(wait_for(&self.poll, socket, Serial::GUEST)?)
    }

    /// From now on it is not.
    pub(super) fn dismiss(&self, socket: &impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.poll, socket)?)
    }

    /// Waits at most `timeout` until something can be read, and says of whom.
    pub(super) fn wait(
        &self,
        timeout: Duration,
    ) -> io::Result<impl Iterator<Item = Serial> + use<>> {
        let mut events = [NO_EVENT; AT_ONCE];
        let timeout = timeout
            .try_into()
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        let count = match epoll::wait(&self.poll, &mut events, Some(&timeout)) {
            Err(Errno::INTR) => 0,
            waited => waited?,
        };
        let serial = |event: epoll::Event| Serial(event.data.u64());
        Ok(events.into_iter().take(count).map(serial))
    }

    /// How many queries wait for an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The flight that takes a query to `server`, if one does.
    pub(super) fn boarding(&mut self, now: Instant, server: SocketAddr) -> Option<Serial> {
        let serial = *self.boarding.get(&server)?;
        let flight = self.open.get(&serial)?;
        if flight.taken < FLIGHT_QUERIES && !flight.is_over(now) {
            return Some(serial);
        }
        self.boarding.remove(&server);
        self.close_if_done(serial);
        None
    }

    /// Opens one.
    pub(super) fn open(&mut self, now: Instant, server: SocketAddr) -> io::Result<Serial> {
        let socket = connected(server)?;
        self.opened += 1;
        let serial = Serial(self.opened);
        wait_for(&self.poll, &socket, serial)?;
        let flight = Flight {
            server,
            socket,
            since: now,
            taken: 0,
            exchanges: Vec::new(),
            questions: Vec::new(),
        };
        self.open.insert(serial, flight);
        self.boarding.insert(server, serial);
        Ok(serial)
    }

    /// Lets the oldest flights go until there is room for one more query, and says how many queries
    /// went with them.
    pub(super) fn make_room(&mut self, max_in_flight: usize) -> u64 {
        let mut displaced = 0;
        while self.in_flight >= max_in_flight || self.open.len() >= MAX_FLIGHTS {
            let Some((&oldest, _)) = self.open.first_key_value() else {
                break;
            };
            displaced += self.close(oldest);
        }
        displaced
    }

    /// Takes a query on board: its id in `message` becomes the one it goes out with.
    pub(super) fn board(
        &mut self,
        now: Instant,
        serial: Serial,
        client: SocketAddr,
        message: &mut [u8],
    ) {
        let Some(flight) = self.open.get_mut(&serial) else {
            return;
        };
        let id = loop {
            let id = self.ids.next();
            if flight.exchanges.iter().all(|exchange| exchange.id != id) {
                break id;
            }
        };
        let start = flight.questions.len();
        let end = Question::parse(message).map_or(HEADER_BYTES, |question| question.end);
        flight.questions.extend_from_slice(&message[..end]);
        let (place, _) = message.split_at_mut(2);
        let client_id = u16::from_be_bytes([place[0], place[1]]);
        place.copy_from_slice(&id.to_be_bytes());
        flight.exchanges.push(Exchange {
            id,
            client_id,
            client,
            since: now,
            question: start..flight.questions.len(),
        });
        flight.taken += 1;
        self.in_flight += 1;
    }

    /// Sends at once or not at all.
    pub(super) fn send(&self, serial: Serial, message: &[u8]) -> io::Result<()> {
        let flight = self.open.get(&serial).ok_or(io::ErrorKind::NotConnected)?;
        send(&flight.socket, message, SendFlags::DONTWAIT)?;
        Ok(())
    }

    /// Reads a datagram, if one is there.
    pub(super) fn receive(&self, serial: Serial, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // Closed by what came just before.
        let Some(flight) = self.open.get(&serial) else {
            return Ok(None);
        };
        match recv(&flight.socket, buffer, RecvFlags::DONTWAIT) {
            Ok((_, length)) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds the program that `message` answers, and puts its id in place.
    pub(super) fn on_answer(&mut self, serial: Serial, message: &mut [u8]) -> Arrival {
        let flight = self.open.get_mut(&serial);
        let Some(exchange) = flight.and_then(|flight| flight.take_answered(message)) else {
            return Arrival::Mismatch;
        };
        message[..2].copy_from_slice(&exchange.client_id.to_be_bytes());
        self.in_flight -= 1;
        if !self.is_boarding(serial) {
            self.close_if_done(serial);
        }
        Arrival::For(exchange.client)
    }

    /// Everything on board has failed: each program, with the header and question it sent.
    pub(super) fn on_failure(&mut self, serial: Serial) -> Vec<(SocketAddr, Vec<u8>)> {
        let Some(flight) = self.remove(serial) else {
            return Vec::new();
        };
        let failed = flight.exchanges.into_iter().map(|exchange| {
            let question = flight.questions[exchange.question].to_vec();
            (exchange.client, question)
        });
        failed.collect()
    }

    /// Forgets queries that have waited for `timeout` and closes flights that are over. Says how
    /// many queries were forgotten.
    pub(super) fn on_time(&mut self, now: Instant, timeout: Duration) -> u64 {
        let mut forgotten = 0;
        for flight in self.open.values_mut() {
            let before = flight.exchanges.len();
            let waits = |exchange: &Exchange| now < exchange.since + timeout;
            flight.exchanges.retain(waits);
            forgotten += before - flight.exchanges.len();
        }
        self.in_flight -= forgotten;
        let open = &self.open;
        self.boarding
            .retain(|_, serial| open.get(serial).is_some_and(|flight| !flight.is_over(now)));
        let done =
            |(_, flight): &(&Serial, &Flight)| flight.is_over(now) && flight.exchanges.is_empty();
        let done: Vec<Serial> = open
            .iter()
            .filter(done)
            .map(|(serial, _)| *serial)
            .collect();
        for serial in done {
            self.close(serial);
        }
        u64::try_from(forgotten).unwrap_or(u64::MAX)
    }

    fn is_boarding(&self, serial: Serial) -> bool {
        self.open.get(&serial).is_some_and(|flight| {
            flight.taken < FLIGHT_QUERIES && self.boarding.get(&flight.server) == Some(&serial)
        })
    }

    fn close_if_done(&mut self, serial: Serial) {
        let flight = self.open.get(&serial);
        if flight.is_some_and(|flight| flight.exchanges.is_empty()) {
            self.close(serial);
        }
    }

    /// Closes the socket, and says how many queries were on board.
    fn close(&mut self, serial: Serial) -> u64 {
        let closed = self.remove(serial);
        let lost = closed.map_or(0, |flight| flight.exchanges.len());
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    fn remove(&mut self, serial: Serial) -> Option<Flight> {
        let flight = self.open.remove(&serial)?;
        if self.boarding.get(&flight.server) == Some(&serial) {
            self.boarding.remove(&flight.server);
        }
        self.in_flight -= flight.exchanges.len();
        Some(flight)
    }
}

const NO_EVENT: epoll::Event = epoll::Event {
    flags: epoll::EventFlags::empty(),
    data: epoll::EventData::new_u64(0),
};

/// Level-triggered: whoever reads one datagram of many is told again.
fn wait_for(poll: &OwnedFd, socket: &impl AsFd, serial: Serial) -> Result<(), Errno> {
    let data = epoll::EventData::new_u64(serial.0);
    epoll::add(poll, socket, data, epoll::EventFlags::IN)
}

impl Flight {
    /// Whether it takes no query any more for its age.
    fn is_over(&self, now: Instant) -> bool {
        let age = match self.exchanges.is_empty() {
            true => IDLE_AGE,
            false => FLIGHT_AGE,
        };
        now >= self.since + age
    }

    /// The exchange that `message` answers: id and question must be those that were sent. A server
    /// that cannot read a query may leave its question out.
    fn take_answered(&mut self, message: &[u8]) -> Option<Exchange> {
        let header = Header::parse(message).filter(|header| header.is_response())?;
        let found = self
            .exchanges
            .iter()
            .position(|exchange| exchange.id == header.id)?;
        let asked = &self.questions[self.exchanges[found].question.clone()][HEADER_BYTES..];
        let answers = match header.counts[0] {
            0 => header.rcode() != rcode::NOERROR && header.rcode() != rcode::NXDOMAIN,
            1 => message[HEADER_BYTES..]
                .get(..asked.len())
                .is_some_and(|question| question.eq_ignore_ascii_case(asked)),
            _ => false,
        };
        answers.then(|| self.exchanges.swap_remove(found))
    }
}

/// A socket that exchanges datagrams with `server` alone, from a port that the kernel picks at
/// random.
fn connected(server: SocketAddr) -> io::Result<OwnedFd> {
    let domain = Domain::for_address(server);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.connect(&server.into())?;
    Ok(socket.into())
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
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::ENOSPC
            | libc::EADDRNOTAVAIL,
        ) => Counter::LocalFailures,
        _ => Counter::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";

    #[test]
    fn a_flight_that_waits_takes_queries_for_longer_than_one_that_does_not() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let mut flights = Flights::new().unwrap();
        let start = Instant::now();
        let flight = flights.open(start, address).unwrap();
        let mut message = QUERY.to_vec();
        flights.board(start, flight, address, &mut message);
        flights.on_time(start + IDLE_AGE, FLIGHT_AGE);
        assert_eq!(flights.boarding(start + IDLE_AGE, address), Some(flight));

        message[2] |= 0x80;
        let arrival = flights.on_answer(flight, &mut message);
        assert!(matches!(arrival, Arrival::For(client) if client == address));
        assert_eq!(message[..2], QUERY[..2]);
        assert!(!flights.is_empty(), "another query may come");
        flights.on_time(start + IDLE_AGE, FLIGHT_AGE);
        assert!(flights.is_empty());

        let flight = flights.open(start, address).unwrap();
        flights.board(start, flight, address, &mut message);
        assert_eq!(flights.boarding(start + FLIGHT_AGE, address), None);
        assert_eq!(flights.on_time(start + FLIGHT_AGE, FLIGHT_AGE), 1);
        assert!(flights.is_empty());
    }
}
