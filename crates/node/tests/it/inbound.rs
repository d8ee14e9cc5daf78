//! What comes from off the host, from a network namespace beside it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge_model::{Listening, Port, Protocol};

use crate::testbed::{Program, Testbed, eventually, local, run};

/// A network namespace joined to ours by a pair of virtual interfaces, and a program there.
struct Neighbour {
    name: String,
    /// Our address there, and its own.
    ours: Ipv4Addr,
    theirs: Ipv4Addr,
    program: Program,
}

impl Neighbour {
    fn new() -> Self {
        /// Tells the neighbours of one process apart.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("sv{process}-n{number}");
        // One of the 2^20 quartets of 100.64.0.0/10 (RFC 6598).
        let quartet =
            Ipv4Addr::new(100, 64, 0, 0).to_bits() + 4 * ((8 * process + number) % (1 << 20));
        let (ours, theirs) = (
            Ipv4Addr::from_bits(quartet + 1),
            Ipv4Addr::from_bits(quartet + 2),
        );
        for line in [
            format!("ip netns add {name}"),
            format!("ip link add {name}a type veth peer name {name}b netns {name}"),
            format!("ip addr add {ours}/30 dev {name}a"),
            format!("ip link set {name}a up"),
            format!("ip -n {name} addr add {theirs}/30 dev {name}b"),
            format!("ip -n {name} link set {name}b up"),
        ] {
            run(&line);
        }
        let program = Program::in_namespace(&name);
        Self {
            name,
            ours,
            theirs,
            program,
        }
    }

    /// What a connection from there to our address meets.
    fn connect(&mut self, port: u16) -> String {
        self.program.tell(&format!("ask {}:{port}", self.ours))
    }

    /// What a datagram from there to our address meets. The socket that sends it is connected: it
    /// takes no answer but one from the port it asked.
    fn send(&mut self, port: u16) -> String {
        self.program.tell(&format!("send {}:{port}", self.ours))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.name));
    }
}

/// Two ports that nobody has: the test's network is its own.
const ONE_PORT: u16 = 10_080;
const OTHER_PORT: u16 = 10_081;

/// The process that answered.
fn who(answer: &str) -> String {
    answer.split(' ').next().unwrap_or_default().to_owned()
}

fn pids(programs: &[Program]) -> BTreeSet<String> {
    programs.iter().map(|it| it.pid().to_string()).collect()
}

/// Private ports of replicas.
fn private(bed: &mut Testbed) -> Vec<Listening> {
    let mut listening = bed
        .node()
        .observe()
        .expect("the maps can be read")
        .listening;
    listening.retain(|it| it.bound != it.port);
    listening
}

#[test]
fn private_ports_are_not_reachable_and_published_ones_reach_every_replica() {
    let Some(mut bed) = Testbed::new("inbound") else {
        return;
    };
    let mut neighbour = Neighbour::new();
    let (asked, published) = (ONE_PORT, OTHER_PORT);
    bed.service("web", 80, Protocol::Tcp);
    bed.service_mut("web").published =
        vec![(Port::new(published).unwrap(), Port::new(80).unwrap())];
    let mut replicas: Vec<Program> = (0..3)
        .map(|i| bed.program("web", &format!("web-{i}")))
        .collect();
    for replica in &mut replicas {
        replica.tell(&format!("serve a 0.0.0.0:{asked}"));
        replica.tell(&format!("answer b 0.0.0.0:{asked}"));
        bed.endpoint("web", local(replica), asked, 1);
    }
    bed.apply();

    let private = private(&mut bed);
    assert_eq!(private.len(), 4);
    for it in &private {
        let met = match it.protocol {
            Protocol::Tcp => neighbour.connect(it.bound.get()),
            Protocol::Udp => neighbour.send(it.bound.get()),
        };
        assert_eq!(met, "error ECONNREFUSED", "{it:?}");
    }
    // The one that kept its port is reachable there, as without a mesh.
    let first = replicas[0].pid().to_string();
    assert_eq!(who(&neighbour.connect(asked)), first);
    assert_eq!(who(&neighbour.send(asked)), first);

    let all = pids(&replicas);
    let met: BTreeSet<_> = (0..60)
        .map(|_| who(&neighbour.connect(published)))
        .collect();
    assert_eq!(met, all);
    // From this host too, on every address.
    let mut outside = Program::outside();
    let answer = outside.tell(&format!("ask 127.0.0.1:{published}"));
    assert!(all.contains(&who(&answer)), "{answer}");

    for replica in &mut replicas {
        replica.kill();
    }
    assert_eq!(neighbour.connect(published), "error ECONNREFUSED");
    // What nobody holds any more is anybody's. (Connections of before may linger: reuseaddr.)
    let freed = private.iter().find(|it| it.protocol == Protocol::Tcp);
    let freed = freed.unwrap().bound.get();
    outside.tell(&format!("serve a 0.0.0.0:{freed} reuseaddr"));
    assert_eq!(who(&neighbour.connect(freed)), outside.pid().to_string());
}

