//! What was read and not taken yet. Memory for it belongs to the worker: a connection has some only
//! while bytes are there.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;

/// Bytes of one buffer: large enough for every head that is allowed and for few calls per megabyte.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;

/// Buffers that are kept for later; beyond them memory is given back.
const FREE_BUFFERS: usize = 32;

/// The buffers of one worker that are free at this moment.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        let free = self.free.borrow_mut().pop();
        free.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
    }

    fn put(&self, bytes: Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        if bytes.len() == BUFFER_BYTES && free.len() < FREE_BUFFERS {
            free.push(bytes);
        }
    }
}

/// A stream that can be asked whether there is something to read.
pub(crate) trait Readable: AsyncRead + Unpin {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Readable for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl Readable for ReadHalf<'_> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_read_ready(cx)
    }
}

/// The bytes of one connection that were read and not taken, at most [`BUFFER_BYTES`].
#[derive(Debug)]
pub(crate) struct Inbox {
    pool: Rc<Buffers>,
    /// Not there, not empty, or about to be filled.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(crate) fn new(pool: Rc<Buffers>) -> Self {
        Self { pool, held: None }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.held {
            Some(held) => &held.bytes[held.start..held.end],
            None => &[],
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_none()
    }

    /// Takes the first `count` bytes, which must be there.
    pub(crate) fn consume(&mut self, count: usize) {
        let Some(held) = &mut self.held else {
            debug_assert_eq!(count, 0, "nothing is there");
            return;
        };
        held.start += count;
        debug_assert!(held.start <= held.end, "more is taken than is there");
        if held.start >= held.end {
            self.clear();
        }
    }

    /// Drops what is there.
    pub(crate) fn clear(&mut self) {
        if let Some(held) = self.held.take() {
            self.pool.put(held.bytes);
        }
    }

    /// Reads what has come on `stream` behind what is there; 0 bytes at its end. While it waits it
    /// holds no more memory than there are bytes. It must not be full.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<usize>> {
        let mut held = self.roomy();
        let mut room = ReadBuf::new(&mut held.bytes[held.end..]);
        let read = Pin::new(stream).poll_read(cx, &mut room);
        let count = room.filled().len();
        held.end += count;
        match (read.is_pending(), held.end > held.start) {
            (_, false) => self.pool.put(held.bytes),
            (true, true) => self.held = Some(held.shrunk(&self.pool)),
            (false, true) => self.held = Some(held),
        }
        ready!(read)?;
        Poll::Ready(Ok(count))
    }

    /// See [`Self::poll_fill`]. Whoever waits here has mostly taken all there was: so the first look is
    /// only whether there is something.
    pub(crate) async fn fill(&mut self, stream: &mut impl Readable) -> io::Result<usize> {
        let mut has_waited = false;
        std::future::poll_fn(|cx| {
            if !has_waited {
                has_waited = true;
                if stream.poll_readable(cx)?.is_pending() {
                    self.held = self.held.take().map(|held| held.shrunk(&self.pool));
                    return Poll::Pending;
                }
            }
            self.poll_fill(cx, stream)
        })
        .await
    }

    /// What is there, with room behind it.
    fn roomy(&mut self) -> Held {
        let Some(held) = self.held.take() else {
            let bytes = self.pool.take();
            return Held {
                bytes,
                start: 0,
                end: 0,
            };
        };
        if held.bytes.len() == BUFFER_BYTES && held.end < BUFFER_BYTES {
            return held;
        }
        let length = held.end - held.start;
        debug_assert!(length < BUFFER_BYTES, "a full inbox cannot take more");
        let mut bytes = held.bytes;
        if bytes.len() == BUFFER_BYTES {
            bytes.copy_within(held.start..held.end, 0);
        } else {
            let small = std::mem::replace(&mut bytes, self.pool.take());
            bytes[..length].copy_from_slice(&small[held.start..held.end]);
        }
        Held {
            bytes,
            start: 0,
            end: length,
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Held {
    fn shrunk(self, pool: &Buffers) -> Self {
        if self.bytes.len() < BUFFER_BYTES {
            return self;
        }
        let bytes: Box<[u8]> = self.bytes[self.start..self.end].into();
        pool.put(self.bytes);
        Self {
            start: 0,
            end: bytes.len(),
            bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Reads `pieces` one after the other, each at once or after a wait where it is empty.
    struct Pieces(Vec<&'static [u8]>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            room: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.remove(0) {
                [] => Poll::Pending,
                piece => {
                    room.put_slice(piece);
                    Poll::Ready(Ok(()))
                }
            }
        }
    }

    #[test]
    fn an_inbox_that_waits_holds_only_what_is_there() {
        let pool = Rc::new(Buffers::default());
        let mut inbox = Inbox::new(pool.clone());
        let mut stream = Pieces(vec![b"abc", b"", b"def", b""]);
        let mut cx = Context::from_waker(Waker::noop());
        for (want, held) in [("abc", 0), ("bc", 1), ("cdef", 0), ("def", 1)] {
            let _ = inbox.poll_fill(&mut cx, &mut stream).is_ready();
            assert_eq!(inbox.bytes(), want.as_bytes());
            assert_eq!(pool.free.borrow().len(), held, "{want}");
            inbox.consume(1);
        }
        inbox.consume(2);
        assert!(inbox.is_empty());
        assert_eq!(pool.free.borrow().len(), 1, "the small one is not kept");
    }
    /// Neither does one that is asked only whether there is something.
    #[tokio::test]
    async fn an_inbox_that_is_idle_holds_only_what_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (client, mut stream) = (client.unwrap(), accepted.unwrap().0);
        let pool = Rc::new(Buffers::default());
        let mut inbox = Inbox::new(pool.clone());
        client.writable().await.unwrap();
        client.try_write(b"abc").unwrap();
        assert_eq!(inbox.fill(&mut stream).await.unwrap(), 3);
        let soon = std::time::Duration::from_millis(1);
        for _ in 0..2 {
            let waited = tokio::time::timeout(soon, inbox.fill(&mut stream)).await;
            assert!(waited.is_err(), "nothing more comes");
            assert_eq!(inbox.bytes(), b"abc");
            assert_eq!(inbox.held.as_ref().unwrap().bytes.len(), 3);
        }
    }
}
