//! A scenario's client in real time: requests when they are due, whatever becomes of earlier ones, or users
//! that wait for their answers.
//!
//! Latency counts from when a request was meant to be sent. Who has no answer at the deadline goes away, and
//! the connection with it.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use selvedge_model::{Rng, Urgency};
use selvedge_scenario::{Arrivals, Scenario};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::alarm::{Alarms, nanos};
use crate::clock::monotonic_ns;
use crate::load::Target;
use crate::protocol::{Asked, AskedSecond, Asking};
use crate::serve::raise_descriptor_limit;

/// Most requests under way at once; one more is counted and not sent.
const MOST_UNDER_WAY: usize = 20_000;

/// A client that asks on a thread of its own.
pub(super) struct Asker(thread::JoinHandle<anyhow::Result<Asked>>);

impl Asker {
    /// Begins the scenario at `asking.begins_ns`.
    pub(super) fn begin(asking: Asking) -> anyhow::Result<Self> {
        raise_descriptor_limit();
        let scenario = crate::scenario(&asking.scenario)?.within(asking.length);
        scenario.check()?;
        let uri: Uri = asking.target.to_string().parse()?;
        let thread = thread::Builder::new().name("asker".into());
        let ask = move || ask(scenario, asking, uri);
        Ok(Self(thread.spawn(ask)?))
    }

    /// What was answered, once all is.
    pub(super) fn end(self) -> anyhow::Result<Asked> {
        let asked = self.0.join();
        asked.map_err(|_| anyhow::anyhow!("the thread that asks panicked"))?
    }
}

fn ask(scenario: Scenario, asking: Asking, uri: Uri) -> anyhow::Result<Asked> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot set up the runtime")?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let mut seeds = Rng::seeded(asking.seed);
    let mut next = || Rng::seeded(seeds.next_u64());
    let seconds = usize::try_from(scenario.length.as_secs())?;
    let crowd = Rc::new(Crowd {
        alarms: Alarms::start().context("cannot start the thread that keeps time")?,
        client: Client::builder(TokioExecutor::new()).build(connector),
        number: asking.client,
        target: asking.target,
        uri,
        begins_ns: asking.begins_ns,
        arrivals: RefCell::new(next()),
        kinds: RefCell::new(next()),
        asked: RefCell::new(Asked::of(seconds)),
        users: RefCell::new((0, 0)),
        scenario,
    });
    LocalSet::new().block_on(&runtime, Rc::clone(&crowd).all());
    let crowd = Rc::into_inner(crowd).context("somebody still asks")?;
    Ok(crowd.asked.into_inner())
}

/// Whoever a client stands for.
struct Crowd {
    scenario: Scenario,
    /// The client, by its place.
    number: usize,
    target: Target,
    uri: Uri,
    begins_ns: u64,
    alarms: Alarms,
    client: Client<HttpConnector, Empty<Bytes>>,
    arrivals: RefCell<Rng>,
    kinds: RefCell<Rng>,
    asked: RefCell<Asked>,
    /// Users that there are, and requests under way.
    users: RefCell<(u32, usize)>,
}

/// How a request ended.
enum End {
    Well,
    /// Turned away by whatever stands before a service.
    Refused,
    Failed,
    Expired,
}

impl Crowd {
    /// Everything, until the last answer.
    async fn all(self: Rc<Self>) {
        let client = &self.scenario.clients[self.number];
        let mut all = JoinSet::new();
        match &client.arrivals {
            Arrivals::Open(_) => {
                let mut now = Duration::ZERO;
                while let Some(at) = self.next(now) {
                    now = at;
                    let meant_ns = self.until(at).await;
                    all.spawn_local(Rc::clone(&self).one(at, meant_ns));
                    // How they ended is counted already.
                    while all.try_join_next().is_some() {}
                }
            }
            Arrivals::Closed { users, .. } => {
                for change in users {
                    self.until(change.from).await;
                    while self.users.borrow().0 < change.users {
                        self.users.borrow_mut().0 += 1;
                        all.spawn_local(Rc::clone(&self).user());
                    }
                }
            }
        }
        while all.join_next().await.is_some() {}
    }

