//! The origin itself: connections in, one answer for each whole request out.
//!
//! A turn reads every connection that has something, then writes the record, then sends the answers.

use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream};

use selvedge_wire::http1::{Decoder, Event, FieldName, Framing, Message, Start};
use selvedge_wire::{Limits, ProtocolError};
use serde::Serialize;

use super::{Record, is_passing};
use crate::load::ID_FIELD;
use crate::poll::{Poller, Ready, Token};
use crate::stream::{BUFFER_BYTES, Received, Stream};

/// Most connections at once; one more is closed at once, and counted.
const MOST_CONNECTIONS: usize = 65_536;
/// Most listeners, whose tokens come before those of connections.
const MOST_LISTENERS: usize = 64;
/// Set in every token of an origin, so that a load may share its poller.
pub(crate) const ORIGIN: Token = 1 << 62;

/// An HTTP/1.1 server.
#[derive(Debug)]
pub(crate) struct Origin {
    listeners: Vec<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections with answers to send.
    dirty: Vec<usize>,
    /// Head and body; the first `head_bytes` of it are all that HEAD gets.
    answer: Vec<u8>,
    head_bytes: usize,
    buffer: Box<[u8]>,
    record: Option<Record>,
    report: OriginReport,
}

/// What an origin had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OriginReport {
    /// Whole requests.
    pub requests: u64,
    /// Those of them that were safe (GET and HEAD).
    pub safe: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed because what came was no HTTP.
    pub malformed: u64,
    /// Connections that ended amid a request.
    pub truncated: u64,
    /// Connections that broke.
    pub broken: u64,
    /// Connections that there was no room or no descriptor for.
    pub turned_away: u64,
    /// Requests that the record had no room for.
    pub unrecorded: u64,
}

impl fmt::Display for OriginReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.requests - self.safe;
        writeln!(
            f,
            "{} requests ({} GET or HEAD, {others} others) on {} connections",
            self.requests, self.safe, self.connections
        )?;
        write!(
            f,
            "malformed {}, truncated {}, broken {}, turned away {}, not recorded {}",
            self.malformed, self.truncated, self.broken, self.turned_away, self.unrecorded
        )
    }
}

/// One client.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    decoder: Decoder,
    request: Request,
    /// Answers of this turn.
    out: Vec<u8>,
    /// Nothing more is read, and it closes once all is sent.
    is_closing: bool,
}

/// What is known of the request that is being read.
#[derive(Debug, Default)]
struct Request {
    method: Vec<u8>,
    /// Its id, or where it has none its target.
    id: Vec<u8>,
    keeps_connection: bool,
}

/// Why a connection ends early.
#[derive(Debug)]
enum Broken {
    Io,
    Protocol(ProtocolError),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl Origin {
    pub(crate) fn new(body_bytes: usize, record: Option<Record>) -> Self {
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nserver: selvedge-bench\r\ncontent-type: application/json\r\n\
             cache-control: no-store\r\nvary: accept-encoding\r\ncontent-length: {body_bytes}\r\n\r\n"
        )
        .into_bytes();
        let head_bytes = answer.len();
        answer.resize(head_bytes + body_bytes, b'.');
        Self {
            listeners: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            answer,
            head_bytes,
            buffer: vec![0; BUFFER_BYTES].into(),
            record,
            report: OriginReport::default(),
        }
    }

    /// Serves at an address from now on; gives the one it has.
    pub(crate) fn listen(&mut self, at: SocketAddr, poller: &Poller) -> io::Result<SocketAddr> {
        if self.listeners.len() == MOST_LISTENERS {
            return Err(io::Error::other(format!(
                "{MOST_LISTENERS} addresses are the most"
            )));
        }
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        poller.add_listener(&listener, ORIGIN + self.listeners.len() as Token)?;
        let address = listener.local_addr()?;
        self.listeners.push(listener);
        Ok(address)
    }

    /// Whether a token is an origin's.
    pub(crate) fn owns(token: Token) -> bool {
        token & ORIGIN != 0
    }

    /// What it has done so far.
    pub(crate) fn report(&self) -> OriginReport {
        OriginReport {
            unrecorded: self.record.as_ref().map_or(0, Record::left_out),
            ..self.report.clone()
        }
    }

    /// A listener or connection of its own is ready. Answers wait for [`Self::answer`].
    pub(crate) fn on_ready(&mut self, ready: Ready, poller: &Poller) -> anyhow::Result<()> {
        let number = (ready.token & !ORIGIN) as usize;
        match number.checked_sub(MOST_LISTENERS) {
            None => self.accept(number, poller)?,
            Some(slot) => self.serve(slot, ready.is_ending)?,
        }
        Ok(())
    }

