//! Claim: limits follow from what came without anybody's doing, each decision can be derived again from what is
//! told of it, and what is held does not move.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use selvedge_feed::JournalPart;
use selvedge_model::{
    Backoff, Holds, JournalEvent, Limited, Objective, PilotMode, RequestPolicy, RetryPolicy,
    Timeouts, Traffic, Why,
};
use selvedge_resilience::{Replay, Replayed};

use crate::cart::{Cart, route};
use crate::origin::{Origin, ok};
use crate::path::{Client, Path, Response};
use crate::traffic::{GET, start, total};

/// The limit that an endpoint begins with.
const START: u32 = 8;

fn objective(mode: PilotMode) -> RequestPolicy {
    RequestPolicy {
        objective: Some(Objective {
            latency: Duration::from_secs(5),
            mode,
        }),
        ..RequestPolicy::default()
    }
}

fn limit(traffic: &Traffic) -> Option<u32> {
    traffic.backends.values().next()?.limit
}

/// Answers once as many ask at once as there may be at first.
fn crowded() -> Origin {
    let together = Barrier::new(START as usize);
    Origin::answering(move |_| {
        together.wait();
        ok("hello")
    })
}

fn clients(path: &mut Path) -> Vec<Client> {
    (0..START).map(|_| path.connect()).collect()
}

/// As many at once as there may be at first, again and again until that is so after so many.
fn fill_until(
    path: &mut Path,
    clients: &mut [Client],
    mut is_done: impl FnMut(&mut Path, u64) -> bool,
) {
    for round in 1.. {
        for client in &mut *clients {
            client.send(GET);
        }
        for client in &mut *clients {
            client.response();
        }
        let sent = round * u64::from(START);
        if is_done(path, sent) {
            return;
        }
        // Which is after a few windows; none is as long as this.
        assert!(sent < 1_000_000, "it does not come to that");
    }
}

/// What a controller decides from what the workers saw is in force without anybody's doing.
#[test]
fn a_limit_rises_where_there_is_room() {
    let origin = crowded();
    let mut path = start(&[&origin], objective(PilotMode::Drive));
    let mut clients = clients(&mut path);
    fill_until(&mut path, &mut clients, |path, sent| {
        let traffic = path.mesh.feed.traffic(|traffic| total(traffic) >= sent);
        limit(&traffic).unwrap() > START
    });
}

#[test]
fn who_only_observes_has_no_limit() {
    let origin = Origin::answering(|_| ok("hello"));
    let mut path = start(&[&origin], objective(PilotMode::Observe));
    assert_eq!(path.get(GET).status, 200);
    let traffic = path.mesh.feed.traffic(|traffic| total(traffic) >= 1);
    assert_eq!(limit(&traffic), None);
}

/// From the first message on, an agent that begins to read can derive all that follows.
#[test]
fn the_journal_says_what_follows_from_what() {
    let origin = crowded();
    let mut path = start(&[&origin], objective(PilotMode::Observe));
    let mut clients = clients(&mut path);
    let mut parts = path.mesh.feed.begin_journal();
    fill_until(&mut path, &mut clients, |path, _| {
        parts.extend(path.mesh.feed.journal());
        let rooms = entries(&parts).filter(|(_, event)| match event {
            JournalEvent::Decided { decision, .. } => decision.why == Why::Room,
            _ => false,
        });
        // At the endpoint and at the entry.
        let abouts = rooms.map(|(about, _)| about.clone());
        abouts.collect::<BTreeSet<_>>().len() == 2
    });
    assert!(parts[0].is_beginning);
    let mut sequence = parts[0].sequence;
    let mut replay = Replay::default();
    let mut equal = 0;
    for part in &parts {
        assert_eq!(part.sequence, sequence);
        sequence += part.entries.len() as u64;
        for entry in &part.entries {
            match replay.on_entry(entry) {
                Replayed::Equal => equal += 1,
                Replayed::Undecided => {}
                other => panic!("{other:?}: {entry:?}"),
            }
        }
    }
    assert!(equal >= 2);
}

fn entries(parts: &[JournalPart]) -> impl Iterator<Item = (&Limited, &JournalEvent)> {
    let entries = parts.iter().flat_map(|part| &part.entries);
    entries.map(|entry| (&entry.about, &entry.event))
}

