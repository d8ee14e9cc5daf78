//! A stream that never blocks, with what was read but not understood yet, and what could not be
//! written yet.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

/// Room of the one buffer that a thread reads with: more than any request or answer here.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// One stream. Both stores are empty most of the time and keep their memory.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Bytes, and possibly more behind them.
    Full,
    /// All that was there.
    Empty,
    /// The peer's end; so many bytes before it were not understood.
    End { left: usize },
}

impl Stream {
    /// `socket` must be set not to block.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            unread: Vec::new(),
            unsent: Vec::new(),
        }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads once and shows what has come to `take`, which says how many bytes it understood; the
    /// rest is shown again, with what comes next.
    pub(crate) fn receive<E: From<io::Error>>(
        &mut self,
        buffer: &mut [u8],
        mut take: impl FnMut(&[u8]) -> Result<usize, E>,
    ) -> Result<Received, E> {
        let length = match self.read(buffer)? {
            None => return Ok(Received::Empty),
            Some(0) => {
                let left = self.unread.len();
                return Ok(Received::End { left });
            }
            Some(length) => length,
        };
        let fresh = &buffer[..length];
        if self.unread.is_empty() {
            let taken = take(fresh)?;
            self.unread.extend_from_slice(&fresh[taken..]);
        } else {
            self.unread.extend_from_slice(fresh);
            let taken = take(&self.unread)?;
            self.unread.drain(..taken);
        }
        match length < buffer.len() {
            true => Ok(Received::Empty),
            false => Ok(Received::Full),
        }
    }

    /// Shows once more what was not understood, without reading.
    pub(crate) fn again<E>(
        &mut self,
        take: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<Received, E> {
        let taken = take(&self.unread)?;
        self.unread.drain(..taken);
        Ok(Received::Full)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match (&self.socket).read(buffer) {
                Ok(length) => return Ok(Some(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends, and keeps what there is no room for.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match self.unsent.is_empty() {
            true => self.write(bytes)?,
            false => 0,
        };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what was kept.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let sent = self.write(&self.unsent)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// Whether the peer has to read before more should be made for it.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match (&self.socket).write(&bytes[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