    /// Ends the turn: the record, then the answers.
    pub(crate) fn answer(&mut self) -> anyhow::Result<()> {
        if let Some(record) = &mut self.record {
            record.write()?;
        }
        let mut dirty = mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(connection) = &mut self.connections[slot] else {
                continue;
            };
            let sent = connection.stream.send(&connection.out);
            connection.out.clear();
            let is_done = connection.is_closing && !connection.stream.is_blocked();
            self.report.broken += u64::from(sent.is_err());
            if sent.is_err() || is_done {
                self.close(slot);
            }
        }
        self.dirty = dirty;
        Ok(())
    }

    fn accept(&mut self, listener: usize, poller: &Poller) -> io::Result<()> {
        loop {
            let stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_passing(&error) => {
                    self.report.turned_away += 1;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            if self.connections.len() - self.free.len() == MOST_CONNECTIONS {
                self.report.turned_away += 1;
                continue;
            }
            self.report.connections += 1;
            self.admit(stream, poller)?;
        }
    }

    fn admit(&mut self, stream: TcpStream, poller: &Poller) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        poller.add_stream(&stream, ORIGIN + (MOST_LISTENERS + slot) as Token)?;
        self.connections[slot] = Some(Connection {
            stream: Stream::new(stream),
            decoder: Decoder::requests(Limits::default()),
            request: Request::default(),
            out: Vec::new(),
            is_closing: false,
        });
        Ok(())
    }

    /// Reads what a client sent, for as long as it takes its answers.
    fn serve(&mut self, slot: usize, is_ending: bool) -> anyhow::Result<()> {
        loop {
            let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
                return Ok(());
            };
            if connection.stream.flush().is_err() {
                self.report.broken += 1;
                self.close(slot);
                return Ok(());
            }
            if connection.stream.is_blocked() {
                return Ok(());
            }
            if connection.is_closing {
                self.dirty.push(slot);
                return Ok(());
            }
            let goes_on = self.read(slot, is_ending);
            self.dirty.push(slot);
            if !goes_on {
                return Ok(());
            }
            // A client that sends without reading is held back by its own answers.
            self.answer()?;
        }
    }

    /// Reads once; says whether there may be more.
    fn read(&mut self, slot: usize, is_ending: bool) -> bool {
        let Some(connection) = &mut self.connections[slot] else {
            return false;
        };
        let mut desk = Desk {
            answer: &self.answer,
            head_bytes: self.head_bytes,
            record: self.record.as_mut(),
            report: &mut self.report,
        };
        let Connection {
            stream,
            decoder,
            request,
            out,
            is_closing,
        } = connection;
        let received = stream.receive(&mut self.buffer, |input| {
            desk.take(input, decoder, request, out, is_closing)
        });
        match received {
            Ok(Received::Full) => true,
            Ok(Received::Empty) => is_ending,
            Ok(Received::End { left }) => {
                let is_whole = *is_closing || connection.decoder.on_eof(left).is_ok();
                connection.is_closing = true;
                self.report.truncated += u64::from(!is_whole);
                false
            }
            Err(Broken::Protocol(error)) => {
                out.extend(refusal(error));
                *is_closing = true;
                self.report.malformed += 1;
                false
            }
            Err(Broken::Io) => {
                *is_closing = true;
                self.report.broken += 1;
                false
            }
        }
    }

    fn close(&mut self, slot: usize) {
        self.connections[slot] = None;
        self.free.push(slot);
    }
}

/// What it takes to answer.
struct Desk<'a> {
    answer: &'a [u8],
    head_bytes: usize,
    record: Option<&'a mut Record>,
    report: &'a mut OriginReport,
}

impl Desk<'_> {
    /// Takes every whole request of the input; says how many bytes were understood.
    fn take(
        &mut self,
        input: &[u8],
        decoder: &mut Decoder,
        request: &mut Request,
        out: &mut Vec<u8>,
        is_closing: &mut bool,
    ) -> Result<usize, Broken> {
        let mut at = 0;
        while !*is_closing {
            let rest = &input[at..];
            let step = decoder.step(rest).map_err(Broken::Protocol)?;
            at += step.consumed;
            match step.event {
                None => return Ok(at),
                Some(Event::Head) => {
                    let message = decoder.message(rest, &step);
                    request.read(&message);
                    if decoder.framing() != Framing::Empty && awaits_leave(&message) {
                        out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                }
                Some(Event::End) => {
                    self.complete(request, out);
                    *is_closing = !request.keeps_connection;
                }
                Some(Event::Data(_) | Event::Trailers) => {}
            }
        }
        Ok(input.len())
    }

    fn complete(&mut self, request: &Request, out: &mut Vec<u8>) {
        let is_head = request.method == b"HEAD";
        self.report.requests += 1;
        self.report.safe += u64::from(is_head || request.method == b"GET");
        if let Some(record) = &mut self.record {
            record.put(&[&request.method, &request.id]);
        }
        match is_head {
            true => out.extend_from_slice(&self.answer[..self.head_bytes]),
            false => out.extend_from_slice(self.answer),
        }
    }
}

impl Request {
    fn read(&mut self, message: &Message<'_>) {
        let Start::Request { method, target } = message.start() else {
            return; // a decoder of requests gives nothing else
        };
        let id = message
            .fields()
            .find(|field| field.name.eq_ignore_ascii_case(ID_FIELD.as_bytes()));
        self.method.clear();
        self.method.extend_from_slice(method);
        self.id.clear();
        self.id.extend_from_slice(id.map_or(target, |id| id.value));
        self.keeps_connection = message.keeps_connection();
    }
}

/// Whether the client sends its body only once it is told to (RFC 9110, section 10.1.1).
fn awaits_leave(message: &Message<'_>) -> bool {
    let mut values = message.values(FieldName::Expect);
    values.any(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

fn refusal(error: ProtocolError) -> Vec<u8> {
    let (status, text) = (error.status(), format!("{error}\n"));
    let length = text.len();
    format!(
        "HTTP/1.1 {status} Refused\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
    )
    .into_bytes()
}
