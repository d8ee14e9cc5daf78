//! The run: one event after the other.
//!
//! A *call* is a request as whoever makes it sees it: an admission, and one attempt after the other. A *visit*
//! is what a replica has of an attempt: it waits, is worked on, calls others, and answers. An answer nobody
//! waits for any more, since its attempt was given up, is lost; the work was done all the same.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;
use core::time::Duration;

use selvedge_model::{Instant, Rng, Urgency};
use selvedge_resilience::{
    Admission, Attempt, Controllers, Ending, Outcome, OutcomeKind, Record, Verdict,
};
use selvedge_scenario::{Arrivals, Forwards, Scenario, ScenarioError, Service, happens};

use crate::agenda::Agenda;
use crate::arena::{Arena, Key};
use crate::door::Door;
use crate::mesh::{Inside, Mesh, replica};
use crate::policy::Policy;
use crate::report::Report;
use crate::station::Station;

#[cfg(test)]
mod hostile;

/// Runs a scenario where each service has this policy. After its end no more is asked, and what is under way
/// comes to its end.
///
/// # Errors
/// Where the scenario cannot be run.
pub fn run(scenario: &Scenario, policy: &Policy, seed: u64) -> Result<Report, ScenarioError> {
    run_and_tell(scenario, policy, seed, &mut |_, _| {})
}

/// Runs a scenario like [`run`], and tells what the controllers do. Limits have the services' names where all of
/// these are labels, and `s0`, `s1`, ... by their place otherwise; the port of an endpoint is the number of its
/// replica, counted from 1.
///
/// # Errors
/// Where the scenario cannot be run.
pub fn run_and_tell(
    scenario: &Scenario,
    policy: &Policy,
    seed: u64,
    record: &mut Record<'_>,
) -> Result<Report, ScenarioError> {
    scenario.check()?;
    let mut engine = Engine::new(scenario, policy, seed);
    engine.begin();
    while engine.step(record) {}
    Ok(engine.report)
}

/// What a replica answers that lets nobody in (RFC 6585, section 4).
const TOO_MANY: u16 = 429;

/// What happens.
#[derive(Debug)]
enum Event {
    /// A client sends its next request.
    Ask { client: usize },
    /// A client has another number of users.
    Crowd { client: usize },
    /// A visit has come to its replica.
    Comes { visit: Key<Visit> },
    /// The work on a visit is done.
    Served { visit: Key<Visit> },
    /// The answer to a visit has come to whoever made the call.
    Answered {
        call: Key<Call>,
        attempt: u32,
        status: u16,
    },
    /// An attempt's time is over.
    Expired { call: Key<Call>, attempt: u32 },
    /// A call makes its next attempt.
    Again { call: Key<Call> },
    /// An attempt is late.
    Late { call: Key<Call>, attempt: u32 },
    /// Faults begin or end.
    Turn,
    /// The controllers look.
    Tick,
}

/// A request of a client or of a visit.
#[derive(Debug)]
struct Call {
    asker: Asker,
    service: usize,
    origin: Origin,
    admission: Admission,
    /// The attempt under way, with its number.
    attempt: Option<(u32, Attempt)>,
    /// The one beside it, since it is late.
    beside: Option<(u32, Attempt)>,
    /// How many attempts there were: what comes for one that is not under way is lost.
    attempts: u32,
    /// The attempt at the replica, where that says itself who may in.
    inside: Option<Inside>,
}

/// What a call has of the client's request that it is made for.
#[derive(Clone, Copy, Debug)]
struct Origin {
    trace: u64,
    /// Factor of the time that it takes services.
    work: f64,
    urgency: Urgency,
    root: Key<Root>,
}

/// What services have worked on a client's request and all that is made for it.
#[derive(Debug, Default)]
struct Root {
    work_us: u64,
}

/// Who waits for a call.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Client {
        client: usize,
        meant: Instant,
        root: Key<Root>,
    },
    Visit(Key<Visit>),
}

