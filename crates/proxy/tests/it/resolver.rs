//! Claim: the resolver serves mesh names itself and is a clean pipe for all others, over UDP and
//! TCP. Shown end to end: a program's socket, the real process, a resolver behind it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::mpsc::sync_channel;

use selvedge_feed::{Counter, Report, Settings};

use crate::agent::{DEADLINE, Sockets};
use crate::answers::{service, snapshot};
use crate::dialect::{A, AAAA, describe, edns_query, query};
use crate::mesh::{Mesh, ask, client, receive};
use crate::upstream::{Upstream, read_message, wildcard, write_message};

fn connect(mesh: &Mesh) -> TcpStream {
    let stream = TcpStream::connect(mesh.sockets.tcp.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[test]
fn mesh_names_are_answered_over_all_four_sockets() {
    let upstream = Upstream::udp(|query| vec![wildcard(query)]);
    let mesh = Mesh::start(upstream.address);
    let message = query(0x1234, "cart", A);
    let v6 = client(mesh.sockets.udp6.local_addr().unwrap());
    for socket in [&mesh.client(), &v6] {
        let answer = ask(socket, &message);
        assert_eq!(answer[..2], [0x12, 0x34]);
        assert_eq!(
            describe(&answer),
            "rcode 0 aa rd ra\nanswer: cart. 5 A 127.96.1.1"
        );
    }
    for listener in [&mesh.sockets.tcp, &mesh.sockets.tcp6] {
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        write_message(&mut stream, &message);
        assert!(describe(&read_message(&mut stream).unwrap()).ends_with("127.96.1.1"));
    }
    assert!(upstream.rest().is_empty(), "no mesh name leaves");
}

#[test]
fn without_ipv6_datagrams_are_served_all_the_same() {
    let upstream = Upstream::udp(|query| vec![wildcard(query)]);
    let mut mesh = Mesh::start_with(upstream.address, Sockets::without_ipv6());
    mesh.feed.publish(snapshot(1));
    let program = mesh.client();
    assert!(describe(&ask(&program, &query(1, "cart", A))).contains("127.96.1.1"));
    let message = query(2, "example.com", A);
    assert_eq!(ask(&program, &message), wildcard(&message));
}

#[test]
fn a_wildcard_behind_us_never_sees_a_mesh_name() {
    let upstream = Upstream::udp(|query| vec![wildcard(query)]);
    let mut mesh = Mesh::start(upstream.address);
    let program = mesh.client();
    for (name, rcode) in [
        ("cart", 0),
        ("cart.corp.example", 3),
        ("cart.shop.svc.cluster.local", 0),
        ("cart.shop.svc.cluster.local.corp.example", 3),
        ("nobody.shop.svc.cluster.local", 3),
    ] {
        for rtype in [A, AAAA] {
            let answer = ask(&program, &query(1, name, rtype));
            assert_eq!(answer[3] & 0xf, rcode, "{name}");
        }
    }
    ask(&program, &query(1, "example.com", A));
    assert!(upstream.next().0[12..].starts_with(b"\x07example\x03com\0"));
    assert!(upstream.rest().is_empty());

    let report = mesh
        .feed
        .report(|report| report.counters[&Counter::Queries] == 11);
    assert_eq!(report.counters[&Counter::Shadowed], 4);
    assert_eq!(report.counters[&Counter::Forwarded], 1);
    assert_eq!(report.counters[&Counter::Relayed], 1);
    let shadowed = [
        "cart.corp.example",
        "cart.shop.svc.cluster.local.corp.example",
    ];
    assert_eq!(report.shadowed, shadowed);
}

#[test]
fn foreign_messages_pass_untouched_but_for_the_id() {
    let upstream = Upstream::udp(|query| vec![wildcard(query)]);
    let mesh = Mesh::start(upstream.address);
    let mut ids = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..20 {
        let program = mesh.client();
        // Bits, case and what follows the question: all of it is between program and server.
        let mut message = edns_query("eXaMpLe.CoM", A, 4096, 3, 0x80);
        message[3] |= 0x30;
        message.extend_from_slice(b"and more");
        let answer = ask(&program, &message);
        let (seen, from) = upstream.next();
        assert_eq!(seen[2..], message[2..]);
        assert_eq!(answer, wildcard(&message));
        ids.push([seen[0], seen[1]]);
        ports.push(from.port());
    }
    ids.sort_unstable();
    ids.dedup();
    assert!(ids.len() > 15, "ids are not random: {ids:?}");
    assert!(!ports.contains(&mesh.sockets.udp.local_addr().unwrap().port()));
}

#[test]
fn forged_answers_are_dropped_and_the_true_one_passes() {
    let upstream = Upstream::udp(|query| {
        let true_answer = wildcard(query);
        let mut other_id = true_answer.clone();
        other_id[0] ^= 1;
        let mut other_question = true_answer.clone();
        other_question[13] ^= 1;
        let mut no_response = true_answer.clone();
        no_response[2] &= 0x7f;
        let mut no_question = true_answer[..12].to_vec();
        no_question[5] = 0;
        vec![
            vec![],
            other_id,
            other_question,
            no_response,
            no_question,
            true_answer,
        ]
    });
    let mut mesh = Mesh::start(upstream.address);
    let program = mesh.client();
    let message = query(77, "example.com", A);
    assert_eq!(ask(&program, &message), wildcard(&message));
    // Nothing else came: the next answer is that to the next question.
    assert!(describe(&ask(&program, &query(78, "cart", A))).contains("cart."));
    mesh.feed
        .report(|report| report.counters.get(&Counter::Mismatched) == Some(&5));
}

#[test]
fn an_answer_without_question_passes_if_it_is_an_error() {
    let upstream = Upstream::udp(|query| {
        let mut formerr = query[..12].to_vec();
        formerr[2] |= 0x80;
        formerr[3] |= 1;
        formerr[5] = 0;
        vec![formerr]
    });
    let mesh = Mesh::start(upstream.address);
    let answer = ask(&mesh.client(), &query(5, "example.com", A));
    assert_eq!(answer[..6], [0, 5, 0x81, 1, 0, 0]);
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let mesh = Mesh::start(address);
    let program = mesh.client();
    let message = query(9, "example.com", A);
    for _ in 0..3 {
        let answer = ask(&program, &message);
        assert_eq!(describe(&answer), "rcode 2 rd ra");
        assert_eq!(answer[12..], message[12..], "the question is repeated");
    }
    let mut stream = connect(&mesh);
    write_message(&mut stream, &message);
    let answer = read_message(&mut stream).unwrap();
    assert_eq!(describe(&answer), "rcode 2 rd ra");
}

#[test]
fn a_repeated_query_is_sent_again() {
    let (tell, told) = sync_channel::<()>(1);
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::udp(move |query| {
        // Lost the first time.
        match told.lock().unwrap().try_recv() {
            Ok(()) => vec![wildcard(query)],
            Err(_) => Vec::new(),
        }
    });
    let mesh = Mesh::start(upstream.address);
    let program = mesh.client();
    let message = query(9, "example.com", A);
    program.send(&message).unwrap();
    upstream.next();
    tell.send(()).unwrap();
    assert_eq!(ask(&program, &message), wildcard(&message));
}

#[test]
fn at_the_bound_the_oldest_queries_give_way() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut mesh = Mesh::start(silent.local_addr().unwrap());
    mesh.feed.set_settings(Settings {
        max_in_flight: 4,
        ..Settings::default()
    });
    mesh.feed.publish(snapshot(2));
    let program = mesh.client();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut asked = Vec::new();
    for id in 0..10 {
        program.send(&query(id, "example.com", A)).unwrap();
        let mut buffer = [0; 512];
        let (length, from) = silent.recv_from(&mut buffer).unwrap();
        asked.push((buffer[..length].to_vec(), from));
    }
    for (message, from) in &asked {
        // Where the socket is closed already nobody listens, which the next send may be told.
        let _ = silent.send_to(&wildcard(message), *from);
    }
    // How many share a flight, and go with it, is a matter of time.
    let of = |report: &Report, counter| report.counters.get(&counter).copied().unwrap_or(0);
    let report = mesh.feed.report(|report| {
        of(report, Counter::Displaced) + of(report, Counter::Relayed) == asked.len() as u64
    });
    let displaced = u8::try_from(of(&report, Counter::Displaced)).unwrap();
    assert!((6..10).contains(&displaced), "{displaced}");
    let mut answered: Vec<_> = (displaced..10).map(|_| receive(&program)[1]).collect();
    answered.sort();
    assert_eq!(answered, (displaced..10).collect::<Vec<_>>());
}

#[test]
fn what_is_not_answered_in_time_is_forgotten() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut mesh = Mesh::start(silent.local_addr().unwrap());
    mesh.feed.set_settings(Settings {
        forward_timeout: std::time::Duration::from_millis(1),
        ..Settings::default()
    });
    mesh.feed.publish(snapshot(2));
    mesh.client().send(&query(1, "example.com", A)).unwrap();
    mesh.feed
        .report(|report| report.counters.get(&Counter::TimedOut) == Some(&1));
}

