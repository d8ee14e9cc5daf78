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

/// Finds out what is spoken, with a connection to an endpoint made at once, so that a server that
/// speaks first is heard without delay. Where one has answered a request there is none made: no server speaks
/// first, and a connection that idles holds no place of those that a limit allows. True where requests of HTTP/1 are to be
/// served; everything else has been served when this ends.
pub(crate) async fn detect(worker: &Rc<Worker>, client: &mut Client) -> bool {
    let (Asked::Service(address, port), Some((routing, _))) =
        (client.asked, worker.routing(client.asked))
    else {
        return false;
    };
    let (heard, listener) = (routing.heard.clone(), (address, port));
    drop(routing);
    if !heard.is_http(listener)
        && let Some(is_http) = detect_at_once(worker, client, &heard, listener).await
    {
        return is_http;
    }
    match said(worker, client, worker.patience.keep_alive).await {
        Spoken::Http => true,
        Spoken::Other => {
            serve(worker, client).await;
            false
        }
        Spoken::Unclear => false,
    }
}

/// What [`detect`] gives; `None` where it was heard meanwhile that no server speaks first.
async fn detect_at_once(
    worker: &Rc<Worker>,
    client: &mut Client,
    heard: &Heard,
    listener: Listener,
) -> Option<bool> {
    const MOST_WAIT: Duration = Duration::from_secs(1);
    client.is_unclear = true;
    let mut record = Record::default();
    let mut led = match lead(worker, client, &mut record).await {
        Ok(led) => led,
        // A request is told why; nothing else can be. One that says nothing is waited for a moment: it may wait
        // for the server to speak, and there is none.
        Err(reason) => match said(worker, client, MOST_WAIT).await {
            Spoken::Http => return Some(true),
            Spoken::Unclear if heard.is_http(listener) => return None,
            Spoken::Unclear | Spoken::Other => {
                refuse(worker, client, &mut record, reason);
                return Some(false);
            }
        },
    };
    match first_bytes(client, &mut led.upstream, heard, listener).await {
        Spoken::Other => {
            let ending = carry(worker, client, &mut led.upstream).await;
            record.ended = led.finish(worker, ending);
            record::connection(worker, client, &record);
            Some(false)
        }
        spoken => {
            led.put_by(worker, &mut record);
            (spoken == Spoken::Http).then_some(true)
        }
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

/// Waits until either side has said enough to tell what is spoken; unclear where it was heard elsewhere that no server
/// speaks first. Whoever only listens says that too, by its end.
async fn first_bytes(
    client: &mut Client,
    upstream: &mut Upstream,
    heard: &Heard,
    listener: Listener,
) -> Spoken {
    client.deadline.set(Instant::default(), None, None);
    let Client { stream, inbox, .. } = client;
    let mut news = pin!(heard.news());
    poll_fn(|cx| {
        while news.as_mut().poll(cx).is_ready() {
            news.set(heard.news());
        }
        if heard.is_http(listener) {
            return Poll::Ready(Spoken::Unclear);
        }
        loop {
            if let Poll::Ready(_said) = upstream.inbox.poll_fill(cx, &mut upstream.stream) {
                return Poll::Ready(Spoken::Other);
            }
            match inbox.poll_fill(cx, stream) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => match detect::spoken(inbox.bytes()) {
                    Spoken::Unclear => {}
                    spoken => return Poll::Ready(spoken),
                },
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Spoken::Other),
            }
        }
    })
    .await
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

    fn finish(self, worker: &Worker, ending: Ending) -> Instant {
        let now = worker.clock.now();
        self.attempt.finish(now, ending);
        self.admission.finish(now, ending);
        now
    }
}
