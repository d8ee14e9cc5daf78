//! One direction of a connection, message after message.

use core::ops::Range;

use super::chunk::{Chunks, Met};
use super::framing::{Answers, Framing, of_request, of_response};
use super::head::Head;
use super::message::{Message, Start};
use crate::{Limits, ProtocolError};

/// Reads requests or responses. After an error it must not be used any more: where the next message
/// would begin is unknown.
#[derive(Clone, Debug)]
pub struct Decoder {
    reads: Reads,
    limits: Limits,
    state: State,
    head: Head,
    trailers: Head,
    framing: Framing,
    /// How far the end of a head or trailer section was looked for in vain.
    searched: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Requests,
    Responses { answers: Answers },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a head; an empty line before it may have been skipped.
    Head {
        skipped: bool,
    },
    Body {
        left: u64,
    },
    Chunks(Chunks),
    Trailers,
    End,
    UntilClose,
    Tunnel,
}

/// What a message is made of. Ranges are of the input of that step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A head, which the taken bytes end with: see [`Decoder::message`]. An interim response (1xx
    /// other than 101) has nothing else.
    Head,
    /// A piece of the body, or of what passes through a tunnel.
    Data(Range<usize>),
    /// A trailer section, which the taken bytes are: see [`Decoder::trailers`].
    Trailers,
    /// The message is whole.
    End,
}

/// What came of one look at the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes that were taken: the next step begins behind them.
    pub consumed: usize,
    /// What was met; none where more bytes are needed.
    pub event: Option<Event>,
}

impl Step {
    const fn more(consumed: usize) -> Self {
        Self {
            consumed,
            event: None,
        }
    }

    const fn met(consumed: usize, event: Event) -> Self {
        Self {
            consumed,
            event: Some(event),
        }
    }
}

impl Decoder {
    /// Of what a client sends.
    pub fn requests(limits: Limits) -> Self {
        Self::new(Reads::Requests, limits)
    }

    /// Of what a server sends. Each final response but those to plain methods must be
    /// [announced](Self::answers).
    pub fn responses(limits: Limits) -> Self {
        let answers = Answers::Other;
        Self::new(Reads::Responses { answers }, limits)
    }

    fn new(reads: Reads, limits: Limits) -> Self {
        Self {
            reads,
            limits,
            state: State::Head { skipped: false },
            head: Head::default(),
            trailers: Head::default(),
            framing: Framing::Empty,
            searched: 0,
        }
    }

    /// Says what the next final response answers, which its framing depends on.
    pub fn answers(&mut self, answers: Answers) {
        if let Reads::Responses { answers: this } = &mut self.reads {
            *this = answers;
        }
    }

    /// Forgets the connection it has read from and is at the start of another; keeps its memory.
    pub fn restart(&mut self) {
        if let Reads::Responses { answers } = &mut self.reads {
            *answers = Answers::Other;
        }
        self.state = State::Head { skipped: false };
        self.framing = Framing::Empty;
        self.searched = 0;
    }

    /// The places of the head that was read last, for who keeps its bytes: see [`Message::new`].
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// How the end of the message is found whose head was read last.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The head that was read last; `input` is that of the step.
    pub fn message<'a>(&'a self, input: &'a [u8], step: &Step) -> Message<'a> {
        Message::new(&self.head, of_step(input, step, &self.head))
    }

    /// The trailer section that was read last; `input` is that of the step.
    pub fn trailers<'a>(&'a self, input: &'a [u8], step: &Step) -> Message<'a> {
        Message::new(&self.trailers, of_step(input, step, &self.trailers))
    }

