//! An accepted connection, from what the kernel says of it to its end.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;

use selvedge_feed::SocketKind;
use selvedge_model::{CgroupId, Port, Spoken};
use tokio::net::TcpStream;

use crate::buffer::Inbox;
use crate::client::{Asked, Client};
use crate::deadline::Deadline;
use crate::receiving::drain;
use crate::relay::reset_at_close;
use crate::request::{Next, Served};
use crate::slots::Slots;
use crate::stream;
use crate::worker::Worker;

/// What serves requests: [`crate::request::serve_all`], whose future has no name.
pub(crate) type Requests<F> = Slots<Box<Client>, Served, F>;

/// Serves a connection that came over a socket of this kind to its end. One that nobody led here, or to
/// what is not served here, is closed at once: this is no open proxy.
pub(crate) async fn serve<F>(
    worker: Rc<Worker>,
    kind: SocketKind,
    stream: TcpStream,
    requests: Rc<Requests<F>>,
) where
    F: Future<Output = Infallible>,
{
    let Some(client) = client(&worker, kind, stream) else {
        return;
    };
    let mut client = Box::new(client);
    let Some((routing, _)) = worker.routing(client.asked) else {
        return reset_at_close(&client.stream);
    };
    let spoken = match client.asked {
        Asked::Service(address, port) => {
            let listener = routing.table.listener(address, port);
            listener.map(|it| it.spoken)
        }
        Asked::Gateway(_) => Some(Spoken::Http),
    };
    drop(routing);
    match spoken {
        Some(Spoken::Http) => {}
        // In places of their own, so that connections with requests need not have one.
        Some(Spoken::Tcp) => return Box::pin(stream::serve(&worker, &mut client)).await,
        Some(Spoken::Detect) => {
            if !Box::pin(stream::find_out(&worker, &mut client)).await {
                return;
            }
        }
        None => return reset_at_close(&client.stream),
    }
    loop {
        while !has_begun(&mut client) {
            if !awaits(&worker, &mut client).await {
                return;
            }
        }
        let (returned, next) = requests.serve(client).await;
        client = returned;
        match next {
            Next::Keep => {}
            Next::Close => return close(&worker, &mut client).await,
            Next::Reset => return reset_at_close(&client.stream),
            Next::Done => return,
        }
    }
}

fn client(worker: &Worker, kind: SocketKind, stream: TcpStream) -> Option<Client> {
    let (source, asked) = match kind {
        SocketKind::Outside => (None, from_outside(worker, &stream)?),
        _ => from_program(worker, &stream)?,
    };
    stream.set_nodelay(true).ok()?;
    Some(Client {
        stream,
        inbox: Inbox::new(worker.buffers.clone()),
        deadline: Deadline::new(worker.clock),
        source,
        asked,
        is_unclear: false,
    })
}

fn from_program(worker: &Worker, stream: &TcpStream) -> Option<(Option<CgroupId>, Asked)> {
    let origin = worker.origin.of(stream)?;
    let IpAddr::V4(address) = origin.server.ip() else {
        return None;
    };
    let port = Port::new(origin.server.port())?;
    Some((Some(origin.workload), Asked::Service(address, port)))
}

/// The kernel gives such a connection the port of the host that was reached.
fn from_outside(worker: &Worker, stream: &TcpStream) -> Option<Asked> {
    let reached = Port::new(stream.local_addr().ok()?.port())?;
    worker.outside(reached)
}

/// Whether there is something of a request. An empty line, which some clients send behind a body, is
/// nothing of it (RFC 9112, section 2.2).
fn has_begun(client: &mut Client) -> bool {
    match client.inbox.bytes() {
        b"" | b"\r" => false,
        b"\r\n" => {
            client.inbox.clear();
            false
        }
        _ => true,
    }
}

/// Waits for the first bytes of a request; false where none came.
async fn awaits(worker: &Worker, client: &mut Client) -> bool {
    client.deadline.rest(worker.patience.keep_alive);
    let filled = client.inbox.fill(&mut client.stream);
    matches!(client.deadline.within(pin!(filled)).await, Ok(Ok(1..)))
}

/// Closes a connection so that the client gets all that was sent.
async fn close(worker: &Worker, client: &mut Client) {
    use tokio::io::AsyncWriteExt;
    if client.stream.shutdown().await.is_err() {
        return;
    }
    let now = worker.clock.now();
    client
        .deadline
        .set(now, Some(now + worker.patience.linger), None);
    let drained = drain(&mut client.stream, &mut client.inbox);
    let _ = client.deadline.within(pin!(drained)).await;
}
