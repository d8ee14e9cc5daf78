//! Connections to services that need the proxy are led there while it is there; the proxy learns whose
//! they are and reaches workloads wherever these listen.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use selvedge_feed::SocketKind;
use selvedge_model::{CgroupId, FeatureState, Place, Port, Protocol, Reason, Way};
use selvedge_node::Beside;
use socket2::SockRef;

use crate::child::Host;
use crate::testbed::{Program, Testbed, eventually, local, maker, maker_on, patience};

/// A proxy that tells callers who they are. Dropping it has its sockets listen no more.
struct Proxy {
    listeners: Vec<TcpListener>,
}

impl Proxy {
    /// Opens the sockets; nobody accepts yet.
    fn open(bed: &mut Testbed, beside: Beside) -> Self {
        let sockets: Vec<(SocketKind, OwnedFd)> = bed.node().open_sockets(maker(), beside).unwrap();
        let captured = sockets
            .into_iter()
            .filter(|(kind, _)| *kind == SocketKind::Captured);
        let listeners = captured.map(|(_, socket)| TcpListener::from(socket));
        Self {
            listeners: listeners.collect(),
        }
    }

    fn start(bed: &mut Testbed) -> Self {
        let proxy = Self::open(bed, Beside::Nobody);
        proxy.serve();
        proxy
    }

    fn serve(&self) {
        for listener in &self.listeners {
            let listener = listener.try_clone().unwrap();
            listener.set_nonblocking(false).unwrap();
            thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    thread::spawn(|| greet(stream));
                }
            });
        }
    }

    fn address(&self) -> SocketAddr {
        self.listeners[0].local_addr().unwrap()
    }

    /// Accepts one connection.
    fn accept(&self) -> TcpStream {
        self.wait_for_one();
        let mut accepted = self.listeners.iter().map(TcpListener::accept);
        let (stream, _) = accepted.find_map(Result::ok).unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    }

    /// Waits until a connection waits to be accepted.
    fn wait_for_one(&self) {
        let listeners = self.listeners.iter();
        let mut waiting: Vec<_> = listeners
            .map(|listener| PollFd::new(listener, PollFlags::IN))
            .collect();
        let deadline = Timespec::try_from(patience()).unwrap();
        assert!(poll(&mut waiting, Some(&deadline)).unwrap() > 0);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Only this ends the accept that its thread waits in.
            SockRef::from(listener)
                .shutdown(std::net::Shutdown::Both)
                .unwrap();
        }
    }
}

/// `<original destination> <source workload>`, or `nobody`.
fn origin(stream: &TcpStream) -> String {
    let origin = SockRef::from(stream).original_dst_v6();
    match origin.ok().and_then(|it| it.as_socket_ipv6()) {
        Some(origin) => {
            let asked = SocketAddr::new(origin.ip().to_canonical(), origin.port());
            let workload = u64::from(origin.flowinfo()) | u64::from(origin.scope_id()) << 32;
            format!("{asked} {workload}")
        }
        None => "nobody".to_owned(),
    }
}

/// Tells the caller its origin, then echoes.
fn greet(mut stream: TcpStream) {
    let greeting = origin(&stream);
    if writeln!(stream, "{greeting}").is_err() {
        return;
    }
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        if stream.write_all(&byte).is_err() {
            return;
        }
    }
}

/// A service that is served directly or through the proxy, its server and its caller.
struct Scene {
    web: Ipv4Addr,
    source: Ipv4Addr,
    server: Program,
    caller: Program,
}

impl Scene {
    fn new(bed: &mut Testbed, way: Way, port: u16) -> Self {
        let web = bed.service("web", 80, Protocol::Tcp);
        let source = bed.service("caller", 1, Protocol::Tcp);
        bed.service_mut("web").ports[0].way = way;
        let mut server = bed.program("web", "web-0");
        let caller = bed.program("caller", "caller-0");
        server.tell(&format!("serve a 0.0.0.0:{port}"));
        bed.endpoint("web", local(&server), port, 1);
        bed.apply();
        Self {
            web,
            source,
            server,
            caller,
        }
    }

    /// What the caller gets to hear from the service.
    fn ask(&mut self) -> String {
        let answer = self.caller.tell(&format!("ask {}:80", self.web));
        match answer.split_once(" | ") {
            Some((greeting, _)) => greeting.to_owned(),
            None => answer,
        }
    }

