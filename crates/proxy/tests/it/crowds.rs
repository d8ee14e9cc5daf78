//! Claim: connections that do nothing cost next to nothing, and those that hold things up cost a bounded
//! amount of memory and hold nobody else up.

use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use selvedge_feed::{Counter as Count, Report};
use socket2::SockRef;

use crate::origin::{Origin, ok};
use crate::path::{Client, Path};
use crate::skip::skip;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";
const GET_LONG: &str = "GET /long HTTP/1.1\r\nHost: cart\r\n\r\n";
/// Answers to [`GET_LONG`] are far longer than sockets and proxy together take.
const LONG: usize = 1 << 20;

/// As many as the proxy and this process may have descriptors for, twenty thousand at most.
#[test]
fn many_thousands_idle_and_a_thousand_that_never_read() {
    const FEW: usize = 1000;
    const MOST: usize = 20_000;
    const GREEDY: usize = 1000;
    // Here one for each client and for each connection of the origin, and what other tests have.
    let others = 2 * GREEDY + 1000;
    let many = MOST.min(descriptors(MOST + others).saturating_sub(others));
    if many < 10_000 {
        return skip(
            "crowds::many_thousands_idle_and_a_thousand_that_never_read",
            "it takes more descriptors than this user may have",
        );
    }
    let long = "x".repeat(LONG);
    let origin = Origin::answering(move |request| match request.starts_with("GET /long") {
        true => ok(&long),
        false => ok("short"),
    });
    let path = Path::to(&[origin.address]);
    let pid = path.mesh.proxy.pid();
    let mut clients = Vec::new();
    let mut grow = |to: usize| {
        while clients.len() < to {
            let mut client = path.connect();
            client.send(GET);
            assert_eq!(client.response().status, 200);
            clients.push(client);
        }
        resident(pid)
    };
    let few = grow(FEW);
    let all = grow(many);
    let each = (all - few) / (many - FEW);
    assert!(each <= 2 << 10, "{each} bytes per idle connection");

    let greedy: Vec<Client> = (0..GREEDY).map(|_| never_reading(&path)).collect();
    for client in clients.iter_mut().step_by(many / 100) {
        client.send(GET);
        assert_eq!(client.response().body, "short");
    }
    // One buffer of what was read from the origin, and a request's state.
    let each = resident(pid).saturating_sub(all) / greedy.len();
    assert!(each <= 80 << 10, "{each} bytes per client that never reads");
}

#[test]
fn those_that_never_speak_leave_room_for_others() {
    let origin = Origin::answering(|_| ok("short"));
    let path = Path::to(&[origin.address]);
    let pid = path.mesh.proxy.pid();
    let before = resident(pid);
    let mute: Vec<Client> = (0..400)
        .map(|number| {
            let mut client = path.connect();
            if number % 2 == 0 {
                client.send("GET / HTTP/1.1\r\nHo");
            }
            client
        })
        .collect();
    for _ in 0..100 {
        assert_eq!(path.get(GET).body, "short");
    }
    let each = (resident(pid) - before) / mute.len();
    assert!(each <= 16 << 10, "{each} bytes per connection");
}

/// What cannot be accepted waits, and is served once there is room.
#[test]
fn without_descriptors_accepting_pauses_and_goes_on() {
    const ROOM: u64 = 20;
    let origin = Origin::answering(|_| ok("short"));
    let mut path = Path::to(&[origin.address]);
    assert_eq!(path.get(GET).body, "short");
    let pid = path.mesh.proxy.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count() as u64;
    let limit = Rlimit {
        current: Some(open + ROOM),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let process = Pid::from_raw(pid as i32);
    prlimit(process, Resource::Nofile, limit).expect("it is a child of this process");
    let crowd: Vec<Client> = (0..2 * ROOM).map(|_| path.connect()).collect();
    let pauses = |report: &Report| report.counters.get(&Count::AcceptPauses) > Some(&0);
    path.mesh.feed.report(pauses);
    drop(crowd);
    assert_eq!(path.get(GET).body, "short");
}

/// A client with a small window that has asked for much, and of which something is on its way.
fn never_reading(path: &Path) -> Client {
    let mut client = path.connect();
    let socket = SockRef::from(&client.stream);
    socket.set_recv_buffer_size(4096).unwrap();
    client.send(GET_LONG);
    await_first_byte(&client.stream);
    client
}

fn await_first_byte(stream: &TcpStream) {
    assert_eq!(stream.peek(&mut [0]).expect("an answer in time"), 1);
}

/// Raises the limit of descriptors, which the proxy inherits, as far as that is wanted and allowed; gives
/// what it is then.
fn descriptors(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = wanted as u64;
    let allowed = limit.maximum.map_or(wanted, |most| most.min(wanted));
    let current = limit.current.map_or(wanted, |current| current.max(allowed));
    let raised = Rlimit {
        current: Some(current),
        maximum: limit.maximum,
    };
    // Where that is refused the old limit stands.
    let _refused = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile)
        .current
        .map_or(wanted, |most| most.min(wanted)) as usize
}

/// Bytes of memory that a process holds.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: usize = line.split_whitespace().next().unwrap().parse().unwrap();
    kib << 10
}
