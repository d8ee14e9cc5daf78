//! Claim: agent and proxy may come and go at any moment, and no query that waits in a socket is lost
//! by it. Shown by killing either while queries are queued.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;

use selvedge_model::Snapshot;

use crate::agent::{DEADLINE, Proxy, Sockets, until};
use crate::answers::{SHOPPER, snapshot};
use crate::dialect::{A, describe, query};
use crate::mesh::{Mesh, ask, client, receive};
use crate::upstream::{Upstream, wildcard};

fn upstream() -> Upstream {
    Upstream::udp(|query| vec![wildcard(query)])
}

#[test]
fn queries_wait_for_the_first_configuration() {
    let mut mesh = Mesh::start_empty(upstream().address);
    let program = mesh.client();
    program.send(&query(1, "cart", A)).unwrap();
    // The worker is up, has nothing to answer from, and does not guess.
    mesh.feed.probe(1);
    mesh.feed.publish(snapshot(1));
    assert!(describe(&receive(&program)).contains("127.96.1.1"));
}

#[test]
fn a_killed_proxy_loses_nothing_that_came_meanwhile() {
    let upstream = upstream();
    let mut mesh = Mesh::start(upstream.address);
    let program = mesh.client();
    ask(&program, &query(1, "cart", A));
    mesh.proxy.kill();
    for id in 2..50 {
        program.send(&query(id, "cart", A)).unwrap();
    }
    mesh.proxy = Proxy::start(&mesh.agent.path(), upstream.address, SHOPPER);
    mesh.feed = mesh.agent.accept(&mesh.sockets);
    mesh.feed.publish(snapshot(1));
    let ids: Vec<_> = (2..50).map(|_| receive(&program)[1]).collect();
    assert_eq!(ids, (2..50).collect::<Vec<_>>());
}

#[test]
fn without_an_agent_it_serves_on_and_the_next_one_takes_over() {
    let mut mesh = Mesh::start(upstream().address);
    let program = mesh.client();
    drop(mesh.feed);
    let agent = mesh.agent.replace();
    for id in 0..50 {
        assert!(describe(&ask(&program, &query(id, "cart", A))).contains("127.96.1.1"));
    }
    // The new agent starts from nothing, and its generations from the beginning.
    mesh.feed = agent.accept(&mesh.sockets);
    assert!(describe(&ask(&program, &query(9, "cart", A))).contains("127.96.1.1"));
    mesh.feed.publish(Snapshot::empty());
    let message = query(9, "cart", A);
    assert_eq!(
        ask(&program, &message),
        wildcard(&message),
        "now it is nobody's name"
    );
}

#[test]
fn sockets_are_exchanged_without_losing_what_is_queued() {
    let upstream = upstream();
    let mut mesh = Mesh::start(upstream.address);
    let old: Vec<_> = (0..20).map(|_| mesh.client()).collect();
    for (program, id) in old.iter().zip(0..) {
        program.send(&query(id, "cart", A)).unwrap();
    }
    // A restarted agent opens its sockets beside those of the living proxy.
    drop(mesh.feed);
    let agent = mesh.agent.replace();
    let sockets: Sockets = mesh.sockets.beside();
    let resolver = sockets.udp.local_addr().unwrap();
    drop(mesh.sockets);
    mesh.feed = agent.accept(&sockets);
    mesh.feed.publish(snapshot(1));
    for program in &old {
        assert!(describe(&receive(program)).contains("127.96.1.1"));
    }
    mesh.feed.probe(1);
    for id in 0..20 {
        let fresh = client(resolver);
        assert!(describe(&ask(&fresh, &query(id, "cart", A))).contains("127.96.1.1"));
    }
    drop(agent);
}

#[test]
fn an_answer_that_is_on_its_way_survives_the_exchange_of_sockets() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut mesh = Mesh::start(silent.local_addr().unwrap());
    let program = mesh.client();
    let message = query(7, "example.com", A);
    program.send(&message).unwrap();
    let mut buffer = [0; 512];
    let (length, from) = silent.recv_from(&mut buffer).unwrap();

    drop(mesh.feed);
    let agent = mesh.agent.replace();
    let sockets = mesh.sockets.beside();
    drop(mesh.sockets);
    mesh.feed = agent.accept(&sockets);
    mesh.feed.publish(snapshot(1));
    mesh.feed.probe(1);
    silent.send_to(&wildcard(&buffer[..length]), from).unwrap();
    assert_eq!(receive(&program), wildcard(&message));
    let fresh = client(sockets.udp.local_addr().unwrap());
    assert!(describe(&ask(&fresh, &query(8, "cart", A))).contains("127.96.1.1"));
}

#[test]
fn a_port_towards_a_server_is_given_back_though_the_agent_comes_again_meanwhile() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut mesh = Mesh::start(silent.local_addr().unwrap());
    let program = mesh.client();
    let next = |id| {
        program.send(&query(id, "example.com", A)).unwrap();
        let mut buffer = [0; 512];
        let (length, from) = silent.recv_from(&mut buffer).unwrap();
        (wildcard(&buffer[..length]), from)
    };
    let first = next(1);
    // The same agent with the same sockets, after a connection that broke.
    drop(mesh.feed);
    mesh.feed = mesh.agent.accept(&mesh.sockets);
    mesh.feed.probe(1);
    let second = next(2);
    for (answer, from) in [&first, &second] {
        silent.send_to(answer, from).unwrap();
        receive(&program);
    }
    for (_, from) in [first, second] {
        until("the port to be free, without another query", || {
            UdpSocket::bind(from).ok()
        });
    }
}

#[test]
fn a_probe_is_answered_by_a_process_that_has_given_up_its_rights() {
    let mut mesh = Mesh::start(upstream().address);
    assert_eq!(mesh.feed.pid, mesh.proxy.pid());
    mesh.feed.probe(0xfeed);
    mesh.feed.probe(u64::MAX);
    let threads = fs::read_dir(format!("/proc/{}/task", mesh.proxy.pid())).unwrap();
    let mut checked = 0;
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let fields: BTreeMap<_, _> = status
            .lines()
            .filter_map(|line| line.split_once(":\t"))
            .collect();
        assert_eq!(fields["Seccomp"], "2");
        assert_eq!(fields["NoNewPrivs"], "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(fields[set], "0000000000000000", "{set}");
        }
        checked += 1;
    }
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(
        checked,
        5 + processors.min(16),
        "resolver, feed, access log, one per socket of datagrams, and the workers"
    );
}