    fn by_proxy(&self) -> String {
        format!("{}:80 {}", self.web, self.caller.cgroup.0)
    }

    fn is_direct(&mut self) -> bool {
        let server = format!("{} ", self.server.pid());
        self.ask().starts_with(&server)
    }
}

#[test]
fn the_proxy_learns_who_calls_whom_and_the_caller_sees_whom_it_called() {
    let Some(mut bed) = Testbed::new("the proxy path") else {
        return;
    };
    let mut scene = Scene::new(&mut bed, Way::ProxyOnly, 18110);
    bed.service_mut("web").connection_limit = Some(1);
    bed.service_mut("web").detailed_counters = true;
    bed.apply();
    let proxy = Proxy::start(&mut bed);
    let (web, greeting) = (scene.web, scene.by_proxy());
    for (ask, peer) in [
        ("ask", format!("{web}:80")),
        ("ask6", format!("[::ffff:{web}]:80")),
    ] {
        let answer = scene.caller.tell(&format!("{ask} {web}:80"));
        let (greeted, seen) = answer.split_once(" | ").unwrap();
        assert_eq!(greeted, greeting);
        assert_eq!(seen.split_once(' ').unwrap().1, peer);
    }
    // They hold no slot of the limit: the proxy's connections do.
    for name in ["a", "b"] {
        let connect = format!("connect {name} {web}:80");
        assert_eq!(scene.caller.tell(&connect), greeting);
        assert_eq!(scene.caller.tell(&format!("echo {name}")), "echoed");
    }
    let edge = bed.edge(Some(scene.source), web);
    assert_eq!((edge.connections, edge.failures, edge.bypassed), (4, 0, 0));
    assert_eq!(edge.refused, [].into());
    // The end of the first two is counted when the kernel is done with it.
    let open = |bed: &mut Testbed| bed.edge(Some(scene.source), web).detail.unwrap().open;
    assert!(eventually(|| open(&mut bed) == 2));

    // Who comes by itself is nobody, from a workload too.
    let ask = format!("ask {}", proxy.address());
    for program in [&mut Program::outside(), &mut scene.caller] {
        assert!(program.tell(&ask).starts_with("nobody | "));
    }
}

#[test]
fn without_the_proxy_connections_go_directly_or_are_refused() {
    let Some(mut bed) = Testbed::new("the proxy away") else {
        return;
    };
    let mut scene = Scene::new(&mut bed, Way::ProxyOrDirect, 18111);
    let rule = bed.service("rule", 80, Protocol::Tcp);
    bed.service_mut("rule").ports[0].way = Way::ProxyOnly;
    bed.endpoint("rule", local(&scene.server), 18111, 1);
    bed.apply();
    let ask_rule = format!("ask {rule}:80");
    let refused = "error ECONNREFUSED";

    assert!(scene.is_direct());
    assert_eq!(scene.caller.tell(&ask_rule), refused);

    let proxy = Proxy::start(&mut bed);
    assert_eq!(scene.ask(), scene.by_proxy());
    let of_rule = format!("{rule}:80 {} | ", scene.caller.cgroup.0);
    assert!(scene.caller.tell(&ask_rule).starts_with(&of_rule));

    // The proxy and the agent's copies of its sockets are gone, and a stranger takes the port.
    let address = proxy.address();
    drop(proxy);
    let mut stranger = Program::outside();
    let serve = format!("serve a {address}");
    assert!(eventually(|| stranger.tell(&serve) == address.to_string()));
    assert!(scene.is_direct());
    assert_eq!(scene.caller.tell(&ask_rule), refused);

    let edge = bed.edge(Some(scene.source), scene.web);
    assert_eq!((edge.connections, edge.bypassed), (3, 2));
    assert_eq!(edge.refused, [].into());
    let edge = bed.edge(Some(scene.source), rule);
    assert_eq!((edge.connections, edge.bypassed), (1, 0));
    assert_eq!(edge.refused, [(Reason::ProxyAway, 2)].into());
}

