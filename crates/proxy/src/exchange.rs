//! One attempt at a request: sent to an endpoint, and its response passed on. Both directions at once,
//! in one task.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use selvedge_model::{Instant, Reason, Rule};
use selvedge_resilience::{Admission, Attempt, Ending, Outcome, OutcomeKind, Verdict};
use selvedge_wire::Limits;
use selvedge_wire::http1::{Decoder, Framing, Message, Version};
use tokio::io::AsyncWriteExt;

use crate::client::Client;
use crate::connect::{ConnectFault, connect};
use crate::deadline::{Deadline, TimedOut};
use crate::flow::{Flow, FlowFault};
use crate::head::{self, After, Facts};
use crate::pool::{Destination, Upstream};
use crate::receiving::{AnswerFault, Receiving, read_head};
use crate::relay::{self, End, Ended, reset_at_close};
use crate::request::Next;
use crate::routing::Service;
use crate::scratch::Scratch;
use crate::sending::{self, ClientFault, Sending};
use crate::time_left::TimeLeft;
use crate::worker::{Current, Worker};

/// One attempt at a request.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) routing: &'a Rc<Current>,
    pub(crate) rule: &'a Rule,
    pub(crate) facts: &'a Facts,
    /// Whether the client's connection may go on.
    pub(crate) stays: bool,
    /// Where it leads.
    pub(crate) service: Service,
    /// Whether it must be a new connection: an idle one has failed.
    pub(crate) anew: bool,
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Exchanged {
    /// The client has got the response, or as much of it as there was.
    Delivered {
        next: Next,
        ending: Ending,
        at: Instant,
    },
    /// There is an answer, and the request is to be sent again.
    Again { at: Instant },
    /// There is nothing to deliver.
    Failed(Reason, Outcome),
    /// The client is the reason that nothing came of it.
    ClientFault(ClientFault),
}

/// How far an attempt got.
enum Reached {
    /// There is no answer.
    Fault(Fault),
    /// There is one, and it is not what the client shall get.
    Again { at: Instant },
    /// The connection is another protocol's from here on.
    Tunnel,
    /// The response came to the client, or not to its end.
    Passed {
        fault: Option<Fault>,
        after: After,
        left: Left,
    },
}

/// An attempt beside a late one, whose endpoint has answered first.
struct Overtaking {
    attempt: Attempt,
    answer: Box<BesideAnswer>,
    /// What the late one came to, if it did.
    fault: Option<AnswerFault>,
}

/// The whole head of an answer to an attempt beside a late one.
struct BesideAnswer {
    upstream: Upstream,
    decoder: Decoder,
    head: Vec<u8>,
    status: u16,
}

/// Why no good answer of an endpoint came that was asked beside a late one.
enum Unanswered {
    /// The endpoint has failed.
    Failed,
    /// Something else has: that says nothing about the endpoint.
    Void,
}

/// An attempt beside a late one, until its endpoint has answered well, or has not.
struct Beside<'a> {
    attempt: Attempt,
    answers: Pin<Box<dyn Future<Output = Result<Box<BesideAnswer>, Unanswered>> + 'a>>,
}

/// What comes first where two endpoints are asked.
enum First {
    /// Of the one that is late, if it is.
    Late(Result<u16, AnswerFault>),
    Beside(Result<Box<BesideAnswer>, Unanswered>),
}

/// What an attempt came to first.
enum Answered {
    /// The head of the final response has come, with this status.
    Status(u16),
    Overtaken(Box<Overtaking>),
}

/// What is left of a connection to an endpoint behind an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It may carry another request.
    Idle,
    /// Nothing is under way on it: the request was whole before the response began, and that has come.
    Spent,
    /// Something may be under way on it.
    Busy,
}

/// How far a request has come where it is passed on.
#[derive(Clone, Copy)]
struct Way {
    now: Instant,
    /// The status of an answer whose head is there already.
    came: Option<u16>,
}