/// Programs outside the mesh may have ports among the private ones.
#[test]
fn what_no_replica_holds_is_reachable_among_the_private_ports() {
    let Some(bed) = Testbed::new("among the private ports") else {
        return;
    };
    let mut neighbour = Neighbour::new();
    let (first, count) = bed.options.private_ports;
    let (served, calling) = (first + count - 1, first + count - 2);
    let mut outside = Program::outside();
    outside.tell(&format!("serve a 0.0.0.0:{served}"));
    outside.tell(&format!("answer b 0.0.0.0:{served}"));
    let pid = outside.pid().to_string();
    assert_eq!(who(&neighbour.connect(served)), pid);
    assert_eq!(who(&neighbour.send(served)), pid);

    // An answer to a socket that is not connected finds it as a call to it would.
    let there = neighbour.program.tell("answer a 0.0.0.0:0");
    let server = format!("{}:{}", neighbour.theirs, there.rsplit_once(':').unwrap().1);
    let answer = outside.tell(&format!("sendto {server} 0.0.0.0:{calling}"));
    assert_eq!(
        answer,
        format!("{} {there} | {server}", neighbour.program.pid())
    );
}

/// A port is held once it is bound: a bind that failed takes it from nobody.
#[test]
fn a_private_port_that_could_not_be_bound_stays_anothers() {
    let Some(mut bed) = Testbed::new("a bind that fails") else {
        return;
    };
    let mut neighbour = Neighbour::new();
    // Taken on an address where the bind hook does not look.
    let first = bed.options.private_ports.0;
    let mut outside = Program::outside();
    let address = format!("{}:{first}", neighbour.ours);
    assert_eq!(outside.tell(&format!("serve a {address}")), address);
    bed.service("web", 80, Protocol::Tcp);
    let asked = format!("0.0.0.0:{}", ONE_PORT);
    let mut replicas = [bed.program("web", "web-0"), bed.program("web", "web-1")];
    assert_eq!(replicas[0].tell(&format!("serve a {asked}")), asked);
    assert_eq!(
        replicas[1].tell(&format!("serve a {asked}")),
        "error EADDRINUSE"
    );
    let pid = outside.pid().to_string();
    assert!(eventually(|| who(&neighbour.connect(first)) == pid));
}