    /// Looks at what has come and was not taken so far.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, ProtocolError> {
        match self.state {
            State::Head { skipped } => self.on_head(input, skipped),
            State::Body { left } => Ok(self.on_body(input, left)),
            State::Chunks(chunks) => self.on_chunks(input, chunks),
            State::Trailers => self.on_trailers(input),
            State::End => {
                self.state = State::Head { skipped: false };
                Ok(Step::met(0, Event::End))
            }
            State::UntilClose | State::Tunnel => Ok(match input.len() {
                0 => Step::more(0),
                length => Step::met(length, Event::Data(0..length)),
            }),
        }
    }

    /// The peer sends nothing more, and `left` bytes were not taken.
    pub fn on_eof(&mut self, left: usize) -> Result<Option<Event>, ProtocolError> {
        match self.state {
            State::Head { .. } if left == 0 => Ok(None),
            State::UntilClose | State::Tunnel => {
                self.state = State::Head { skipped: false };
                Ok(Some(Event::End))
            }
            _ => Err(ProtocolError::Truncated),
        }
    }

    fn on_head(&mut self, input: &[u8], skipped: bool) -> Result<Step, ProtocolError> {
        match (input, self.reads) {
            ([] | [b'\r'], _) => return Ok(Step::more(0)),
            // One empty line, which some clients send behind a body (RFC 9112, section 2.2).
            ([b'\r', b'\n', ..], Reads::Requests) if !skipped => {
                self.state = State::Head { skipped: true };
                let after = self.on_head(&input[2..], true)?;
                return Ok(Step {
                    consumed: 2 + after.consumed,
                    event: after.event,
                });
            }
            ([b'\n', ..], _) => return Err(ProtocolError::LineEnding),
            ([first, ..], _) if !first.is_ascii_graphic() => return Err(ProtocolError::StartLine),
            _ => {}
        }
        let most = self.limits.head_bytes;
        let window = &input[..input.len().min(most)];
        // Most heads come at once, and are sound: then their end need not be looked for before.
        if self.searched == 0 && self.read_head(window).is_ok() {
            return Ok(Step::met(self.head.length(), Event::Head));
        }
        let Some(end) = self.section_end(input, most, ProtocolError::HeadTooLarge)? else {
            return Ok(Step::more(0));
        };
        self.read_head(&input[..end])?;
        match self.head.length() {
            length if length == end => Ok(Step::met(end, Event::Head)),
            // An empty line where none should be ends the head before its end.
            _ => Err(ProtocolError::LineEnding),
        }
    }

    /// Reads a head that `input` begins with.
    fn read_head(&mut self, input: &[u8]) -> Result<(), ProtocolError> {
        match self.reads {
            Reads::Requests => {
                self.head.read_request(input, &self.limits)?;
                self.framing = of_request(&self.head, &input[..self.head.length()])?;
                self.state = state_of(self.framing);
                Ok(())
            }
            Reads::Responses { answers } => self.read_response(input, answers),
        }
    }

    fn read_response(&mut self, input: &[u8], answers: Answers) -> Result<(), ProtocolError> {
        self.head.read_response(input, &self.limits)?;
        let bytes = &input[..self.head.length()];
        let Start::Response { status, .. } = Message::new(&self.head, bytes).start() else {
            return Err(ProtocolError::StartLine);
        };
        self.framing = of_response(&self.head, bytes, status, answers)?;
        if (100..=199).contains(&status) && self.framing == Framing::Empty {
            // The final one is still to come.
            self.state = State::Head { skipped: false };
            return Ok(());
        }
        self.reads = Reads::Responses {
            answers: Answers::Other,
        };
        self.state = state_of(self.framing);
        Ok(())
    }

    fn on_body(&mut self, input: &[u8], left: u64) -> Step {
        if input.is_empty() {
            return Step::more(0);
        }
        let taken = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        self.state = match left - taken as u64 {
            0 => State::End,
            left => State::Body { left },
        };
        Step::met(taken, Event::Data(0..taken))
    }

    fn on_chunks(&mut self, input: &[u8], mut chunks: Chunks) -> Result<Step, ProtocolError> {
        let (consumed, met) = chunks.step(input, &self.limits)?;
        self.state = State::Chunks(chunks);
        match met {
            Some(Met::Data(range)) => Ok(Step::met(consumed, Event::Data(range))),
            Some(Met::Last) => {
                self.state = State::Trailers;
                let after = self.on_trailers(&input[consumed..])?;
                Ok(Step {
                    consumed: consumed + after.consumed,
                    event: after.event,
                })
            }
            None => Ok(Step::more(consumed)),
        }
    }

    fn on_trailers(&mut self, input: &[u8]) -> Result<Step, ProtocolError> {
        match input {
            [] | [b'\r'] => return Ok(Step::more(0)),
            [b'\r', b'\n', ..] => {
                self.state = State::Head { skipped: false };
                return Ok(Step::met(2, Event::End));
            }
            [b'\n', ..] => return Err(ProtocolError::LineEnding),
            _ => {}
        }
        let most = self.limits.trailer_bytes;
        let Some(end) = self.section_end(input, most, ProtocolError::TrailersTooLarge)? else {
            return Ok(Step::more(0));
        };
        self.trailers.read_trailers(&input[..end], &self.limits)?;
        self.state = State::End;
        Ok(Step::met(end, Event::Trailers))
    }

    /// Where the empty line ends that a section ends with, if it has come. What was searched once is
    /// not searched again, so that a peer that sends byte by byte costs no more than any other.
    fn section_end(
        &mut self,
        input: &[u8],
        most: usize,
        too_large: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let window = &input[..input.len().min(most)];
        match empty_line(window, self.searched) {
            Some(end) => {
                self.searched = 0;
                Ok(Some(end))
            }
            None if input.len() >= most => Err(too_large),
            None => {
                // The last three bytes may begin it.
                self.searched = input.len().saturating_sub(3);
                Ok(None)
            }
        }
    }
}

fn state_of(framing: Framing) -> State {
    match framing {
        Framing::Empty => State::End,
        Framing::Length(left) => State::Body { left },
        Framing::Chunked => State::Chunks(Chunks::default()),
        Framing::UntilClose => State::UntilClose,
        Framing::Tunnel => State::Tunnel,
    }
}

/// The end of the first empty line, whatever its lines end with: that is judged later.
fn empty_line(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let lf = at + memchr::memchr(b'\n', bytes.get(at..)?)?;
        match bytes.get(lf + 1..)? {
            [b'\n', ..] => return Some(lf + 2),
            [b'\r', b'\n', ..] => return Some(lf + 3),
            _ => at = lf + 1,
        }
    }
}

/// The bytes of a section, which those that a step took end with.
fn of_step<'a>(input: &'a [u8], step: &Step, section: &Head) -> &'a [u8] {
    &input[step.consumed - section.length()..step.consumed]
}