/// An attempt at the replica that it went to.
#[derive(Debug)]
struct Visit {
    call: Key<Call>,
    attempt: u32,
    origin: Origin,
    service: usize,
    replica: u32,
    /// The step of its calls that is under way.
    step: usize,
    /// Calls of that step that are not answered.
    waits_for: usize,
    has_failed: bool,
    came: Instant,
    /// Whether it came through a door that hears of its end.
    is_in: bool,
}

/// How a call ended for whoever made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answered { status: u16 },
    Refused,
    Expired,
}

/// Whether it is the one of this number.
fn is_of(attempt: &Option<(u32, Attempt)>, number: u32) -> bool {
    attempt.as_ref().is_some_and(|(of, _)| *of == number)
}

struct Engine<'s> {
    scenario: &'s Scenario,
    /// When what clients came to counts.
    judged: Range<Duration>,
    policy: &'s Policy,
    now: Instant,
    agenda: Agenda<Event>,
    mesh: Mesh,
    /// When each client asks, and what: its own, so that it is the same under every policy.
    clients: Vec<Rng>,
    kinds: Vec<Rng>,
    /// Users of each client that is a closed loop.
    users: Vec<u32>,
    work: Rng,
    traces: Rng,
    stations: Vec<Vec<Station<Key<Visit>>>>,
    /// Of each replica, where something stands there.
    doors: Vec<Vec<Door>>,
    chances: Rng,
    ways: Rng,
    calls: Arena<Call>,
    visits: Arena<Visit>,
    roots: Arena<Root>,
    /// How many deadlines are on the agenda, those of answered attempts among them.
    deadlines: usize,
    report: Report,
}

impl<'s> Engine<'s> {
    fn new(scenario: &'s Scenario, policy: &'s Policy, seed: u64) -> Self {
        let mut seeds = Rng::seeded(seed);
        let mut next = || Rng::seeded(seeds.next_u64());
        let stations = |service: &Service| {
            let stations =
                (0..service.replicas).map(|_| Station::new(service.permits, service.queue));
            stations.collect()
        };
        let doors = |service: &Service| {
            let door = |_| Door::new(policy.door, scenario.objective.latency);
            (0..service.replicas).filter_map(door).collect()
        };
        let always = || Duration::ZERO..Duration::MAX;
        Self {
            scenario,
            judged: scenario.disturbed().unwrap_or_else(always),
            policy,
            now: Instant::default(),
            agenda: Agenda::new(),
            mesh: Mesh::new(scenario, policy, next()),
            work: next(),
            traces: next(),
            clients: scenario.clients.iter().map(|_| next()).collect(),
            kinds: scenario.clients.iter().map(|_| next()).collect(),
            users: vec![0; scenario.clients.len()],
            stations: scenario.services.iter().map(stations).collect(),
            doors: scenario.services.iter().map(doors).collect(),
            chances: next(),
            calls: Arena::new(),
            visits: Arena::new(),
            roots: Arena::new(),
            deadlines: 0,
            ways: next(),
            report: Report::new(scenario),
        }
    }

    fn begin(&mut self) {
        for fault in &self.scenario.faults {
            for at in [fault.from, fault.until] {
                self.agenda.put(Instant::default() + at, Event::Turn);
            }
        }
        for client in 0..self.scenario.clients.len() {
            match &self.scenario.clients[client].arrivals {
                Arrivals::Open(_) => self.plan_request(client),
                Arrivals::Closed { users, .. } => {
                    for crowd in users {
                        let at = Instant::default() + crowd.from;
                        self.agenda.put(at, Event::Crowd { client });
                    }
                }
            }
        }
        self.agenda
            .put(Instant::default() + Controllers::TICK, Event::Tick);
    }

    /// Has the next event happen; false where there is none any more.
    fn step(&mut self, record: &mut Record<'_>) -> bool {
        let Some((at, event)) = self.agenda.take() else {
            return false;
        };
        debug_assert!(at >= self.now, "time goes on");
        self.now = at;
        self.happen(event, record);
        true
    }

