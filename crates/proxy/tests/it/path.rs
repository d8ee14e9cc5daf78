//! A service `cart` reached through the proxy, for tests.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use crate::agent::{DEADLINE, Sockets};
use crate::cart::{ADDRESS, Cart, snapshot};
use crate::mesh::Mesh;

pub(crate) struct Path {
    pub(crate) mesh: Mesh,
}

impl Path {
    /// Where requests of HTTP go to these endpoints.
    pub(crate) fn to(endpoints: &[SocketAddr]) -> Self {
        Self::start(Cart {
            endpoints: endpoints.to_vec(),
            spoken: Some("http"),
            ..Cart::default()
        })
    }

    pub(crate) fn start(cart: Cart) -> Self {
        let asked = SocketAddr::new(ADDRESS.into(), 80);
        let mut mesh = Mesh::start_with(asked, Sockets::new());
        mesh.feed.publish(snapshot(1, cart));
        Self { mesh }
    }

    pub(crate) fn connect(&self) -> Client {
        Self::connect_at(&self.mesh.sockets.captured)
    }

    /// As from outside the mesh.
    pub(crate) fn connect_from_outside(&self) -> Client {
        Self::connect_at(&self.mesh.sockets.outside)
    }

    fn connect_at(proxy: &TcpListener) -> Client {
        let proxy = proxy.local_addr().unwrap();
        let stream = TcpStream::connect(proxy).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            rest: Vec::new(),
        }
    }

    /// What comes of one request on a connection of its own.
    pub(crate) fn get(&self, request: &str) -> Response {
        let mut client = self.connect();
        client.send(request);
        client.response()
    }
}

/// A program that is served through the proxy.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    rest: Vec<u8>,
}

/// A response as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// The value of a field, if it is there.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Why the mesh refused.
    pub(crate) fn reason(&self) -> &str {
        self.field("selvedge-reason").unwrap_or("none")
    }
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).unwrap();
    }

    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next response, with its body where it has one.
    pub(crate) fn response(&mut self) -> Response {
        let head = self.until("\r\n\r\n");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut response = Response {
            status: status.unwrap(),
            head,
            body: String::new(),
        };
        let length = response
            .field("content-length")
            .map(|it| it.parse().unwrap());
        response.body = match length {
            _ if matches!(response.status, 100..=199 | 204 | 304) => String::new(),
            Some(length) => self.exactly(length),
            None if response.field("transfer-encoding").is_some() => self.chunks(),
            None => self.everything(),
        };
        response
    }

    fn chunks(&mut self) -> String {
        let mut body = String::new();
        loop {
            let line = self.until("\r\n");
            match usize::from_str_radix(line.trim(), 16).unwrap() {
                0 => break,
                length => body += &self.exactly(length),
            }
            assert_eq!(self.exactly(2), "\r\n");
        }
        // Trailers are as good as a body here.
        loop {
            match self.until("\r\n").trim() {
                "" => return body,
                line => body += line,
            }
        }
    }

    pub(crate) fn until(&mut self, end: &str) -> String {
        loop {
            let found = self
                .rest
                .windows(end.len())
                .position(|it| it == end.as_bytes());
            if let Some(at) = found {
                return self.exactly(at + end.len());
            }
            assert!(self.more(), "the connection ended: {:?}", self.text());
        }
    }

    /// The same; `None` where the connection ends before.
    pub(crate) fn until_or_reset(&mut self, end: &str) -> Option<String> {
        let mut chunk = [0; 4096];
        loop {
            let text = self.text();
            if text.contains(end) {
                return Some(text);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.rest.extend_from_slice(&chunk[..count]),
            }
        }
    }

    pub(crate) fn exactly(&mut self, length: usize) -> String {
        while self.rest.len() < length {
            assert!(self.more(), "the connection ended: {:?}", self.text());
        }
        let taken = self.rest.drain(..length).collect();
        String::from_utf8(taken).unwrap()
    }

    /// What comes until the connection ends in order.
    pub(crate) fn everything(&mut self) -> String {
        while self.more() {}
        self.exactly(self.rest.len())
    }

    /// Whether the connection ends in order, with nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.everything().is_empty()
    }

    /// What comes until the connection is reset, which it must be.
    pub(crate) fn until_reset(&mut self) -> String {
        let mut chunk = [0; 65_536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => panic!("the connection ended in order"),
                Ok(count) => self.rest.extend_from_slice(&chunk[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    return self.exactly(self.rest.len());
                }
            }
        }
    }

    fn more(&mut self) -> bool {
        let mut chunk = [0; 65_536];
        let count = self.stream.read(&mut chunk).expect("bytes in time");
        self.rest.extend_from_slice(&chunk[..count]);
        count > 0
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.rest).into_owned()
    }
}
