//! An accepted connection, from what the kernel says of it to its end.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use selvedge_model::{Port, Spoken};
use tokio::net::TcpStream;

use crate::buffer::Inbox;
use crate::client::Client;
use crate::deadline::Deadline;
use crate::receiving::drain;
use crate::relay::reset_at_close;
use crate::request::Next;
use crate::slots::Slots;
use crate::stream;
use crate::worker::Worker;

/// How long a connection may be idle between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(15 * 60);
/// How long a peer has to close a connection that we have closed.
const LINGER: Duration = Duration::from_secs(2);

/// How requests are served: [`crate::request::serve`], whose future has no name.
pub(crate) type Serve<F> = fn(Rc<Worker>, Client) -> F;

/// Serves a connection to its end. One that nobody led here, or to what is not served here, is closed
/// at once: this is no open proxy.
pub(crate) async fn serve<F>(
    worker: Rc<Worker>,
    stream: TcpStream,
    slots: Rc<Slots<F>>,
    serve_request: Serve<F>,
) where
    F: Future<Output = (Client, Next)>,
{
    let Some(mut client) = client(&worker, stream) else {
        return;
    };
    let (address, port) = client.asked;
    let routing = worker.routing(client.asked);
    let listener = routing
        .as_ref()
        .and_then(|(routing, _)| routing.table.listener(address, port));
    let spoken = listener.map(|listener| listener.spoken);
    drop(routing);
    match spoken {
        Some(Spoken::Http) => {}
        // In places of their own, so that connections with requests need not have one.
        Some(Spoken::Tcp) => return Box::pin(stream::serve(&worker, &mut client)).await,
        Some(Spoken::Detect) => {
            if !Box::pin(stream::detect(&worker, &mut client)).await {
                return;
            }
        }
        None => return reset_at_close(&client.stream),
    }
    loop {
        if client.inbox.is_empty() && !awaits(&worker, &mut client).await {
            return;
        }
        let placed = slots.place(serve_request(worker.clone(), client));
        let (returned, next) = placed.run().await;
        client = returned;
        match next {
            Next::Keep => {}
            Next::Close => return close(&worker, &mut client).await,
            Next::Reset => return reset_at_close(&client.stream),
            Next::Done => return,
        }
    }
}

fn client(worker: &Worker, stream: TcpStream) -> Option<Client> {
    let origin = worker.origin.of(&stream)?;
    let IpAddr::V4(address) = origin.server.ip() else {
        return None;
    };
    stream.set_nodelay(true).ok()?;
    Some(Client {
        stream,
        inbox: Inbox::new(worker.buffers.clone()),
        deadline: Deadline::new(worker.clock),
        source: Some(origin.workload),
        asked: (address, Port::new(origin.server.port())?),
    })
}

/// Waits for the first bytes of a request; false where none came.
async fn awaits(worker: &Worker, client: &mut Client) -> bool {
    client
        .deadline
        .set(worker.clock.now(), None, Some(KEEP_ALIVE));
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
    client.deadline.set(now, Some(now + LINGER), None);
    let drained = drain(&mut client.stream, &mut client.inbox);
    let _ = client.deadline.within(pin!(drained)).await;
}