/// Then the proxy could not name workloads to the kernel, and a connection led to it would end there.
#[test]
fn without_ipv6_sockets_the_proxy_counts_as_away() {
    let Some(mut bed) = Testbed::new("the proxy path without IPv6") else {
        return;
    };
    let mut scene = Scene::new(&mut bed, Way::ProxyOrDirect, 18118);
    let maker = maker_on(Host::WithoutIpv6);
    let sockets = bed.node().open_sockets(maker, Beside::Nobody).unwrap();
    assert!(
        sockets
            .iter()
            .all(|(kind, _)| *kind != SocketKind::Captured)
    );
    assert!(scene.is_direct());
    assert_eq!(bed.edge(Some(scene.source), scene.web).bypassed, 1);
    let features = bed.node().status().unwrap().features;
    let missing = features.iter().find(|it| it.state != FeatureState::Active);
    let missing = missing.unwrap();
    assert_eq!(missing.name, "upstream");
    let said = missing.state.to_string();
    assert!(
        said.contains("go without") && said.contains("no IPv6 sockets"),
        "{said}"
    );
}

/// As while a proxy that was killed is started again: its sockets are the agent's too.
#[test]
fn a_connection_waits_for_the_next_proxy_while_the_agent_has_the_sockets() {
    let Some(mut bed) = Testbed::new("the proxy restarting") else {
        return;
    };
    let mut scene = Scene::new(&mut bed, Way::ProxyOnly, 18112);
    let proxy = Proxy::open(&mut bed, Beside::Nobody);
    let want = scene.by_proxy();
    thread::scope(|scope| {
        let asking = scope.spawn(|| scene.ask());
        proxy.wait_for_one();
        proxy.serve();
        assert_eq!(asking.join().unwrap(), want);
    });
}

/// Callers of this network that have hung up, of which the kernel has the addresses alone.
fn callers_that_left() -> usize {
    /// FIN-WAIT-2, in the table's figures (net/tcp_states.h).
    const FIN_WAIT2: &str = "05";
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let states = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    states.filter(|state| *state == FIN_WAIT2).count()
}

/// A program that sends a line and ends, as loggers do, may be gone before it is its turn.
#[test]
fn what_a_caller_has_sent_is_its_own_after_it_has_left() {
    let Some(mut bed) = Testbed::new("callers that have left") else {
        return;
    };
    let mut scene = Scene::new(&mut bed, Way::ProxyOnly, 18120);
    let mut other = bed.program("caller", "caller-1");
    let proxy = Proxy::open(&mut bed, Beside::Nobody);
    let mut want = Vec::new();
    for program in [&mut scene.caller, &mut other] {
        let word = program.cgroup.0.to_string();
        let leave = format!("leave {}:80 {word}", scene.web);
        assert_eq!(program.tell(&leave), "left");
        want.push(format!("{}:80 {word}", scene.web));
    }
    assert!(eventually(|| callers_that_left() == 2));
    let mut heard = Vec::new();
    for _ in 0..2 {
        let mut stream = proxy.accept();
        let origin = origin(&stream);
        let mut word = String::new();
        stream.read_to_string(&mut word).unwrap();
        assert!(origin.ends_with(&format!(" {word}")), "{origin}: {word}");
        heard.push(origin);
    }
    heard.sort();
    want.sort();
    assert_eq!(heard, want);
}

#[test]
fn another_way_is_that_of_new_connections_alone() {
    let Some(mut bed) = Testbed::new("changing the way") else {
        return;
    };
    let mut scene = Scene::new(&mut bed, Way::Direct, 18113);
    let _proxy = Proxy::start(&mut bed);
    let mut open = Vec::new();
    for (name, way) in [
        ("a", Way::Direct),
        ("b", Way::ProxyOrDirect),
        ("c", Way::ProxyOnly),
        ("d", Way::Direct),
    ] {
        bed.service_mut("web").ports[0].way = way;
        bed.apply();
        let greeting = scene
            .caller
            .tell(&format!("connect {name} {}:80", scene.web));
        assert_eq!(greeting == scene.by_proxy(), way != Way::Direct, "{way:?}");
        open.push(name);
        for name in &open {
            assert_eq!(scene.caller.tell(&format!("echo {name}")), "echoed");
            let peer = scene.caller.tell(&format!("peer {name}"));
            assert_eq!(peer, format!("{}:80", scene.web));
        }
    }
    let edge = bed.edge(Some(scene.source), scene.web);
    assert_eq!((edge.connections, edge.bypassed), (4, 0));
}

