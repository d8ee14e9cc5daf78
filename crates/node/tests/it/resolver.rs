//! Look-ups are led to the mesh's resolver while it is there, and are left alone while it is not.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use selvedge_feed::SocketKind;
use selvedge_model::{Protocol, Reason};
use selvedge_node::Beside;
use socket2::SockRef;

use crate::child::Host;
use crate::testbed::{Program, Testbed, maker, maker_on, once_free};

/// The address of a name server of this test's own.
fn server(bed: &Testbed) -> String {
    let third = bed.snapshot.virtual_range.0.octets()[2];
    format!("127.97.{third}.53:53")
}

fn udp4(sockets: Vec<(SocketKind, OwnedFd)>) -> UdpSocket {
    let found = sockets
        .into_iter()
        .find(|(kind, _)| *kind == SocketKind::DnsUdpV4);
    let socket = UdpSocket::from(found.expect("there is one for IPv4").1);
    socket.set_nonblocking(false).unwrap();
    socket
}

/// What the address of a datagram's sender was rewritten to say, see `bpf/origin.bpf.c`: where an
/// answer goes, the sender's cgroup and the server it meant.
fn told(from: SocketAddr) -> (SocketAddr, (u64, String)) {
    let SocketAddr::V6(from) = from else {
        panic!("{from} is of no IPv6 socket");
    };
    let octets = from.ip().octets();
    let [lower, upper, server, client] =
        [0, 4, 8, 12].map(|at| [0, 1, 2, 3].map(|i| octets[at + i]));
    let cgroup = u32::from_ne_bytes(lower) as u64 | (u32::from_ne_bytes(upper) as u64) << 32;
    let client = Ipv4Addr::from(client).to_ipv6_mapped();
    let server = format!("{}:53", Ipv4Addr::from(server));
    ((client, from.port()).into(), (cgroup, server))
}

#[test]
fn a_datagram_of_a_stranger_says_nothing_of_itself() {
    let Some(mut bed) = Testbed::new("a stranger's datagram") else {
        return;
    };
    let ours = udp4(bed.node().open_sockets(maker(), Beside::Nobody).unwrap());
    let mut stranger = Program::outside();
    let port = ours.local_addr().unwrap().port();
    stranger.tell(&format!("post web 127.0.0.1:{port}"));
    let (_, from) = ours.recv_from(&mut [0; 512]).unwrap();
    assert!(from.ip().to_canonical().is_ipv4(), "{from}");
    assert!(SockRef::from(&ours).original_dst_v6().is_err());
}

#[test]
fn who_asks_servers_of_both_families_from_one_socket_is_known_over_ipv4_too() {
    let Some(mut bed) = Testbed::new("both families") else {
        return;
    };
    bed.service("web", 80, Protocol::Tcp);
    let mut program = bed.program("web", "web-0");
    let sockets = bed.node().open_sockets(maker(), Beside::Nobody).unwrap();
    let (v4, _others): (Vec<_>, Vec<_>) = sockets
        .into_iter()
        .partition(|(kind, _)| *kind == SocketKind::DnsUdpV4);
    let ours = udp4(v4);
    let servers = format!("{} [2001:db8::53]:53", server(&bed));
    assert_eq!(program.tell(&format!("post-both both {servers}")), "sent");
    let (_, from) = ours.recv_from(&mut [0; 512]).unwrap();
    assert!(from.ip().to_canonical().is_ipv4(), "{from}");
    let origin = SockRef::from(&ours).original_dst_v6().unwrap();
    let origin = origin.as_socket_ipv6().unwrap();
    let workload = u64::from(origin.flowinfo()) | u64::from(origin.scope_id()) << 32;
    assert_eq!(workload, program.cgroup.0);
    assert_eq!(
        (*origin.ip(), origin.port()),
        ("2001:db8::53".parse().unwrap(), 53)
    );
}

#[test]
fn without_ipv6_the_socket_is_asked_who_sent_what_was_read_last() {
    let Some(mut bed) = Testbed::new("look-ups without IPv6") else {
        return;
    };
    bed.service("web", 80, Protocol::Tcp);
    let server = server(&bed);
    let mut program = bed.program("web", "web-0");
    let maker = maker_on(Host::WithoutIpv6);
    let ours = udp4(bed.node().open_sockets(maker, Beside::Nobody).unwrap());
    let port = ours.local_addr().unwrap().port();
    let answering = ours.try_clone().unwrap();
    let answer = std::thread::spawn(move || {
        let (_, from) = answering.recv_from(&mut [0; 512]).unwrap();
        assert!(from.is_ipv4(), "{from}");
        answering.send_to(b"from the mesh", from).unwrap();
        SockRef::from(&answering).original_dst_v6().unwrap()
    });
    assert_eq!(
        program.tell(&format!("send {server}")),
        format!("from the mesh | {server}")
    );
    let origin = answer.join().unwrap().as_socket_ipv6().unwrap();
    let workload = u64::from(origin.flowinfo()) | u64::from(origin.scope_id()) << 32;
    assert_eq!(workload, program.cgroup.0);
    assert_eq!(
        SocketAddr::new(origin.ip().to_canonical(), origin.port()),
        server.parse().unwrap()
    );

    let mut stranger = Program::outside();
    stranger.tell(&format!("post web 127.0.0.1:{port}"));
    ours.recv_from(&mut [0; 512]).unwrap();
    assert!(SockRef::from(&ours).original_dst_v6().is_err());
}

