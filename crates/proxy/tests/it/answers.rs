//! Claim: mesh names are answered as documented, others' names are not touched. Shown by a table of
//! questions and golden answers.

use std::net::Ipv4Addr;

use selvedge_feed::{Counter, Ipv6Answer, Settings, View};
use selvedge_model::{
    CgroupId, DnsSettings, Generation, Label, Port, PortMode, Protocol, Service, ServicePort,
    Snapshot, Workload, WorkloadName,
};
use selvedge_proxy::dns::{Action, Transport, respond};
use selvedge_proxy::{Origin, Table};

use crate::dialect::{A, AAAA, ANY, PTR, SOA, SRV, TXT, describe, edns_query, query, wire};

pub(crate) const SHOPPER: CgroupId = CgroupId(0xdead_beef_0001);
pub(crate) const CAREFREE: CgroupId = CgroupId(2);

pub(crate) fn service(name: &str, last_octet: u8, ports: &[(&str, Protocol, u16)]) -> Service {
    let ports = ports.iter().map(|(name, protocol, port)| ServicePort {
        name: (!name.is_empty()).then(|| Label::new(name).unwrap()),
        port: Port::new(*port).unwrap(),
        protocol: *protocol,
        app_protocol: None,
        endpoints: Vec::new(),
        way: selvedge_model::Way::Direct,
    });
    Service {
        name: name.parse().unwrap(),
        address: Ipv4Addr::new(127, 96, 1, last_octet),
        ports: ports.collect(),
        published: Vec::new(),
        published_udp: Vec::new(),
        connection_limit: None,
        detailed_counters: false,
        requests: None,
    }
}

fn workload(cgroup: CgroupId, name: &str, shadow_search: bool) -> Workload {
    Workload {
        name: WorkloadName {
            namespace: Label::new("shop").unwrap(),
            name: Label::new(name).unwrap(),
        },
        service: "cart.shop".parse().unwrap(),
        cgroup,
        ports: PortMode::Shared,
        dns: DnsSettings {
            search: vec![
                "corp.example".to_owned(),
                "bad..suffix".to_owned(),
                ".".to_owned(),
            ],
            // So that names of two labels come with suffixes too, but none of three.
            ndots: 2,
            nameservers: Vec::new(),
            shadow_search,
        },
    }
}

/// `cart` and `db` in `shop`, `web` in `default`; two workloads in `shop`, one without shadowing.
pub(crate) fn snapshot(generation: u64) -> Snapshot {
    let services = [
        service(
            "cart.shop",
            1,
            &[("http", Protocol::Tcp, 80), ("", Protocol::Tcp, 81)],
        ),
        service("db.shop", 2, &[("log", Protocol::Udp, 514)]),
        service("web", 3, &[]),
    ];
    let workloads = [workload(SHOPPER, "a", true), workload(CAREFREE, "b", false)];
    Snapshot {
        generation: Generation(generation),
        services: services.into_iter().map(|s| (s.name.clone(), s)).collect(),
        workloads: workloads.into_iter().map(|w| (w.cgroup, w)).collect(),
        ..Snapshot::empty()
    }
}

pub(crate) fn table() -> Table {
    Table::build(&View {
        snapshot: snapshot(9),
        settings: mapped(),
    })
}

fn origin(workload: CgroupId) -> Option<Origin> {
    Some(Origin {
        server: "192.0.2.53:53".parse().unwrap(),
        workload,
    })
}

fn answer_as(workload: CgroupId, table: &Table, message: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    match respond(table, message, origin(workload), Transport::Udp, &mut out) {
        Action::Answer(_) => {
            assert_eq!(out[..2], message[..2], "the id is the program's");
            Some(describe(&out))
        }
        Action::Forward(server) => {
            assert_eq!(server, "192.0.2.53:53".parse().unwrap());
            None
        }
        Action::Drop => panic!("dropped"),
    }
}

