//! Connections from outside to published ports of services that need the proxy are led there too, and
//! those to a Gateway's ports;
//! what the mesh has led to an endpoint is not led once more.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread;

use selvedge_feed::SocketKind;
use selvedge_model::{
    Gateway, GatewayListener, GatewayName, Label, Place, Port, Protocol, Reason, Way,
};
use selvedge_node::Beside;
use socket2::{Domain, SockRef, Socket, Type};

use crate::testbed::{Program, Testbed, eventually, local, maker, once_free};

/// A proxy that tells callers from outside which port they reached, as `proxy N`. Dropping it has its
/// sockets listen no more.
struct Proxy {
    outside: Vec<TcpListener>,
    /// The others, which stay open as an agent's do.
    _led: Vec<(SocketKind, OwnedFd)>,
}

impl Proxy {
    fn start(bed: &mut Testbed) -> Self {
        let sockets = bed.node().open_sockets(maker(), Beside::Nobody).unwrap();
        let (outside, led): (Vec<_>, Vec<_>) = sockets
            .into_iter()
            .partition(|(kind, _)| *kind == SocketKind::Outside);
        let outside = outside.into_iter().map(|(_, socket)| socket.into());
        let outside: Vec<TcpListener> = outside.collect();
        for listener in &outside {
            let listener = listener.try_clone().unwrap();
            listener.set_nonblocking(false).unwrap();
            thread::spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    let port = stream.local_addr().unwrap().port();
                    let _hung_up = writeln!(stream, "proxy {port}");
                }
            });
        }
        Self { outside, _led: led }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for listener in &self.outside {
            // Only this ends the accept that its thread waits in.
            SockRef::from(listener)
                .shutdown(std::net::Shutdown::Both)
                .unwrap();
        }
    }
}

/// What a caller outside the mesh gets to hear at the address.
fn ask(outside: &mut Program, address: &str) -> String {
    let answer = outside.tell(&format!("ask {address}"));
    match answer.split_once(" | ") {
        Some((heard, _)) => heard.to_owned(),
        None => answer,
    }
}

const REFUSED: &str = "error ECONNREFUSED";

#[test]
fn a_published_port_goes_through_the_proxy_where_its_service_does() {
    let Some(mut bed) = Testbed::new("publishing through the proxy") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    let source = bed.service("caller", 1, Protocol::Tcp);
    // The replica really has the published port, as the first of `run --publish` does.
    let port = Port::new(18_210).unwrap();
    bed.service_mut("web").published = vec![(port, Port::new(80).unwrap())];
    let mut server = bed.program("web", "web-0");
    let mut caller = bed.program("caller", "caller-0");
    server.tell(&format!("serve a [::]:{port}"));
    bed.endpoint("web", local(&server), port.get(), 1);
    bed.apply();
    let mut outside = Program::outside();
    let pid = format!("{} ", server.pid());
    let by_proxy = format!("proxy {port}");
    let addresses = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];

    let proxy = Proxy::start(&mut bed);
    for (way, heard) in [
        (Way::Direct, &pid),
        (Way::ProxyOrDirect, &by_proxy),
        (Way::ProxyOnly, &by_proxy),
    ] {
        bed.service_mut("web").ports[0].way = way;
        bed.apply();
        for address in &addresses {
            let answer = ask(&mut outside, address);
            assert!(answer.starts_with(heard), "{way:?} {address}: {answer}");
        }
    }
    let edge = bed.edge(None, web);
    assert_eq!((edge.connections, edge.bypassed), (4, 0));

    // Whom the kernel has led to the replica is not led to the proxy from there.
    bed.service_mut("web").ports[0].way = Way::Direct;
    bed.apply();
    bed.service_mut("web").ports[0].way = Way::ProxyOrDirect;
    drop(proxy);
    bed.apply();
    // On a slow machine the kernel still finds the proxy's socket for a moment, and resets what comes to it.
    let ask_web = format!("ask {web}:80");
    assert!(eventually(|| caller.tell(&ask_web).starts_with(&pid)));
    assert_eq!(bed.edge(Some(source), web).bypassed, 1);
    assert!(eventually(
        || ask(&mut outside, &addresses[0]).starts_with(&pid)
    ));
    assert!(bed.edge(None, web).bypassed > 0);

    bed.service_mut("web").ports[0].way = Way::ProxyOnly;
    bed.apply();
    assert_eq!(ask(&mut outside, &addresses[0]), REFUSED);
    let refused = bed.edge(None, web).refused;
    assert_eq!(refused, [(Reason::ProxyAway, 1)].into());
}

