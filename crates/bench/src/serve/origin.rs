//! The origin itself: connections in, one answer for each whole request out.
//!
//! A turn reads every connection that has something, then writes the record, then sends the answers.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

use super::desk::{Answer, Broken, Desk, Dialogue, refusal};
use super::{OriginReport, Record, is_passing};
use crate::poll::{Poller, Ready, Token};
use crate::stream::{BUFFER_BYTES, Received, Stream};

/// Most connections at once; one more is closed at once, and counted.
const MOST_CONNECTIONS: usize = 65_536;
/// Connections that may wait to be accepted: thousands come at once when a load begins.
const BACKLOG: i32 = 4096;
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
    answer: Answer,
    buffer: Box<[u8]>,
    record: Option<Record>,
    report: OriginReport,
}

/// One client.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    dialogue: Dialogue,
}

impl Origin {
    pub(crate) fn new(body_bytes: usize, record: Option<Record>) -> Self {
        Self {
            listeners: Vec::new(),
            connections: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            answer: Answer::new(body_bytes),
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
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
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
            let sent = connection.stream.send(&connection.dialogue.out);
            connection.dialogue.out.clear();
            let is_done = connection.dialogue.is_closing && !connection.stream.is_blocked();
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
            dialogue: Dialogue::new(),
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
            if connection.dialogue.is_closing {
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
            record: self.record.as_mut(),
            report: &mut self.report,
        };
        let Connection { stream, dialogue } = connection;
        let received = match dialogue.is_held {
            true => stream.again(|input| desk.take(input, dialogue)),
            false => stream.receive(&mut self.buffer, |input| desk.take(input, dialogue)),
        };
        match received {
            Ok(Received::Full) => return true,
            Ok(Received::Empty) => return is_ending || dialogue.is_held,
            Ok(Received::End { left }) => {
                self.report.truncated += u64::from(dialogue.end(left));
            }
            Err(Broken::Protocol(error)) => {
                dialogue.out.extend(refusal(error));
                dialogue.is_closing = true;
                self.report.malformed += 1;
            }
            Err(Broken::Io) => {
                dialogue.is_closing = true;
                self.report.broken += 1;
            }
        }
        false
    }

    fn close(&mut self, slot: usize) {
        self.connections[slot] = None;
        self.free.push(slot);
    }
}
