//! Shows a decoder bytes and writes down what it makes of them.

use std::fmt::Write;

use selvedge_wire::http1::{Answers, Decoder, Event, Framing, Message, Start};
use selvedge_wire::{Limits, ProtocolError};

/// Which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    Requests,
    /// Responses, each to the same method.
    Responses(Answers),
}

impl Reads {
    fn decoder(self, limits: Limits) -> Decoder {
        match self {
            Self::Requests => Decoder::requests(limits),
            Self::Responses(_) => Decoder::responses(limits),
        }
    }
}

/// What was understood, and how it ended. Pieces of a body are one, wherever they were cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript {
    pub(crate) text: String,
    pub(crate) error: Option<ProtocolError>,
}

/// Everything that `bytes` say, shown in pieces that end where `cuts` say, and then the end.
pub(crate) fn transcript(reads: Reads, limits: Limits, bytes: &[u8], cuts: &[usize]) -> Transcript {
    let mut transcript = Transcript::default();
    let mut decoder = reads.decoder(limits);
    let mut seen = 0;
    let mut body = Vec::new();
    let ends = cuts.iter().copied().chain([bytes.len()]);
    for end in ends {
        loop {
            if let Reads::Responses(answers) = reads {
                decoder.answers(answers);
            }
            let input = &bytes[seen..end];
            let step = match decoder.step(input) {
                Ok(step) => step,
                Err(error) => {
                    transcript.end(&mut body, error);
                    return transcript;
                }
            };
            assert!(step.consumed <= input.len());
            match &step.event {
                Some(Event::Data(range)) => body.extend_from_slice(&input[range.clone()]),
                Some(Event::Head) => {
                    transcript.head(&decoder.message(input, &step), decoder.framing());
                }
                Some(Event::Trailers) => {
                    transcript.body(&mut body);
                    transcript.fields("trailer", &decoder.trailers(input, &step));
                }
                Some(Event::End) => {
                    transcript.body(&mut body);
                    transcript.text.push_str("end\n");
                }
                None => {}
            }
            seen += step.consumed;
            if step.event.is_none() {
                break;
            }
        }
    }
    match decoder.on_eof(bytes.len() - seen) {
        Ok(event) => {
            transcript.body(&mut body);
            if event.is_some() {
                transcript.text.push_str("end\n");
            }
        }
        Err(error) => transcript.end(&mut body, error),
    }
    transcript
}

impl Transcript {
    fn head(&mut self, message: &Message<'_>, framing: Framing) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match message.start() {
            Start::Request { method, target } => {
                writeln!(self.text, "{} {}", text(method), text(target)).unwrap();
            }
            Start::Response { status, reason } => {
                writeln!(self.text, "{status} {}", text(reason)).unwrap();
            }
        }
        self.fields("field", message);
        writeln!(
            self.text,
            "{framing:?}, keeps {}",
            message.keeps_connection()
        )
        .unwrap();
    }

    fn fields(&mut self, what: &str, message: &Message<'_>) {
        for field in message.fields() {
            let name = String::from_utf8_lossy(field.name);
            let value = String::from_utf8_lossy(field.value);
            writeln!(self.text, "{what} {name}: {value}").unwrap();
        }
    }

    fn body(&mut self, body: &mut Vec<u8>) {
        if !body.is_empty() {
            writeln!(self.text, "body {}", body.escape_ascii()).unwrap();
            body.clear();
        }
    }

    fn end(&mut self, body: &mut Vec<u8>, error: ProtocolError) {
        self.body(body);
        self.error = Some(error);
    }
}
