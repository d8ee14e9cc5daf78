//! Requests taken from bytes, and an answer put for each.

use std::io;

use selvedge_wire::ProtocolError;
use selvedge_wire::http1::{Decoder, Event, FieldName, Framing, Message, Start};

use super::{OriginReport, Record};
use crate::load::ID_FIELD;

/// What is known of the request that is being read.
#[derive(Debug, Default)]
pub(super) struct Request {
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
    /// Takes every whole request of the input; says how many bytes were understood.
    pub(super) fn take(
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

pub(super) fn refusal(error: ProtocolError) -> Vec<u8> {
    let (status, text) = (error.status(), format!("{error}\n"));
    let length = text.len();
    format!(
        "HTTP/1.1 {status} Refused\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{text}"
    )
    .into_bytes()
}
