//! Claims: what the proxy tells is numbered, known and written, and what is missing is counted; a later agent
//! knows all that; what is held survives; a disk that fails changes nothing else.
use selvedge_model::{Backend, CgroupId, Doubt, Limited, Place, Port, Why};
use tempfile::TempDir;

use super::*;
use crate::pilot::lines::{find, read_journal};

struct Bench {
    folder: TempDir,
    pilot: Pilot,
    writing: tokio::task::JoinHandle<()>,
    /// What the proxy has told.
    sequence: u64,
}

fn open(folder: TempDir) -> Bench {
    let (pilot, writing) = Pilot::open(folder.path());
    Bench {
        folder,
        pilot,
        writing: tokio::spawn(writing),
        sequence: 0,
    }
}

fn begin() -> Bench {
    open(tempfile::tempdir().unwrap())
}

fn endpoint(cgroup: u64) -> Limited {
    Limited::Endpoint {
        backend: Backend {
            service: "cart".parse().unwrap(),
            port: Port::MIN,
        },
        place: Place::Local(CgroupId(cgroup)),
        port: Port::MIN,
    }
}

fn state(limit: u32) -> JournalEvent {
    JournalEvent::State(ControllerState {
        at: Instant::from_nanos(5),
        objective: Duration::from_millis(100),
        fixed: Some(20),
        is_applied: true,
        limit,
        memory: vec![1, 2, 3],
    })
}

fn decided(before: u32, limit: u32) -> JournalEvent {
    JournalEvent::Decided {
        window: WindowSummary {
            limit: before,
            ended: Instant::from_nanos(1_500_000_000),
            ..WindowSummary::default()
        },
        decision: Decision {
            limit,
            is_fresh: true,
            why: Why::Slow,
            floor: 120_000.0,
        },
    }
}

impl Bench {
    fn tell(&mut self, is_beginning: bool, events: &[(u64, JournalEvent)]) {
        let entry = |(cgroup, event): &(u64, JournalEvent)| JournalEntry {
            about: endpoint(*cgroup),
            event: event.clone(),
        };
        let entries: Vec<_> = events.iter().map(entry).collect();
        let count = entries.len() as u64;
        let told = self.pilot.on_part(JournalPart {
            epoch_unix_ns: 1_000_000_000,
            sequence: self.sequence,
            number: 0,
            is_beginning,
            entries,
        });
        assert_eq!(told, Ok(()));
        self.sequence += count;
    }