    fn happen(&mut self, event: Event, record: &mut Record<'_>) {
        match event {
            Event::Ask { client } => self.ask(client),
            Event::Crowd { client } => self.crowd(client),
            Event::Comes { visit } => self.comes(visit),
            Event::Served { visit } => self.served(visit),
            Event::Answered {
                call,
                attempt,
                status,
            } => self.outcome(call, attempt, OutcomeKind::Answered { status }),
            Event::Expired { call, attempt } => {
                self.deadlines -= 1;
                self.outcome(call, attempt, OutcomeKind::TimedOut);
            }
            Event::Again { call } => self.attempt(call),
            Event::Late { call, attempt } => self.hedge(call, attempt),
            Event::Turn => self.turn(),
            Event::Tick => self.tick(record),
        }
    }

    // Clients.

    /// Puts the client's next request on the agenda, unless the scenario is over by then.
    fn plan_request(&mut self, client: usize) {
        let arrivals = &self.scenario.clients[client].arrivals;
        let now = self.elapsed();
        let rng = &mut self.clients[client];
        let at = match arrivals.think(rng) {
            Some(pause) => Some(now.saturating_add(pause)),
            None => arrivals.next(now, rng),
        };
        if let Some(at) = at.filter(|at| *at < self.scenario.length) {
            self.agenda
                .put(Instant::default() + at, Event::Ask { client });
        }
    }

    /// Lets users in up to as many as there should be; who is one too many goes by itself.
    fn crowd(&mut self, client: usize) {
        let wanted = self.scenario.clients[client].arrivals.users(self.elapsed());
        while self.users[client] < wanted {
            self.users[client] += 1;
            self.plan_request(client);
        }
    }

    fn ask(&mut self, client: usize) {
        let now = self.elapsed();
        if self.leaves(client) {
            return;
        }
        self.report.second(now).offered += 1;
        if self.judges(now) {
            self.report.clients[client].offered += 1;
        }
        // The next one of an open loop does not wait for this one.
        let asks = &self.scenario.clients[client];
        if matches!(asks.arrivals, Arrivals::Open(_)) {
            self.plan_request(client);
        }
        let root = self.roots.put(Root::default());
        let origin = Origin {
            root,
            urgency: asks.urgency,
            trace: self.traces.next_u64().max(1),
            work: asks.draw_work(&mut self.kinds[client]),
        };
        let asker = Asker::Client {
            client,
            meant: self.now,
            root,
        };
        self.call(asker, None, asks.calls, origin);
    }

    /// Whether the user of a closed loop whose turn it is was one too many, and is gone by that.
    fn leaves(&mut self, client: usize) -> bool {
        let wanted = self.scenario.clients[client].arrivals.users(self.elapsed());
        let leaves = self.users[client] > wanted;
        self.users[client] -= u32::from(leaves);
        leaves
    }

    fn heard(&mut self, client: usize, meant: Instant, root: Key<Root>, end: End) {
        let root = self.roots.take(root).expect("it is heard of once");
        let latency = self.now.since(meant);
        let objective = self.scenario.objective;
        let meant = meant.since(Instant::default());
        let is_good = end == (End::Answered { status: 200 }) && latency <= objective.latency;
        if end == (End::Answered { status: 200 }) && self.judges(meant) {
            let share = &mut self.report.clients[client];
            share.good += u64::from(is_good);
            share.late += u64::from(!is_good);
        }
        let second = self.report.second(meant);
        match end {
            End::Answered { status: 200 } => {
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                second.latency_us.record(micros);
                if is_good {
                    second.good += 1;
                    second.useful_us += root.work_us;
                } else {
                    second.late += 1;
                }
            }
            End::Answered { .. } => second.failed += 1,
            End::Refused => second.refused += 1,
            End::Expired => second.expired += 1,
        }
        let arrivals = &self.scenario.clients[client].arrivals;
        if matches!(arrivals, Arrivals::Closed { .. }) && !self.leaves(client) {
            self.plan_request(client);
        }
    }

    /// Whether what clients came to counts at a moment.
    fn judges(&self, at: Duration) -> bool {
        at >= self.scenario.warm_up && self.judged.contains(&at)
    }

    // Calls.