#[test]
fn look_ups_are_led_while_our_resolver_is_there_and_only_then() {
    let Some(mut bed) = Testbed::new("look-ups") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    let server = server(&bed);
    let mut program = bed.program("web", "web-0");
    let mut elsewhere = Program::outside();
    assert_eq!(elsewhere.tell(&format!("answer a {server}")), server);
    let by_elsewhere = format!("{} {server} | {server}", elsewhere.pid());

    // No resolver yet.
    assert_eq!(program.tell(&format!("send {server}")), by_elsewhere);

    let ours = udp4(bed.node().open_sockets(maker(), Beside::Nobody).unwrap());
    let port = ours.local_addr().unwrap().port();
    for how in ["send", "sendto"] {
        let answering = ours.try_clone().unwrap();
        let answer = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (_, from) = answering.recv_from(&mut buffer).unwrap();
            let (client, origin) = told(from);
            answering.send_to(b"from the mesh", client).unwrap();
            origin
        });
        assert_eq!(
            program.tell(&format!("{how} {server}")),
            format!("from the mesh | {server}")
        );
        let origin = (program.cgroup.0, server.clone());
        assert_eq!(answer.join().unwrap(), origin);
    }

    // The resolver is gone, and a stranger takes its port: programs are not given to it.
    drop(ours);
    once_free(|| UdpSocket::bind(("127.0.0.1", port)));
    let mut stranger = Program::outside();
    let address = format!("127.0.0.1:{port}");
    assert_eq!(stranger.tell(&format!("answer a {address}")), address);
    for how in ["send", "sendto"] {
        assert_eq!(program.tell(&format!("{how} {server}")), by_elsewhere);
    }

    // Mesh names do not leak to other servers meanwhile; the next query is the first they see.
    for name in ["web", "WEB.default", "web.default.svc.cluster.local"] {
        program.tell(&format!("post {name} {server}"));
    }
    assert_eq!(program.tell(&format!("send {server}")), by_elsewhere);
    let refused = bed.node().observe().unwrap().refused;
    assert_eq!(refused.get(&Reason::ResolverAway), Some(&3));
    assert_eq!(elsewhere.tell("heard"), "4");
    program.tell(&format!("post webs {server}"));
    assert_eq!(program.tell(&format!("send {server}")), by_elsewhere);
    assert_eq!(elsewhere.tell("heard"), "6");
    assert_ne!(web, std::net::Ipv4Addr::UNSPECIFIED);
}

#[test]
fn programs_outside_the_mesh_are_left_alone() {
    let Some(mut bed) = Testbed::new("look-ups of others") else {
        return;
    };
    let server = server(&bed);
    let mut elsewhere = Program::outside();
    elsewhere.tell(&format!("answer a {server}"));
    let _ours = bed.node().open_sockets(maker(), Beside::Nobody).unwrap();
    let mut other = Program::outside();
    let answer = other.tell(&format!("send {server}"));
    assert_eq!(answer, format!("{} {server} | {server}", elsewhere.pid()));
}

#[test]
fn two_meshes_on_a_host_do_not_share_a_resolver() {
    let (Some(mut one), Some(mut other)) =
        (Testbed::new("two resolvers"), Testbed::new("two resolvers"))
    else {
        return;
    };
    one.lose_agent();
    one.options.private_ports = other.options.private_ports;
    one.start_agent();
    let first = udp4(one.node().open_sockets(maker(), Beside::Nobody).unwrap());
    let second = udp4(other.node().open_sockets(maker(), Beside::Nobody).unwrap());
    assert_ne!(first.local_addr().unwrap(), second.local_addr().unwrap());
    // A restarted agent has its predecessor's port, beside the proxy that still holds it.
    let again = udp4(
        one.node()
            .open_sockets(maker(), Beside::LivingProxy)
            .unwrap(),
    );
    assert_eq!(first.local_addr().unwrap(), again.local_addr().unwrap());
}