/// The proxy's own connection to a replica that has the published port would else come back to it.
#[test]
fn the_proxy_reaches_a_replica_that_really_has_the_published_port() {
    let Some(mut bed) = Testbed::new("the proxy behind a published port") else {
        return;
    };
    bed.service("web", 80, Protocol::Tcp);
    let port = Port::new(18_211).unwrap();
    bed.service_mut("web").published = vec![(port, Port::new(80).unwrap())];
    bed.service_mut("web").ports[0].way = Way::ProxyOnly;
    let mut server = bed.program("web", "web-0");
    server.tell(&format!("serve a 0.0.0.0:{port}"));
    bed.endpoint("web", local(&server), port.get(), 1);
    bed.apply();
    let _proxy = Proxy::start(&mut bed);
    let mut outside = Program::outside();
    bed.node().place_proxy(outside.pid()).unwrap();
    let upstream = Place::Local(server.cgroup).upstream_address(port, None);
    let pid = format!("{} ", server.pid());
    for _ in 0..3 {
        let answer = ask(&mut outside, &upstream.to_string());
        assert!(answer.starts_with(&pid), "{answer}");
    }
    // What it asks of the port itself is a call like any other's.
    let answer = ask(&mut outside, &format!("127.0.0.1:{port}"));
    assert_eq!(answer, format!("proxy {port}"));
}

#[test]
fn a_gateway_has_its_port_while_nobody_else_has_and_the_proxy_is_there() {
    let Some(mut bed) = Testbed::new("gateways") else {
        return;
    };
    let numbers = [80, 18_212].map(|port| Port::new(port).unwrap());
    let taken: SocketAddr = format!("127.0.0.1:{}", numbers[1]).parse().unwrap();
    let stranger = TcpListener::bind(taken).unwrap();
    let listener = |port| GatewayListener {
        name: Label::new("http").unwrap(),
        port,
        hostname: None,
    };
    let gateway = Gateway {
        name: GatewayName {
            namespace: Label::default_namespace(),
            name: Label::new("edge").unwrap(),
        },
        listeners: numbers.map(listener).to_vec(),
    };
    bed.snapshot.gateways.insert(gateway.name.clone(), gateway);
    bed.apply();
    let mut outside = Program::outside();
    let open = format!("127.0.0.1:{}", numbers[0]);
    assert_eq!(ask(&mut outside, &open), REFUSED);

    let proxy = Proxy::start(&mut bed);
    assert_eq!(ask(&mut outside, &open), "proxy 80");
    assert_eq!(ask(&mut outside, "[::1]:80"), "proxy 80");
    let state = |bed: &mut Testbed, port| bed.node().gateway_ports().remove(&port).unwrap();
    assert_eq!(state(&mut bed, numbers[0]), Ok(()));
    let why = state(&mut bed, numbers[1]).unwrap_err();
    assert!(why.contains("in use"), "{why}");
    // It keeps what it has.
    stranger.set_nonblocking(true).unwrap();
    let waiting = std::net::TcpStream::connect(taken).unwrap();
    assert!(eventually(|| stranger.accept().is_ok()));
    drop(waiting);
    drop(stranger);
    once_free(|| TcpListener::bind(taken));
    bed.apply();
    assert_eq!(state(&mut bed, numbers[1]), Ok(()));
    // Nobody takes the Gateway's port from it.
    let thief = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    thief.set_reuse_address(true).unwrap();
    let bound = thief.bind(&SocketAddr::from(([0, 0, 0, 0], 80)).into());
    assert_eq!(bound.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);

    drop(proxy);
    assert!(eventually(|| ask(&mut outside, &open) == REFUSED));
    let refused = bed.node().observe().unwrap().refused;
    assert!(refused[&Reason::ProxyAway] >= 2, "{refused:?}");

    bed.snapshot.gateways.clear();
    bed.apply();
    once_free(|| TcpListener::bind("0.0.0.0:80"));
}
