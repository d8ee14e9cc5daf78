//! What a request needs while it lasts: of the worker, lent to the connection it came on.

use std::cell::{Cell, RefCell};

use selvedge_model::Instant;
use selvedge_wire::Limits;
use selvedge_wire::http1::{Answers, Decoder, Message};

use crate::batch::Batch;
use crate::head;
use crate::record::Record;
use crate::replay::Replay;
use crate::time_left::TimeLeft;

/// State of one request and its response. An idle connection has none.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) requests: Decoder,
    /// The request's head as it came; `requests` knows its parts.
    pub(crate) head: Vec<u8>,
    /// Whether the request's end was met and taken.
    pub(crate) ended: Cell<bool>,
    /// The request's head as it goes to an endpoint, and in later attempts what was sent of its body.
    pub(crate) to_upstream: Vec<u8>,
    /// How long the head alone is.
    pub(crate) head_bytes: usize,
    /// Where that head says how much time there is.
    pub(crate) time_left: Option<TimeLeft>,
    /// Whether what the connection was made to is still served by way of the proxy.
    pub(crate) stays: bool,
    pub(crate) replay: Replay,
    pub(crate) request_batch: Batch,
    pub(crate) response_batch: Batch,
    pub(crate) responses: Decoder,
    /// The response's head as it came; `responses` knows its parts.
    pub(crate) answer: Vec<u8>,
    /// The response's head as it goes to the client.
    pub(crate) to_client: Vec<u8>,
    pub(crate) record: Record,
}

impl Scratch {
    fn new() -> Self {
        Self {
            requests: Decoder::requests(Limits::default()),
            head: Vec::new(),
            ended: Cell::new(false),
            to_upstream: Vec::new(),
            head_bytes: 0,
            time_left: None,
            stays: false,
            replay: Replay::default(),
            request_batch: Batch::default(),
            response_batch: Batch::default(),
            responses: Decoder::responses(Limits::default()),
            answer: Vec::new(),
            to_client: Vec::new(),
            record: Record::default(),
        }
    }

    /// Ready for another request, of any connection.
    fn clear(&mut self) {
        self.requests.restart();
        self.head.clear();
        self.ended.set(false);
        self.to_upstream.clear();
        self.time_left = None;
        self.stays = false;
        self.replay.clear();
        self.responses.restart();
        self.answer.clear();
        self.to_client.clear();
        self.record = Record::default();
    }

    /// Has the head that goes to an endpoint say what is left until the attempt's deadline.
    pub(crate) fn say_time_left(&mut self, now: Instant, deadline: Option<Instant>) {
        if let (Some(time_left), Some(deadline)) = (self.time_left, deadline) {
            time_left.say(&mut self.to_upstream, now, deadline);
        }
    }

    /// Ready for another attempt at the same request.
    pub(crate) fn begin_again(&mut self) {
        let answers = Answers::of(head::method(&self.request()));
        self.responses.restart();
        self.responses.answers(answers);
        self.answer.clear();
        self.to_client.clear();
        self.to_upstream.truncate(self.head_bytes);
        self.to_upstream.extend_from_slice(&self.replay.bytes());
    }

    /// Whether it has only the memory that requests usually need. What a large one needed is given back.
    fn is_usual(&self) -> bool {
        const USUAL: usize = 16 << 10;
        let heads = [&self.head, &self.to_upstream, &self.answer, &self.to_client];
        let heads: usize = heads.iter().map(|head| head.capacity()).sum();
        heads + self.replay.bytes().capacity() <= USUAL
    }

    /// The request's head.
    pub(crate) fn request(&self) -> Message<'_> {
        Message::new(self.requests.head(), &self.head)
    }
}

/// Scratches that are free at this moment.
#[derive(Debug, Default)]
pub(crate) struct Scratches {
    #[expect(
        clippy::vec_box,
        reason = "they are lent, and moving a pointer is cheaper"
    )]
    free: RefCell<Vec<Box<Scratch>>>,
}

impl Scratches {
    /// How many are kept for later.
    const MOST: usize = 256;

    pub(crate) fn take(&self) -> Box<Scratch> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| Box::new(Scratch::new()))
    }

    pub(crate) fn put(&self, mut scratch: Box<Scratch>) {
        let mut free = self.free.borrow_mut();
        if free.len() < Self::MOST && scratch.is_usual() {
            scratch.clear();
            free.push(scratch);
        }
    }
}