/// What an endpoint was asked.
struct Asked<'a> {
    /// When.
    now: Instant,
    head: &'a [u8],
    /// Where that says how much time there is.
    time_left: Option<TimeLeft>,
    /// Bytes of the body so far.
    body: &'a Cell<u64>,
}

/// What went wrong.
enum Fault {
    Connect(ConnectFault),
    /// A connection that was used before was closed just then.
    Stale,
    Answer(AnswerFault),
    /// The response broke off, or could not be passed on.
    Response(FlowFault),
    TimedOut,
    Client(ClientFault),
}

impl Exchange<'_> {
    /// Sends the request over a connection to the attempt's endpoint and passes the response on. The
    /// attempt has begun just now.
    pub(crate) async fn run(
        &self,
        mut now: Instant,
        client: &mut Client,
        scratch: &mut Scratch,
        admission: &mut Admission,
        attempt: &mut Attempt,
    ) -> Exchanged {
        let mut destination = (attempt.place(), attempt.port());
        // What idles would hold a place that another connection may need.
        let idle = match self.service.limited {
            None if !self.anew => self.worker.idle(&destination),
            _ => None,
        };
        let mut upstream = match idle {
            Some(upstream) => upstream,
            None => match self
                .connect(now, &client.deadline, &destination, attempt)
                .await
            {
                Ok(upstream) => upstream,
                Err(fault) => return self.failed(&fault, false, scratch, admission),
            },
        };
        client
            .deadline
            .set(now, attempt.deadline(), Some(self.worker.patience.body));
        let mut came = None;
        let reached = loop {
            let way = Way { now, came };
            let passing = self.pass(way, client, &mut upstream, scratch, admission, attempt);
            let overtaking = match passing.await {
                Ok(reached) => break reached,
                Err(overtaking) => *overtaking,
            };
            now = self.worker.clock.now();
            let late = mem::replace(attempt, overtaking.attempt);
            match overtaking.fault {
                Some(AnswerFault::Malformed) => late.finish(now, Ending::Malformed),
                // One that idled may have been closed just then, which says nothing about its endpoint.
                Some(AnswerFault::Cut { any }) if any || !upstream.reused => {
                    late.finish(now, Ending::Cut);
                }
                _ => late.give_up(now),
            }
            let answer = *overtaking.answer;
            upstream = answer.upstream;
            destination = (attempt.place(), attempt.port());
            scratch.record.attempt(destination);
            (scratch.responses, scratch.answer) = (answer.decoder, answer.head);
            came = Some(answer.status);
        };
        let (ending, next, left) = match reached {
            Reached::Fault(fault) => return self.failed(&fault, true, scratch, admission),
            Reached::Again { at } => return Exchanged::Again { at },
            Reached::Tunnel => {
                // Seldom, and for long: its own place, so that other requests need not have one.
                let tunnel = Box::pin(self.tunnel(client, &mut upstream, scratch));
                (tunnel.await, Next::Done, Left::Busy)
            }
            Reached::Passed {
                fault: None,
                after,
                left,
            } => (Ending::Complete, after.into(), left),
            Reached::Passed {
                fault: Some(fault), ..
            } => (fault.ending(), Next::Reset, Left::Busy),
        };
        let at = self.worker.clock.now();
        match left {
            Left::Idle => self.worker.keep(at, self.routing, destination, upstream),
            // Its place is free at once, and not when its peer has closed too.
            Left::Spent if self.service.limited.is_some() => reset_at_close(&upstream.stream),
            Left::Spent | Left::Busy => {}
        }
        Exchanged::Delivered { next, ending, at }
    }

    async fn connect(
        &self,
        now: Instant,
        deadline: &Deadline,
        destination: &Destination,
        attempt: &Attempt,
    ) -> Result<Upstream, Fault> {
        let soon = now + self.worker.patience.connect;
        let end = attempt.deadline().map_or(soon, |end| end.min(soon));
        deadline.set(now, Some(end), None);
        let connecting = pin!(connect(
            destination,
            self.service.limited,
            &self.worker.buffers
        ));
        match deadline.within(connecting).await {
            Ok(Ok(upstream)) => Ok(upstream),
            Ok(Err(error)) => {
                let fault = ConnectFault::of(&error, &self.worker.counters);
                Err(Fault::Connect(fault))
            }
            Err(_) if end == soon => Err(Fault::Connect(ConnectFault::Endpoint)),
            Err(_) => Err(Fault::TimedOut),
        }
    }

    /// Fails where another endpoint, which was asked since this one is late, answers first.
    async fn pass(
        &self,
        way: Way,
        client: &mut Client,
        upstream: &mut Upstream,
        scratch: &mut Scratch,
        admission: &mut Admission,
        attempt: &mut Attempt,
    ) -> Result<Reached, Box<Overtaking>> {
        let Client {
            stream,
            inbox,
            deadline,
            ..
        } = client;
        let (from_client, mut to_client) = stream.split();
        let (mut from_upstream, to_upstream) = upstream.stream.split();
        let (all_sent, request_starves) = (Cell::new(false), Cell::new(false));
        let mut request = Flow {
            from: from_client,
            inbox,
            decoder: &mut scratch.requests,
            to: to_upstream,
            // It has been sent where an answer came.
            head: match way.came {
                None => &scratch.to_upstream,
                Some(_) => &[],
            },
            coding: self.facts.coding(),
            ended: &scratch.ended,
            starves: &request_starves,
            replay: self.is_repeatable().then_some(&scratch.replay),
            moved: &scratch.record.bytes[0],
            deadline,
            batch: &mut scratch.request_batch,
        };
        let sending = pin!(sending::send(&mut request, &all_sent));
        let mut sending = Sending::new(sending, &all_sent, &request_starves);
        let (any, any_interim) = (Cell::new(false), Cell::new(false));
        let receiving = Receiving {
            from: &mut from_upstream,
            inbox: &mut upstream.inbox,
            decoder: &mut scratch.responses,
            to_client: &mut to_client,
            takes_interim: self.facts.version == Version::Http11,
            head: &mut scratch.answer,
            interim: &mut scratch.to_client,
            any: &any,
            any_interim: &any_interim,
        };
        let body = &scratch.record.bytes[0];
        let asked = Asked {
            now: way.now,
            head: &scratch.to_upstream,
            time_left: scratch.time_left,
            body,
        };
        let answered = match way.came {
            Some(status) => Ok(Answered::Status(status)),
            None => {
                let answering =
                    self.answer(asked, &mut sending, receiving, deadline, admission, attempt);
                answering.await
            }
        };
        let status = match answered {
            Ok(Answered::Status(status)) => status,
            Ok(Answered::Overtaken(overtaking)) => return Err(overtaking),
            Err(Fault::Answer(AnswerFault::Cut { any: false })) if upstream.reused => {
                return Ok(Reached::Fault(Fault::Stale));
            }
            Err(fault) => return Ok(Reached::Fault(fault)),
        };
        let now = self.worker.clock.now();
        let repeatable = self.is_repeatable() && scratch.replay.is_whole();
        let verdict =
            admission.on_answer(now, &mut self.worker.seat(), attempt, status, repeatable);
        match verdict {
            Verdict::Retry { at } => return Ok(Reached::Again { at }),
            Verdict::Deliver { withheld } => scratch.record.withheld = withheld,
        }
        scratch.record.status = status;
        let taken = all_sent.get();
        let framing = scratch.responses.framing();
        let response = Message::new(scratch.responses.head(), &scratch.answer);
        let keeps = response.keeps_connection();
        scratch.to_client.clear();
        let (coding, after) = head::write_response(
            &mut scratch.to_client,
            &response,
            framing,
            &self.rule.filters,
            self.facts,
            self.after(taken),
        );
        if framing == Framing::Tunnel {
            return Ok(Reached::Tunnel);
        }
        deadline.set(now, attempt.deadline(), Some(self.worker.patience.body));
        let response_starves = Cell::new(false);
        let mut response = Flow {
            from: from_upstream,
            inbox: &mut upstream.inbox,
            decoder: &mut scratch.responses,
            to: to_client,
            head: &scratch.to_client,
            coding,
            ended: &Cell::new(false),
            starves: &response_starves,
            replay: None,
            moved: &scratch.record.bytes[1],
            deadline,
            batch: &mut scratch.response_batch,
        };
        let fault = deliver(&mut sending, &mut response, deadline).await.err();
        // What comes behind a response was not asked for, and what was not sent would be taken for the
        // next request.
        let reusable =
            keeps && framing != Framing::UntilClose && all_sent.get() && upstream.inbox.is_empty();
        let left = match self.service.limited {
            None if reusable => Left::Idle,
            _ if taken => Left::Spent,
            _ => Left::Busy,
        };
        Ok(Reached::Passed { fault, after, left })
    }

    /// The status of the final response, whose head has come whole while the request went on. Where that is late another
    /// endpoint is asked beside, and may be the first.
    async fn answer<F: Future<Output = FlowFault>>(
        &self,
        asked: Asked<'_>,
        sending: &mut Sending<'_, F>,
        mut receiving: Receiving<'_, '_>,
        deadline: &Deadline,
        admission: &mut Admission,
        attempt: &Attempt,
    ) -> Result<Answered, Fault> {
        let patience = Some(self.worker.patience.body);
        let mut late = admission.late_at(attempt).filter(|_| self.may_hedge());
        if late.is_some() {
            let first = late.into_iter().chain(attempt.deadline()).min();
            deadline.set(asked.now, first, patience);
        }
        let (any, any_interim) = (receiving.any, receiving.any_interim);
        let mut beside: Option<Beside<'_>> = None;
        let mut fault = None;
        // One and the same until the end: amid an interim response it must not be dropped.
        let mut head = pin!(receiving.head());
        loop {
            let answered = {
                let first = pin!(poll_fn(|cx| {
                    if fault.is_none()
                        && let Poll::Ready(answer) = head.as_mut().poll(cx)
                    {
                        return Poll::Ready(First::Late(answer));
                    }
                    // Whoever has begun to answer is waited for.
                    match &mut beside {
                        Some(beside) if fault.is_some() || !any.get() => {
                            beside.answers.as_mut().poll(cx).map(First::Beside)
                        }
                        _ => Poll::Pending,
                    }
                }));
                deadline.within(pin!(sending.along(first))).await
            };
            // A client that expects to hear whether it may send waits for that, and the endpoint is on.
            let waits_to_hear = self.facts.expects && !any_interim.get() && asked.body.get() == 0;
            let failed = match answered {
                // Nobody has asked for another protocol, or not to its end: RFC 9110, section 7.8.
                Ok(Ok(First::Late(Ok(101))))
                    if !self.facts.wants_upgrade || !sending.has_sent_all() =>
                {
                    AnswerFault::Malformed
                }
                Ok(Ok(First::Late(Ok(status)))) => {
                    if let Some(beside) = beside {
                        beside.attempt.give_up(self.worker.clock.now());
                    }
                    return Ok(Answered::Status(status));
                }
                Ok(Ok(First::Late(Err(fault)))) => fault,
                Ok(Ok(First::Beside(answer))) => match (answer, beside.take(), fault.take()) {
                    (Ok(answer), Some(Beside { attempt, .. }), fault) => {
                        let overtaking = Overtaking {
                            attempt,
                            answer,
                            fault,
                        };
                        return Ok(Answered::Overtaken(Box::new(overtaking)));
                    }
                    (Err(why), Some(Beside { attempt, .. }), failed) => {
                        let now = self.worker.clock.now();
                        match why {
                            Unanswered::Failed => attempt.finish(now, Ending::Cut),
                            Unanswered::Void => attempt.give_up(now),
                        }
                        match failed {
                            Some(failed) => return Err(Fault::Answer(failed)),
                            None => continue,
                        }
                    }
                    (_, None, _) => continue,
                },
                Ok(Err(fault)) => return Err(Fault::Client(fault)),
                Err(TimedOut::End) if late.take().is_some_and(|at| at < until(attempt)) => {
                    let now = self.worker.clock.now();
                    deadline.set(now, attempt.deadline(), patience);
                    if !any.get() {
                        beside = self.ask_beside(now, &asked, admission);
                    }
                    continue;
                }
                // It is the endpoint that takes its time, and it may.
                Err(TimedOut::Idle) if sending.has_sent_all() || waits_to_hear => {
                    late = None;
                    deadline.set(self.worker.clock.now(), attempt.deadline(), None);
                    continue;
                }
                Err(_) if sending.waits_for_client() && !waits_to_hear => {
                    return Err(Fault::Client(ClientFault::Stalled));
                }
                Err(_) => {
                    if let Some(beside) = beside {
                        beside.attempt.give_up(self.worker.clock.now());
                    }
                    return Err(Fault::TimedOut);
                }
            };
            // Another endpoint may still answer what this one did not.
            match beside {
                Some(_) if fault.is_none() => fault = Some(failed),
                _ => return Err(Fault::Answer(failed)),
            }
        }
    }

    /// Whether another endpoint may be asked beside a late one: for a request that is whole and changes nothing, so that two
    /// endpoints may be at it at once.
    fn may_hedge(&self) -> bool {
        let is_whole = self.facts.framing == Framing::Empty && !self.facts.wants_upgrade;
        is_whole && self.facts.is_safe && self.service.limited.is_none()
    }

    /// Asks another endpoint beside the one that is late, if there is a place.
    fn ask_beside<'e>(
        &'e self,
        now: Instant,
        asked: &Asked<'_>,
        admission: &mut Admission,
    ) -> Option<Beside<'e>> {
        let attempt = admission.hedge(now, &mut self.worker.seat())?;
        let destination = (attempt.place(), attempt.port());
        // Seldom: its own place, so that other requests need not have one.
        let mut head = asked.head.to_vec();
        if let Some((time_left, deadline)) = asked.time_left.zip(attempt.deadline()) {
            time_left.say(&mut head, now, deadline);
        }
        let answers = self.answer_beside(destination, head);
        Some(Beside {
            attempt,
            answers: Box::pin(answers),
        })
    }

    /// The head of a good answer of that endpoint to the request, if it gives one. What is no final one could not be passed
    /// on while another endpoint may be first.
    async fn answer_beside(
        &self,
        destination: Destination,
        head: Vec<u8>,
    ) -> Result<Box<BesideAnswer>, Unanswered> {
        let mut upstream = match self.worker.idle(&destination) {
            Some(upstream) => upstream,
            None => {
                let connected = connect(&destination, None, &self.worker.buffers).await;
                connected.map_err(|error| {
                    match ConnectFault::of(&error, &self.worker.counters) {
                        ConnectFault::Endpoint => Unanswered::Failed,
                        ConnectFault::Limit | ConnectFault::Local => Unanswered::Void,
                    }
                })?
            }
        };
        // A connection that idled may have been closed just then.
        let cut = match upstream.reused {
            true => || Unanswered::Void,
            false => || Unanswered::Failed,
        };
        let sent = upstream.stream.write_all(&head).await;
        sent.map_err(|_| cut())?;
        let mut decoder = Decoder::responses(Limits::default());
        decoder.answers(self.facts.answers);
        let mut answer = Vec::new();
        let Upstream { stream, inbox, .. } = &mut upstream;
        let status = loop {
            match read_head(inbox, &mut decoder, &mut answer) {
                Ok(Some(status @ 200..500)) => break status,
                Ok(Some(..200)) => return Err(Unanswered::Void),
                Ok(Some(_)) | Err(_) => return Err(Unanswered::Failed),
                Ok(None) => match inbox.fill(stream).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(cut()),
                },
            }
        };
        Ok(Box::new(BesideAnswer {
            upstream,
            decoder,
            head: answer,
            status,
        }))
    }

    /// Nothing of a response came to the client.
    fn failed(
        &self,
        fault: &Fault,
        was_sent: bool,
        scratch: &Scratch,
        admission: &Admission,
    ) -> Exchanged {
        let (kind, reason) = match fault {
            Fault::Connect(fault) => fault.outcome(),
            Fault::Stale => (OutcomeKind::Stale, Reason::ResponseCut),
            Fault::Answer(AnswerFault::Cut { .. }) => (OutcomeKind::Cut, Reason::ResponseCut),
            Fault::Answer(AnswerFault::Malformed) => {
                (OutcomeKind::Malformed, Reason::MalformedResponse)
            }
            Fault::TimedOut => match admission.deadline() {
                Some(end) if end <= self.worker.clock.now() => {
                    (OutcomeKind::TimedOut, Reason::RequestTimeout)
                }
                _ => (OutcomeKind::TimedOut, Reason::AttemptTimeout),
            },
            Fault::Client(fault) => return Exchanged::ClientFault(*fault),
            Fault::Answer(AnswerFault::ClientGone) | Fault::Response(_) => {
                return Exchanged::ClientFault(ClientFault::Gone);
            }
        };
        let repeatable = (!was_sent || self.is_repeatable()) && scratch.replay.is_whole();
        Exchanged::Failed(reason, Outcome { kind, repeatable })
    }

    /// Whether sending the request twice is as good as sending it once.
    fn is_repeatable(&self) -> bool {
        let keeps_key = !self.rule.filters.request.are_about("idempotency-key");
        self.facts.is_idempotent || self.facts.has_key && keeps_key || self.service.non_idempotent
    }

    /// Behind an answer that comes before its request has ended nothing else can come.
    fn after(&self, all_sent: bool) -> After {
        match self.stays && self.facts.keeps_connection && all_sent {
            true => After::Keep,
            false => After::Close,
        }
    }

    /// Another protocol begins behind the head, and lasts as long as both sides want.
    async fn tunnel(
        &self,
        client: &mut Client,
        upstream: &mut Upstream,
        scratch: &mut Scratch,
    ) -> Ending {
        client.deadline.set(self.worker.clock.now(), None, None);
        if client.stream.write_all(&scratch.to_client).await.is_err() {
            return Ending::Cancelled;
        }
        let there = End {
            stream: &mut client.stream,
            inbox: &mut client.inbox,
        };
        let back = End {
            stream: &mut upstream.stream,
            inbox: &mut upstream.inbox,
        };
        relay::relay(there, back, &client.deadline).await.into()
    }
}

