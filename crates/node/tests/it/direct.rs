//! Connections to a service go straight to a living endpoint, and programs see what they asked for.

use std::net::Ipv4Addr;

use selvedge_model::{Place, Protocol, Reason};

use crate::testbed::{Program, Testbed, eventually, local};

/// The port a caller sees, the port a server sees of its caller, who answered.
struct Answer {
    pid: i32,
    server_own: String,
    caller_port: String,
    own_port: String,
    peer: String,
}

fn parse(answer: &str) -> Answer {
    let words: Vec<&str> = answer.split_whitespace().collect();
    let [pid, server_own, caller_port, "|", own_port, peer] = words[..] else {
        panic!("not an answer: {answer}")
    };
    Answer {
        pid: pid.parse().unwrap(),
        server_own: server_own.into(),
        caller_port: caller_port.into(),
        own_port: own_port.into(),
        peer: peer.into(),
    }
}

#[test]
fn a_connect_reaches_a_replica_and_both_see_what_they_asked_for() {
    let Some(mut bed) = Testbed::new("direct path") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    let caller_service = bed.service("caller", 1, Protocol::Tcp);
    let mut server = bed.program("web", "web-0");
    let mut caller = bed.program("caller", "caller-0");
    bed.endpoint("web", local(&server), 18080, 1);
    bed.apply();

    assert_eq!(caller.tell(&format!("ask {web}:80")), "error ECONNREFUSED");
    assert_eq!(server.tell("serve a 0.0.0.0:18080"), "0.0.0.0:18080");
    for ask in ["ask", "ask6"] {
        let answer = parse(&caller.tell(&format!("{ask} {web}:80")));
        assert_eq!(answer.pid, server.pid());
        assert_eq!(answer.server_own, "127.0.0.1:18080");
        assert_eq!(answer.caller_port, answer.own_port);
        assert!(
            [format!("{web}:80"), format!("[::ffff:{web}]:80")].contains(&answer.peer),
            "{}",
            answer.peer
        );
    }
    assert_eq!(caller.tell(&format!("ask {web}:81")), "error ECONNREFUSED");

    let edge = bed.edge(Some(caller_service), web);
    assert_eq!((edge.connections, edge.failures), (2, 0));
    assert_eq!(edge.refused.get(&Reason::NoEndpoint), Some(&1));
    assert_eq!(edge.refused.get(&Reason::NoSuchPort), Some(&1));
}

/// Whoever tries all addresses of the range makes one edge, not thousands.
#[test]
fn addresses_of_no_service_are_one_edge() {
    let Some(mut bed) = Testbed::new("unassigned addresses") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    let caller_service = bed.service("caller", 1, Protocol::Tcp);
    let mut caller = bed.program("caller", "caller-0");
    bed.apply();
    for step in 100..105 {
        let nobody = Ipv4Addr::from_bits(web.to_bits() + step);
        for ask in ["ask", "ask6"] {
            let answer = caller.tell(&format!("{ask} {nobody}:80"));
            assert_eq!(answer, "error ECONNREFUSED");
        }
    }
    let unassigned = bed.edge(Some(caller_service), None);
    assert_eq!(unassigned.refused, [(Reason::NoSuchService, 10)].into());
    assert_eq!(bed.node().observe().unwrap().edges.len(), 1);
}

#[test]
fn dead_replicas_are_skipped_and_weights_hold() {
    let Some(mut bed) = Testbed::new("weights and liveness") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    bed.service("caller", 1, Protocol::Tcp);
    let mut servers: Vec<Program> = (0..3)
        .map(|i| bed.program("web", &format!("web-{i}")))
        .collect();
    for (server, weight) in servers.iter_mut().zip([1, 1, 6]) {
        assert_eq!(server.tell("serve a 0.0.0.0:18081"), "0.0.0.0:18081");
        bed.endpoint("web", local(server), 18081, weight);
    }
    let mut caller = bed.program("caller", "caller-0");

    let count = |caller: &mut Program, servers: &[Program]| {
        let mut counts = [0; 3];
        for _ in 0..400 {
            let pid = parse(&caller.tell(&format!("ask {web}:80"))).pid;
            counts[servers
                .iter()
                .position(|server| server.pid() == pid)
                .unwrap()] += 1;
        }
        counts
    };
    // Six standard deviations of a binomial with n = 400 around shares 1/8, 1/8 and 6/8.
    let counts = count(&mut caller, &servers);
    assert!(
        (10..=90).contains(&counts[0]) && (10..=90).contains(&counts[1]),
        "{counts:?}"
    );
    assert!((248..=352).contains(&counts[2]), "{counts:?}");

    servers[2].kill();
    assert!(eventually(
        || bed.node().observe().unwrap().listening.len() == 2
    ));
    let counts = count(&mut caller, &servers);
    assert_eq!(counts[2], 0, "{counts:?}");
    assert!((140..=260).contains(&counts[0]), "{counts:?}");
}