#[test]
fn a_query_aimed_at_ourselves_ends_here() {
    let sockets = Sockets::new();
    let own = (
        Ipv4Addr::LOCALHOST,
        sockets.udp.local_addr().unwrap().port(),
    );
    let mut mesh = Mesh::start_with(own.into(), sockets);
    mesh.feed.publish(snapshot(1));
    let answer = ask(&mesh.client(), &query(1, "example.com", A));
    assert_eq!(describe(&answer), "rcode 2 rd ra");
    let report = mesh
        .feed
        .report(|report| report.counters.contains_key(&Counter::Looped));
    assert!(!report.counters.contains_key(&Counter::Forwarded));
}

#[test]
fn a_truncated_answer_passes_and_the_whole_one_comes_over_tcp() {
    let truncated = |query: &[u8]| {
        let mut answer = wildcard(query);
        answer[2] |= 2;
        answer
    };
    let large = |query: &[u8]| [wildcard(query), vec![7; 40_000]].concat();
    let upstream = Upstream::both(truncated, large);
    let mesh = Mesh::start(upstream.address);
    let message = query(3, "example.com", A);
    assert_eq!(ask(&mesh.client(), &message), truncated(&message));
    let mut stream = connect(&mesh);
    write_message(&mut stream, &message);
    assert_eq!(read_message(&mut stream).unwrap(), large(&message));
}

