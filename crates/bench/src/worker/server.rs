//! Servers that are measured: one thread, one blocking call after another, as cheap as a server can
//! be, so that what the kernel adds is not hidden by what the server costs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use super::lookup;
use crate::protocol::Served;

/// Largest message that is sent back.
const MESSAGE_BYTES: usize = 64 * 1024;

/// Serves in a thread of its own for as long as the process lives.
pub(super) fn serve(what: Served, at: SocketAddr) -> io::Result<SocketAddr> {
    let (address, serve): (_, Box<dyn FnOnce() + Send>) = match what {
        Served::Echo => tcp(at, echo)?,
        Served::Greeting | Served::Many => tcp(at, greet)?,
        Served::Datagrams => udp(at, |length, _message| Some(length))?,
        Served::Names => udp(at, lookup::answer_in_place)?,
    };
    thread::Builder::new().name("server".into()).spawn(serve)?;
    Ok(address)
}

type Serving = (SocketAddr, Box<dyn FnOnce() + Send>);

fn tcp(at: SocketAddr, serve: fn(TcpStream) -> io::Result<()>) -> io::Result<Serving> {
    let listener = TcpListener::bind(at)?;
    let address = listener.local_addr()?;
    let run = move || {
        for stream in listener.incoming().flatten() {
            // The client says what went wrong.
            let _client_gone = stream.set_nodelay(true).and_then(|()| serve(stream));
        }
    };
    Ok((address, Box::new(run)))
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut message = vec![0; MESSAGE_BYTES];
    loop {
        match stream.read(&mut message)? {
            0 => return Ok(()),
            length => stream.write_all(&message[..length])?,
        }
    }
}

fn greet(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b".")?;
    // The client closes first, so that the server's port is free of TIME_WAIT.
    stream.read(&mut [0]).map(|_| ())
}

/// Answers each datagram by what `reply` makes of it: the length of the answer, in place.
fn udp(at: SocketAddr, reply: fn(usize, &mut [u8]) -> Option<usize>) -> io::Result<Serving> {
    let socket = UdpSocket::bind(at)?;
    let address = socket.local_addr()?;
    let run = move || {
        let mut message = vec![0; MESSAGE_BYTES];
        while let Ok((length, client)) = socket.recv_from(&mut message) {
            if let Some(length) = reply(length, &mut message) {
                // A client that has gone needs no answer.
                let _client_gone = socket.send_to(&message[..length], client);
            }
        }
    };
    Ok((address, Box::new(run)))
}