#[test]
fn endpoints_outside_are_reached_and_their_failures_counted() {
    let Some(mut bed) = Testbed::new("outside endpoints") else {
        return;
    };
    let web = bed.service("db", 5432, Protocol::Tcp);
    let caller_service = bed.service("caller", 1, Protocol::Tcp);
    let mut outside = Program::outside();
    let listens = outside.tell("serve a 127.0.0.1:0");
    let port: u16 = listens.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut caller = bed.program("caller", "caller-0");
    bed.endpoint("db", Place::Outside([127, 0, 0, 1].into()), port, 1);
    bed.apply();
    assert_eq!(
        parse(&caller.tell(&format!("ask {web}:5432"))).pid,
        outside.pid()
    );
    outside.kill();
    assert_eq!(
        caller.tell(&format!("ask {web}:5432")),
        "error ECONNREFUSED"
    );
    let edge = bed.edge(Some(caller_service), web);
    assert_eq!((edge.connections, edge.failures), (2, 1));
}

#[test]
fn bytes_of_payload_are_counted_whoever_hangs_up() {
    let Some(mut bed) = Testbed::new("counting bytes") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    bed.service_mut("web").detailed_counters = true;
    let source = bed.service("caller", 1, Protocol::Tcp);
    let mut server = bed.program("web", "web-0");
    let mut caller = bed.program("caller", "caller-0");
    server.tell("serve a 0.0.0.0:18082");
    bed.endpoint("web", local(&server), 18082, 1);
    bed.apply();

    let connect = |caller: &mut Program, name: &str| {
        let greeting = caller.tell(&format!("connect {name} {web}:80"));
        greeting.len() as u64 + 1
    };
    let mut greetings = connect(&mut caller, "a");
    let detail = |bed: &mut Testbed| bed.edge(Some(source), web).detail.unwrap();
    assert_eq!(detail(&mut bed).open, 1);
    caller.tell("echo a");
    caller.tell("echo a");
    caller.tell("close a");
    assert!(eventually(|| detail(&mut bed).open == 0));
    let of_first = detail(&mut bed);
    assert_eq!(
        (of_first.bytes_sent, of_first.bytes_received),
        (2, greetings + 2)
    );

    greetings += connect(&mut caller, "b");
    caller.tell("echo b");
    server.kill();
    drop(server);
    caller.tell("close b");
    assert!(eventually(|| detail(&mut bed).open == 0));
    let of_both = detail(&mut bed);
    assert_eq!(
        (of_both.bytes_sent, of_both.bytes_received),
        (3, greetings + 3)
    );
    assert_eq!(of_both.connect_time_us.count(), 2);
}

#[test]
fn datagrams_go_both_ways_connected_or_not() {
    let Some(mut bed) = Testbed::new("datagrams") else {
        return;
    };
    let echo = bed.service("echo", 7, Protocol::Udp);
    bed.service("caller", 1, Protocol::Tcp);
    let mut server = bed.program("echo", "echo-0");
    let mut caller = bed.program("caller", "caller-0");
    bed.endpoint("echo", local(&server), 18082, 1);
    bed.apply();
    assert_eq!(
        caller.tell(&format!("sendto {echo}:7")),
        "error ECONNREFUSED"
    );
    // A port that the service does not have: an error at once or with the first answer.
    for how in ["send", "sendto"] {
        assert_eq!(
            caller.tell(&format!("{how} {echo}:8")),
            "error ECONNREFUSED"
        );
    }
    assert_eq!(server.tell("answer a 0.0.0.0:18082"), "0.0.0.0:18082");
    for how in ["send", "sendto"] {
        let answer = caller.tell(&format!("{how} {echo}:7"));
        assert_eq!(
            answer,
            format!("{} 0.0.0.0:18082 | {echo}:7", server.pid()),
            "{how}"
        );
    }
}

#[test]
fn a_connection_limit_is_exact() {
    let Some(mut bed) = Testbed::new("connection limit") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    let caller_service = bed.service("caller", 1, Protocol::Tcp);
    bed.service_mut("web").connection_limit = Some(2);
    let mut server = bed.program("web", "web-0");
    server.tell("serve a 0.0.0.0:18083");
    bed.endpoint("web", local(&server), 18083, 1);
    let mut caller = bed.program("caller", "caller-0");
    for name in ["a", "b"] {
        assert!(
            caller
                .tell(&format!("connect {name} {web}:80"))
                .contains("18083")
        );
    }
    for _ in 0..5 {
        assert_eq!(
            caller.tell(&format!("connect c {web}:80")),
            "error ECONNREFUSED"
        );
    }
    caller.tell("close a");
    assert!(eventually(|| caller
        .tell(&format!("connect c {web}:80"))
        .contains("18083")));
    let edge = bed.edge(Some(caller_service), web);
    assert_eq!(edge.connections, 3);
    assert!(edge.refused[&Reason::ConnectionLimit] >= 5);
}
