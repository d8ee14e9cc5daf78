//! Connections of which no request is seen: led to an endpoint as a whole.

use std::future::{Future as _, poll_fn};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use selvedge_model::{Instant, Reason};
use selvedge_resilience::{Admission, Attempt, Call, Ending, Outcome, Verdict};

use crate::client::{Asked, Client};
use crate::connect::{ConnectFault, connect};
use crate::detect::{self, Spoken};
use crate::heard::{Heard, Listener};
use crate::pool::Upstream;
use crate::record::{self, Record};
use crate::relay::{End, relay, reset_at_close};
use crate::worker::Worker;

/// A way to an endpoint that has been let in.
struct Led {
    admission: Admission,
    attempt: Attempt,
    upstream: Upstream,
    /// The service's virtual address where it has a connection limit.
    limited: Option<Ipv4Addr>,
}

/// Relays a connection to an endpoint. Where none can be reached it is reset.
pub(crate) async fn serve(worker: &Rc<Worker>, client: &mut Client) {
    let mut record = Record::default();
    match lead(worker, client, &mut record).await {
        Ok(mut led) => {
            let ending = carry(worker, client, &mut led.upstream).await;
            record.ended = led.finish(worker, ending);
            record::connection(worker, client, &record);
        }
        Err(reason) => refuse(worker, client, &mut record, reason),
    }
}

fn refuse(worker: &Worker, client: &Client, record: &mut Record, reason: Reason) {
    reset_at_close(&client.stream);
    record.refused(worker.clock.now(), reason);
    record::connection(worker, client, record);
}

/// How long it is waited for either side to say something, before a connection gives back what others may need.
const SILENCE: Duration = Duration::from_secs(1);

/// Finds out what is spoken, with a connection to an endpoint made at once, so that a server that
/// speaks first is heard without delay. While both sides are silent it soon holds no place of those that a limit
/// allows, and where an endpoint has answered a request none is made: no server speaks first there. True where requests of
/// HTTP/1 are to be served; everything else has been served when this ends.
pub(crate) async fn find_out(worker: &Rc<Worker>, client: &mut Client) -> bool {
    let (Asked::Service(address, port), Some((routing, _))) =
        (client.asked, worker.routing(client.asked))
    else {
        return false;
    };
    let (heard, listener) = (routing.heard.clone(), (address, port));
    drop(routing);
    let found = match heard.is_http(listener) {
        true => Found::Silence,
        false => find_out_at_once(worker, client, &heard, listener).await,
    };
    match found {
        Found::Http => return true,
        Found::Served => return false,
        Found::Other => serve(worker, client).await,
        Found::Silence => match said(worker, client, worker.patience.keep_alive).await {
            Spoken::Http => return true,
            Spoken::Other => serve(worker, client).await,
            Spoken::Unclear => {}
        },
    }
    false
}

/// What was found out.
enum Found {
    /// A request comes.
    Http,
    /// The client says something else.
    Other,
    /// The client has said nothing, and no server speaks first.
    Silence,
    /// There is nothing left to do.
    Served,
}

async fn find_out_at_once(
    worker: &Rc<Worker>,
    client: &mut Client,
    heard: &Heard,
    listener: Listener,
) -> Found {
    client.is_unclear = true;
    let mut record = Record::default();
    let mut led = match lead(worker, client, &mut record).await {
        Ok(led) => led,
        // A request is told why; nothing else can be. One that says nothing is waited for a moment: it may wait
        // for the server to speak, and there is none.
        Err(reason) => match said(worker, client, SILENCE).await {
            Spoken::Http => return Found::Http,
            Spoken::Unclear if heard.is_http(listener) => return Found::Silence,
            Spoken::Unclear | Spoken::Other => {
                refuse(worker, client, &mut record, reason);
                return Found::Served;
            }
        },
    };
    let now = worker.clock.now();
    client.deadline.set(now, Some(now + SILENCE), None);
    match first_bytes(client, &mut led.upstream, heard, listener).await {
        Ok(First::Request) => {
            led.put_by(worker, &mut record);
            Found::Http
        }
        Ok(First::Heard) => {
            led.put_by(worker, &mut record);
            Found::Silence
        }
        Ok(First::Other | First::Server) => {
            let ending = carry(worker, client, &mut led.upstream).await;
            record.ended = led.finish(worker, ending);
            record::connection(worker, client, &record);
            Found::Served
        }
        Err(Silent) => listen(worker, client, led.into_upstream(), record, heard, listener).await,
    }
}

/// Goes on to listen to both sides, in nobody's place.
async fn listen(
    worker: &Rc<Worker>,
    client: &mut Client,
    mut upstream: Upstream,
    mut record: Record,
    heard: &Heard,
    listener: Listener,
) -> Found {
    client.deadline.set(worker.clock.now(), None, None);
    let first = first_bytes(client, &mut upstream, heard, listener).await;
    if let Ok(First::Server) = first {
        // Its place is another's by now, and what it has said cannot be said again by another.
        carry(worker, client, &mut upstream).await;
        record.ended = worker.clock.now();
        record::connection(worker, client, &record);
        return Found::Served;
    }
    reset_at_close(&upstream.stream);
    match first {
        Ok(First::Request) => Found::Http,
        Ok(First::Other | First::Server) => Found::Other,
        Ok(First::Heard) | Err(Silent) => Found::Silence,
    }
}