#[test]
fn a_restarted_agent_leads_to_the_living_proxy_and_then_to_its_own_sockets() {
    let Some(mut bed) = Testbed::new("the proxy path adopted") else {
        return;
    };
    let mut scene = Scene::new(&mut bed, Way::ProxyOnly, 18114);
    let old = Proxy::start(&mut bed);
    bed.lose_agent();
    assert_eq!(scene.ask(), scene.by_proxy());
    bed.start_agent();
    assert_eq!(scene.ask(), scene.by_proxy());
    let new = Proxy::open(&mut bed, Beside::LivingProxy);
    assert_eq!(new.address(), old.address());
    new.serve();
    for _ in 0..20 {
        assert_eq!(scene.ask(), scene.by_proxy());
    }
    drop(old);
    for _ in 0..20 {
        assert_eq!(scene.ask(), scene.by_proxy());
    }
    let edge = bed.edge(Some(scene.source), scene.web);
    assert_eq!((edge.connections, edge.failures), (42, 0));
    assert_eq!(edge.refused, [].into());
}

/// Where the proxy connects to reach a port of the workload.
fn upstream(workload: CgroupId, port: u16) -> SocketAddr {
    Place::Local(workload).upstream_address(Port::new(port).unwrap(), None)
}

/// A program in the proxy's place.
fn proxy_program(bed: &mut Testbed) -> Program {
    let mut program = Program::outside();
    let pid = program.pid();
    bed.node().place_proxy(pid).unwrap();
    assert_eq!(program.tell("hello"), "hello");
    program
}

#[test]
fn the_proxy_reaches_each_replica_where_it_really_listens() {
    let Some(mut bed) = Testbed::new("the proxy's own connections") else {
        return;
    };
    bed.service("web", 80, Protocol::Tcp);
    let mut replicas = ["web-0", "web-1"].map(|name| bed.program("web", name));
    let mut proxy = proxy_program(&mut bed);
    for replica in &mut replicas {
        let [shared, own] =
            [18115, 18116].map(|port| format!("ask {}", upstream(replica.cgroup, port)));
        assert_eq!(proxy.tell(&shared), "error ECONNREFUSED");
        replica.tell("serve a 0.0.0.0:18115");
        replica.tell("serve b [::1]:18116 only6");
        for ask in [shared, own] {
            let answer = proxy.tell(&ask);
            assert!(
                answer.starts_with(&format!("{} ", replica.pid())),
                "{answer}"
            );
        }
    }
    let listening = bed.node().observe().unwrap().listening;
    let moved = listening.iter().filter(|it| it.port != it.bound);
    assert_eq!(moved.count(), 2);
    let nobody = format!("ask {}", upstream(CgroupId(1), 18115));
    assert_eq!(proxy.tell(&nobody), "error ECONNREFUSED");
    let seen = bed.node().observe().unwrap();
    assert_eq!(seen.upstream_refused, [(Reason::NoEndpoint, 3)].into());
    assert_eq!(seen.edges, [].into());

    // Nobody else is led, a workload neither; in this network nothing else has such an address.
    let ask = format!("ask {}", upstream(replicas[0].cgroup, 18115));
    let [_, other] = &mut replicas;
    for program in [&mut Program::outside(), other] {
        assert_eq!(program.tell(&ask), "error ENETUNREACH");
    }
}

#[test]
fn the_proxys_connections_hold_the_slots_of_the_limit() {
    let Some(mut bed) = Testbed::new("the limit on the proxy path") else {
        return;
    };
    let mut scene = Scene::new(&mut bed, Way::Direct, 18117);
    bed.service_mut("web").connection_limit = Some(2);
    bed.apply();
    let mut proxy = proxy_program(&mut bed);
    let address = upstream(scene.server.cgroup, 18117);
    let mut connect = |name: &str| proxy.tell(&format!("connect {name} {address}"));
    assert!(connect("a").contains("18117"));
    // One limit for both ways.
    let by_caller = format!("connect x {}:80", scene.web);
    assert!(scene.caller.tell(&by_caller).contains("18117"));
    assert_eq!(connect("b"), "error EDQUOT");
    assert_eq!(scene.ask(), "error ECONNREFUSED");
    scene.caller.tell("close x");
    assert!(eventually(|| connect("b").contains("18117")));
    proxy.tell("close a");
    assert!(eventually(|| !scene.ask().starts_with("error")));

    // Connections that end with their proxy give theirs back too.
    proxy.kill();
    let mut next = proxy_program(&mut bed);
    let mut connect = |name: &str| next.tell(&format!("connect {name} {address}"));
    assert!(eventually(|| connect("a").contains("18117")));
    assert!(eventually(|| connect("b").contains("18117")));
    assert_eq!(connect("c"), "error EDQUOT");
    let seen = bed.node().observe().unwrap();
    assert!(
        seen.upstream_refused[&Reason::ConnectionLimit] >= 2,
        "{seen:?}"
    );
    assert_eq!(seen.refused, [].into());
}

