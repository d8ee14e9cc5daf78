//! A connection of a load, and the answers that come over it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use rustix::io::Errno;
use selvedge_wire::http1::{Decoder, Event, Message, Start};
use selvedge_wire::{Limits, ProtocolError};
use socket2::{Domain, Socket, Type};

use super::request::Method;
use crate::stream::{Received, Stream};

/// One connection, and the request on it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Option<Stream>,
    decoder: Decoder,
    pub(super) state: State,
    /// What is being read.
    pub(super) answer: Answer,
}

/// The head of an answer, as far as a load cares.
#[derive(Debug)]
pub(super) struct Answer {
    /// 0 before the head.
    pub(super) status: u16,
    pub(super) keeps_connection: bool,
    /// Why the mesh refused the request; empty where an origin answered.
    pub(super) reason: String,
}

/// The field in which the mesh says why it refused a request.
const REASON_FIELD: &[u8] = b"selvedge-reason";
/// Longest reason: what comes from outside is bounded.
const MOST_REASON: usize = 64;

/// What a connection is good for.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Closed { until_ns: u64 },
    Connecting { since_ns: u64 },
    Idle,
    Waiting(Exchange),
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) due_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) id: u64,
    pub(super) method: Method,
}

/// What a read of a connection gave.
#[derive(Debug)]
pub(super) enum Met {
    /// Part of an answer, or nothing.
    Part(Received),
    /// The rest of the answer.
    Whole(Received),
    /// Bytes that answer no request.
    Unasked,
    /// The server's end, amid an answer or not.
    End(Result<Option<Event>, ProtocolError>),
    /// The connection is of no use, for the reason in a word.
    Failed(String),
}

/// Why an answer cannot be read on.
enum Failure {
    Io(io::Error),
    Protocol(ProtocolError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Connection {
    /// One that may be opened from an instant on.
    pub(super) fn closed(until_ns: u64) -> Self {
        Self {
            stream: None,
            decoder: Decoder::responses(Limits::default()),
            state: State::Closed { until_ns },
            answer: Answer::default(),
        }
    }

    /// A new stream takes the place of whatever was.
    pub(super) fn connecting(&mut self, stream: Stream, now_ns: u64) {
        *self = Self::closed(now_ns);
        self.stream = Some(stream);
        self.state = State::Connecting { since_ns: now_ns };
    }

    /// Reads once.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Met {
        let Some(stream) = &mut self.stream else {
            return Met::Part(Received::Empty);
        };
        let (decoder, answer) = (&mut self.decoder, &mut self.answer);
        let waits = matches!(self.state, State::Waiting(_));
        let (mut is_whole, mut is_unasked) = (false, false);
        let received = stream.receive(buffer, |input| {
            let (taken, whole) = answer.take(input, decoder)?;
            is_whole = whole;
            is_unasked = !waits || whole && taken < input.len();
            Ok::<_, Failure>(taken)
        });
        match received {
            Ok(_) if is_unasked => Met::Unasked,
            Ok(Received::End { left }) => Met::End(self.decoder.on_eof(left)),
            Ok(received) if is_whole => Met::Whole(received),
            Ok(received) => Met::Part(received),
            Err(Failure::Io(error)) => Met::Failed(kind_of(&error)),
            Err(Failure::Protocol(error)) => Met::Failed(format!("malformed: {error}")),
        }
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: 0,
            keeps_connection: true,
            reason: String::new(),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, reason, .. } = self;
        match reason.as_str() {
            "" => write!(f, "{status}"),
            reason => write!(f, "{status} {reason}"),
        }
    }
}

impl Answer {
    /// Reads on; says how many bytes were understood, and whether the answer is whole.
    fn take(&mut self, input: &[u8], decoder: &mut Decoder) -> Result<(usize, bool), Failure> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let step = decoder.step(rest).map_err(Failure::Protocol)?;
            at += step.consumed;
            match step.event {
                None => return Ok((at, false)),
                Some(Event::End) => return Ok((at, true)),
                Some(Event::Head) => self.note(&decoder.message(rest, &step)),
                Some(Event::Data(_) | Event::Trailers) => {}
            }
        }
    }

    fn note(&mut self, message: &Message<'_>) {
        self.keeps_connection = message.keeps_connection();
        if let Start::Response { status, .. } = message.start() {
            self.status = status;
        }
        self.reason.clear();
        if self.status >= 400 {
            let mut fields = message.fields();
            let found = fields.find(|field| field.name.eq_ignore_ascii_case(REASON_FIELD));
            let value = found.map_or(&[][..], |field| field.value);
            let reason = String::from_utf8_lossy(&value[..value.len().min(MOST_REASON)]);
            self.reason.push_str(&reason);
        }
    }
}

/// Begins to connect.
pub(super) fn connect(address: SocketAddr) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(Stream::new(socket.into()))
}

/// The error in a word.
pub(super) fn kind_of(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset".to_owned(),
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::TimedOut => "timeout".to_owned(),
        kind => format!("{kind:?}"),
    }
}
