//! Requests taken from bytes, and an answer put for each.

use std::io;

use selvedge_wire::http1::{Decoder, Event, FieldName, Framing, Message, Start};
use selvedge_wire::{Limits, ProtocolError};

use super::{OriginReport, Record};
use crate::load::ID_FIELD;

/// Bytes of answers beyond which a client must read some before it gets more.
const MOST_OUT: usize = 256 * 1024;

/// What was said on a connection, and what is to be said.
#[derive(Debug)]
pub(super) struct Dialogue {
    decoder: Decoder,
    request: Request,
    /// Answers of this turn.
    pub(super) out: Vec<u8>,
    /// Nothing more is read, and the connection closes once all is sent.
    pub(super) is_closing: bool,
    /// Requests that have come wait for the answers before them to be sent.
    pub(super) is_held: bool,
}

impl Dialogue {
    pub(super) fn new() -> Self {
        Self {
            decoder: Decoder::requests(Limits::default()),
            request: Request::default(),
            out: Vec::new(),
            is_closing: false,
            is_held: false,
        }
    }

    /// The client sends nothing more; whether it stopped amid a request.
    pub(super) fn end(&mut self, left: usize) -> bool {
        let is_truncated = !self.is_closing && self.decoder.on_eof(left).is_err();
        self.is_closing = true;
        is_truncated
    }
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
pub(super) enum Broken {
    Io,
    Protocol(ProtocolError),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// The one answer.
#[derive(Debug)]
pub(super) struct Answer {
    bytes: Vec<u8>,
    head_bytes: usize,
}

impl Answer {
    pub(super) fn new(body_bytes: usize) -> Self {
        let head = format!(
            "HTTP/1.1 200 OK\r\nserver: selvedge-bench\r\ncontent-type: application/json\r\n\
             cache-control: no-store\r\nvary: accept-encoding\r\ncontent-length: {body_bytes}\r\n\r\n"
        );
        let head_bytes = head.len();
        let mut bytes = head.into_bytes();
        bytes.resize(head_bytes + body_bytes, b'.');
        Self { bytes, head_bytes }
    }

    /// All that HEAD gets.
    fn head(&self) -> &[u8] {
        &self.bytes[..self.head_bytes]
    }
}

/// What it takes to answer.
pub(super) struct Desk<'a> {
    pub(super) answer: &'a Answer,
    pub(super) record: Option<&'a mut Record>,
    pub(super) report: &'a mut OriginReport,
}

impl Desk<'_> {
    /// Takes the requests of the input, until there are answers enough; says how many bytes were
    /// understood.
    pub(super) fn take(&mut self, input: &[u8], with: &mut Dialogue) -> Result<usize, Broken> {
        let mut at = 0;
        with.is_held = false;
        while !with.is_closing {
            with.is_held = with.out.len() >= MOST_OUT;
            if with.is_held {
                return Ok(at);
            }
            let rest = &input[at..];
            let step = with.decoder.step(rest).map_err(Broken::Protocol)?;
            at += step.consumed;
            match step.event {
                None => return Ok(at),
                Some(Event::Head) => {
                    let message = with.decoder.message(rest, &step);
                    with.request.read(&message);
                    if with.decoder.framing() != Framing::Empty && awaits_leave(&message) {
                        with.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                }
                Some(Event::End) => {
                    self.complete(&with.request, &mut with.out);
                    with.is_closing = !with.request.keeps_connection;
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
            true => out.extend_from_slice(self.answer.head()),
            false => out.extend_from_slice(&self.answer.bytes),
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

/// What a client is told whose request is none.
pub(super) fn refusal(error: ProtocolError) -> Vec<u8> {
    let (status, text) = (error.status(), format!("{error}\n"));
    let length = text.len();
    format!(
        "HTTP/1.1 {status} Refused\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
    )
    .into_bytes()
}