fn check(name: &str, rtype: u16, want: &str) {
    let found = answer_as(SHOPPER, &table(), &query(7, name, rtype));
    assert_eq!(found.as_deref(), Some(want), "{name} {rtype}");
}

fn soa(owner: &str) -> String {
    let names = "ns.dns.cluster.local. hostmaster.cluster.local.";
    format!("authority: {owner} 5 SOA {names} minimum 5")
}

fn check_empty(name: &str, rtype: u16, apex: &str) {
    check(name, rtype, &format!("rcode 0 aa rd ra\n{}", soa(apex)));
}

fn check_nothing(name: &str, rtype: u16, apex: &str) {
    check(name, rtype, &format!("rcode 3 aa rd ra\n{}", soa(apex)));
}

fn check_foreign(workload: CgroupId, name: &str, rtype: u16) {
    let found = answer_as(workload, &table(), &query(7, name, rtype));
    assert_eq!(found, None, "{name} {rtype}");
}

/// With addresses of both families, so that both are seen.
fn mapped() -> Settings {
    Settings {
        ipv6: Ipv6Answer::Mapped,
        ..Settings::default()
    }
}

#[test]
fn a_service_has_four_names() {
    for name in [
        "cart",
        "cart.shop",
        "cart.shop.svc",
        "cart.shop.svc.cluster.local",
    ] {
        check(
            name,
            A,
            &format!("rcode 0 aa rd ra\nanswer: {name}. 5 A 127.96.1.1"),
        );
        check(
            name,
            AAAA,
            &format!("rcode 0 aa rd ra\nanswer: {name}. 5 AAAA ::ffff:127.96.1.1"),
        );
        check(
            name,
            ANY,
            &format!("rcode 0 aa rd ra\nanswer: {name}. 5 A 127.96.1.1"),
        );
    }
    check(
        "CaRt.SHOP",
        A,
        "rcode 0 aa rd ra\nanswer: CaRt.SHOP. 5 A 127.96.1.1",
    );
}

#[test]
fn a_bare_name_is_in_the_namespace_of_who_asks() {
    let ask = |workload, name| answer_as(workload, &table(), &query(7, name, A));
    assert_eq!(ask(SHOPPER, "web"), None, "web is in default");
    let stranger = CgroupId(4711);
    assert!(ask(stranger, "web").unwrap().contains("127.96.1.3"));
    assert_eq!(ask(stranger, "cart"), None);
}

#[test]
fn types_a_name_has_not_are_no_data() {
    check_empty("cart", TXT, "cart.");
    check_empty("cart.shop.svc.cluster.local", SRV, "cluster.local.");
    check_empty("_http._tcp.cart", A, "cart.");
    check_empty("_tcp.cart", A, "cart.");
    check_empty("shop.svc.cluster.local", A, "cluster.local.");
    check_empty("svc.cluster.local", A, "cluster.local.");
    check_empty("cluster.local", A, "cluster.local.");
    check_empty("1.1.96.127.in-addr.arpa", A, "127.in-addr.arpa.");
}

#[test]
fn names_that_are_not_there_are_nothing() {
    check_nothing("nobody.shop.svc.cluster.local", A, "cluster.local.");
    check_nothing("pod.cart.shop.svc.cluster.local", A, "cluster.local.");
    check_nothing("cart.nowhere.svc.cluster.local", A, "cluster.local.");
    check_nothing("nowhere.svc.cluster.local", A, "cluster.local.");
    check_nothing("x.pod.cluster.local", A, "cluster.local.");
    check_nothing("nobody.shop.svc", A, "shop.svc.");
    check_nothing("_ftp._tcp.cart", SRV, "cart.");
    check_nothing("_http._udp.cart", SRV, "cart.");
    check_nothing("_udp.cart.shop", SRV, "cart.shop.");
    check_nothing("9.9.96.127.in-addr.arpa", PTR, "127.in-addr.arpa.");
}

