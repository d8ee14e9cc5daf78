//! DNS over TCP (RFC 7766): messages with their length before them, any number under way at once.
//!
//! A connection of a program has one connection to the server it addressed, opened with the first
//! foreign query. Messages pass in both directions as they are, ids included, so that whatever the
//! two have to say to each other (zone transfers too) they can; mesh names are answered in between.
//!
//! Bounds: [`MAX_CONNECTIONS`] in all and [`MAX_PER_WORKLOAD`] of one workload, beyond which a new
//! one is closed at once; [`MAX_OUTSTANDING`] foreign queries of a connection, beyond which no more
//! are read; [`IDLE`] without a byte in either direction, after which it is closed (RFC 7766,
//! section 6.2.3). A server that cannot be reached is a SERVFAIL, one that hangs up ends the
//! program's connection too. While that connection is made, at most [`CONNECT`], the conversation waits.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use selvedge_feed::Counter;
use selvedge_model::CgroupId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::respond::{Transport, server_failure};
use super::responder::{Next, Responder};
use crate::accept::accept;
use crate::origin::Origin;

const MAX_CONNECTIONS: usize = 256;
const MAX_PER_WORKLOAD: usize = 64;
const MAX_OUTSTANDING: usize = 64;
const IDLE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// What is read at once; a message of any length grows the buffer for as long as it is there.
const CHUNK_BYTES: usize = 2048;

/// The open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    responder: Arc<Responder>,
    by_workload: RefCell<HashMap<CgroupId, usize>>,
    open: Cell<usize>,
    answer: RefCell<Vec<u8>>,
}

impl Connections {
    pub(crate) fn new(responder: Arc<Responder>) -> Self {
        Self {
            responder,
            by_workload: RefCell::default(),
            open: Cell::new(0),
            answer: RefCell::default(),
        }
    }

    fn count(&self, counter: Counter) {
        self.responder.counters.count(counter);
    }
}

/// Accepts until `retired`; what is queued then is still accepted.
pub(crate) async fn serve(
    connections: Rc<Connections>,
    listener: TcpListener,
    retired: oneshot::Receiver<()>,
) -> io::Result<()> {
    let counters = &connections.responder.counters;
    accept(listener, counters, retired, |stream| {
        admit(&connections, stream);
    })
    .await
}

fn admit(connections: &Rc<Connections>, stream: TcpStream) {
    let origin = connections.responder.origins.of(&stream);
    let workload = origin.map_or(CgroupId(0), |origin| origin.workload);
    let Some(seat) = Seat::take(connections, workload) else {
        connections.count(Counter::ConnectionsRefused);
        return;
    };
    connections.count(Counter::Connections);
    let conversation = Conversation {
        connections: connections.clone(),
        origin,
        client: stream,
        upstream: None,
        outstanding: 0,
        to_client: Vec::new(),
        to_upstream: Vec::new(),
    };
    tokio::task::spawn_local(async move {
        // However it ends, both connections are closed; there is nobody to tell more.
        let _ended = conversation.run().await;
        drop(seat);
    });
}

/// A connection's place among those that are allowed.
struct Seat {
    connections: Rc<Connections>,
    workload: CgroupId,
}