#[test]
fn a_connection_carries_many_queries_however_it_is_cut() {
    let upstream = Upstream::both(wildcard, wildcard);
    let mesh = Mesh::start(upstream.address);
    let mut stream = connect(&mesh);
    let names = [
        "example.com",
        "cart",
        "example.org",
        "db",
        "nobody.shop.svc",
    ];
    let queries: Vec<_> = names
        .iter()
        .zip(0..)
        .map(|(name, id)| query(id, name, A))
        .collect();
    for query in &queries {
        let length = u16::try_from(query.len()).unwrap().to_be_bytes();
        for byte in [&length[..], query].concat() {
            stream.write_all(&[byte]).unwrap();
        }
    }
    // Nothing more to ask, but all answers are still to come.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers: Vec<_> = names.map(|_| read_message(&mut stream).unwrap()).into();
    answers.sort();
    assert_eq!(answers[0], wildcard(&queries[0]));
    assert!(describe(&answers[1]).contains("127.96.1.1"));
    assert_eq!(answers[2], wildcard(&queries[2]));
    assert!(describe(&answers[3]).contains("127.96.1.2"));
    assert!(describe(&answers[4]).starts_with("rcode 3"));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "then it is closed");
}

#[test]
fn one_workload_has_a_bounded_number_of_connections() {
    let upstream = Upstream::both(wildcard, wildcard);
    let mesh = Mesh::start(upstream.address);
    let message = query(3, "cart", A);
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = connect(&mesh);
        write_message(&mut stream, &message);
        read_message(&mut stream).unwrap();
        open.push(stream);
    }
    let mut refused = connect(&mesh);
    assert!(!matches!(refused.read(&mut [0]), Ok(1..)), "closed at once");

    // A place that is given back can be taken again.
    drop(open.pop());
    crate::agent::until("a free place", || {
        let mut stream = connect(&mesh);
        // A connection that is refused may be reset amid the writing.
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &message].concat()).ok()?;
        read_message(&mut stream)
    });
}

#[test]
fn a_change_is_in_force_once_it_is_acknowledged() {
    let upstream = Upstream::udp(|query| vec![wildcard(query)]);
    let mut mesh = Mesh::start(upstream.address);
    let program = mesh.client();
    let message = query(3, "fresh", A);
    assert_eq!(ask(&program, &message), wildcard(&message));
    let mut next = snapshot(2);
    let fresh = service("fresh.shop", 77, &[]);
    next.services.insert(fresh.name.clone(), fresh);
    mesh.feed.publish(next);
    assert!(describe(&ask(&program, &message)).contains("127.96.1.77"));
    mesh.feed.publish(snapshot(3));
    assert_eq!(ask(&program, &message), wildcard(&message));
}
