//! A server behind the proxy, for tests: writes down what it gets, and answers as it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::agent::DEADLINE;

/// What is done with one connection.
type Script = dyn Fn(&mut Connection) + Send + Sync;

/// Dropping it fails the test where a script has panicked by then.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Receiver<String>,
    has_panicked: Arc<AtomicBool>,
}

/// A connection from the proxy.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes that came behind what was read.
    rest: Vec<u8>,
    log: SyncSender<String>,
}

impl Origin {
    /// Does `script` with each connection, at once with all; the threads end with the test process.
    pub(crate) fn start(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (log, seen) = sync_channel(4096);
        let script: &'static Script = Box::leak(Box::new(script));
        let has_panicked = Arc::new(AtomicBool::new(false));
        let failed = has_panicked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let rest = Vec::new();
                let log = log.clone();
                let mut connection = Connection { stream, rest, log };
                let failed = failed.clone();
                thread::spawn(move || {
                    let played = catch_unwind(AssertUnwindSafe(|| script(&mut connection)));
                    failed.fetch_or(played.is_err(), Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            seen,
            has_panicked,
        }
    }

    /// Answers each request whose body is told by Content-Length, over and over.
    pub(crate) fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |connection| {
            while let Some(request) = connection.request() {
                connection.send(&answer(&request));
            }
        })
    }

    /// Takes a request and answers nothing; is heard of once the proxy has given it up.
    pub(crate) fn silent() -> (Self, Receiver<()>) {
        let (tell, told) = sync_channel(1);
        let origin = Self::start(move |connection| {
            connection.request();
            connection.everything();
            // The test may be over.
            let _ = tell.send(());
        });
        (origin, told)
    }

    /// The next request that came.
    pub(crate) fn next(&self) -> String {
        self.seen.recv_timeout(DEADLINE).expect("a request in time")
    }

    /// Those that came and were not taken by [`Self::next`].
    pub(crate) fn rest(&self) -> Vec<String> {
        self.seen.try_iter().collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let is_over = thread::panicking() || !self.has_panicked.load(Ordering::SeqCst);
        assert!(is_over, "the origin's script has panicked");
    }
}

impl Connection {
    /// Reads one request with its body, and writes it down; `None` at the connection's end.
    pub(crate) fn request(&mut self) -> Option<String> {
        let head = self.until("\r\n\r\n")?;
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
        let body = match length {
            Some(length) => self.exactly(length)?,
            None if lower.contains("transfer-encoding: chunked") => self.until("\r\n\r\n")?,
            None => String::new(),
        };
        let request = head + &body;
        // The test may not care.
        let _ = self.log.try_send(request.clone());
        Some(request)
    }

    /// Reads up to and with `end`.
    pub(crate) fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self
                .rest
                .windows(end.len())
                .position(|it| it == end.as_bytes());
            if let Some(at) = found {
                return self.exactly(at + end.len());
            }
            self.more()?;
        }
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Option<String> {
        while self.rest.len() < length {
            self.more()?;
        }
        let taken = self.rest.drain(..length).collect();
        Some(String::from_utf8(taken).unwrap())
    }

    fn more(&mut self) -> Option<()> {
        let mut chunk = [0; 65_536];
        match self.stream.read(&mut chunk) {
            Ok(count @ 1..) => {
                self.rest.extend_from_slice(&chunk[..count]);
                Some(())
            }
            _ => None,
        }
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.send_bytes(bytes.as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        // Whoever is served may be gone.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends nothing more.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Whether the connection ends with a reset.
    pub(crate) fn is_reset(&mut self) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Whatever comes until the connection ends.
    pub(crate) fn everything(&mut self) -> String {
        while self.more().is_some() {}
        let length = self.rest.len();
        self.exactly(length).unwrap()
    }
}

/// A response with this body.
pub(crate) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
