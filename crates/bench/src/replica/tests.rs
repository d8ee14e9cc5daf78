//! Replicas and a client, all in one thread.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn options(permits: u32, queue: u32, time: Duration) -> ReplicaOptions {
    ReplicaOptions {
        listen: Vec::new(),
        permits,
        queue,
        time: ServiceTime::Fixed(time),
        calls: Vec::new(),
        forwards: Forwarded::Trace,
        control: None,
        seed: 1,
    }
}

/// A replica at an address of its own.
async fn start(options: &ReplicaOptions) -> (SocketAddr, Rc<Work>) {
    let work = Rc::new(Work::new(options).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(accept(listener, Rc::clone(&work)));
    (address, work)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// Asks once, and gives all that is answered.
async fn ask(address: SocketAddr, target: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.unwrap();
    heard
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// Two at once, two that wait, and no room for the others.
#[test]
fn what_has_no_room_is_refused_and_the_rest_waits() {
    run(async {
        let time = Duration::from_millis(200);
        let (address, work) = start(&options(2, 2, time)).await;
        let began = Instant::now();
        let asked: Vec<_> = (0..6)
            .map(|_| spawn_local(async move { ask(address, "/", "").await }))
            .collect();
        let mut statuses = Vec::new();
        for asked in asked {
            statuses.push(status(&asked.await.unwrap()).to_owned());
        }
        assert!(began.elapsed() >= 2 * time, "two had to wait for two");
        statuses.sort_unstable();
        assert_eq!(statuses, ["200", "200", "200", "200", "503", "503"]);
        let report = work.report();
        assert_eq!((report.requests, report.worked, report.full), (6, 4, 2));
        assert_eq!(report.drawn_us, 800_000);
        assert!(report.held_us >= report.drawn_us);
    });
}

/// A request's work is a factor of the time, here and at whom is called.
#[test]
fn calls_are_made_for_a_request_with_its_work() {
    run(async {
        let time = Duration::from_millis(1);
        let (behind, last) = start(&options(8, 8, time)).await;
        let target: Target = behind.to_string().parse().unwrap();
        let (before, first) = start(&ReplicaOptions {
            calls: vec![vec![target.clone(), target.clone()], vec![target]],
            ..options(8, 8, time)
        })
        .await;
        let answer = ask(before, "/x?work=3", "").await;
        assert_eq!(status(&answer), "200", "{answer}");
        assert_eq!(first.report().drawn_us, 3000);
        assert_eq!(last.report().requests, 3);
        assert_eq!(last.report().drawn_us, 9000);
    });
}

/// Nothing but what was asked for, and never what is about the connection.
#[test]
fn what_is_passed_on_is_what_was_asked_for() {
    run(async {
        let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
        let other = "x-other: 1\r\n";
        for (forwards, has_trace, has_other) in [
            (Forwarded::All, true, true),
            (Forwarded::Trace, true, false),
            (Forwarded::Nothing, false, false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (before, _) = start(&ReplicaOptions {
                calls: vec![vec![address.to_string().parse().unwrap()]],
                forwards,
                ..options(8, 8, Duration::from_millis(1))
            })
            .await;
            let fields = format!("{trace}{other}");
            let asked = spawn_local(async move { ask(before, "/", &fields).await });
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = String::new();
            while !heard.ends_with("\r\n\r\n") {
                let byte = stream.read_u8().await.unwrap();
                heard.push(char::from(byte));
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            assert_eq!(status(&asked.await.unwrap()), "200");
            assert_eq!(heard.contains(trace.trim()), has_trace, "{heard}");
            assert_eq!(heard.contains(other.trim()), has_other, "{heard}");
            assert!(!heard.contains("connection: close"), "{heard}");
        }
    });
}

/// Where a call fails no further step is taken.
#[test]
fn a_failed_call_fails_the_request() {
    run(async {
        let (behind, last) = start(&options(8, 8, Duration::from_millis(1))).await;
        let target: Target = behind.to_string().parse().unwrap();
        let (before, first) = start(&ReplicaOptions {
            calls: vec![vec![target.clone()], vec![target]],
            ..options(8, 8, Duration::from_millis(1))
        })
        .await;
        last.set(selvedge_scenario::Condition {
            errors: 1.0,
            ..Default::default()
        });
        assert_eq!(status(&ask(before, "/", "").await), "503");
        assert_eq!(last.report().errors, 1);
        assert_eq!(first.report().failed_calls, 1);
        assert_eq!(status(&ask(before, "/?work=0", "").await), "400");
        assert_eq!(status(&ask(before, "/?work=NaN", "").await), "400");
    });
}

/// Its work is done all the same, as that of a program that does not notice.
#[test]
fn who_goes_away_leaves_its_work_behind() {
    run(async {
        let time = Duration::from_millis(100);
        let (address, work) = start(&options(1, 8, time)).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        while work.report().requests == 0 {
            tokio::task::yield_now().await;
        }
        drop(stream);
        assert_eq!(status(&ask(address, "/", "").await), "200");
        assert_eq!(work.report().worked, 2);
    });
}

/// Conditions come by a socket, and what is none changes nothing.
#[test]
fn it_is_told_how_to_be_by_its_socket() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let (address, work) = start(&options(8, 8, Duration::from_millis(1))).await;
        let listener = control::listen(&path).unwrap();
        drop(listener);
        let listener = control::listen(&path).unwrap();
        spawn_local(control::serve(listener, Rc::clone(&work)));
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let mut heard = [0; 256];
        for (line, word, status_now) in [
            ("{\"errors\":1}\n", "done", "500"),
            ("{\"errors\":2}\n", "refused", "500"),
            ("{}\n", "done", "200"),
        ] {
            stream.write_all(line.as_bytes()).await.unwrap();
            let length = stream.read(&mut heard).await.unwrap();
            let said = String::from_utf8_lossy(&heard[..length]);
            assert!(said.contains(word), "{said}");
            assert_eq!(status(&ask(address, "/", "").await), status_now);
        }
    });
}
