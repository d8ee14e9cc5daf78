//! Claims: a proxy gets every snapshot and its acknowledgement, report and liveness are known; one
//! that hangs is found out; whatever is out of order ends the connection. Metrics are read when the
//! proxy asks, and no more often than once a second.
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge_feed::{Counter as Count, MetricsAnswer, Subscription};
use tokio::task::JoinHandle;

use super::*;
use crate::address::VirtualRange;

struct Bench {
    snapshots: watch::Sender<Arc<Snapshot>>,
    health: watch::Receiver<ProxyHealth>,
    proxy: UnixStream,
    served: JoinHandle<FeedEnd>,
    questions: watch::Sender<u64>,
    pilot: Pilot,
    _folder: tempfile::TempDir,
    /// How often metrics were read.
    readings: Arc<AtomicU32>,
    /// The last probe that came, whatever was listened for.
    probe: Option<u64>,
}

fn begin() -> Bench {
    begin_with_metrics(1)
}

fn begin_with_metrics(lines: usize) -> Bench {
    let (snapshots, receiver) = watch::channel(Arc::new(snapshot(1)));
    let (health, known) = watch::channel(ProxyHealth::default());
    let readings = Arc::new(AtomicU32::new(0));
    let counted = readings.clone();
    let (questions, questioned) = watch::channel(0);
    let folder = tempfile::tempdir().unwrap();
    let (pilot, writing) = Pilot::open(folder.path());
    tokio::spawn(writing);
    let publisher = Publisher {
        snapshots: receiver,
        settings: Settings::default(),
        health,
        metrics: Arc::new(move || {
            let reading = counted.fetch_add(1, Ordering::Relaxed) + 1;
            format!("reading {reading}\n").repeat(lines)
        }),
        traffic: questioned,
        pilot: pilot.clone(),
        access_log: None,
    };
    let (near, proxy) = UnixStream::pair().unwrap();
    Bench {
        snapshots,
        health: known,
        proxy,
        served: tokio::spawn(async move { publisher.serve(near).await }),
        readings,
        probe: None,
        questions,
        pilot,
        _folder: folder,
    }
}

/// A snapshot with as many services as its generation.
fn snapshot(generation: u64) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    snapshot.generation = Generation(generation);
    let mut taken = std::collections::BTreeSet::new();
    for number in 0..generation {
        let name: selvedge_model::ServiceName = format!("s{number}").parse().unwrap();
        let address = VirtualRange::DEFAULT.choose(&name, &taken).unwrap();
        taken.insert(address);
        let service = selvedge_model::Service {
            name: name.clone(),
            address,
            ports: Vec::new(),
            published: Vec::new(),
            published_udp: Vec::new(),
            connection_limit: None,
            detailed_counters: false,
            requests: None,
        };
        snapshot.services.insert(name, service);
    }
    snapshot
}

impl Bench {
    async fn tell(&mut self, message: ToAgent) {
        self.proxy.write_all(&message.encode()).await.unwrap();
    }

    async fn hello(&mut self) {
        let version = u32::from(VERSION);
        self.tell(ToAgent::Hello { version, pid: 7 }).await;
    }

    /// Reads messages until one is wanted.
    async fn hear<T>(&mut self, mut wanted: impl FnMut(ToProxy) -> Option<T>) -> T {
        let mut decoder = Decoder::new(selvedge_feed::MAX_TO_PROXY_BYTES);
        let mut byte = [0];
        loop {
            while let Some(message) = decoder.next_message().unwrap() {
                let message = ToProxy::decode(message).unwrap();
                if let ToProxy::Probe(nonce) = message {
                    self.probe = Some(nonce);
                }
                if let Some(found) = wanted(message) {
                    return found;
                }
            }
            self.proxy.read_exact(&mut byte).await.unwrap();
            decoder.push(&byte);
        }
    }

    /// Takes updates until one completes a generation, and acknowledges it.
    async fn follow(&mut self, subscription: &mut Subscription) -> Generation {
        let ack = self.hear(|message| match message {
            ToProxy::Update(update) => match subscription.on_update(update).unwrap() {
                selvedge_feed::Progress::Complete(ack) => Some(ack),
                selvedge_feed::Progress::Partial => None,
            },
            _ => None,
        });
        let ack = ack.await;
        let generation = ack.generation;
        self.tell(ToAgent::Ack(ack)).await;
        generation
    }