#[test]
fn other_names_are_others() {
    for name in [
        "",
        "example.com",
        "cart.example.com",
        "nobody",
        "nobody.shop",
        "nobody.nowhere.svc",
        "_http._tcp.example.com",
        "a.b.cart",
        "local",
        "xcluster.local",
        "1.0.0.127.in-addr.arpa",
        "1.1.96.126.in-addr.arpa",
        "96.127.in-addr.arpa",
        "01.1.96.127.in-addr.arpa",
        "corp.example",
    ] {
        check_foreign(SHOPPER, name, A);
    }
}

#[test]
fn a_mesh_name_with_a_search_suffix_is_nothing() {
    for name in [
        "cart.corp.example",
        "cart.shop.corp.example",
        "web.default.corp.example",
        "cart.shop.svc.cluster.local.corp.example",
    ] {
        let out = &mut Vec::new();
        let message = query(7, name, A);
        let action = respond(&table(), &message, origin(SHOPPER), Transport::Udp, out);
        assert_eq!(action, Action::Answer(Counter::Shadowed), "{name}");
        assert_eq!(
            describe(out),
            format!("rcode 3 aa rd ra\n{}", soa("corp.example."))
        );
        check_foreign(CAREFREE, name, A);
    }
    for name in [
        "web.corp.example",
        "cart.shop.svc.corp.example",
        "_http._tcp.cart.corp.example",
        "nobody.corp.example",
        "a.cart.corp.example",
    ] {
        check_foreign(SHOPPER, name, A);
    }
}

#[test]
fn named_ports_have_srv_records() {
    for name in ["_http._tcp.cart", "_http._tcp.cart.shop.svc.cluster.local"] {
        check(
            name,
            SRV,
            &format!(
                "rcode 0 aa rd ra\n\
                 answer: {name}. 5 SRV 0 100 80 cart.shop.svc.cluster.local.\n\
                 additional: cart.shop.svc.cluster.local. 5 A 127.96.1.1\n\
                 additional: cart.shop.svc.cluster.local. 5 AAAA ::ffff:127.96.1.1"
            ),
        );
    }
}

#[test]
fn virtual_addresses_have_names() {
    // ::ffff:127.96.1.1 is ::ffff:7f60:101, written backwards.
    let digits = "10 10 06 f7 ffff 0000 0000 0000 0000 0000".chars();
    let digits: Vec<_> = digits.filter(|c| *c != ' ').map(String::from).collect();
    let mapped = format!("{}.ip6.arpa", digits.join("."));
    for name in ["1.1.96.127.in-addr.arpa".to_owned(), mapped] {
        check(
            &name,
            PTR,
            &format!("rcode 0 aa rd ra\nanswer: {name}. 5 PTR cart.shop.svc.cluster.local."),
        );
    }
}

#[test]
fn the_cluster_domain_has_an_soa() {
    check(
        "cluster.local",
        SOA,
        "rcode 0 aa rd ra\nanswer: cluster.local. 5 SOA \
         ns.dns.cluster.local. hostmaster.cluster.local. minimum 5",
    );
}

#[test]
fn settings_decide_on_ipv6_domain_and_ttl() {
    let table = Table::build(&View {
        snapshot: snapshot(1),
        settings: Settings {
            cluster_domain: "mesh.test".to_owned(),
            ipv6: Ipv6Answer::NoData,
            ttl: std::time::Duration::from_secs(1),
            ..Settings::default()
        },
    });
    let ask = |name, rtype| answer_as(SHOPPER, &table, &query(7, name, rtype));
    let names = "ns.dns.mesh.test. hostmaster.mesh.test.";
    assert_eq!(
        ask("cart", AAAA).unwrap(),
        format!("rcode 0 aa rd ra\nauthority: cart. 1 SOA {names} minimum 1")
    );
    assert!(
        ask("cart.shop.svc.mesh.test", A)
            .unwrap()
            .ends_with(" 1 A 127.96.1.1")
    );
    assert_eq!(ask("cart.shop.svc.cluster.local", A), None);
}

