//! An accepted connection, from what the kernel says of it to its end.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use selvedge_model::{Port, Spoken};
use tokio::net::TcpStream;

use crate::buffer::Inbox;
use crate::client::Client;
use crate::deadline::Deadline;
use crate::receiving::drain;
use crate::relay::reset_at_close;
use crate::request::{self, Next};
use crate::stream;
use crate::worker::Worker;

/// How long a connection may be idle between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(15 * 60);
/// How long a peer has to close a connection that we have closed.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection to its end. One that nobody led here, or to what is not served here, is closed
/// at once: this is no open proxy.
pub(crate) async fn serve(worker: Rc<Worker>, stream: TcpStream) {
    let Some(mut client) = client(&worker, stream) else {
        return;
    };
    let Some((routing, _)) = worker.routing(client.asked) else {
        return reset_at_close(&client.stream);
    };
    let spoken = routing
        .table
        .listener(client.asked.0, client.asked.1)
        .map(|it| it.spoken);
    drop(routing);
    match spoken {
        Some(Spoken::Http) => requests(&worker, &mut client).await,
        Some(Spoken::Tcp) => stream::serve(&worker, &mut client).await,
        Some(Spoken::Detect) => {
            if stream::detect(&worker, &mut client).await {
                requests(&worker, &mut client).await;
            }
        }
        None => reset_at_close(&client.stream),
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

/// Serves one request after the other.
async fn requests(worker: &Rc<Worker>, client: &mut Client) {
    loop {
        if client.inbox.is_empty() && !awaits(worker, client).await {
            return;
        }
        match request::serve(worker, client).await {
            Next::Keep => {}
            Next::Close => return close(worker, client).await,
            Next::Reset => return reset_at_close(&client.stream),
            Next::Done => return,
        }
    }
}

/// Waits for the first bytes of a request; false where none came.
async fn awaits(worker: &Worker, client: &mut Client) -> bool {
    client
        .deadline
        .set(worker.clock.now(), None, Some(KEEP_ALIVE));
    let filled = client.inbox.fill(&mut client.stream);
    matches!(client.deadline.within(filled).await, Ok(Ok(1..)))
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
    let _ = client.deadline.within(drained).await;
}
