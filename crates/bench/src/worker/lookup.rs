//! DNS as a client library speaks it, and an upstream that answers everything: as much of RFC 1035 as
//! a question and one address need.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::batch::{ANSWER_PATIENCE, BatchClock};
use crate::protocol::{Batch, Names, Resolver};

/// Bytes of the header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// Type and class after the name of a question (4.1.2).
const TYPE_AND_CLASS: usize = 4;
/// What the upstream says of every name: owner by pointer to the question (4.1.4), A, IN, 60 s,
/// 192.0.2.1 (RFC 5737).
const ANSWER: [u8; 16] = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
/// Largest answer that is read.
const MESSAGE_BYTES: usize = 4096;
/// How long glibc and Go wait before they ask again.
const RETRANSMIT: Duration = Duration::from_secs(5);
/// How often they ask.
const TRIES: u32 = 2;

/// Writes the question for the A record of `name`.
fn question(message: &mut Vec<u8>, id: u16, name: &str) {
    message.clear();
    message.extend(id.to_be_bytes());
    // One question, recursion desired.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        // Names of the bench are short; a longer label would be cut and fail to be answered.
        message.push(label.len().min(63) as u8);
        message.extend(label.bytes().take(63));
    }
    message.extend([0, 0, 1, 0, 1]);
}

/// Turns the query in `message` into its answer; `None` where it is not a query.
pub(super) fn answer_in_place(length: usize, message: &mut [u8]) -> Option<usize> {
    let mut end = HEADER;
    loop {
        let label = usize::from(*message.get(..length)?.get(end)?);
        end += 1 + label;
        if label == 0 {
            break;
        }
    }
    end += TYPE_AND_CLASS;
    message
        .get_mut(end..end + ANSWER.len())?
        .copy_from_slice(&ANSWER);
    // Response, recursion available; one question, one answer, nothing more.
    message[2] |= 0x80;
    message[3] = 0x80;
    message[4..HEADER].copy_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
    Some(end + ANSWER.len())
}

/// Whether `answer` is a good one (response, no error, an answer record) to query `id`.
fn is_good(answer: &[u8], id: u16) -> bool {
    answer.len() > HEADER
        && answer[..2] == id.to_be_bytes()
        && answer[2] & 0x80 != 0
        && answer[3] & 0x0f == 0
        && answer[6..8] != [0, 0]
}

/// A query in flight.
struct Asked {
    id: u16,
    began: Instant,
}

/// Asks with `window` queries in flight, for a while.
pub(super) fn queries(
    server: SocketAddr,
    names: &Names,
    window: usize,
    for_ms: u64,
) -> io::Result<Batch> {
    let mut client = Client::connect(server, names)?;
    let mut clock = BatchClock::new(for_ms);
    for _ in 0..window {
        client.ask()?;
    }
    clock.start();
    while !clock.is_over() {
        let Some(began) = client.hear()? else {
            continue;
        };
        clock.lap_since(began);
        client.ask()?;
    }
    // Those still in flight are neither counted nor lost.
    Ok(clock.stop(0, client.lost))
}

struct Client<'a> {
    socket: UdpSocket,
    names: &'a Names,
    asked: Vec<Asked>,
    next: u64,
    lost: u64,
    query: Vec<u8>,
    answer: Vec<u8>,
}

impl<'a> Client<'a> {
    fn connect(server: SocketAddr, names: &'a Names) -> io::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(ANSWER_PATIENCE))?;
        Ok(Self {
            socket,
            names,
            asked: Vec::new(),
            next: crate::clock::monotonic_ns(),
            lost: 0,
            query: Vec::new(),
            answer: vec![0; MESSAGE_BYTES],
        })
    }

    fn ask(&mut self) -> io::Result<()> {
        self.next = self.next.wrapping_add(1);
        // Neighbours differ, which is all that the few in flight need.
        let id = self.next as u16;
        match self.names {
            Names::One(name) => question(&mut self.query, id, name),
            Names::Fresh(below) => {
                question(&mut self.query, id, &format!("n{}.{below}", self.next));
            }
        }
        let began = Instant::now();
        self.socket.send(&self.query)?;
        self.asked.push(Asked { id, began });
        Ok(())
    }

    /// Waits for an answer; says when its query was sent. `None` when everything in flight was given
    /// up and asked anew.
    fn hear(&mut self) -> io::Result<Option<Instant>> {
        loop {
            let length = match self.socket.recv(&mut self.answer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let given_up = self.asked.len();
                    self.lost += given_up as u64;
                    self.asked.clear();
                    (0..given_up).try_for_each(|_| self.ask())?;
                    return Ok(None);
                }
                other => other?,
            };
            let answer = &self.answer[..length];
            let found = self
                .asked
                .iter()
                .position(|asked| is_good(answer, asked.id));
            if let Some(found) = found {
                return Ok(Some(self.asked.swap_remove(found).began));
            }
            // An answer that says no is as good as none.
            let denied = |asked: &Asked| answer.starts_with(&asked.id.to_be_bytes());
            if let Some(found) = self.asked.iter().position(denied) {
                self.asked.swap_remove(found);
                self.lost += 1;
                self.ask()?;
            }
        }
    }
}

/// How one look-up went.
pub(super) struct Looked {
    pub(super) tries: u32,
    pub(super) result: io::Result<()>,
}

/// Looks up a name as a client library does: again after 5 s, twice in all.
pub(super) fn look_up(server: SocketAddr, client: Resolver, name: &str, id: u16) -> Looked {
    let mut tries = 0;
    let mut socket = None;
    let mut id = id;
    let mut attempt = || -> io::Result<()> {
        let mut query = Vec::new();
        let mut last = io::ErrorKind::TimedOut.into();
        while tries < TRIES {
            tries += 1;
            if client == Resolver::Go || socket.is_none() {
                id = id.wrapping_add(0x1001);
                socket = Some(connected(server)?);
            }
            let Some(socket) = &socket else { continue };
            question(&mut query, id, name);
            match ask_once(socket, &query, id) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let result = attempt();
    Looked { tries, result }
}

fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(RETRANSMIT))?;
    Ok(socket)
}

fn ask_once(socket: &UdpSocket, query: &[u8], id: u16) -> io::Result<()> {
    socket.send(query)?;
    let mut answer = [0; MESSAGE_BYTES];
    loop {
        let length = socket.recv(&mut answer)?;
        if is_good(&answer[..length], id) {
            return Ok(());
        }
        if length > 3 && answer[..2] == id.to_be_bytes() {
            let code = answer[3] & 0x0f;
            return Err(io::Error::other(format!("answered with error code {code}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_answers_what_the_client_asks() {
        let mut query = Vec::new();
        question(&mut query, 0x1234, "www.example.org.");
        assert_eq!(
            &query[12..],
            b"\x03www\x07example\x03org\x00\x00\x01\x00\x01"
        );
        let length = query.len();
        let mut message = query.clone();
        // An EDNS record behind the question is dropped.
        message.extend([0; 64]);
        let answered = answer_in_place(length + 11, &mut message).unwrap();
        assert_eq!(answered, length + ANSWER.len());
        assert!(is_good(&message[..answered], 0x1234));
        assert!(!is_good(&message[..answered], 0x1235));
        assert!(!is_good(&query, 0x1234), "a query is no answer");
        assert_eq!(answer_in_place(5, &mut message), None);
    }
}
