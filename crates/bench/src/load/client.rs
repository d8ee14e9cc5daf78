//! The connections of a load, and the requests on them.
//!
//! It is told of time ([`Client::on_time`]) and of sockets ([`Client::on_ready`]) and never waits.
//! Nothing is sent twice: a request whose connection broke has failed, whatever became of it.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use selvedge_wire::ProtocolError;
use selvedge_wire::http1::Event;

use super::arrivals::Schedule;
use super::connection::{Connection, Exchange, Met, State, connect, kind_of};
use super::request::{Method, Template, digits};
use super::tally::{Kinds, Tally};
use super::{LoadOptions, Pace};
use crate::poll::{Poller, Ready, Token};
use crate::random::Random;
use crate::serve::Record;
use crate::stream::{BUFFER_BYTES, Received};

/// How long a connection that failed stays closed: against a server that is away, a load must not
/// become a flood of connects.
const PAUSE_NS: u64 = 10_000_000;
/// How often time-outs and closed connections are looked for.
const SWEEP_NS: u64 = 10_000_000;

/// The load's side of its connections.
#[derive(Debug)]
pub(super) struct Client<'a> {
    options: &'a LoadOptions,
    address: SocketAddr,
    get: Template,
    post: Template,
    connections: Vec<Connection>,
    /// Connections without a request, the one that waits longest first.
    idle: VecDeque<usize>,
    /// When each request was due that waits for a connection; at most as many as the options say.
    queue: VecDeque<u64>,
    schedule: Option<Schedule>,
    random: Random,
    next_id: u64,
    /// Requests that may still become due.
    left: u64,
    outstanding: usize,
    start_ns: u64,
    end_ns: u64,
    sweep_ns: u64,
    record: Option<Record>,
    buffer: Box<[u8]>,
    pub(super) warm_up: Tally,
    pub(super) measured: Tally,
    /// Answers that came so far, to whatever requests.
    pub(super) completed: u64,
    pub(super) connects: u64,
    pub(super) failed_connects: Kinds,
}

impl<'a> Client<'a> {
    /// A load that begins to warm up at `now_ns`.
    pub(super) fn new(
        options: &'a LoadOptions,
        address: SocketAddr,
        now_ns: u64,
    ) -> anyhow::Result<Self> {
        let mut random = Random::new(options.seed);
        let first_half = random.next() & !u64::from(u32::MAX);
        let schedule = match options.pace {
            Pace::Closed => None,
            Pace::Open { rate, arrivals, .. } => {
                let random = Random::new(random.next());
                Some(Schedule::new(arrivals, rate, now_ns, random))
            }
        };
        let start_ns = now_ns + options.warm_up.as_nanos() as u64;
        let connections = (0..options.connections).map(|_| Connection::closed(now_ns));
        Ok(Self {
            options,
            address,
            get: Template::new(options, Method::Get),
            post: Template::new(options, Method::Post),
            connections: connections.collect(),
            idle: VecDeque::with_capacity(options.connections),
            queue: VecDeque::new(),
            schedule,
            random,
            next_id: first_half,
            left: options.requests,
            outstanding: 0,
            start_ns,
            end_ns: start_ns + options.duration.as_nanos() as u64,
            sweep_ns: now_ns,
            record: options.record.as_deref().map(Record::create).transpose()?,
            buffer: vec![0; BUFFER_BYTES].into(),
            warm_up: Tally::new(options.objective),
            measured: Tally::new(options.objective),
            completed: 0,
            connects: 0,
            failed_connects: Kinds::default(),
        })
    }

    /// Whether requests that become due now count.
    pub(super) fn has_started(&self, now_ns: u64) -> bool {
        now_ns >= self.start_ns
    }

    /// Whether no more requests become due.
    pub(super) fn is_over(&self, now_ns: u64) -> bool {
        let all_done = self.left == 0 && self.outstanding == 0 && self.queue.is_empty();
        now_ns >= self.end_ns || all_done
    }

    /// Whether nothing is waited for any more.
    pub(super) fn is_done(&self, now_ns: u64) -> bool {
        let is_quiet = self.outstanding == 0 && self.queue.is_empty();
        let patience = self.end_ns + self.options.timeout.as_nanos() as u64;
        self.is_over(now_ns) && (is_quiet || now_ns >= patience)
    }

    /// No more requests become due.
    pub(super) fn end(&mut self, now_ns: u64) {
        self.end_ns = self.end_ns.min(now_ns);
    }

    /// When [`Self::on_time`] is to be called next.
    pub(super) fn next_ns(&self) -> u64 {
        let next_ns = self.schedule.as_ref().map(Schedule::next_ns);
        next_ns.map_or(self.sweep_ns, |next_ns| next_ns.min(self.sweep_ns))
    }

