//! Either direction of an HTTP/1 connection: any bytes are read or refused, and what is made of them
//! does not depend on where they were cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use selvedge_wire::http1::{Answers, Decoder, Event};
use selvedge_wire::{Limits, ProtocolError};

const LIMITS: Limits = Limits {
    head_bytes: 256,
    fields: 8,
    chunk_extension_bytes: 8,
    trailer_bytes: 64,
};

/// Heads and trailers with their fields, whole bodies, and how it ended.
fn read(mut decoder: Decoder, answers: Answers, bytes: &[u8], cut: usize) -> Read {
    let mut read = Read::default();
    let mut seen = 0;
    for end in [cut, bytes.len()] {
        loop {
            decoder.answers(answers);
            let input = &bytes[seen..end];
            let step = match decoder.step(input) {
                Ok(step) => step,
                Err(error) => {
                    read.error = Some(error);
                    return read;
                }
            };
            assert!(step.consumed <= input.len());
            match &step.event {
                Some(Event::Head) => read.fields(decoder.message(input, &step)),
                Some(Event::Trailers) => read.fields(decoder.trailers(input, &step)),
                Some(Event::Data(range)) => read.body.extend_from_slice(&input[range.clone()]),
                Some(Event::End) => read.ends.push(read.body.len()),
                None => {}
            }
            seen += step.consumed;
            if step.event.is_none() {
                break;
            }
        }
    }
    match decoder.on_eof(bytes.len() - seen) {
        Ok(end) => read.ends.extend(end.map(|_| read.body.len())),
        Err(error) => read.error = Some(error),
    }
    read
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    ends: Vec<usize>,
    error: Option<ProtocolError>,
}

impl Read {
    fn fields(&mut self, message: selvedge_wire::http1::Message<'_>) {
        for field in message.fields() {
            assert!(!field.value.contains(&b'\n') && !field.value.contains(&b'\r'));
            self.fields.push((field.name.to_vec(), field.value.to_vec()));
        }
    }
}

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (kind, cut, bytes) = input;
    let answers = [Answers::Other, Answers::Head, Answers::Connect][usize::from(kind % 3)];
    let decoder = match kind & 0x80 {
        0 => Decoder::requests(LIMITS),
        _ => Decoder::responses(LIMITS),
    };
    let whole = read(decoder.clone(), answers, bytes, bytes.len());
    let parts = read(decoder, answers, bytes, usize::from(cut).min(bytes.len()));
    assert_eq!(whole, parts);
});
