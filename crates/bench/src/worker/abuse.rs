//! Clients as they should not be: they reset, abort, and ask again at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::error_name;
use super::load::{Shared, greeting};
use crate::protocol::{CLOSE, LoadReport, SERVED};
use crate::random::Random;

/// A refused client waits this long, so that others get the CPU too.
const REFUSED_PAUSE: Duration = Duration::from_micros(500);
/// The longest a polite client keeps its connection.
const HOLD_US: u64 = 2000;
const PATIENCE: Duration = Duration::from_secs(10);

/// Counted beside [`SERVED`].
pub(crate) const REFUSED: &str = "refused";

/// One thread of abuse, until the load is over.
pub(super) fn run(to: SocketAddr, seed: u64, shared: &Shared) -> LoadReport {
    let mut report = LoadReport::default();
    let mut random = Random::new(seed);
    while !shared.is_over() {
        let result = match random.below(5) {
            0 | 1 => polite(to, Duration::from_micros(random.below(HOLD_US))),
            2 => hasty(to),
            3 => reset(to),
            _ => aborted(to),
        };
        match result {
            Ok(()) => report.count(SERVED),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                report.count(REFUSED);
                thread::sleep(REFUSED_PAUSE);
            }
            Err(error) => report.count(&error_name(&error)),
        }
        shared.count();
    }
    report
}

/// Stays for a while, then lets the server close first.
fn polite(to: SocketAddr, hold: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    greeting(&stream)?;
    thread::sleep(hold);
    stream.write_all(&[CLOSE])?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Is served, and closes itself.
fn hasty(to: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    greeting(&stream).map(|_| ())
}

/// Closes with a reset, read or not.
fn reset(to: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(to)?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// Begins to connect, and closes at once.
fn aborted(to: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Err(error),
        // In progress, or there already.
        _ => Ok(()),
    }
}
