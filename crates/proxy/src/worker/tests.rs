//! Claim: once a worker is warm, requests cost it no allocation. Shown on a worker in this thread, with
//! clients and servers in others, by counting what this thread allocates.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::{NonZeroU16, NonZeroU32};
use std::thread;
use std::time::Duration;

use selvedge_feed::{Settings, View};
use selvedge_model::{
    AppProtocol, CgroupId, Ejection, Endpoint, Objective, PilotMode, Place, Protocol,
    RequestPolicy, RetryBudget, Service, ServiceName, ServicePort, Snapshot, Timeouts, Way,
};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::*;
use crate::origin::Origin;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 96, 1, 1);

/// A service with everything that requests can meet.
fn view(endpoint: SocketAddr, objective: Option<Objective>) -> View {
    let name: ServiceName = "cart".parse().unwrap();
    let policy = RequestPolicy {
        timeouts: Timeouts {
            request: Some(Duration::from_secs(15)),
            attempt: Some(Duration::from_secs(5)),
        },
        retry_budget: Some(RetryBudget {
            percent: 20,
            per_second: 10,
        }),
        requests_per_endpoint: NonZeroU32::new(1000),
        ejection: Some(Ejection {
            consecutive_failures: NonZeroU16::new(5).unwrap(),
            duration: Duration::from_secs(30),
            most_percent: 50,
        }),
        objective,
        ..RequestPolicy::default()
    };
    let port = ServicePort {
        name: None,
        port: Port::new(80).unwrap(),
        protocol: Protocol::Tcp,
        app_protocol: Some(AppProtocol("http".to_owned())),
        endpoints: vec![Endpoint {
            place: Place::Outside(endpoint.ip()),
            port: Port::new(endpoint.port()).unwrap(),
            weight: 1,
            ready: true,
        }],
        way: Way::ProxyOrDirect,
    };
    let service = Service {
        name: name.clone(),
        address: ADDRESS,
        ports: vec![port],
        published: Vec::new(),
        published_udp: Vec::new(),
        connection_limit: None,
        detailed_counters: false,
        requests: Some(policy),
    };
    let mut snapshot = Snapshot::empty();
    snapshot.services.insert(name, service);
    View {
        snapshot,
        settings: Settings::default(),
    }
}

fn setting(endpoint: SocketAddr) -> Setting {
    setting_with(endpoint, None)
}

fn setting_with(endpoint: SocketAddr, objective: Option<Objective>) -> Setting {
    let view = Arc::new(view(endpoint, objective));
    let routing = Routing::of(&view, None, 1);
    Setting {
        clock: Clock::start(),
        routing: Arc::new(arc_swap::ArcSwapOption::from_pointee(routing)),
        origin: OriginSource::Fixed(Origin {
            server: (ADDRESS, 80).into(),
            workload: CgroupId(7),
        }),
        patience: Patience::default(),
        counters: Arc::default(),
        access_log: Arc::new(AccessLog::new(1, Arc::default())),
        sightings: Sightings::new(1),
    }
}

fn local_runtime() -> LocalRuntime {
    let mut builder = Builder::new_current_thread();
    builder
        .enable_all()
        .build_local(LocalOptions::default())
        .unwrap()
}

/// Answers with 1 KiB whatever ends with an empty line or a last chunk.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        thread::spawn(move || {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n{}",
                "x".repeat(1024)
            );
            let mut buffer = vec![0; 65_536];
            let mut length = 0;
            loop {
                match stream.read(&mut buffer[length..]) {
                    Ok(count @ 1..) => length += count,
                    _ => return,
                }
                // A chunked body comes in the same write as its head, or behind it.
                let text = &buffer[..length];
                let ended = match text.windows(7).any(|part| part == b"chunked") {
                    true => text.ends_with(b"0\r\n\r\n"),
                    false => text.ends_with(b"\r\n\r\n"),
                };
                if ended {
                    length = 0;
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
    }
}

