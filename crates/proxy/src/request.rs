//! One request, from its first byte to its record: the table of contents of the proxy path.
//!
//! [`serve`] is read from top to bottom: read, route, admit, then exchange until there is something
//! to deliver, and record. Both directions of an exchange live in this one task. Where it is dropped,
//! the admission and the attempt give back what they hold.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;

use selvedge_model::{
    CgroupId, FieldChanges, HttpAction, Instant, Reason, RequestHead, Rule, Selected, Urgency,
};
use selvedge_resilience::{Call, Ending, OutcomeKind, Verdict};
use selvedge_wire::http1::{Answers, FieldName, Framing, Message, Version, write};
use tokio::io::AsyncWriteExt;

use crate::client::{Asked, Client};
use crate::exchange::{Exchange, Exchanged};
use crate::head::{self, After, ByName, Facts, Parts};
use crate::receiving::read_head;
use crate::record;
use crate::respond::Reply;
use crate::routing::Routing;
use crate::scratch::Scratch;
use crate::slots::Hand;
use crate::time_left;
use crate::trace::Trace;
use crate::worker::Worker;

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It may send its next request.
    Keep,
    /// It is closed, once it has taken what was sent.
    Close,
    /// It is reset: what it got must not be taken for everything.
    Reset,
    /// It has come to its end.
    Done,
}

/// A client whose request was served, and what becomes of its connection.
pub(crate) type Served = (Box<Client>, Next);

/// Serves requests of one client after the other: see [`crate::slots`].
pub(crate) async fn serve_all(
    worker: Rc<Worker>,
    hand: Rc<Hand<Box<Client>, Served>>,
) -> Infallible {
    loop {
        let mut client = hand.guest().await;
        let next = serve(&worker, &mut client).await;
        hand.served((client, next));
    }
}

/// Serves the request whose first bytes are in the client's inbox.
async fn serve(worker: &Rc<Worker>, client: &mut Client) -> Next {
    let mut scratch = worker.scratches.take();
    let next = match phases(worker, client, &mut scratch).await {
        Ok(next) => next,
        Err(reply) => answer(worker, client, &mut scratch, &reply).await,
    };
    // Record.
    record::request(worker, client, &scratch);
    worker.scratches.put(scratch);
    next
}

async fn phases(
    worker: &Rc<Worker>,
    client: &mut Client,
    scratch: &mut Scratch,
) -> Result<Next, Reply> {
    // Read.
    let Some(started) = read(worker, client, scratch).await? else {
        scratch.record.gone(worker.clock.now());
        return Ok(Next::Close);
    };
    let facts = Facts::of(&scratch.request(), scratch.requests.framing());
    let trace = Trace::of(&scratch.request(), &mut worker.rng());
    scratch.record.trace = Some(trace);

    // Route.
    let (routing, stays) = worker.routing(client.asked).ok_or(Reason::NoRoute)?;
    scratch.stays = stays;
    scratch.record.routing = Some(routing.clone());
    let (rule, prefix_bytes) = route(&routing, client.asked, &scratch.request())?;
    scratch.record.route = Some(rule.index);
    if let Some(HttpAction::Redirect(redirect)) = &rule.filters.action {
        return Err(Reply::redirect(
            redirect,
            &scratch.request(),
            prefix_bytes,
            client,
        ));
    }
    let random = worker.rng().next_u64();
    let destination = rule.pick((random >> 32) as u32).ok_or(Reason::NoBackend)?;
    scratch.record.backend = Some(destination);

    // Admit.
    let call = Call {
        source: client.source,
        route: rule.index,
        destination,
        trace: trace.key(),
        urgency: urgency(&scratch.request(), &rule.filters.request, client.source),
        client_timeout: time_left::of(&scratch.request(), &rule.filters.request),
        timeouts: rule.timeouts,
        retry: rule.retry.as_ref(),
    };
    let mut admission = routing.node.admit(started, &mut worker.seat(), &call)?;
    let service = routing.service(destination);
    let once = service.limited.is_some();
    let is_ruled = time_left::is_ruled(&rule.filters.request);
    let says_time = admission.deadline().is_some() && !is_ruled;
    prepare(
        worker,
        client.asked,
        scratch,
        &facts,
        (rule, prefix_bytes),
        &trace,
        (once, says_time),
    );

    // Exchange, until there is something to deliver.
    let mut exchange = Exchange {
        worker,
        routing: &routing,
        rule,
        facts: &facts,
        stays,
        service,
        anew: false,
    };
    let mut now = started;
    loop {
        let mut attempt = admission.attempt(now, &mut worker.seat())?;
        scratch.record.attempt((attempt.place(), attempt.port()));
        scratch.say_time_left(now, attempt.deadline());
        let exchanging = exchange.run(now, client, scratch, &mut admission, &mut attempt);
        let exchanged = exchanging.await;
        let again = match exchanged {
            Exchanged::Delivered { next, ending, at } => {
                if let (true, Asked::Service(address, port)) = (client.is_unclear, client.asked) {
                    client.is_unclear = false;
                    routing.heard.answered((address, port));
                }
                scratch.record.delivered(at, ending, admission.deadline());
                attempt.finish(at, ending);
                admission.finish(at, ending);
                return Ok(next);
            }
            Exchanged::Again { at } => {
                // Its endpoint is done with it, and need not wait along.
                drop(attempt);
                at
            }
            Exchanged::Failed(reason, outcome) => {
                exchange.anew = outcome.kind == OutcomeKind::Stale;
                let now = worker.clock.now();
                let verdict = admission.on_outcome(now, &mut worker.seat(), attempt, outcome);
                match verdict {
                    Verdict::Retry { at } => at,
                    Verdict::Deliver { withheld } => {
                        scratch.record.withheld = withheld;
                        admission.finish(now, Ending::Complete);
                        return Err(reason.into());
                    }
                }
            }
            Exchanged::ClientFault(fault) => {
                scratch.record.gone(worker.clock.now());
                return fault.into();
            }
        };
        worker.wait_until(again).await;
        now = worker.clock.now();
        scratch.begin_again();
    }
}