/// Of an endpoint outside the kernel knows nothing: the proxy says for which service it connects.
#[test]
fn connections_to_endpoints_outside_hold_slots_too() {
    let Some(mut bed) = Testbed::new("the limit of endpoints outside") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    bed.service_mut("web").connection_limit = Some(1);
    bed.apply();
    let mut outside = Program::outside();
    let server: SocketAddr = outside.tell("listen l 127.0.0.1:0").parse().unwrap();
    let mut proxy = proxy_program(&mut bed);
    let port = Port::new(server.port()).unwrap();
    let place = Place::Outside(Ipv4Addr::LOCALHOST.into());
    let limited = place.upstream_address(port, Some(web));
    let mut begin = |name: &str, to| proxy.tell(&format!("begin {name} {to}"));
    assert_eq!(begin("a", limited), "begun");
    assert_eq!(begin("b", limited), "error EDQUOT");
    let unlimited = place.upstream_address(port, None);
    assert_eq!(begin("c", unlimited), "begun");
    proxy.tell("close a");
    // The server has its end too before the place is free.
    outside.tell("close l");
    outside.tell(&format!("listen l {server}"));
    let begin = format!("begin b {limited}");
    assert!(eventually(|| proxy.tell(&begin) == "begun"));
    // Nobody else comes by such an address.
    let ask = format!("ask {limited}");
    assert_eq!(Program::outside().tell(&ask), "error ENETUNREACH");
}

/// The proxy may keep the socket of a connection that its server has reset: that holds no slot.
#[test]
fn a_connection_that_is_reset_gives_its_slot_back_before_its_socket_is_closed() {
    let Some(mut bed) = Testbed::new("slots of reset connections") else {
        return;
    };
    bed.service("web", 80, Protocol::Tcp);
    bed.service_mut("web").connection_limit = Some(1);
    let mut server = bed.program("web", "web-0");
    let mut proxy = proxy_program(&mut bed);
    let address = upstream(server.cgroup, 18119);
    let mut begin = |name: &str| proxy.tell(&format!("begin {name} {address}"));
    server.tell("listen l 0.0.0.0:18119");
    assert_eq!(begin("a"), "begun");
    assert_eq!(begin("b"), "error EDQUOT");
    // What waits to be accepted is reset.
    server.tell("close l");
    assert!(eventually(|| begin("b") == "error ECONNREFUSED"));
    server.tell("listen l 0.0.0.0:18119");
    assert!(eventually(|| begin("b") == "begun"));
}

/// A way changes for new connections; status is to name those that stay as they are.
#[test]
fn connections_that_stay_on_the_direct_path_are_known() {
    let Some(mut bed) = Testbed::new("pinned connections") else {
        return;
    };
    if bed.lacks_iterators("pinned connections") {
        return;
    }
    let mut scene = Scene::new(&mut bed, Way::Direct, 18119);
    let web = scene.web;
    for name in ["a", "b"] {
        scene.caller.tell(&format!("connect {name} {web}:80"));
    }
    assert_eq!(bed.node().pinned().unwrap(), []);
    bed.service_mut("web").ports[0].way = Way::ProxyOnly;
    bed.apply();
    let _proxy = Proxy::start(&mut bed);
    scene.caller.tell(&format!("connect c {web}:80"));
    let pinned = bed.node().pinned().unwrap();
    let [one] = &pinned[..] else {
        panic!("{pinned:?}");
    };
    let port = Port::new(80).unwrap();
    assert_eq!((one.service, one.port, one.count), (web, port, 2));
    assert!(one.oldest < 4 * patience(), "{one:?}");
    drop(scene.caller);
    assert!(eventually(|| bed.node().pinned().unwrap().is_empty()));
}
