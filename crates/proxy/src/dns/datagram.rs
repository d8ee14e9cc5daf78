//! Datagrams of programs: a thread for each address family, which has a socket of ours and those
//! towards other servers.
//!
//! While nothing is on its way to a server the thread blocks in the kernel until the next query
//! comes, instead of asking first which socket has something: programs ask one query at a time, and
//! mesh names then cost two system calls each. Otherwise it waits for all sockets at once, reads one
//! datagram of each that has some, and waits again.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use selvedge_feed::Counter;
use tokio::sync::oneshot;

use super::MAX_MESSAGE_BYTES;
use super::forward::{Arrival, Flights, IDLE_AGE, Serial, failure};
use super::respond::{Transport, server_failure};
use super::responder::{Next, Responder};
use super::socket::{Patience, Query, QuerySocket, Received};
use super::writer::UDP_BYTES;
use crate::clock;
use crate::error::Error;

/// How often flights are looked through while queries wait for an answer. While none does, it is
/// done as soon as a flight may be over.
const SWEEP: Duration = Duration::from_millis(250);

/// Whether a thread is at work on a datagram, or looks through its flights: odd while it is, another
/// number for each time.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU64);

const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl Pulse {
    fn beat(&self) {
        // Only one thread writes.
        let beats = self.0.load(Ordering::Relaxed);
        self.0.store(beats.wrapping_add(1), Ordering::Relaxed);
    }

    /// Returns once the thread is done with what it is at work on now: at once if it waits.
    pub(crate) async fn felt(&self) {
        let now = self.0.load(Ordering::Relaxed);
        while now % 2 == 1 && self.0.load(Ordering::Relaxed) == now {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// The worker's end of a thread.
#[derive(Debug)]
pub(crate) struct ReceiverHandle {
    sockets: mpsc::SyncSender<Arc<QuerySocket>>,
    served: Option<Arc<QuerySocket>>,
    pulse: Arc<Pulse>,
    end: oneshot::Receiver<Error>,
}

impl ReceiverHandle {
    /// Has `socket` served, and the one before no longer: what is queued in that is served first.
    pub(crate) fn serve(&mut self, socket: Option<QuerySocket>) -> Result<(), Error> {
        if let (Some(served), Some(socket)) = (&self.served, &socket)
            && served.is(socket)
        {
            // The same agent again, after a connection that broke.
            return Ok(());
        }
        let socket = socket.map(Arc::new);
        if let Some(socket) = socket.clone() {
            let passed = self.sockets.try_send(socket);
            passed.map_err(|_| Error::ReceiverThread)?;
        }
        if let Some(before) = std::mem::replace(&mut self.served, socket) {
            before.retire();
        }
        Ok(())
    }

    /// By which it can be found to hang.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// Waits until the thread ends, which it does where it cannot go on, and says why.
    pub(crate) async fn end(&mut self) -> Error {
        (&mut self.end).await.unwrap_or(Error::Panicked)
    }
}

/// The thread.
#[derive(Debug)]
pub(crate) struct Receiver {
    responder: Arc<Responder>,
    sockets: mpsc::Receiver<Arc<QuerySocket>>,
    flights: Flights,
    swept: Instant,
    buffer: Vec<u8>,
    answer: Vec<u8>,
    pulse: Arc<Pulse>,
    end: oneshot::Sender<Error>,
}

impl Receiver {
    /// One that is yet to be [run](Self::run).
    pub(crate) fn new(responder: Arc<Responder>) -> io::Result<(Self, ReceiverHandle)> {
        let (passes, sockets) = mpsc::sync_channel(crate::QUEUE);
        let (ends, end) = oneshot::channel();
        let pulse = Arc::new(Pulse::default());
        let handle = ReceiverHandle {
            sockets: passes,
            served: None,
            pulse: pulse.clone(),
            end,
        };
        let receiver = Self {
            responder,
            sockets,
            flights: Flights::new()?,
            swept: clock::now(),
            buffer: vec![0; MAX_MESSAGE_BYTES],
            answer: Vec::with_capacity(UDP_BYTES.into()),
            pulse,
            end: ends,
        };
        Ok((receiver, handle))
    }

    /// Serves one socket after the other, each until it is retired. Ends where a socket can be read no
    /// more, and between two sockets with the worker.
    pub(crate) fn run(mut self) {
        while let Some(socket) = self.next_socket() {
            if let Err(source) = self.serve(&socket) {
                let address = socket.address().to_string();
                // Only a worker that has ended does not hear it.
                let _ = self.end.send(Error::Serve { address, source });
                return;
            }
        }
    }

    /// Waits for the next socket, which is usually there. Otherwise nobody is left to pass answers to.
    fn next_socket(&mut self) -> Option<Arc<QuerySocket>> {
        if let Ok(socket) = self.sockets.try_recv() {
            return Some(socket);
        }
        let displaced = self.flights.make_room(0);
        self.responder.counters.add(Counter::Displaced, displaced);
        self.sockets.recv().ok()
    }

    fn serve(&mut self, socket: &QuerySocket) -> io::Result<()> {
        // What a proxy that was killed may have left.
        socket.set_longest_wait(None)?;
        loop {
            let then = match self.flights.is_empty() {
                true => self.take_query(socket, Patience::Wait)?,
                false => self.serve_amid_flights(socket)?,
            };
            if then.is_break() {
                return Ok(());
            }
        }
    }

    /// Serves until no flight is open any more, or the socket is retired.
    fn serve_amid_flights(&mut self, socket: &QuerySocket) -> io::Result<ControlFlow<()>> {
        let mut then = ControlFlow::Continue(());
        self.flights.invite(socket)?;
        socket.set_longest_wait(Some(IDLE_AGE))?;
        self.swept = clock::now();
        while !self.flights.is_empty() && then.is_continue() {
            then = match self.flights.in_flight() {
                0 => self.take_query(socket, Patience::Wait)?,
                _ => self.wait_for_all(socket)?,
            };
            self.sweep();
        }
        socket.set_longest_wait(None)?;
        self.flights.dismiss(socket)?;
        Ok(then)
    }

    fn wait_for_all(&mut self, socket: &QuerySocket) -> io::Result<ControlFlow<()>> {
        let timeout = SWEEP.saturating_sub(clock::now() - self.swept);
        for serial in self.flights.wait(timeout)? {
            if serial != Serial::GUEST {
                self.take_answer(socket, serial);
            } else if self.take_query(socket, Patience::Now)?.is_break() {
                // The next socket's turn; the answers that are there wait for it.
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn sweep(&mut self) {
        let every = match self.flights.in_flight() {
            0 => IDLE_AGE,
            _ => SWEEP,
        };
        let now = clock::now();
        if now < self.swept + every {
            return;
        }
        self.swept = now;
        self.pulse.beat();
        let timeout = self
            .responder
            .with_settings(|settings| settings.forward_timeout);
        let forgotten = self.flights.on_time(now, timeout);
        self.responder.counters.add(Counter::TimedOut, forgotten);
        self.pulse.beat();
    }

    fn take_query(
        &mut self,
        socket: &QuerySocket,
        patience: Patience,
    ) -> io::Result<ControlFlow<()>> {
        let received = socket.receive(&mut self.buffer, patience, self.responder.origins)?;
        match received {
            Received::Query(query) => {
                self.pulse.beat();
                self.on_query(socket, query);
                self.pulse.beat();
            }
            Received::Nothing => {}
            Received::Retired => return Ok(ControlFlow::Break(())),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn on_query(&mut self, socket: &QuerySocket, query: Query) {
        let message = &self.buffer[..query.length];
        let next = self
            .responder
            .on_query(message, query.origin, Transport::Udp, &mut self.answer);
        match next {
            Next::Nothing => {}
            Next::Reply => self.reply(socket, query.client, &self.answer),
            Next::Forward(server) => self.forward(socket, query, server),
        }
    }

    /// Sends on the query that was read; its id is written over.
    fn forward(&mut self, socket: &QuerySocket, query: Query, server: SocketAddr) {
        let now = clock::now();
        let max = self
            .responder
            .with_settings(|settings| settings.max_in_flight);
        let displaced = self
            .flights
            .make_room(usize::try_from(max).unwrap_or(usize::MAX));
        self.responder.counters.add(Counter::Displaced, displaced);
        let message = &mut self.buffer[..query.length];
        let flight = match self.flights.boarding(now, server) {
            Some(flight) => Ok(flight),
            None => self.flights.open(now, server),
        };
        let flight = match flight {
            Ok(flight) => flight,
            Err(error) => {
                self.responder.counters.count(failure(&error));
                server_failure(message, &mut self.answer);
                return self.reply(socket, query.client, &self.answer);
            }
        };
        self.flights.board(now, flight, query.client, message);
        match self.flights.send(flight, message) {
            Ok(()) => {}
            // As if the network had lost it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.responder.counters.count(Counter::Unsent);
            }
            Err(error) => self.on_failure(socket, flight, &error),
        }
    }

    /// Reads what came in on a flight.
    fn take_answer(&mut self, socket: &QuerySocket, flight: Serial) {
        self.pulse.beat();
        match self.flights.receive(flight, &mut self.buffer) {
            Ok(Some(length)) => self.on_answer(socket, flight, length),
            Ok(None) => {}
            Err(error) => self.on_failure(socket, flight, &error),
        }
        self.pulse.beat();
    }

    fn on_answer(&mut self, socket: &QuerySocket, flight: Serial, length: usize) {
        let message = &mut self.buffer[..length];
        match self.flights.on_answer(flight, message) {
            Arrival::For(client) => {
                self.responder.counters.count(Counter::Relayed);
                self.reply(socket, client, &self.buffer[..length]);
            }
            Arrival::Mismatch => self.responder.counters.count(Counter::Mismatched),
        }
    }

    /// A server said that it is not there, or the network did: what a program's own socket would
    /// have been told at once, the program is told at once.
    fn on_failure(&mut self, socket: &QuerySocket, flight: Serial, error: &io::Error) {
        let counter = failure(error);
        for (client, question) in self.flights.on_failure(flight) {
            self.responder.counters.count(counter);
            server_failure(&question, &mut self.answer);
            self.reply(socket, client, &self.answer);
        }
    }

    /// Sends a datagram to a program.
    fn reply(&self, socket: &QuerySocket, client: SocketAddr, message: &[u8]) {
        if socket.send(message, client).is_err() {
            self.responder.counters.count(Counter::Unsent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_felt(pulse: &Pulse) -> bool {
        tokio::select! {
            biased;
            () = pulse.felt() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_thread_vouches_for_itself_unless_it_is_stuck_with_one_query() {
        let pulse = Arc::new(Pulse::default());
        assert!(is_felt(&pulse).await, "it waits for a query");
        pulse.beat();
        assert!(!is_felt(&pulse).await, "it is at work on one");
        let felt = tokio::spawn({
            let pulse = pulse.clone();
            async move { pulse.felt().await }
        });
        tokio::task::yield_now().await;
        pulse.beat();
        pulse.beat();
        felt.await.unwrap();
        assert!(!is_felt(&pulse).await, "it is at work on the next one");
    }
}
