//! Workers do what they are asked: plain processes, no mesh, no rights.

use std::net::Ipv4Addr;

use super::*;
use crate::protocol::{Batch, Crowd, Held, Load, LoadReport, Names, Resolver};

/// Entry point of the worker processes of these tests; as a test of its own it does nothing.
#[test]
fn worker() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [.., control, name] = &arguments[..]
        && control.ends_with("/control")
    {
        crate::worker::run(Path::new(control), name).unwrap();
    }
}

fn crew(folder: &Path) -> Crew {
    let arguments = ["--exact", "crew::tests::worker"].map(str::to_owned);
    let launcher = Launcher {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.to_vec(),
    };
    Crew::new(folder, launcher).unwrap()
}

/// A client and a server, without a mesh, at whatever port is free.
fn pair(crew: &mut Crew, what: Served) -> (Worker, Worker, SocketAddr) {
    let client = crew.start("client").unwrap();
    let mut server = crew.start("server").unwrap();
    let address = server.serve(what, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    (client, server, address)
}

/// Asks until it is so.
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never became so");
    }
}

#[test]
fn batches_are_timed() {
    let folder = tempfile::tempdir().unwrap();
    let mut crew = crew(folder.path());
    let task = |what, address| match what {
        Served::Echo | Served::Many => Task::PingPong {
            to: address,
            bytes: 64,
            for_ms: 5,
        },
        Served::Greeting => Task::Connects {
            to: vec![address],
            for_ms: 5,
        },
        Served::Datagrams => Task::Datagrams {
            to: address,
            connected: false,
            bytes: 64,
            for_ms: 5,
        },
        Served::Names => Task::Queries {
            server: address,
            names: Names::Fresh("example".to_owned()),
            window: 8,
            for_ms: 5,
        },
    };
    for what in [
        Served::Echo,
        Served::Greeting,
        Served::Datagrams,
        Served::Names,
    ] {
        let (mut client, mut server, address) = pair(&mut crew, what);
        let before = server.cpu_ns().unwrap();
        let batch: Batch = client.ask(&task(what, address)).unwrap();
        assert!(
            batch.timed > 0 && batch.operations >= batch.timed,
            "{what:?}: {batch:?}"
        );
        assert!(
            batch.p50_ns > 0 && batch.p50_ns <= batch.p99_ns,
            "{what:?}: {batch:?}"
        );
        assert_eq!(batch.lost, 0, "{what:?}");
        assert!(batch.cpu_ns > 0 && server.cpu_ns().unwrap() > before);
    }
}

#[test]
fn a_refused_batch_is_told_by_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut crew = crew(folder.path());
    let (mut client, server, address) = pair(&mut crew, Served::Greeting);
    drop(server);
    let task = Task::Connects {
        to: vec![address],
        for_ms: 5,
    };
    let error = client.ask::<Batch>(&task).unwrap_err().to_string();
    assert!(error.starts_with("client-1: Connection refused"), "{error}");
}

#[test]
fn a_crowd_is_counted_while_it_is_abused() {
    let folder = tempfile::tempdir().unwrap();
    let mut crew = crew(folder.path());
    let (mut client, mut server, to) = pair(&mut crew, Served::Many);
    let threads = 4;
    let load = Load::Abuse {
        to,
        threads,
        seed: 1,
    };
    client.order(&Task::Begin(load)).unwrap();
    until(|| client.ask::<u64>(&Task::Progress).unwrap() >= 200);
    let report: LoadReport = client.ask(&Task::End).unwrap();
    assert!(report.total() >= 200 && report.failed() == 0, "{report:?}");
    let held: Held = client.ask(&Task::Hold { to, count: 7 }).unwrap();
    assert_eq!((held.opened, held.error), (7, None));
    // All but those that are held have ended; their ends are read before the next turn is over.
    let open = |server: &mut Worker| server.ask::<Crowd>(&Task::Crowd).unwrap();
    until(|| open(&mut server).open == 7);
    let crowd = open(&mut server);
    assert!(crowd.accepted > 100 && crowd.most >= 7, "{crowd:?}");
    client.order(&Task::Release).unwrap();
    until(|| open(&mut server).open == 0);
}

#[test]
fn a_killed_server_is_told_by_those_it_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut crew = crew(folder.path());
    let (mut client, server, to) = pair(&mut crew, Served::Many);
    client
        .order(&Task::Begin(Load::Kept { to, connections: 3 }))
        .unwrap();
    let victim = u64::from(server.pid);
    drop(server);
    until(|| client.ask::<u64>(&Task::Progress).unwrap() == 3);
    let report: LoadReport = client.ask(&Task::End).unwrap();
    assert_eq!((report.failed(), report.served()), (3, 0));
    // A thread may come too late to be served at all.
    let served = |failure: &crate::protocol::Failure| failure.server.unwrap_or(victim);
    assert!(
        report
            .failures
            .iter()
            .all(|failure| served(failure) == victim)
    );
    assert!(
        report
            .failures
            .iter()
            .all(|failure| failure.began_ns < failure.ended_ns)
    );
}

#[test]
fn look_ups_are_answered_for_either_client() {
    let folder = tempfile::tempdir().unwrap();
    let mut crew = crew(folder.path());
    let (mut client, _server, server) = pair(&mut crew, Served::Names);
    for resolver in [Resolver::Glibc, Resolver::Go] {
        let load = Load::Lookups {
            server,
            client: resolver,
            threads: 2,
            pause_us: 0,
        };
        client.order(&Task::Begin(load)).unwrap();
        until(|| client.ask::<u64>(&Task::Progress).unwrap() >= 50);
        let report: LoadReport = client.ask(&Task::End).unwrap();
        assert_eq!((report.failed(), report.most_tries), (0, 1), "{resolver:?}");
    }
}