/// Frozen before any minute has held there is no limit but a fixed one; pinned it is that, whatever comes.
#[test]
fn what_is_held_stays_until_it_is_released() {
    let origin = Origin::answering(|_| ok("hello"));
    let mut path = start(&[&origin], objective(PilotMode::Drive));
    path.get(GET);
    let parts = path.mesh.feed.begin_journal();
    let mut abouts = entries(&parts).map(|(about, _)| about.clone());
    let endpoint = abouts.find(|it| matches!(it, Limited::Endpoint { .. }));
    let mut limit_under = |holds: Holds| {
        path.mesh.feed.hold(holds);
        limit(&path.mesh.feed.traffic(|_| true))
    };
    let frozen = Holds {
        services: ["cart".parse().unwrap()].into(),
        ..Holds::default()
    };
    let pinned = Holds {
        pins: [(endpoint.unwrap(), Some(3))].into(),
        ..frozen.clone()
    };
    assert_eq!(limit_under(frozen), None);
    assert_eq!(limit_under(pinned), Some(3));
    assert_eq!(
        limit_under(Holds::default()),
        Some(3),
        "it goes on from there"
    );
}

/// One objective is enough: what one endpoint cannot do another is asked for, unless somebody said otherwise.
#[test]
fn who_drives_retries_at_another_endpoint() {
    let bad =
        Origin::answering(|_| "HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned());
    let good = Origin::answering(|_| ok("hello"));
    let failed = |policy: RequestPolicy| {
        let path = start(&[&bad, &good], policy);
        (0..20).filter(|_| path.get(GET).status == 503).count()
    };
    assert_eq!(failed(objective(PilotMode::Drive)), 0);
    assert!(failed(objective(PilotMode::Guard)) > 0);
    let none = RetryPolicy {
        attempts: 0,
        statuses: vec![503],
        backoff: Backoff::default(),
        non_idempotent: false,
    };
    let said = RequestPolicy {
        retry: Some(none),
        ..objective(PilotMode::Drive)
    };
    assert!(failed(said) > 0);
}

/// Of eight places three are kept for what is more urgent, be that said by the request or by its route.
#[test]
fn what_is_urgent_finds_a_place_where_other_things_find_none() {
    let by_field = "GET / HTTP/1.1\r\nHost: cart\r\nPriority: i, u=1\r\n\r\n";
    let by_route = "GET /urgent HTTP/1.1\r\nHost: cart\r\nPriority: u=7\r\n\r\n";
    for urgent in [by_field, by_route] {
        let (origin, _given_up) = Origin::silent();
        let mut routes = route(["/".to_owned(), "/urgent".to_owned()]);
        let changes = &mut routes.rules[1].filters.request;
        changes.set = vec![("priority".to_owned(), "u=1".to_owned())];
        let path = Path::start(Cart {
            endpoints: vec![origin.address],
            policy: objective(PilotMode::Drive),
            spoken: Some("http"),
            routes: vec![routes],
            ..Cart::default()
        });
        let mut held = Vec::new();
        let mut ask = |request: &str| {
            let mut client = path.connect();
            client.send(request);
            held.push(client);
            origin.next()
        };
        let seen = ask(urgent).to_ascii_lowercase();
        assert!(seen.contains("u=1\r\n"), "{seen}");
        for _ in 1..START - 3 {
            ask(GET);
        }
        assert_eq!(path.get(GET).reason(), "request_limit");
        for _ in 0..3 {
            ask(urgent);
        }
        assert_eq!(path.get(urgent).reason(), "request_limit");
    }
}

/// What came to two endpoints for which some paths are late.
#[derive(Default)]
struct Late {
    /// How often each path came, and whether nobody is waited for any more.
    came: Mutex<(BTreeMap<String, u32>, bool)>,
    changed: Condvar,
}

impl Late {
    fn count(&self, path: &str) -> u32 {
        self.came.lock().unwrap().0[path]
    }

    /// Nobody is waited for any more.
    fn end(&self) {
        self.came.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    /// The path has come once more: how often that was.
    fn come(&self, path: String) -> u32 {
        let mut came = self.came.lock().unwrap();
        let count = came.0.entry(path).or_default();
        *count += 1;
        let count = *count;
        drop(came);
        self.changed.notify_all();
        count
    }

    /// Until the path has come so often, or the end.
    fn wait(&self, path: &str, times: u32) {
        let came = self.came.lock().unwrap();
        let waits = |came: &mut (BTreeMap<String, u32>, bool)| !came.1 && came.0[path] < times;
        drop(self.changed.wait_while(came, waits).unwrap());
    }
}

/// Two endpoints. The one that has a late path first answers when it has come so often, and the other like this.
fn late_ones(times: u32, second: &'static str) -> (Path, Arc<Late>, [Origin; 2]) {
    let late = Arc::<Late>::default();
    let origin = || {
        let late = late.clone();
        Origin::answering(move |request| {
            let path = request.split(' ').nth(1).unwrap_or_default();
            if !path.starts_with(LATE) {
                return ok("usual");
            }
            match late.come(path.to_owned()) {
                1 => {
                    late.wait(path, times);
                    ok("first")
                }
                _ => second.to_owned(),
            }
        })
    };
    let policy = RequestPolicy {
        retry: Some(RetryPolicy {
            attempts: 1,
            statuses: vec![503],
            backoff: Backoff::default(),
            non_idempotent: false,
        }),
        timeouts: Timeouts {
            request: Some(Duration::from_secs(20)),
            attempt: None,
        },
        ..objective(PilotMode::Drive)
    };
    let origins = [origin(), origin()];
    let path = start(&[&origins[0], &origins[1]], policy);
    (path, late, origins)
}

/// Asks for what is usual until the controllers have looked at what both endpoints answered, and so know what is late; then
/// for what is late. Gives the answer to that, and what was asked for. On a machine that is slow just then the other endpoint
/// may look late itself and is not asked: then that is so for another moment.
fn ask_late(path: &mut Path) -> (Response, String) {
    let mut parts = path.mesh.feed.begin_journal();
    let mut looked = BTreeSet::new();
    while looked.len() < 2 {
        for _ in 0..100 {
            assert_eq!(path.get(USUAL).body, "usual");
        }
        parts.extend(path.mesh.feed.journal());
        let decided = entries(&parts).filter(|(_, it)| matches!(it, JournalEvent::Decided { .. }));
        let endpoints = decided.filter(|(about, _)| matches!(about, Limited::Endpoint { .. }));
        looked = endpoints.map(|(about, _)| about.clone()).collect();
    }
    for number in 0..20 {
        let late = format!("{LATE}{number}");
        let get = format!("GET {late} HTTP/1.1\r\nHost: cart\r\nGrpc-Timeout: 2S\r\n\r\n");
        let response = path.get(&get);
        if response.status != 504 {
            return (response, late);
        }
        for _ in 0..100 {
            assert_eq!(path.get(USUAL).body, "usual");
        }
    }
    panic!("nobody was asked beside a late one");
}

const LATE: &str = "/late/";
/// Changes something, so that there is never an attempt beside it: what it earns is for the late one.
const USUAL: &str = "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n";

/// An endpoint that does not answer at all is overtaken by the other, with the answer of that, and each of them was asked
/// once: what comes behind on the same connections is right.
#[test]
fn a_late_endpoint_is_overtaken() {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";
    let (mut path, late, _origins) = late_ones(u32::MAX, second);
    let (response, asked) = ask_late(&mut path);
    assert_eq!((response.status, &*response.body), (200, "second"));
    for _ in 0..100 {
        assert_eq!(path.get(USUAL).body, "usual");
    }
    assert_eq!(late.count(&asked), 2);
    let traffic = path.mesh.feed.traffic(|traffic| {
        let backend = traffic.backends.values().next();
        backend.is_some_and(|it| it.hedges_won == 1)
    });
    assert!(traffic.backends.values().all(|it| it.hedges >= 1));
    late.end();
}

/// One that fails is not the first to answer.
#[test]
fn a_late_endpoint_is_not_overtaken_by_a_failure() {
    let second = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let (mut path, late, _origins) = late_ones(2, second);
    let (response, asked) = ask_late(&mut path);
    assert_eq!((response.status, &*response.body), (200, "first"));
    assert_eq!(late.count(&asked), 2);
    late.end();
}
