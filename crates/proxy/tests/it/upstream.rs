//! Another resolver for tests: writes down what it is asked, and answers as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::agent::{DEADLINE, until};

/// A query as it came, and from where.
pub(crate) type Seen = (Vec<u8>, SocketAddr);

/// Answers of [`Upstream::udp`] to one query, in order.
pub(crate) type Answers = Vec<Vec<u8>>;

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Receiver<Seen>,
}

impl Upstream {
    /// Over UDP; the thread ends with the test process.
    pub(crate) fn udp(answer: impl Fn(&[u8]) -> Answers + Send + 'static) -> Self {
        Self::on(UdpSocket::bind("127.0.0.1:0").unwrap(), answer)
    }

    /// Over UDP and TCP, at one address; by `udp` and `tcp`, one answer each.
    pub(crate) fn both(
        udp: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
        tcp: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let (socket, listener) = until("a port that is free for both", || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let listener = TcpListener::bind(socket.local_addr().unwrap()).ok()?;
            Some((socket, listener))
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve_tcp(stream.unwrap(), &tcp);
            }
        });
        Self::on(socket, move |query| vec![udp(query)])
    }

    fn on(socket: UdpSocket, answer: impl Fn(&[u8]) -> Answers + Send + 'static) -> Self {
        let address = socket.local_addr().unwrap();
        let (log, seen) = sync_channel(4096);
        thread::spawn(move || serve_udp(&socket, &answer, &log));
        Self { address, seen }
    }

    /// The next query that came.
    pub(crate) fn next(&self) -> Seen {
        self.seen.recv_timeout(DEADLINE).expect("a query in time")
    }

    /// What came and was not taken by [`Upstream::next`].
    pub(crate) fn rest(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }
}

fn serve_udp(socket: &UdpSocket, answer: &impl Fn(&[u8]) -> Answers, log: &SyncSender<Seen>) {
    let mut buffer = vec![0; 65_535];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        let query = buffer[..length].to_vec();
        let answers = answer(&query);
        // The test may not care.
        let _ = log.try_send((query, from));
        for answer in answers {
            socket.send_to(&answer, from).unwrap();
        }
    }
}

fn serve_tcp(mut stream: TcpStream, answer: &impl Fn(&[u8]) -> Vec<u8>) {
    while let Some(query) = read_message(&mut stream) {
        write_message(&mut stream, &answer(&query));
    }
}

pub(crate) fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut prefix = [0; 2];
    stream.read_exact(&mut prefix).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(prefix))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

pub(crate) fn write_message(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat()).unwrap();
}

/// The query as a response with an A record, and bytes after it that no parser would take.
pub(crate) fn wildcard(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[7] = 1;
    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 9]);
    answer.extend_from_slice(b"untouched");
    answer
}