/// Sends GET and POST in turn, as many as are asked for.
fn send(stream: &mut TcpStream, requests: usize) {
    let get = "GET /a?b HTTP/1.1\r\nHost: cart\r\nAccept: */*\r\nUser-Agent: test\r\n\r\n";
    let post = "POST /a HTTP/1.1\r\nHost: cart\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let mut buffer = vec![0; 65_536];
    for number in 0..requests {
        let request = if number % 2 == 0 { get } else { post };
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let body = |answer: &[u8]| {
            let head = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
            Some(answer.len() - head - 4)
        };
        while body(&answer) != Some(1024) {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
}

/// Has `client` do something against a worker with this patience.
fn with_patience<T: Send + 'static>(
    patience: Patience,
    client: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> T {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut setting = setting(origin.local_addr().unwrap());
    setting.patience = patience;
    thread::spawn(move || serve(&origin));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (commands, received) = mpsc::channel(QUEUE);
    let (done, is_done) = oneshot::channel();
    let client = thread::spawn(move || {
        let result = client(stream);
        let _ = done.send(());
        result
    });
    local_runtime().block_on(async {
        let sockets = vec![(SocketKind::Captured, listener.into())];
        commands.send(Command::Serve(sockets)).await.unwrap();
        tokio::task::spawn_local(work(Worker::new(setting, 0, 1), received));
        // Without an answer where the client has failed, which the thread tells.
        let _ = is_done.await;
    });
    client.join().unwrap()
}

/// What comes until the connection ends, however.
fn everything(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8(all).unwrap()
}

#[test]
fn whoever_does_not_go_on_is_given_up() {
    const SOON: Duration = Duration::from_millis(20);
    let head = Patience {
        head: SOON,
        ..Patience::default()
    };
    let body = Patience {
        body: SOON,
        ..Patience::default()
    };
    for (patience, request) in [
        (head, "GET / HTTP/1.1\r\nHo"),
        (
            body,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        ),
    ] {
        let answer = with_patience(patience, move |mut stream| {
            stream.write_all(request.as_bytes()).unwrap();
            everything(stream)
        });
        assert!(answer.starts_with("HTTP/1.1 408 "), "{request}: {answer}");
        assert!(
            answer.contains("selvedge-reason: request_stalled\r\n"),
            "{answer}"
        );
    }
    let idle = Patience {
        keep_alive: SOON,
        ..Patience::default()
    };
    let after = with_patience(idle, |mut stream| {
        send(&mut stream, 2);
        everything(stream)
    });
    assert_eq!(after, "");
}

#[test]
fn a_warm_worker_allocates_nothing() {
    counts_no_allocation(None);
}

#[test]
fn limits_that_move_cost_no_allocation() {
    counts_no_allocation(Some(Objective {
        latency: Duration::from_secs(5),
        mode: PilotMode::Drive,
    }));
}

fn counts_no_allocation(objective: Option<Objective>) {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = origin.local_addr().unwrap();
    thread::spawn(move || serve(&origin));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = local_runtime();
    let (commands, received) = mpsc::channel(QUEUE);
    let (warm, is_warm) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let (go, may_go) = std::sync::mpsc::sync_channel(1);
    let clients = thread::spawn(move || {
        let mut streams: Vec<_> = (0..4)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for stream in &mut streams {
            send(stream, 500);
        }
        warm.send(()).unwrap();
        may_go.recv().unwrap();
        for _ in 0..100 {
            for stream in &mut streams {
                send(stream, 10);
            }
        }
        done.send(()).unwrap();
    });
    let worker = Worker::new(setting_with(endpoint, objective), 0, 1);
    runtime.block_on(async {
        commands
            .send(Command::Serve(vec![(
                SocketKind::Captured,
                listener.into(),
            )]))
            .await
            .unwrap();
        tokio::task::spawn_local(work(worker, received));
        is_warm.await.unwrap();
    });
    let counted = allocation_counter::measure(|| {
        go.send(()).unwrap();
        runtime.block_on(is_done).unwrap();
    });
    clients.join().unwrap();
    assert_eq!(counted.count_total, 0, "{counted:?} in 4000 requests");
}

/// The task of a connection is there for as long as that is, request or not.
#[test]
fn the_task_of_a_connection_is_small() {
    let runtime = local_runtime();
    runtime.block_on(async {
        let endpoint = "127.0.0.1:1".parse().unwrap();
        let worker = Rc::new(Worker::new(setting(endpoint), 0, 1));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let requests = Rc::new(requests(&worker));
        let task = connection::serve(worker, SocketKind::Captured, stream, requests);
        assert!(size_of_val(&task) <= 512, "{} bytes", size_of_val(&task));
    });
}
