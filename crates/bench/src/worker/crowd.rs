//! A server of many connections at once that knows, at each moment, how many are open.
//!
//! One thread, so that what it counts is in order. A connection whose end has arrived is closed before
//! a new one is counted: `most` is what was open at once, not what had not been read yet.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

use crate::protocol::{CLOSE, Crowd};

/// Most connections it holds; more wait in the kernel's queue.
const MAX_OPEN: usize = 1024;

/// Where to read what the server sees.
pub(super) struct Watch(Arc<Mutex<Crowd>>);

impl Watch {
    pub(super) fn read(&self) -> Crowd {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves in a thread of its own for as long as the process lives.
pub(super) fn serve(at: SocketAddr) -> io::Result<(SocketAddr, Watch)> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let seen = Arc::new(Mutex::new(Crowd::default()));
    let mut server = Server {
        listener,
        open: Vec::new(),
        crowd: Crowd::default(),
        seen: Arc::clone(&seen),
    };
    let run = move || while server.turn().is_ok() {};
    thread::Builder::new().name("crowd".into()).spawn(run)?;
    Ok((address, Watch(seen)))
}

struct Server {
    listener: TcpListener,
    open: Vec<TcpStream>,
    crowd: Crowd,
    seen: Arc<Mutex<Crowd>>,
}

impl Server {
    /// Waits for something to do, and does it.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        self.serve_open();
        if self.open.len() < MAX_OPEN {
            self.accept_one()?;
        }
        self.crowd.open = self.open.len() as u64;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = self.crowd;
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let has_room = self.open.len() < MAX_OPEN;
        let listener = has_room.then(|| PollFd::new(&self.listener, PollFlags::IN));
        let open = self
            .open
            .iter()
            .map(|stream| PollFd::new(stream, PollFlags::IN));
        let mut waited: Vec<PollFd<'_>> = listener.into_iter().chain(open).collect();
        match poll(&mut waited, None) {
            Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn serve_open(&mut self) {
        self.open.retain_mut(serve_one);
    }

    fn accept_one(&mut self) -> io::Result<()> {
        let mut stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            // Out of descriptors or memory, or the caller has gone: the next turn tries again.
            Err(_) => return Ok(()),
        };
        stream.set_nonblocking(true)?;
        self.crowd.accepted += 1;
        let greeting = u64::from(std::process::id()).to_be_bytes();
        if stream.write_all(&greeting).is_err() || !serve_one(&mut stream) {
            return Ok(());
        }
        self.open.push(stream);
        if self.open.len() as u64 > self.crowd.most {
            self.serve_open();
            self.crowd.most = self.crowd.most.max(self.open.len() as u64);
        }
        Ok(())
    }
}

/// Answers what has come; says whether the connection goes on.
fn serve_one(stream: &mut TcpStream) -> bool {
    let mut message = [0; 512];
    loop {
        match stream.read(&mut message) {
            Ok(0) => return false,
            Ok(length) if message[..length].contains(&CLOSE) => return false,
            Ok(length) if stream.write_all(&message[..length]).is_err() => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
