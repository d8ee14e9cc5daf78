//! Look-ups are led to the mesh's resolver while it is there, and are left alone while it is not.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;

use selvedge_feed::SocketKind;
use selvedge_model::{Protocol, Reason};
use selvedge_node::Beside;

use crate::testbed::{Program, Testbed, maker};

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

    let ours = udp4(bed.node().open_resolver(maker(), Beside::Nobody).unwrap());
    let port = ours.local_addr().unwrap().port();
    for how in ["send", "sendto"] {
        let answering = ours.try_clone().unwrap();
        let answer = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (_, from) = answering.recv_from(&mut buffer).unwrap();
            answering.send_to(b"from the mesh", from).unwrap();
        });
        assert_eq!(
            program.tell(&format!("{how} {server}")),
            format!("from the mesh | {server}")
        );
        answer.join().unwrap();
    }

    // The resolver is gone, and a stranger takes its port: programs are not given to it.
    drop(ours);
    let mut stranger = Program::outside();
    assert!(
        stranger
            .tell(&format!("answer a 127.0.0.1:{port}"))
            .ends_with(&port.to_string())
    );
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
    let _ours = bed.node().open_resolver(maker(), Beside::Nobody).unwrap();
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
    let first = udp4(one.node().open_resolver(maker(), Beside::Nobody).unwrap());
    let second = udp4(other.node().open_resolver(maker(), Beside::Nobody).unwrap());
    assert_ne!(first.local_addr().unwrap(), second.local_addr().unwrap());
    // A restarted agent has its predecessor's port, beside the proxy that still holds it.
    let again = udp4(
        one.node()
            .open_resolver(maker(), Beside::LivingProxy)
            .unwrap(),
    );
    assert_eq!(first.local_addr().unwrap(), again.local_addr().unwrap());
}