    /// Waits until all that was told is on disk, or lost.
    async fn written(&self) -> Vec<u64> {
        loop {
            let query = JournalQuery {
                is_full: true,
                last: 1000,
                ..JournalQuery::default()
            };
            let reply = read_journal(self.folder.path(), &query, None).unwrap();
            let numbers: Vec<_> = reply.lines.iter().map(|line| line.number).collect();
            let journal = self.pilot.journal();
            if numbers.last().map_or(1, |last| last + 1) == journal.next || journal.lost > 0 {
                return numbers;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Dies, and another goes on in the same folder.
    fn replace(self) -> Self {
        self.writing.abort();
        drop(self.pilot);
        open(self.folder)
    }
}

#[tokio::test]
async fn what_is_told_is_known_and_written_with_its_number() {
    let mut bench = begin();
    bench.tell(true, &[(1, state(8)), (2, state(8))]);
    bench.tell(false, &[(1, decided(8, 12)), (2, decided(8, 8))]);
    assert_eq!(bench.written().await, [1, 2, 3, 4]);
    let limits = bench.pilot.limits();
    assert_eq!(limits.len(), 2);
    let known = &limits[&endpoint(1)];
    assert_eq!((known.limit(), known.changed), (Some(12), Some(3)));
    assert_eq!(limits[&endpoint(2)].changed, None);
    // What is fixed holds, and so does what is held.
    bench.tell(false, &[(1, decided(12, 30))]);
    assert_eq!(bench.pilot.limits()[&endpoint(1)].limit(), Some(20));
    let held = JournalEvent::Held {
        at: Instant::default(),
        limit: Some(4),
        by: HeldBy::Pin,
    };
    bench.tell(false, &[(1, held), (2, JournalEvent::Gone)]);
    let limits = bench.pilot.limits();
    assert_eq!((limits.len(), limits[&endpoint(1)].limit()), (1, Some(4)));
    bench.written().await;
    let found = find(bench.folder.path(), 3).unwrap().unwrap();
    assert_eq!(found.event, decided(8, 12));
    assert_eq!(find(bench.folder.path(), 8).unwrap(), None);
}

/// A person reads changes unless asked otherwise, of one service, with the moment and the reason.
#[tokio::test]
async fn the_journal_reads_as_it_was() {
    let mut bench = begin();
    bench.tell(
        true,
        &[(1, state(8)), (1, decided(8, 12)), (1, decided(12, 12))],
    );
    bench.written().await;
    let read = |query: JournalQuery| {
        read_journal(bench.folder.path(), &query, None)
            .unwrap()
            .lines
    };
    let query = JournalQuery {
        last: 50,
        ..JournalQuery::default()
    };
    let lines = read(query.clone());
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!(line.time.as_deref(), Some("1970-01-01T00:00:02.500Z"));
    assert_eq!((line.limit_before, line.limit), (Some(8), Some(12)));
    assert_eq!(
        (line.why.as_deref(), &*line.about),
        (Some("slow"), "cgroup 1, port 1")
    );
    let other = JournalQuery {
        service: Some("other".parse().unwrap()),
        ..query.clone()
    };
    assert!(read(other).is_empty());
    let last = JournalQuery {
        is_full: true,
        last: 2,
        ..query
    };
    let numbers: Vec<_> = read(last).iter().map(|line| line.number).collect();
    assert_eq!(numbers, [2, 3]);
}

/// Over the agent's end numbers go on, limits and what is held are known, and what was told to nobody is missed.
#[tokio::test]
async fn a_later_agent_goes_on_where_an_earlier_one_was() {
    let mut bench = begin();
    bench.tell(true, &[(1, state(8)), (1, decided(8, 12))]);
    bench.written().await;
    let holds = Holds {
        everything: true,
        pins: [(endpoint(1), Some(3))].into(),
        ..Holds::default()
    };
    bench.pilot.hold(holds.clone()).unwrap();
    let sequence = bench.sequence;
    let mut bench = bench.replace();
    assert_eq!(*bench.pilot.wanted().borrow().holds, holds);
    assert_eq!(bench.pilot.limits()[&endpoint(1)].limit(), Some(12));
    assert_eq!(bench.pilot.journal().next, 3);
    // Five were told to an agent that had just died.
    bench.sequence = sequence + 5;
    bench.tell(true, &[(1, state(7))]);
    let journal = bench.pilot.journal();
    assert_eq!((journal.next, journal.lost), (9, 5));
    // Another process of the proxy begins to count anew.
    let other = JournalPart {
        epoch_unix_ns: 77,
        is_beginning: true,
        ..JournalPart::default()
    };
    assert_eq!(bench.pilot.on_part(other.clone()), Ok(()));
    assert_eq!(bench.pilot.journal().lost, 5);
    assert!(bench.pilot.limits().is_empty());
    // So many it cannot have told.
    let absurd = JournalPart {
        sequence: u64::MAX,
        ..other
    };
    assert_eq!(bench.pilot.on_part(absurd), Err(Implausible));
    assert_eq!(bench.pilot.journal().next, 9);
    bench.pilot.hold(Holds::default()).unwrap();
    let bench = bench.replace();
    assert!(bench.pilot.wanted().borrow().holds.is_empty());
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_is_told_of_and_counted() {
    let mut bench = begin();
    bench.tell(true, &[(1, state(8))]);
    bench.written().await;
    // The next segment's name is that of a folder.
    fs::create_dir(bench.folder.path().join(format!("{:020}.journal", 2))).unwrap();
    bench.tell(true, &[(1, state(9)), (1, decided(9, 10))]);
    let journal = loop {
        let journal = bench.pilot.journal();
        if journal.trouble.is_some() {
            break journal;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((journal.next, journal.lost), (4, 2));
    assert_eq!(bench.pilot.limits()[&endpoint(1)].limit(), Some(10));
    // It is written again as soon as it can be.
    bench.tell(true, &[(1, state(11))]);
    loop {
        let journal = bench.pilot.journal();
        if journal.trouble.is_none() {
            assert_eq!(journal.lost, 2);
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_journal_that_is_none_keeps_nobody_from_working() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(HOLDS), "nonsense").unwrap();
    fs::write(folder.path().join(format!("{:020}.journal", 7)), [0xff; 9]).unwrap();
    let mut bench = open(folder);
    assert!(bench.pilot.journal().trouble.is_some());
    assert!(bench.pilot.wanted().borrow().holds.is_empty());
    bench.tell(true, &[(1, state(8))]);
    while bench.pilot.journal().trouble.is_some() {
        tokio::task::yield_now().await;
    }
    assert!(find(bench.folder.path(), 8).unwrap().is_some());
    Pilot::remove(bench.folder.path()).unwrap();
    assert!(!bench.folder.path().exists());
}

/// States alone say nothing against what was known of the same limit; a limit that is not told again is gone.
#[tokio::test]
async fn what_is_known_outlives_a_beginning() {
    let mut bench = begin();
    bench.tell(true, &[(1, state(8)), (2, state(8)), (1, decided(8, 12))]);
    bench.tell(true, &[(1, state(12))]);
    let limits = bench.pilot.limits();
    assert_eq!(limits.len(), 1);
    let known = &limits[&endpoint(1)];
    assert_eq!((known.limit(), known.changed), (Some(12), Some(3)));
    assert_eq!(known.out_of_reach(), Some(120_000.0));
}

/// Where limits have come to rest is kept for a proxy that knows nothing of it, until they are released.
#[tokio::test]
async fn a_later_proxy_is_told_where_limits_rest() {
    let mut bench = begin();
    bench.tell(true, &[(1, state(8)), (2, state(8))]);
    let held = |limit, by| JournalEvent::Held {
        at: Instant::default(),
        limit,
        by,
    };
    // Nobody has frozen anything.
    bench.tell(false, &[(1, held(Some(9), HeldBy::Freeze))]);
    assert!(bench.pilot.wanted().borrow().holds.rests.is_empty());
    let everything = Holds {
        everything: true,
        ..Holds::default()
    };
    let version = bench.pilot.hold(everything).unwrap();
    bench.tell(
        false,
        &[
            (1, held(Some(9), HeldBy::Freeze)),
            (2, held(Some(3), HeldBy::Pin)),
            (2, held(Some(4), HeldBy::Doubt(Doubt::Silent))),
        ],
    );
    let bench = bench.replace();
    let holds = bench.pilot.wanted().borrow().holds.clone();
    assert_eq!(holds.rests, [(endpoint(1), Some(9))].into());
    assert_eq!(
        holds.of(&endpoint(1)),
        Some(selvedge_model::Hold::AtRest(Some(9)))
    );
    assert_eq!(holds.of(&endpoint(2)), Some(selvedge_model::Hold::ToRest));
    assert!(version > 1);
}

/// A journal that is found only later is not begun anew.
#[tokio::test]
async fn numbers_go_on_where_the_journal_is_found_later() {
    let mut bench = begin();
    bench.tell(true, &[(1, state(8)), (1, decided(8, 12))]);
    bench.written().await;
    let folder = bench.folder.path().to_owned();
    let aside = folder.with_extension("aside");
    bench.writing.abort();
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let mut bench = bench.replace();
    bench.tell(true, &[(1, state(9))]);
    while bench.pilot.journal().trouble.is_none() {
        tokio::task::yield_now().await;
    }
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    bench.tell(true, &[(1, state(10)), (1, decided(10, 11))]);
    while bench.pilot.journal().trouble.is_some() {
        tokio::task::yield_now().await;
    }
    // What comes once it was found is written under the number that is told, and none is missing between.
    bench.tell(false, &[(1, decided(11, 13))]);
    let last = bench.pilot.journal().next - 1;
    assert_eq!(bench.pilot.limits()[&endpoint(1)].changed, Some(last));
    while find(&folder, last).unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let at = |number| find(&folder, number).unwrap().unwrap().event;
    assert_eq!(at(2), decided(8, 12));
    assert_eq!(at(last - 2), state(10));
    assert_eq!(at(last - 1), decided(10, 11));
    assert_eq!(at(last), decided(11, 13));
}