    /// Asks for metrics and waits for the answer.
    async fn metrics(&mut self) -> String {
        self.tell(ToAgent::MetricsRequest).await;
        let mut answer = MetricsAnswer::default();
        let text = self.hear(|message| match message {
            ToProxy::Metrics(part) => answer.on_part(part).unwrap(),
            _ => None,
        });
        String::from_utf8(text.await).unwrap()
    }

    async fn health(&mut self, wanted: impl FnMut(&ProxyHealth) -> bool) -> ProxyHealth {
        let found = timeout(Duration::from_secs(10), self.health.wait_for(wanted)).await;
        found.expect("in time").unwrap().clone()
    }
}

#[tokio::test]
async fn a_proxy_follows_the_configuration_and_is_known() {
    let mut bench = begin();
    let mut subscription = Subscription::new();
    bench.hello().await;
    let connected = bench.health(|health| health.pid.is_some()).await;
    assert_eq!(bench.follow(&mut subscription).await, Generation(1));
    let health = bench.health(|health| health.generation.is_some()).await;
    assert_eq!((health.pid, health.connections), (Some(7), 1));
    assert!(health.since > connected.since, "it has served from then on");
    bench.snapshots.send_replace(Arc::new(snapshot(3)));
    assert_eq!(bench.follow(&mut subscription).await, Generation(3));
    assert_eq!(subscription.view().unwrap().snapshot, snapshot(3));
    let report = Report {
        counters: [(Count::Queries, 5)].into(),
        shadowed: vec!["cart.example".to_owned()],
    };
    bench.tell(ToAgent::Report(report.clone())).await;
    bench.health(|health| *health.report == report).await;
    let nonce = match bench.probe {
        Some(nonce) => nonce,
        None => {
            let nonce = bench.hear(|message| match message {
                ToProxy::Probe(nonce) => Some(nonce),
                _ => None,
            });
            nonce.await
        }
    };
    bench.tell(ToAgent::ProbeReply(nonce)).await;
    bench.health(|health| health.answered.is_some()).await;
    let Bench {
        proxy,
        served,
        mut health,
        ..
    } = bench;
    drop(proxy);
    assert!(matches!(served.await.unwrap(), FeedEnd::Closed));
    assert!(!health.borrow_and_update().is_connected);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_answers_no_probe_hangs() {
    let mut bench = begin();
    bench.hello().await;
    let begun = tokio::time::Instant::now();
    assert!(matches!(
        (&mut bench.served).await.unwrap(),
        FeedEnd::Hung(_)
    ));
    assert!(
        begun.elapsed() <= PROBE_PERIOD + PATIENCE,
        "{:?}",
        begun.elapsed()
    );
    assert!(!bench.health.borrow().is_connected);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_takes_nothing_hangs() {
    let mut bench = begin();
    bench.hello().await;
    bench.snapshots.send_replace(Arc::new(snapshot(20_000)));
    assert!(matches!(
        (&mut bench.served).await.unwrap(),
        FeedEnd::Hung(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn metrics_are_read_at_most_once_a_second() {
    // Several parts.
    let lines = 100_000;
    let mut bench = begin_with_metrics(lines);
    bench.hello().await;
    let probe = bench.hear(|message| match message {
        ToProxy::Probe(nonce) => Some(nonce),
        _ => None,
    });
    let nonce = probe.await;
    bench.tell(ToAgent::ProbeReply(nonce)).await;
    let begun = tokio::time::Instant::now();
    assert!(bench.metrics().await == "reading 1\n".repeat(lines));
    assert_eq!(
        begun.elapsed(),
        Duration::ZERO,
        "the first is not kept waiting"
    );
    assert!(bench.metrics().await == "reading 2\n".repeat(lines));
    assert!(begun.elapsed() >= METRICS_PAUSE, "{:?}", begun.elapsed());
    assert_eq!(bench.readings.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_is_out_of_order_ends_the_connection() {
    let hello = |version| ToAgent::Hello { version, pid: 1 }.encode();
    let good = || hello(u32::from(VERSION));
    let ack = selvedge_feed::Ack {
        generation: Generation(99),
        ..selvedge_feed::Ack::default()
    };
    type Judge = fn(&FeedEnd) -> bool;
    let ask = || ToAgent::MetricsRequest.encode();
    let cases: [(&str, Vec<u8>, Judge); 8] = [
        (
            "three requests at once",
            [good(), ask(), ask(), ask()].concat(),
            |end| matches!(end, FeedEnd::OutOfTurn(_)),
        ),
        ("a long frame", vec![0xff; 8], |end| {
            matches!(end, FeedEnd::Frame(_))
        }),
        (
            "garbage",
            [good(), vec![0, 0, 0, 3, 0xff, 0xff, 0xff]].concat(),
            |end| matches!(end, FeedEnd::Message(_)),
        ),
        ("another version", hello(99), |end| {
            matches!(end, FeedEnd::Version(99))
        }),
        ("two hellos", [good(), good()].concat(), |end| {
            matches!(end, FeedEnd::OutOfTurn(_))
        }),
        ("no hello", ToAgent::ProbeReply(1).encode(), |end| {
            matches!(end, FeedEnd::OutOfTurn(_))
        }),
        (
            "an unasked answer",
            [good(), ToAgent::ProbeReply(9).encode()].concat(),
            |end| matches!(end, FeedEnd::OutOfTurn(_)),
        ),
        (
            "an unasked ack",
            [good(), ToAgent::Ack(ack).encode()].concat(),
            |end| matches!(end, FeedEnd::Ack(_)),
        ),
    ];
    for (what, bytes, is_right) in cases {
        let mut bench = begin();
        bench.proxy.write_all(&bytes).await.unwrap();
        let end = bench.served.await.unwrap();
        assert!(is_right(&end), "{what}: {end:?}");
        assert!(bench.health.borrow().last_end.is_some(), "{what}");
    }
}

/// A question is asked when there is one, and its answer is known by its number.
#[tokio::test]
async fn the_proxy_is_asked_what_it_has_seen() {
    let mut bench = begin();
    bench.hello().await;
    bench.questions.send_replace(5);
    let asked = bench.hear(|message| match message {
        ToProxy::TrafficRequest => Some(()),
        _ => None,
    });
    asked.await;
    let path = selvedge_model::TrafficPath {
        edge: selvedge_model::TrafficEdge {
            source: None,
            destination: Some("cart".parse().unwrap()),
        },
        unit: selvedge_model::TrafficUnit::Request,
        route: None,
        backend: None,
    };
    let ends = [(selvedge_model::TrafficEnd::new(200, None), 3)].into();
    let traffic = Traffic {
        paths: [(path, ends)].into(),
        ..Traffic::default()
    };
    for part in selvedge_feed::TrafficPart::cut(&traffic) {
        bench.tell(ToAgent::Traffic(part)).await;
    }
    let health = bench.health(|health| health.traffic_asked == 5).await;
    assert_eq!(*health.traffic, traffic);
}

/// The journal is asked for, what comes of it is kept, and what is held is told to each proxy, and anew when it
/// changes.
#[tokio::test]
async fn a_proxy_is_asked_for_its_journal_and_told_what_to_hold() {
    let mut bench = begin();
    bench.hello().await;
    let is_request = |message| (message == ToProxy::JournalRequest).then_some(());
    bench.hear(is_request).await;
    let hold = |message| match message {
        ToProxy::Hold { version, holds } => Some((version, holds)),
        _ => None,
    };
    assert_eq!(bench.hear(hold).await, (1, Holds::default()));
    bench.tell(ToAgent::Held(1)).await;
    let everything = Holds {
        everything: true,
        ..Holds::default()
    };
    let version = bench.pilot.hold(everything.clone()).unwrap();
    assert_eq!(bench.hear(hold).await, (version, everything));
    bench.tell(ToAgent::Held(version)).await;
    let mut held = bench.pilot.held();
    held.wait_for(|held| *held == version).await.unwrap();
    let entry = selvedge_model::JournalEntry {
        about: selvedge_model::Limited::Entry {
            service: "cart".parse().unwrap(),
            route: "r".to_owned(),
        },
        event: selvedge_model::JournalEvent::Gone,
    };
    let part = selvedge_feed::JournalPart {
        entries: vec![entry; 3],
        ..Default::default()
    };
    bench.tell(ToAgent::Journal(part)).await;
    bench.tell(ToAgent::Held(version + 1)).await;
    let end = (&mut bench.served).await.unwrap();
    assert!(matches!(end, FeedEnd::OutOfTurn(_)), "{end:?}");
    assert_eq!(bench.pilot.journal().next, 4, "what came before is kept");
}