impl Seat {
    fn take(connections: &Rc<Connections>, workload: CgroupId) -> Option<Self> {
        let mut by_workload = connections.by_workload.borrow_mut();
        let taken = by_workload.entry(workload).or_default();
        if *taken >= MAX_PER_WORKLOAD || connections.open.get() >= MAX_CONNECTIONS {
            if *taken == 0 {
                by_workload.remove(&workload);
            }
            return None;
        }
        *taken += 1;
        connections.open.set(connections.open.get() + 1);
        Some(Self {
            connections: connections.clone(),
            workload,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let connections = &self.connections;
        let mut by_workload = connections.by_workload.borrow_mut();
        connections.open.set(connections.open.get() - 1);
        if let Some(taken) = by_workload.get_mut(&self.workload) {
            *taken -= 1;
            if *taken == 0 {
                by_workload.remove(&self.workload);
            }
        }
    }
}

/// A connection of a program, and its counterpart.
struct Conversation {
    connections: Rc<Connections>,
    origin: Option<Origin>,
    client: TcpStream,
    upstream: Option<TcpStream>,
    /// Foreign queries without an answer so far.
    outstanding: usize,
    to_client: Vec<u8>,
    to_upstream: Vec<u8>,
}

/// What happened on a conversation.
enum Event {
    FromClient(usize),
    FromUpstream(usize),
    Idle,
}

impl Conversation {
    async fn run(mut self) -> io::Result<()> {
        let mut queries = Inbox::default();
        let mut answers = Inbox::default();
        let mut client_open = true;
        loop {
            let reads_client = client_open && self.outstanding < MAX_OUTSTANDING;
            let event = tokio::select! {
                read = queries.fill(&mut self.client), if reads_client => Event::FromClient(read?),
                read = answers.fill_from(self.upstream.as_mut()) => Event::FromUpstream(read?),
                () = tokio::time::sleep(IDLE) => Event::Idle,
            };
            match event {
                Event::FromClient(0) => client_open = false,
                Event::FromClient(_) => self.on_queries(&mut queries).await?,
                // The server hung up: so do we, once all it said is passed on.
                Event::FromUpstream(0) => return Ok(()),
                Event::FromUpstream(_) => self.on_answers(&mut answers),
                Event::Idle => {
                    self.connections.count(Counter::ConnectionsIdle);
                    return Ok(());
                }
            }
            self.flush().await?;
            if !client_open && self.outstanding == 0 {
                return Ok(());
            }
        }
    }

    async fn on_queries(&mut self, inbox: &mut Inbox) -> io::Result<()> {
        while let Some(message) = inbox.next_message() {
            let Some(to) = answer(&self.connections, message, self.origin, &mut self.to_client)
            else {
                continue;
            };
            if self.upstream.is_none() {
                self.upstream = connect(to).await;
            }
            if self.upstream.is_some() {
                put(&mut self.to_upstream, message);
                self.outstanding += 1;
            } else {
                self.connections.count(Counter::Unreachable);
                let mut failure = Vec::new();
                server_failure(message, &mut failure);
                put(&mut self.to_client, &failure);
            }
        }
        Ok(())
    }

    fn on_answers(&mut self, inbox: &mut Inbox) {
        while let Some(message) = inbox.next_message() {
            self.connections.count(Counter::Relayed);
            // A zone transfer is many messages to one query.
            self.outstanding = self.outstanding.saturating_sub(1);
            put(&mut self.to_client, message);
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if let Some(upstream) = &mut self.upstream {
            timeout(IDLE, upstream.write_all(&self.to_upstream)).await??;
        }
        timeout(IDLE, self.client.write_all(&self.to_client)).await??;
        self.to_upstream.clear();
        self.to_client.clear();
        Ok(())
    }
}

/// Puts what is to be said at once; otherwise gives the server that is to be asked, if any.
fn answer(
    connections: &Connections,
    message: &[u8],
    origin: Option<Origin>,
    to_client: &mut Vec<u8>,
) -> Option<SocketAddr> {
    let answer = &mut *connections.answer.borrow_mut();
    let responder = &connections.responder;
    match responder.on_query(message, origin, Transport::Tcp, answer) {
        Next::Nothing => None,
        Next::Reply => {
            put(to_client, answer);
            None
        }
        Next::Forward(server) => Some(server),
    }
}

/// The connection to a server, if it can be had in time.
async fn connect(to: SocketAddr) -> Option<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(to)).await.ok()?.ok()?;
    // Without it a second pipelined query would wait for the first one's acknowledgement; where it
    // cannot be had, it waits.
    let _ = stream.set_nodelay(true);
    Some(stream)
}

/// Puts a message with its length before it.
fn put(out: &mut Vec<u8>, message: &[u8]) {
    let Ok(length) = u16::try_from(message.len()) else {
        return;
    };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
}

/// Bytes of one direction, cut anywhere. Holds at most one message and one chunk.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    consumed: usize,
}

impl Inbox {
    /// Reads more; 0 is the end. May be dropped at any point without losing a byte.
    async fn fill(&mut self, stream: &mut TcpStream) -> io::Result<usize> {
        self.bytes.drain(..self.consumed);
        self.consumed = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(CHUNK_BYTES);
        }
        self.bytes.reserve(CHUNK_BYTES);
        let limit = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
        stream.take(limit).read_buf(&mut self.bytes).await
    }

    /// The same, for ever where there is nothing to read from.
    async fn fill_from(&mut self, stream: Option<&mut TcpStream>) -> io::Result<usize> {
        match stream {
            Some(stream) => self.fill(stream).await,
            None => std::future::pending().await,
        }
    }

    fn next_message(&mut self) -> Option<&[u8]> {
        let pending = &self.bytes[self.consumed..];
        let (prefix, rest) = pending.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*prefix));
        if rest.len() < length {
            return None;
        }
        let start = self.consumed + prefix.len();
        self.consumed = start + length;
        Some(&self.bytes[start..self.consumed])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_wherever_the_stream_is_cut() {
        let stream = b"\0\x03abc\0\0\0\x01d";
        for cut in 0..=stream.len() {
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            for chunk in [&stream[..cut], &stream[cut..]] {
                inbox.bytes.extend_from_slice(chunk);
                while let Some(message) = inbox.next_message() {
                    found.push(message.to_vec());
                }
            }
            assert_eq!(found, [&b"abc"[..], b"", b"d"], "cut at {cut}");
        }
    }
}