/// When the attempt is given up.
fn until(attempt: &Attempt) -> Instant {
    attempt.deadline().unwrap_or(Instant::NEVER)
}

/// Passes the response on to its end while the request goes on.
async fn deliver<F: Future<Output = FlowFault>>(
    sending: &mut Sending<'_, F>,
    response: &mut Flow<'_>,
    deadline: &Deadline,
) -> Result<(), Fault> {
    let starves = response.starves;
    let passed = {
        let work = pin!(response.run());
        deadline.within(pin!(sending.along(work))).await
    };
    match passed {
        Ok(Ok(passed)) => passed.map_err(Fault::Response),
        Ok(Err(fault)) => Err(Fault::Client(fault)),
        // What has come is not taken, or what the endpoint needs to go on does not come.
        Err(_) if !starves.get() || sending.waits_for_client() => {
            Err(Fault::Client(ClientFault::Stalled))
        }
        Err(_) => Err(Fault::TimedOut),
    }
}

impl Fault {
    /// What became of a response whose head the client has got.
    fn ending(&self) -> Ending {
        match self {
            Self::Response(FlowFault::Cut) => Ending::Cut,
            Self::Response(FlowFault::Malformed(_)) => Ending::Malformed,
            Self::TimedOut => Ending::TimedOut,
            Self::Response(FlowFault::Write)
            | Self::Client(_)
            | Self::Connect(_)
            | Self::Stale
            | Self::Answer(_) => Ending::Cancelled,
        }
    }
}

impl From<Ended> for Ending {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Whole => Self::Complete,
            Ended::Reset | Ended::Idle => Self::Cancelled,
        }
    }
}