    /// Time has passed: what is due is sent, what took too long has failed.
    pub(super) fn on_time(&mut self, now_ns: u64, poller: &Poller) {
        if now_ns >= self.sweep_ns {
            self.sweep_ns = now_ns + SWEEP_NS;
            self.sweep(now_ns, poller);
        }
        while let Some(due_ns) = self.due(now_ns) {
            self.left -= 1;
            self.tally(due_ns).requests += 1;
            self.tally(due_ns).lags.record(now_ns - due_ns);
            self.queue_or_send(due_ns, now_ns);
        }
    }

    fn due(&mut self, now_ns: u64) -> Option<u64> {
        if self.left == 0 {
            return None;
        }
        self.schedule.as_mut()?.due(now_ns.min(self.end_ns - 1))
    }

    fn queue_or_send(&mut self, due_ns: u64, now_ns: u64) {
        let Pace::Open { queue, .. } = self.options.pace else {
            return;
        };
        if let Some(slot) = self.idle.pop_front() {
            self.send(slot, due_ns, now_ns);
        } else if self.queue.len() < queue {
            self.queue.push_back(due_ns);
        } else {
            self.tally(due_ns).unsent += 1;
        }
    }

    fn sweep(&mut self, now_ns: u64, poller: &Poller) {
        let timeout_ns = self.options.timeout.as_nanos() as u64;
        let is_wanted = now_ns < self.end_ns || !self.queue.is_empty();
        for slot in 0..self.connections.len() {
            match self.connections[slot].state {
                State::Closed { until_ns } if is_wanted && until_ns <= now_ns => {
                    self.open(slot, now_ns, poller);
                }
                State::Connecting { since_ns } if now_ns - since_ns > timeout_ns => {
                    self.fail(slot, "timeout", now_ns);
                }
                State::Waiting(exchange)
                    if now_ns.saturating_sub(exchange.sent_ns) > timeout_ns =>
                {
                    self.fail(slot, "timeout", now_ns);
                }
                _ => {}
            }
        }
    }

    fn open(&mut self, slot: usize, now_ns: u64, poller: &Poller) {
        match connect(self.address) {
            Ok(stream) => {
                if poller.add_stream(&stream, slot as Token).is_err() {
                    return self.fail(slot, "poll", now_ns);
                }
                self.connects += 1;
                self.connections[slot].connecting(stream, now_ns);
            }
            Err(error) => {
                self.connections[slot].state = State::Connecting { since_ns: now_ns };
                self.fail(slot, &kind_of(&error), now_ns);
            }
        }
    }

    /// A connection of its own is ready.
    pub(super) fn on_ready(&mut self, ready: Ready, now_ns: u64, poller: &Poller) {
        let slot = ready.token as usize;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(stream) = &mut connection.stream else {
            return; // closed since the poll
        };
        if let State::Connecting { .. } = connection.state {
            match stream.socket().take_error() {
                Ok(None) => self.next(slot, now_ns),
                Ok(Some(error)) | Err(error) => return self.fail(slot, &kind_of(&error), now_ns),
            }
        } else if let Err(error) = stream.flush() {
            return self.fail(slot, &kind_of(&error), now_ns);
        }
        while self.read(slot, now_ns, poller) || ready.is_ending {
            if self.connections[slot].stream.is_none() {
                return;
            }
            if let State::Connecting { .. } = self.connections[slot].state {
                return; // another one has taken its place
            }
        }
    }

    /// Reads once; says whether there may be more.
    fn read(&mut self, slot: usize, now_ns: u64, poller: &Poller) -> bool {
        match self.connections[slot].receive(&mut self.buffer) {
            Met::Part(received) => return received == Received::Full,
            Met::Whole(received) => {
                self.complete(slot, now_ns, poller);
                return received == Received::Full;
            }
            // The first answer may be somebody else's: neither is believed.
            Met::Unasked => self.fail(slot, "unasked", now_ns),
            Met::End(ended) => self.on_end(slot, ended, now_ns, poller),
            Met::Failed(kind) => self.fail(slot, &kind, now_ns),
        }
        false
    }

    /// The server sends nothing more.
    fn on_end(
        &mut self,
        slot: usize,
        ended: Result<Option<Event>, ProtocolError>,
        now_ns: u64,
        poller: &Poller,
    ) {
        let connection = &mut self.connections[slot];
        match (connection.state, ended) {
            (State::Waiting(_), Ok(Some(_))) => {
                connection.answer.keeps_connection = false;
                self.complete(slot, now_ns, poller);
            }
            (State::Waiting(_), Ok(None)) => self.fail(slot, "closed", now_ns),
            (_, Err(_)) => self.fail(slot, "truncated", now_ns),
            // A server may close a connection that nobody uses.
            (_, Ok(_)) => self.reopen(slot, now_ns, poller),
        }
    }

