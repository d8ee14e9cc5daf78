//! What is timed: many equal operations, one after another, each with its own time.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::clock::process_cpu_ns;
use crate::protocol::Batch;
use crate::spread::quantile;

/// Operations before the first that counts: caches, the congestion window, the branch predictor.
const WARM_UP: u32 = 64;
/// Most single times that are kept.
const MAX_SAMPLES: usize = 4_000_000;
/// An answer that is not there by then will not come.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Repeats an operation for a while and takes its times.
pub(super) fn repeat(
    for_ms: u64,
    mut operation: impl FnMut() -> io::Result<()>,
) -> io::Result<Batch> {
    let mut clock = BatchClock::new(for_ms);
    for _ in 0..WARM_UP {
        operation()?;
    }
    clock.start();
    while !clock.is_over() {
        operation()?;
        clock.lap();
    }
    Ok(clock.stop(u64::from(WARM_UP), 0))
}

/// Takes the times of a batch.
pub(super) struct BatchClock {
    samples: Vec<u32>,
    cpu_ns: u64,
    length: Duration,
    began: Instant,
    last: Instant,
}

impl BatchClock {
    /// CPU time counts from now on.
    pub(super) fn new(for_ms: u64) -> Self {
        // Room first: growing would be timed. Nothing here takes less than a microsecond.
        let room = usize::try_from(for_ms * 1000).map_or(MAX_SAMPLES, |room| room.min(MAX_SAMPLES));
        let now = Instant::now();
        Self {
            samples: Vec::with_capacity(room),
            cpu_ns: process_cpu_ns(),
            length: Duration::from_millis(for_ms),
            began: now,
            last: now,
        }
    }

    /// Wall time counts from now on.
    pub(super) fn start(&mut self) {
        self.began = Instant::now();
        self.last = self.began;
    }

    pub(super) fn is_over(&self) -> bool {
        self.last - self.began >= self.length || self.samples.len() == MAX_SAMPLES
    }

    /// One operation has ended, and the next begins.
    pub(super) fn lap(&mut self) {
        self.lap_since(self.last);
    }

    /// One operation that began at `began` has ended.
    pub(super) fn lap_since(&mut self, began: Instant) {
        self.last = Instant::now();
        let time = (self.last - began).as_nanos();
        self.samples.push(u32::try_from(time).unwrap_or(u32::MAX));
    }

    pub(super) fn stop(mut self, untimed: u64, lost: u64) -> Batch {
        let wall = self.last - self.began;
        let cpu_ns = process_cpu_ns() - self.cpu_ns;
        let timed = self.samples.len() as u64;
        Batch {
            operations: timed + untimed,
            timed,
            lost,
            wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
            p50_ns: quantile(&mut self.samples, 1, 2),
            p99_ns: quantile(&mut self.samples, 99, 100),
            slowest_ns: quantile(&mut self.samples, 1, 1),
            cpu_ns,
        }
    }
}

pub(super) fn ping_pong(to: SocketAddr, bytes: usize, for_ms: u64) -> io::Result<Batch> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    let mut message = vec![0x5e; bytes];
    repeat(for_ms, || {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)
    })
}

pub(super) fn connects(to: &[SocketAddr], for_ms: u64) -> io::Result<Batch> {
    let mut addresses = to.iter().cycle();
    repeat(for_ms, || {
        let address = addresses.next().ok_or(io::ErrorKind::InvalidInput)?;
        let mut stream = TcpStream::connect(address)?;
        stream.read_exact(&mut [0])
    })
}

pub(super) fn datagrams(
    to: SocketAddr,
    connected: bool,
    bytes: usize,
    for_ms: u64,
) -> io::Result<Batch> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(ANSWER_PATIENCE))?;
    let mut message = vec![0x5e; bytes];
    if connected {
        socket.connect(to)?;
        return repeat(for_ms, || {
            socket.send(&message)?;
            socket.recv(&mut message).map(|_| ())
        });
    }
    repeat(for_ms, || {
        socket.send_to(&message, to)?;
        let (_, from) = socket.recv_from(&mut message)?;
        // The program must see the address it asked for.
        if from == to {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    })
}