#[test]
fn replicas_share_a_published_udp_port() {
    let Some(mut bed) = Testbed::new("publishing over UDP") else {
        return;
    };
    let mut neighbour = Neighbour::new();
    let number = ONE_PORT;
    let asked = format!("0.0.0.0:{number}");
    let virtual_address = bed.service("udp", number, Protocol::Udp);
    bed.service("other", number, Protocol::Udp);
    bed.service_mut("udp").published_udp = vec![Port::new(number).unwrap()];
    let mut replicas: Vec<Program> = (0..3)
        .map(|i| bed.program("udp", &format!("udp-{i}")))
        .collect();
    for replica in &mut replicas {
        assert_eq!(replica.tell(&format!("answer a {asked}")), asked);
        bed.endpoint("udp", local(replica), number, 1);
    }
    let mut other = bed.program("other", "other-0");
    assert_eq!(other.tell(&format!("answer a {asked}")), asked);
    bed.endpoint("other", local(&other), number, 1);
    bed.apply();

    // Only the other service's replica had to yield.
    let yielded: Vec<_> = private(&mut bed).iter().map(|it| it.cgroup).collect();
    assert_eq!(yielded, [other.cgroup]);

    let everybody = pids(&replicas);
    let met: BTreeSet<_> = (0..60).map(|_| who(&neighbour.send(number))).collect();
    assert_eq!(met, everybody);

    // A socket that calls by the mesh is led once, and stays where it is.
    let calling = bed.service("caller", 1, Protocol::Tcp);
    let mut caller = bed.program("caller", "caller-0");
    let address = format!("{virtual_address}:{number}");
    for _ in 0..2 {
        let answer = caller.tell(&format!("sendto {address}"));
        assert!(everybody.contains(&who(&answer)), "{answer}");
        assert!(answer.ends_with(&format!(" | {address}")), "{answer}");
    }
    assert_eq!(caller.tell(&format!("volley {address} 20")), "20");
    assert_eq!(bed.edge(Some(calling), virtual_address).connections, 3);

    let survivor = replicas.remove(1);
    for replica in &mut replicas {
        replica.kill();
    }
    let left = survivor.pid().to_string();
    for _ in 0..10 {
        assert_eq!(who(&neighbour.send(number)), left);
    }
    assert_eq!(who(&caller.tell(&format!("send {address}"))), left);
    drop(survivor);
    assert_eq!(
        caller.tell(&format!("send {address}")),
        "error ECONNREFUSED"
    );
}

#[test]
fn a_replica_older_than_the_publication_keeps_its_port_alone() {
    let Some(mut bed) = Testbed::new("publishing over UDP later") else {
        return;
    };
    let number = ONE_PORT;
    let asked = format!("0.0.0.0:{number}");
    bed.service("udp", number, Protocol::Udp);
    let mut replicas = [bed.program("udp", "udp-0"), bed.program("udp", "udp-1")];
    replicas[0].tell(&format!("answer a {asked}"));
    bed.service_mut("udp").published_udp = vec![Port::new(number).unwrap()];
    bed.apply();
    assert_eq!(replicas[1].tell(&format!("answer a {asked}")), asked);
    let private: Vec<_> = private(&mut bed).iter().map(|it| it.cgroup).collect();
    assert_eq!(private, [replicas[1].cgroup]);
}

#[test]
fn what_another_mesh_publishes_is_seen() {
    let name = "publishing beside another mesh";
    let (Some(mut bed), Some(mut other)) = (Testbed::new(name), Testbed::new(name)) else {
        return;
    };
    let port = Port::new(ONE_PORT).unwrap();
    let seen = |bed: &mut Testbed, protocol| {
        bed.node()
            .is_published_elsewhere(protocol, port)
            .expect("the kernel says")
    };
    other.service("web", 80, Protocol::Tcp);
    other.apply();
    assert!(!seen(&mut bed, Protocol::Tcp));
    other.service_mut("web").published = vec![(port, Port::new(80).unwrap())];
    other.apply();
    assert!(seen(&mut bed, Protocol::Tcp));
    assert!(!seen(&mut bed, Protocol::Udp));
    assert!(!seen(&mut other, Protocol::Tcp), "its own is not another's");
    // Its programs lead on without their agent, and no more once they are gone.
    other.lose_agent();
    assert!(seen(&mut bed, Protocol::Tcp));
    drop(other);
    assert!(eventually(|| !seen(&mut bed, Protocol::Tcp)));
}

#[test]
fn replicas_that_listen_already_are_published() {
    let Some(mut bed) = Testbed::new("publishing later") else {
        return;
    };
    let (asked, published) = (ONE_PORT, OTHER_PORT);
    bed.service("late", 80, Protocol::Tcp);
    let mut replica = bed.program("late", "late-0");
    replica.tell(&format!("serve a 127.0.0.1:{asked}"));
    bed.endpoint("late", local(&replica), asked, 1);
    bed.apply();
    let mut outside = Program::outside();
    let ask = format!("ask 127.0.0.1:{published}");
    assert_eq!(outside.tell(&ask), "error ECONNREFUSED");
    bed.service_mut("late").published =
        vec![(Port::new(published).unwrap(), Port::new(80).unwrap())];
    bed.apply();
    assert_eq!(who(&outside.tell(&ask)), replica.pid().to_string());
}