    fn next(&self, now: Duration) -> Option<Duration> {
        let arrivals = &self.scenario.clients[self.number].arrivals;
        let next = arrivals.next(now, &mut self.arrivals.borrow_mut());
        next.filter(|at| *at < self.scenario.length)
    }

    /// Waits for a moment of the scenario, and gives it on the clock.
    async fn until(&self, at: Duration) -> u64 {
        let at_ns = self.begins_ns.saturating_add(nanos(at));
        self.alarms.until(at_ns).await;
        at_ns
    }

    /// Asks, waits and thinks, as long as it is needed.
    async fn user(self: Rc<Self>) {
        let arrivals = &self.scenario.clients[self.number].arrivals;
        loop {
            let pause = arrivals.think(&mut self.arrivals.borrow_mut());
            let now = self.elapsed().saturating_add(pause.unwrap_or_default());
            if now >= self.scenario.length {
                return;
            }
            let meant_ns = self.until(now).await;
            if self.leaves() {
                return;
            }
            Rc::clone(&self).one(now, meant_ns).await;
            if self.leaves() {
                return;
            }
        }
    }

    /// Whether the user whose turn it is was one too many, and is gone by that.
    fn leaves(&self) -> bool {
        let arrivals = &self.scenario.clients[self.number].arrivals;
        let mut users = self.users.borrow_mut();
        let leaves = users.0 > arrivals.users(self.elapsed());
        users.0 -= u32::from(leaves);
        leaves
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(monotonic_ns().saturating_sub(self.begins_ns))
    }

    /// Sends a request, and counts how it ended.
    async fn one(self: Rc<Self>, at: Duration, meant_ns: u64) {
        let sent_ns = monotonic_ns();
        let lag_us = sent_ns.saturating_sub(meant_ns) / 1000;
        let place = at.as_secs() as usize;
        {
            let mut asked = self.asked.borrow_mut();
            asked
                .lags_us
                .push(u32::try_from(lag_us).unwrap_or(u32::MAX));
            asked.seconds[place].offered += 1;
            if self.users.borrow().1 >= MOST_UNDER_WAY {
                asked.unsent += 1;
                return;
            }
        }
        self.users.borrow_mut().1 += 1;
        let deadline_ns = meant_ns.saturating_add(nanos(self.scenario.objective.deadline));
        let left = Duration::from_nanos(deadline_ns.saturating_sub(sent_ns));
        let end = timeout(left, self.exchange()).await.unwrap_or(End::Expired);
        self.users.borrow_mut().1 -= 1;
        let latency_us = monotonic_ns().saturating_sub(meant_ns) / 1000;
        let second = &mut self.asked.borrow_mut().seconds[place];
        match end {
            End::Well => {
                let latency_us = u32::try_from(latency_us).unwrap_or(u32::MAX);
                second.latencies_us.push(latency_us);
            }
            End::Refused => second.refused += 1,
            End::Failed => second.failed += 1,
            End::Expired => second.expired += 1,
        }
    }

    async fn exchange(&self) -> End {
        let client = &self.scenario.clients[self.number];
        let work = client.draw_work(&mut self.kinds.borrow_mut());
        let uri = match client.classes.is_empty() {
            true => Ok(self.uri.clone()),
            false => format!("{}?work={work}", self.target).parse(),
        };
        let Ok(uri) = uri else {
            return End::Failed;
        };
        let mut request = Request::get(uri);
        if client.urgency != Urgency::default() {
            request = request.header("priority", format!("u={}", client.urgency.get()));
        }
        let Ok(request) = request.body(Empty::new()) else {
            return End::Failed;
        };
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(_) => return End::Failed,
        };
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        match (status, body) {
            (200, Ok(_)) => End::Well,
            // Too many requests, or no room for one.
            (429 | 503, _) => End::Refused,
            // Of a gateway's time-out: ours and others' of the same deadline.
            (504, _) => End::Expired,
            _ => End::Failed,
        }
    }
}

impl Asked {
    fn of(seconds: usize) -> Self {
        Self {
            seconds: vec![AskedSecond::default(); seconds],
            lags_us: Vec::new(),
            unsent: 0,
        }
    }
}