#[test]
fn the_case_of_the_question_is_kept() {
    let message = query(7, "cArT.sHoP.SvC.ClUsTeR.lOcAl", A);
    let out = &mut Vec::new();
    respond(&table(), &message, origin(SHOPPER), Transport::Udp, out);
    assert_eq!(out[12..message.len()], message[12..]);
    assert_eq!(message[12..39], wire("cArT.sHoP.SvC.ClUsTeR.lOcAl")[..27]);
}

#[test]
fn edns_is_answered_with_edns() {
    let ask = |message: &[u8]| answer_as(SHOPPER, &table(), message).unwrap();
    let opt =
        |rcode, flags| format!("\nadditional: OPT size 1232 rcode {rcode} version 0 flags {flags}");
    let a = "rcode 0 aa rd ra\nanswer: cart. 5 A 127.96.1.1";
    assert_eq!(
        ask(&edns_query("cart", A, 4096, 0, 0)),
        format!("{a}{}", opt(0, 0))
    );
    assert_eq!(
        ask(&edns_query("cart", A, 0, 0, 0x80)),
        format!("{a}{}", opt(0, 0x80))
    );
    let badvers = ask(&edns_query("cart", A, 4096, 1, 0));
    assert_eq!(badvers, format!("rcode 0 rd ra{}", opt(1, 0)));
}

#[test]
fn the_longest_names_fit_and_addresses_give_way() {
    let (port, long) = ("p".repeat(62), "a".repeat(63));
    let name = format!("{long}.{long}");
    let service = service(&name, 9, &[(&port, Protocol::Tcp, 80)]);
    let mut snapshot = snapshot(1);
    snapshot.services.insert(service.name.clone(), service);
    let domain = "d".repeat(48);
    let settings = Settings {
        cluster_domain: domain.clone(),
        ..mapped()
    };
    let table = Table::build(&View { snapshot, settings });
    let full = format!("{name}.svc.{domain}");
    let question = format!("_{port}._tcp.{full}");
    let srv = format!("rcode 0 aa rd ra\nanswer: {question}. 5 SRV 0 100 80 {full}.");
    let ipv4 = format!("additional: {full}. 5 A 127.96.1.9");
    let ipv6 = format!("additional: {full}. 5 AAAA ::ffff:127.96.1.9");
    let ask = |message: &[u8]| answer_as(SHOPPER, &table, message).unwrap();
    assert_eq!(
        ask(&query(7, &question, SRV)),
        format!("{srv}\n{ipv4}\n{ipv6}")
    );
    let opt = "additional: OPT size 1232 rcode 0 version 0 flags 0";
    let small = ask(&edns_query(&question, SRV, 512, 0, 0));
    assert_eq!(small, format!("{srv}\n{ipv4}\n{opt}"));
    let large = ask(&edns_query(&question, SRV, 4096, 0, 0));
    assert_eq!(large, format!("{srv}\n{ipv4}\n{ipv6}\n{opt}"));
}

#[test]
fn classes_and_types_that_are_no_data_are_refused() {
    let ask = |rtype: u16, class: u8| {
        let mut message = query(7, "cart", rtype);
        let end = message.len();
        message[end - 1] = class;
        let found = answer_as(SHOPPER, &table(), &message).unwrap();
        found.lines().next().unwrap().to_owned()
    };
    assert_eq!(ask(A, 3), "rcode 5 rd ra", "CHAOS");
    assert_eq!(ask(A, 255), "rcode 0 aa rd ra", "class ANY");
    assert_eq!(ask(252, 1), "rcode 5 rd ra", "AXFR");
    assert_eq!(ask(251, 1), "rcode 5 rd ra", "IXFR");
    assert_eq!(ask(250, 1), "rcode 4 rd ra", "TSIG");
    assert_eq!(ask(41, 1), "rcode 1 rd ra", "OPT");
    assert_eq!(ask(65, 1), "rcode 0 aa rd ra", "HTTPS: no data");
}