    fn call(&mut self, asker: Asker, source: Option<(usize, u32)>, service: usize, origin: Origin) {
        // Programs pass on no more than the trace.
        let urgency = source.is_none().then_some(origin.urgency);
        let admitted = self
            .mesh
            .admit(self.now, source, service, origin.trace, urgency);
        match admitted {
            Ok(admission) => {
                let call = self.calls.put(Call {
                    asker,
                    service,
                    origin,
                    admission,
                    attempt: None,
                    beside: None,
                    attempts: 0,
                    inside: None,
                });
                self.attempt(call);
            }
            Err(_) => self.ended(asker, End::Refused),
        }
    }

    fn attempt(&mut self, key: Key<Call>) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        let seat = &mut self.mesh.seat;
        let attempt = match call.admission.attempt(self.now, seat) {
            Ok(attempt) => attempt,
            Err(_) => return self.finish(key, End::Refused),
        };
        call.attempts += 1;
        let (number, service, origin) = (call.attempts, call.service, call.origin);
        let deadline = attempt.deadline();
        let late = call.admission.late_at(&attempt);
        let replica = replica(attempt.port());
        call.attempt = Some((number, attempt));
        if let Some(late) = late {
            let (call, attempt) = (key, number);
            self.agenda.put(late, Event::Late { call, attempt });
        }
        self.count_attempt(service, replica);
        if let Some(deadline) = deadline {
            let call = key;
            let attempt = number;
            // An answer of the same moment is in time.
            self.agenda
                .put_last(deadline, Event::Expired { call, attempt });
            self.deadlines += 1;
            self.forget_deadlines();
        }
        let visit = self.visit(key, number, origin, service, replica);
        self.send(visit);
    }

    /// Asks another replica beside the one that is late, if that may be.
    fn hedge(&mut self, key: Key<Call>, number: u32) {
        let seat = &mut self.mesh.seat;
        let Some(call) = self.calls.get(key) else {
            return;
        };
        if !is_of(&call.attempt, number) {
            return;
        }
        let Some(hedge) = call.admission.hedge(self.now, seat) else {
            return;
        };
        call.attempts += 1;
        let (beside, service, origin) = (call.attempts, call.service, call.origin);
        let replica = replica(hedge.port());
        call.beside = Some((beside, hedge));
        self.count_attempt(service, replica);
        let visit = self.visit(key, beside, origin, service, replica);
        self.send(visit);
    }

    fn count_attempt(&mut self, service: usize, replica: u32) {
        let now = self.elapsed();
        let bad = self.scenario.bad_replica(service, now);
        let second = self.report.second(now);
        second.attempts += 1;
        second.beside_bad += u64::from(bad.is_some());
        second.misled += u64::from(bad == Some(replica));
    }

    fn visit(
        &self,
        call: Key<Call>,
        attempt: u32,
        origin: Origin,
        service: usize,
        replica: u32,
    ) -> Visit {
        Visit {
            call,
            attempt,
            origin,
            service,
            replica,
            step: 0,
            waits_for: 0,
            has_failed: false,
            came: self.now,
            is_in: false,
        }
    }

    /// It is on its way.
    fn send(&mut self, visit: Visit) {
        let way = self.on_link(visit.service);
        if way.is_zero() {
            return self.arrive(visit);
        }
        let visit = self.visits.put(visit);
        self.agenda.put(self.now + way, Event::Comes { visit });
    }

    fn comes(&mut self, key: Key<Visit>) {
        if let Some(mut visit) = self.visits.take(key) {
            visit.came = self.now;
            self.arrive(visit);
        }
    }

    /// What a message to a service or from it takes.
    fn on_link(&mut self, service: usize) -> Duration {
        let link = self.scenario.services[service].link.as_ref();
        link.map_or(Duration::ZERO, |link| link.draw(1.0, &mut self.ways))
    }

    /// Whether the replica lets it in, where that is for the replica to say.
    fn enters(&mut self, visit: &mut Visit) -> bool {
        let door = self.doors[visit.service].get_mut(visit.replica as usize);
        if let Some(door) = door {
            if !door.admits(self.now, visit.origin.trace, &mut self.chances) {
                return false;
            }
            visit.is_in = true;
        }
        match self.mesh.enter(self.now, visit.service, visit.replica) {
            None => true,
            Some(Ok(inside)) => {
                // On a long way it may have been given up.
                let call = self.calls.get(visit.call);
                if let Some(call) = call.filter(|call| is_of(&call.attempt, visit.attempt)) {
                    call.inside = Some(inside);
                }
                true
            }
            Some(Err(_)) => false,
        }
    }

    /// Most deadlines are of attempts that have long been answered: they go once they are the most of all.
    fn forget_deadlines(&mut self) {
        const FEW: usize = 1024;
        if self.deadlines < FEW + 2 * self.calls.len() {
            return;
        }
        let calls = &self.calls;
        let kept = Cell::new(0);
        self.agenda.retain(|event| match event {
            Event::Expired { call, attempt } => {
                let call = calls.look(*call);
                let is_due = call.is_some_and(|call| is_of(&call.attempt, *attempt));
                kept.set(kept.get() + usize::from(is_due));
                is_due
            }
            _ => true,
        });
        self.deadlines = kept.get();
    }

    /// An attempt has ended, unless the call has gone on without it.
    fn outcome(&mut self, key: Key<Call>, number: u32, kind: OutcomeKind) {
        let Some(call) = self.calls.get(key) else {
            return;
        };
        let (attempt, other) = if is_of(&call.attempt, number) {
            (call.attempt.take(), call.beside.take())
        } else if !is_of(&call.beside, number) {
            return;
        } else if matches!(kind, OutcomeKind::Answered { status: ..500 }) {
            (call.beside.take(), call.attempt.take())
        } else {
            // The one that it was made beside is under way.
            (None, call.beside.take())
        };
        if let Some((_, other)) = other {
            other.give_up(self.now);
        }
        let Some((_, attempt)) = attempt else {
            return;
        };
        if let Some(inside) = call.inside.take() {
            self.mesh.leave(self.now, inside, kind);
        }
        let outcome = Outcome {
            kind,
            repeatable: true,
        };
        let seat = &mut self.mesh.seat;
        let verdict = call.admission.on_outcome(self.now, seat, attempt, outcome);
        match (verdict, kind) {
            (Verdict::Retry { at }, _) => self.agenda.put(at, Event::Again { call: key }),
            (Verdict::Deliver { .. }, OutcomeKind::Answered { status }) => {
                self.finish(key, End::Answered { status });
            }
            (Verdict::Deliver { .. }, _) => self.finish(key, End::Expired),
        }
    }

    fn finish(&mut self, key: Key<Call>, end: End) {
        let Some(call) = self.calls.take(key) else {
            return;
        };
        call.admission.finish(self.now, Ending::Complete);
        if end != End::Expired {
            self.tell_price(call.asker, call.service);
        }
        self.ended(call.asker, end);
    }

    /// An answer tells who asked what it costs, where there are prices: at the dearest replica.
    fn tell_price(&mut self, asker: Asker, service: usize) {
        let doors = self.doors[service].iter_mut();
        let prices = doors.filter_map(|door| door.price(self.now));
        let (Some(price), Asker::Visit(visit)) = (prices.max(), asker) else {
            return;
        };
        let visit = self.visits.get(visit).expect("it waits");
        let (asks, replica) = (visit.service, visit.replica as usize);
        self.doors[asks][replica].hears(service, price);
    }

    fn ended(&mut self, asker: Asker, end: End) {
        match asker {
            Asker::Client {
                client,
                meant,
                root,
            } => self.heard(client, meant, root, end),
            Asker::Visit(visit) => self.returned(visit, end),
        }
    }

    // Visits.

    fn arrive(&mut self, mut visit: Visit) {
        if !self.enters(&mut visit) {
            return self.answer(&visit, TOO_MANY, Duration::ZERO);
        }
        let (service, replica) = (visit.service, visit.replica);
        let station = &mut self.stations[service][replica as usize];
        let errors = station.condition().errors;
        if errors > 0.0 && happens(errors, &mut self.work) {
            return self.answer(&visit, 500, Duration::ZERO);
        }
        let key = self.visits.put(visit);
        if station.join(key) {
            self.start_work(service, replica);
        } else if let Some(visit) = self.visits.take(key) {
            self.answer(&visit, 503, Duration::ZERO);
        }
    }

    fn start_work(&mut self, service: usize, replica: u32) {
        let station = &mut self.stations[service][replica as usize];
        while let Some(visit) = station.begin() {
            let begun = self.visits.get(visit).expect("it waited");
            let waited = self.now.since(begun.came);
            if let Some(door) = self.doors[service].get_mut(replica as usize) {
                door.waited(waited);
            }
            let slow = station.condition().slow * begun.origin.work;
            let law = &self.scenario.services[service].time;
            let time = law.draw(slow, &mut self.work);
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let root = begun.origin.root;
            if let Some(root) = self.roots.get(root) {
                root.work_us = root.work_us.saturating_add(micros);
            }
            let now = self.now.since(Instant::default());
            let second = self.report.second(now);
            second.work_us = second.work_us.saturating_add(micros);
            self.agenda.put(self.now + time, Event::Served { visit });
        }
    }

    fn served(&mut self, key: Key<Visit>) {
        let visit = self.visits.get(key).expect("it is being worked on");
        let (service, replica) = (visit.service, visit.replica);
        self.stations[service][replica as usize].end();
        self.start_work(service, replica);
        self.next_step(key);
    }

    /// Makes the calls of the visit's next step, or answers where there is none.
    fn next_step(&mut self, key: Key<Visit>) {
        let scenario = self.scenario;
        let visit = self.visits.get(key).expect("it has work left");
        let steps = &scenario.services[visit.service].calls;
        let left = steps.iter().enumerate().skip(visit.step);
        let mut left = left.filter(|(_, step)| !step.is_empty() && !visit.has_failed);
        let Some((place, step)) = left.next() else {
            let status = if visit.has_failed { 503 } else { 200 };
            let visit = self.visits.take(key).expect("it was there");
            let station = &self.stations[visit.service][visit.replica as usize];
            let extra = station.condition().extra;
            return self.answer(&visit, status, extra);
        };
        visit.step = place + 1;
        visit.waits_for = step.len();
        let source = Some((visit.service, visit.replica));
        let mut origin = visit.origin;
        if self.scenario.services[visit.service].forwards == Forwards::Nothing {
            origin.trace = 0;
        }
        for called in step {
            self.call(Asker::Visit(key), source, *called, origin);
        }
    }

    /// A call of the visit has ended.
    fn returned(&mut self, key: Key<Visit>, end: End) {
        let visit = self.visits.get(key).expect("it waits");
        visit.waits_for -= 1;
        visit.has_failed |= end != End::Answered { status: 200 };
        if visit.waits_for == 0 {
            self.next_step(key);
        }
    }

    fn answer(&mut self, visit: &Visit, status: u16, after: Duration) {
        if let Some(door) = self.doors[visit.service].get_mut(visit.replica as usize)
            && visit.is_in
        {
            let time = self.now.since(visit.came) + after;
            door.answered(self.now, time, status < 500);
        }
        let event = Event::Answered {
            call: visit.call,
            attempt: visit.attempt,
            status,
        };
        let way = self.on_link(visit.service);
        self.agenda.put(self.now + after + way, event);
    }

    // The rest.

    fn turn(&mut self) {
        let now = self.elapsed();
        if self.scenario.faults.iter().any(|it| it.condition.absent) {
            self.mesh.reconfigure(self.scenario, self.policy, now);
        }
        for service in 0..self.stations.len() {
            for replica in 0..self.stations[service].len() as u32 {
                let condition = self.scenario.condition(service, replica, now);
                self.stations[service][replica as usize].set(condition);
                // More may be worked on at once than before.
                self.start_work(service, replica);
            }
        }
    }

    fn tick(&mut self, record: &mut Record<'_>) {
        if self.mesh.tick(self.now, record) {
            self.mesh
                .reconfigure(self.scenario, self.policy, self.elapsed());
        }
        let next = self.now + Controllers::TICK;
        if self.elapsed() < self.scenario.length {
            self.agenda.put(next, Event::Tick);
        }
    }

    fn elapsed(&self) -> Duration {
        self.now.since(Instant::default())
    }
}
