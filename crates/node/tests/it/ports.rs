//! Replicas that bind the same port all run, and see the port they asked for.

use selvedge_model::{PortMode, Protocol, Reason};

use crate::testbed::{Program, Testbed, eventually, local};

#[test]
fn replicas_on_one_port_all_run_and_see_it() {
    let Some(mut bed) = Testbed::new("replicas on one port") else {
        return;
    };
    let web = bed.service("web", 18089, Protocol::Tcp);
    let mut replicas: Vec<Program> = (0..3)
        .map(|i| bed.program("web", &format!("web-{i}")))
        .collect();
    for replica in &mut replicas {
        assert_eq!(replica.tell("serve a 0.0.0.0:18090"), "0.0.0.0:18090");
        assert_eq!(replica.tell("own a"), "0.0.0.0:18090");
        bed.endpoint("web", local(replica), 18090, 1);
    }
    bed.apply();
    let listening = bed.node().observe().unwrap().listening;
    assert_eq!(listening.len(), 3);
    assert_eq!(listening.iter().filter(|it| it.bound == it.port).count(), 1);
    assert!(listening.iter().all(|it| it.port.get() == 18090));

    // Each reaches itself by the port it asked for, over every address that means this host.
    for replica in &mut replicas {
        let pid = replica.pid();
        for address in ["127.0.0.1", "127.0.0.9", "0.0.0.0"] {
            let answer = replica.tell(&format!("ask {address}:18090"));
            assert!(
                answer.starts_with(&format!("{pid} ")),
                "{address}: {answer}"
            );
        }
    }
    // A caller outside any workload meets the one that kept the port.
    let mut outside = Program::outside();
    let first = replicas[0].pid();
    assert!(
        outside
            .tell("ask 127.0.0.1:18090")
            .starts_with(&format!("{first} "))
    );
    // ... and no virtual address works for it.
    assert_eq!(
        outside.tell(&format!("ask {web}:18089")),
        "error ECONNREFUSED"
    );

    // The port goes with its holder and comes back with the next.
    replicas[0].kill();
    assert!(eventually(
        || bed.node().observe().unwrap().listening.len() == 2
    ));
    let mut again = bed.program("web", "web-3");
    assert_eq!(
        again.tell("serve a 0.0.0.0:18090 reuseaddr"),
        "0.0.0.0:18090"
    );
    assert!(
        outside
            .tell("ask 127.0.0.1:18090")
            .starts_with(&format!("{} ", again.pid()))
    );
}

#[test]
fn datagrams_to_the_own_port_reach_oneself() {
    let Some(mut bed) = Testbed::new("datagrams to the own port") else {
        return;
    };
    bed.service("gossip", 18097, Protocol::Udp);
    let mut replicas: Vec<Program> = (0..3)
        .map(|i| bed.program("gossip", &format!("gossip-{i}")))
        .collect();
    for replica in &mut replicas {
        assert_eq!(replica.tell("answer a [::]:18097"), "[::]:18097");
    }
    bed.apply();
    for replica in &mut replicas {
        let pid = replica.pid();
        for (to, from) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("127.0.0.9", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]"),
        ] {
            for how in ["sendto", "send"] {
                // Connected, it hears nobody but 127.0.0.9: Linux answers from 127.0.0.1.
                if (to, how) == ("127.0.0.9", "send") {
                    continue;
                }
                let answer = replica.tell(&format!("{how} {to}:18097"));
                assert!(
                    answer.starts_with(&format!("{pid} ")),
                    "{how} {to}: {answer}"
                );
                // A connected socket is told what it asked for, as the kernel would.
                if how == "sendto" {
                    assert!(
                        answer.ends_with(&format!("| {from}:18097")),
                        "{to}: {answer}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_replica_shares_its_port_among_its_own_sockets_only() {
    let Some(mut bed) = Testbed::new("port groups") else {
        return;
    };
    bed.service("web", 80, Protocol::Tcp);
    let mut first = bed.program("web", "web-0");
    let mut second = bed.program("web", "web-1");
    for replica in [&mut first, &mut second] {
        for name in ["a", "b"] {
            assert_eq!(
                replica.tell(&format!("serve {name} 0.0.0.0:18091 reuseport")),
                "0.0.0.0:18091"
            );
        }
        assert_eq!(
            replica.tell("serve c [::]:18091 reuseport only6"),
            "[::]:18091"
        );
        // Without SO_REUSEPORT the second bind fails as it would without a mesh.
        assert_eq!(replica.tell("serve d 0.0.0.0:18092"), "0.0.0.0:18092");
        assert_eq!(replica.tell("serve e 0.0.0.0:18092"), "error EADDRINUSE");
        assert_eq!(replica.tell("bind f 0.0.0.0:18091 udp"), "0.0.0.0:18091");
    }
    let listening = bed.node().observe().unwrap().listening;
    let bound = |protocol, port: u16| {
        let mut all: Vec<u16> = listening
            .iter()
            .filter(|it| it.protocol == protocol && it.port.get() == port)
            .map(|it| it.bound.get())
            .collect();
        all.sort_unstable();
        all
    };
    for (protocol, port) in [
        (Protocol::Tcp, 18091),
        (Protocol::Tcp, 18092),
        (Protocol::Udp, 18091),
    ] {
        let all = bound(protocol, port);
        assert_eq!(all.len(), 2, "{protocol} {port}: {all:?}");
        assert_ne!(all[0], all[1]);
    }
    for name in ["a", "b", "c", "f"] {
        second.tell(&format!("close {name}"));
    }
}

#[test]
fn a_port_somebody_else_listens_on_is_left_to_them() {
    let Some(mut bed) = Testbed::new("ports of others") else {
        return;
    };
    bed.service("web", 80, Protocol::Tcp);
    let mut outside = Program::outside();
    let port = outside
        .tell("serve a 127.0.0.1:0")
        .rsplit_once(':')
        .unwrap()
        .1
        .to_owned();
    let mut replica = bed.program("web", "web-0");
    assert_eq!(
        replica.tell(&format!("serve a 127.0.0.1:{port}")),
        format!("127.0.0.1:{port}")
    );
    assert!(
        outside
            .tell(&format!("ask 127.0.0.1:{port}"))
            .starts_with(&outside.pid().to_string())
    );
    assert!(
        replica
            .tell(&format!("ask 127.0.0.1:{port}"))
            .starts_with(&replica.pid().to_string())
    );
    // A program that keeps its ports meets the collision itself.
    let mut kept = bed.program_with("web", "web-1", PortMode::Kept);
    assert_eq!(
        kept.tell(&format!("serve a 127.0.0.1:{port}")),
        "error EADDRINUSE"
    );
}

#[test]
fn multipath_sockets_are_refused() {
    let Some(mut bed) = Testbed::new("multipath") else {
        return;
    };
    bed.service("web", 80, Protocol::Tcp);
    let mut program = bed.program("web", "web-0");
    assert_eq!(program.tell("mptcp"), "error EPROTONOSUPPORT");
    let refused = bed.node().observe().unwrap().refused;
    assert_eq!(refused.get(&Reason::Multipath), Some(&1));
}