    /// The answer is whole.
    fn complete(&mut self, slot: usize, now_ns: u64, poller: &Poller) {
        let connection = &mut self.connections[slot];
        let State::Waiting(exchange) = connection.state else {
            return;
        };
        let answer = std::mem::take(&mut connection.answer);
        self.outstanding -= 1;
        self.completed += 1;
        let latency_ns = now_ns.saturating_sub(exchange.due_ns);
        let service_ns = now_ns.saturating_sub(exchange.sent_ns);
        let tally = self.tally(exchange.due_ns);
        tally.answered(&answer, latency_ns, service_ns);
        self.put(exchange, &answer);
        match answer.keeps_connection {
            true => self.next(slot, now_ns),
            false => self.reopen(slot, now_ns, poller),
        }
    }

    /// The connection is free: it takes the next request, if there is one.
    fn next(&mut self, slot: usize, now_ns: u64) {
        self.connections[slot].state = State::Idle;
        match self.options.pace {
            Pace::Closed if self.left > 0 && now_ns < self.end_ns => {
                self.left -= 1;
                self.tally(now_ns).requests += 1;
                self.send(slot, now_ns, now_ns);
            }
            Pace::Closed => {}
            Pace::Open { .. } => match self.queue.pop_front() {
                Some(due_ns) => self.send(slot, due_ns, now_ns),
                None => self.idle.push_back(slot),
            },
        }
    }

    fn send(&mut self, slot: usize, due_ns: u64, now_ns: u64) {
        let is_post =
            self.options.posts > 0 && self.random.below(100) < u64::from(self.options.posts);
        let (method, template) = match is_post {
            true => (Method::Post, &mut self.post),
            false => (Method::Get, &mut self.get),
        };
        let id = self.next_id;
        self.next_id += 1;
        let connection = &mut self.connections[slot];
        connection.state = State::Waiting(Exchange {
            due_ns,
            sent_ns: now_ns,
            id,
            method,
        });
        self.outstanding += 1;
        let Some(stream) = &mut connection.stream else {
            return self.fail(slot, "closed", now_ns);
        };
        if let Err(error) = stream.send(template.with_id(id)) {
            self.fail(slot, &kind_of(&error), now_ns);
        }
    }

    /// The connection is of no use any more; neither is the request on it.
    fn fail(&mut self, slot: usize, kind: &str, now_ns: u64) {
        match self.connections[slot].state {
            State::Waiting(exchange) => {
                self.outstanding -= 1;
                self.tally(exchange.due_ns).errors.count(kind);
                self.put(exchange, &kind);
            }
            State::Connecting { .. } => self.failed_connects.count(kind),
            State::Idle | State::Closed { .. } => {}
        }
        self.close(slot, now_ns + PAUSE_NS);
    }

    fn reopen(&mut self, slot: usize, now_ns: u64, poller: &Poller) {
        self.close(slot, now_ns);
        if now_ns < self.end_ns || !self.queue.is_empty() {
            self.open(slot, now_ns, poller);
        }
    }

    fn close(&mut self, slot: usize, until_ns: u64) {
        self.idle.retain(|idle| *idle != slot);
        let connection = &mut self.connections[slot];
        connection.stream = None;
        connection.state = State::Closed { until_ns };
    }

    fn put(&mut self, exchange: Exchange, outcome: &dyn fmt::Display) {
        if let Some(record) = &mut self.record {
            let method = exchange.method.name().as_bytes();
            let outcome = outcome.to_string();
            record.put(&[method, &digits(exchange.id), outcome.as_bytes()]);
        }
    }

    fn tally(&mut self, due_ns: u64) -> &mut Tally {
        match due_ns < self.start_ns {
            true => &mut self.warm_up,
            false => &mut self.measured,
        }
    }

    /// Ends the turn.
    pub(super) fn write_record(&mut self) -> anyhow::Result<()> {
        match &mut self.record {
            Some(record) => record.write(),
            None => Ok(()),
        }
    }

    /// Ends the run: what is still waited for has failed, what still waits was never sent.
    pub(super) fn give_up(&mut self, now_ns: u64) -> anyhow::Result<()> {
        for slot in 0..self.connections.len() {
            if let State::Waiting(_) = self.connections[slot].state {
                self.fail(slot, "timeout", now_ns);
            }
        }
        while let Some(due_ns) = self.queue.pop_front() {
            self.tally(due_ns).unsent += 1;
        }
        self.write_record()
    }
}