/// What the client's first bytes are; unclear where they do not come in time.
async fn said(worker: &Worker, client: &mut Client, patience: Duration) -> Spoken {
    let now = worker.clock.now();
    client.deadline.set(now, Some(now + patience), None);
    let Client {
        stream,
        inbox,
        deadline,
        ..
    } = client;
    loop {
        match detect::spoken(inbox.bytes()) {
            Spoken::Unclear => {}
            spoken => return spoken,
        }
        let filled = deadline.within(pin!(inbox.fill(stream))).await;
        match filled {
            Ok(Ok(1..)) => {}
            Err(_) => return Spoken::Unclear,
            // It says no more than it has.
            Ok(_) if inbox.bytes().is_empty() => return Spoken::Unclear,
            Ok(_) => return Spoken::Other,
        }
    }
}

/// Connects to an endpoint, and to another where that cannot be done. Never an idle connection: what its
/// server says next may be about a request that was on it, and its server may have settled on HTTP/1.
async fn lead(worker: &Rc<Worker>, client: &Client, record: &mut Record) -> Result<Led, Reason> {
    record.began = worker.clock.now();
    let (routing, _) = worker.routing(client.asked).ok_or(Reason::NoRoute)?;
    record.routing = Some(routing.clone());
    let Asked::Service(address, port) = client.asked else {
        return Err(Reason::NoRoute);
    };
    let listener = routing.table.listener(address, port);
    let rule = listener.ok_or(Reason::NoRoute)?.connection_rule();
    record.route = Some(rule.index);
    let random = worker.rng().next_u64();
    let destination = rule.pick((random >> 32) as u32).ok_or(Reason::NoBackend)?;
    record.backend = Some(destination);
    let limited = routing.service(destination).limited;
    let call = Call {
        source: client.source,
        route: rule.index,
        destination,
        trace: 0,
        urgency: None,
        client_timeout: None,
        timeouts: selvedge_model::Timeouts::default(),
        retry: None,
    };
    let admitted = routing.node.admit(record.began, &mut worker.seat(), &call);
    let mut admission = admitted.map_err(|refused| refused.reason)?;
    loop {
        let now = worker.clock.now();
        let attempt = admission.attempt(now, &mut worker.seat());
        let attempt = attempt.map_err(|refused| refused.reason)?;
        client
            .deadline
            .set(now, Some(now + worker.patience.connect), None);
        let destination = (attempt.place(), attempt.port());
        record.attempt(destination);
        let connecting = connect(&destination, limited, &worker.buffers);
        let fault = match client.deadline.within(pin!(connecting)).await {
            Ok(Ok(upstream)) => {
                return Ok(Led {
                    admission,
                    attempt,
                    upstream,
                    limited,
                });
            }
            Ok(Err(error)) => ConnectFault::of(&error, &worker.counters),
            Err(_) => ConnectFault::Endpoint,
        };
        let (kind, reason) = fault.outcome();
        let outcome = Outcome {
            kind,
            repeatable: true,
        };
        let now = worker.clock.now();
        let verdict = admission.on_outcome(now, &mut worker.seat(), attempt, outcome);
        match verdict {
            Verdict::Deliver { .. } => return Err(reason),
            Verdict::Retry { at } => worker.wait_until(at).await,
        }
    }
}

/// Who has said something first.
enum First {
    /// The client, and it is a request.
    Request,
    /// The client, and it is something else; whoever only listens says that too, by its end.
    Other,
    /// The server.
    Server,
    /// Another server has answered a request meanwhile.
    Heard,
}

/// Nobody has said anything in time.
struct Silent;

/// Waits until either side has said enough to tell what is spoken, until the client's deadline.
async fn first_bytes(
    client: &mut Client,
    upstream: &mut Upstream,
    heard: &Heard,
    listener: Listener,
) -> Result<First, Silent> {
    let Client {
        stream,
        inbox,
        deadline,
        ..
    } = client;
    let mut news = pin!(heard.news());
    let first = poll_fn(|cx| {
        loop {
            if let Poll::Ready(_said) = upstream.inbox.poll_fill(cx, &mut upstream.stream) {
                return Poll::Ready(First::Server);
            }
            match inbox.poll_fill(cx, stream) {
                Poll::Pending => break,
                Poll::Ready(Ok(1..)) => match detect::spoken(inbox.bytes()) {
                    Spoken::Unclear => {}
                    Spoken::Http => return Poll::Ready(First::Request),
                    Spoken::Other => return Poll::Ready(First::Other),
                },
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(First::Other),
            }
        }
        while news.as_mut().poll(cx).is_ready() {
            news.set(heard.news());
        }
        match heard.is_http(listener) {
            true => Poll::Ready(First::Heard),
            false => Poll::Pending,
        }
    });
    deadline.within(pin!(first)).await.map_err(|_| Silent)
}

async fn carry(worker: &Worker, client: &mut Client, upstream: &mut Upstream) -> Ending {
    client.deadline.set(worker.clock.now(), None, None);
    let there = End {
        stream: &mut client.stream,
        inbox: &mut client.inbox,
    };
    let back = End {
        stream: &mut upstream.stream,
        inbox: &mut upstream.inbox,
    };
    relay(there, back, &client.deadline).await.into()
}

impl Led {
    /// Nothing was sent on it: the first request may have it. Not where it holds one of few places,
    /// which that request may need for a connection to another endpoint.
    fn put_by(self, worker: &Rc<Worker>, record: &mut Record) {
        let destination = (self.attempt.place(), self.attempt.port());
        match (self.limited, record.routing.take()) {
            (None, Some(routing)) => worker.keep_spare(&routing, destination, self.upstream),
            _ => reset_at_close(&self.upstream.stream),
        }
    }

    /// Gives its place back. One that holds another place, of few connections, gives that back as soon as the
    /// connection is closed.
    fn into_upstream(self) -> Upstream {
        self.upstream
    }

    fn finish(self, worker: &Worker, ending: Ending) -> Instant {
        let now = worker.clock.now();
        self.attempt.finish(now, ending);
        self.admission.finish(now, ending);
        now
    }
}