/// Reads the head, and gives the time when it was whole. `None` where the client went away before.
async fn read(
    worker: &Worker,
    client: &mut Client,
    scratch: &mut Scratch,
) -> Result<Option<Instant>, Reply> {
    let Client {
        stream,
        inbox,
        deadline,
        ..
    } = client;
    let mut now = worker.clock.now();
    scratch.record.began = now;
    deadline.set(now, Some(now + worker.patience.head), None);
    loop {
        if read_head(inbox, &mut scratch.requests, &mut scratch.head)?.is_some() {
            return Ok(Some(now));
        }
        match deadline.within(pin!(inbox.fill(stream))).await {
            Ok(Ok(1..)) => now = worker.clock.now(),
            Ok(Ok(0) | Err(_)) => return Ok(None),
            Err(_) => return Err(Reason::RequestStalled.into()),
        }
    }
}

/// The rule for a request, and how long the prefix is that it matched.
fn route<'r>(
    routing: &'r Routing,
    asked: Asked,
    request: &Message<'_>,
) -> Result<(&'r Rule, usize), Reply> {
    let table = &routing.table;
    let parts = Parts::of(request);
    let head = RequestHead {
        method: head::method(request),
        path: parts.path,
        query: parts.query,
        fields: &ByName {
            request: *request,
            authority: parts.authority,
        },
    };
    let selected = match asked {
        Asked::Service(address, port) => table.listener(address, port).map(|it| it.select(&head)),
        Asked::Gateway(port) => {
            let entrance = table.entrance(port);
            entrance.map(|it| it.select(parts.host(request), &head))
        }
    };
    match selected.unwrap_or(Selected::NoRoute) {
        Selected::Rule { rule, .. } if head.method == b"CONNECT" && !rule.tunnels => {
            Err(Reason::NoRoute.into())
        }
        Selected::Rule { rule, prefix_bytes } => Ok((rule, prefix_bytes)),
        Selected::NoRoute => Err(Reason::NoRoute.into()),
    }
}

/// How urgent a request is: what its rule makes of its `priority` field, or else the field. Whoever is outside could call
/// everything urgent: there it is for the rule alone.
fn urgency(
    request: &Message<'_>,
    changes: &FieldChanges,
    source: Option<CgroupId>,
) -> Option<Urgency> {
    const FIELD: &str = "priority";
    if changes.are_about(FIELD) {
        let set = changes.set.iter().find(|(name, _)| name == FIELD);
        return Urgency::of_field(set?.1.as_bytes());
    }
    source?;
    // Lines of one field are one list (RFC 8941, section 4.2), of which the last member counts.
    request
        .values(FieldName::Priority)
        .filter_map(Urgency::of_field)
        .last()
}

/// Makes the head that goes to endpoints. With `once` the connection is for this request alone; with `says_time` they are told
/// how much there is left.
fn prepare(
    worker: &Worker,
    asked: Asked,
    scratch: &mut Scratch,
    facts: &Facts,
    (rule, prefix_bytes): (&Rule, usize),
    trace: &Trace,
    (once, says_time): (bool, bool),
) {
    let mut out = std::mem::take(&mut scratch.to_upstream);
    let request = scratch.request();
    head::write_request(
        &mut out,
        &request,
        &rule.filters,
        prefix_bytes,
        trace,
        asked,
        says_time,
    );
    let made_id = trace.write_missing(&mut out, &request, &rule.filters.request, &mut worker.rng());
    head::write_framing(&mut out, &request, facts.framing, Version::Http11);
    let time_left = says_time.then(|| time_left::write(&mut out));
    if facts.wants_upgrade {
        head::write_upgrade(&mut out, &request);
    } else if once {
        write::field(&mut out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    let answers = Answers::of(head::method(&request));
    scratch.responses.answers(answers);
    scratch.head_bytes = out.len();
    scratch.to_upstream = out;
    scratch.record.request_id = made_id;
    scratch.time_left = time_left;
}

/// Answers for the mesh itself. What of the request is still to come is not waited for: the connection
/// then ends with the answer.
async fn answer(
    worker: &Worker,
    client: &mut Client,
    scratch: &mut Scratch,
    reply: &Reply,
) -> Next {
    let (after, with_body) = match scratch.head.is_empty() {
        true => (After::Close, true),
        false => bounds(scratch),
    };
    // A client whose request broke amid its exchange begins anew.
    let after = match reply.status() {
        502 => After::Close,
        _ => after,
    };
    let mut out = std::mem::take(&mut scratch.to_client);
    out.clear();
    reply.write(&mut out, after, with_body);
    let now = worker.clock.now();
    scratch.record.replied(now, reply);
    client
        .deadline
        .set(now, Some(now + worker.patience.reply), None);
    let sent = client
        .deadline
        .within(pin!(client.stream.write_all(&out)))
        .await;
    scratch.to_client = out;
    match sent {
        Ok(Ok(())) => after.into(),
        _ => Next::Reset,
    }
}

/// What becomes of the connection behind an answer of ours, and whether that has a body.
fn bounds(scratch: &Scratch) -> (After, bool) {
    let request = scratch.request();
    let is_read = scratch.ended.get() || scratch.requests.framing() == Framing::Empty;
    let after = match is_read && scratch.stays && request.keeps_connection() {
        true => After::Keep,
        false => After::Close,
    };
    (after, head::method(&request) != b"HEAD")
}
