//! Claims: a set is taken whole or not at all; the folder's objects are its own; addresses are for
//! life; what `run` makes follows the rules of `placement`.
use selvedge_model::{Label, Port, PortMode, Protocol, WorkloadName};

use super::*;
use crate::document::{CgroupRef, ResolverSpec, SourceFile, WorkloadPort, parse};

const RANGE: VirtualRange = VirtualRange::DEFAULT;

fn documents(file: &str, text: &str) -> Vec<Document> {
    let file = SourceFile {
        name: file.to_owned(),
        text: text.to_owned(),
    };
    parse(&[file]).unwrap().documents
}

fn service(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{ports: [{{port: 80}}]{rest}}}\n"
    )
}

fn key(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey::new(kind, &Label::default_namespace(), name)
}

fn spec<'a>(objects: &'a Objects, name: &str) -> &'a crate::document::ServiceSpec {
    match &objects
        .find(&key(Kind::Service, name))
        .unwrap()
        .document
        .spec
    {
        Spec::Service(spec) => spec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_is_for_life() {
    let mut objects = Objects::default();
    let first = documents("a", &service("cart", ""));
    let changes = objects.apply(first.clone(), Generation(1), RANGE).unwrap();
    assert_eq!(changes[0].action, Action::Created);
    let address = spec(&objects, "cart").cluster_ip.unwrap();
    let changes = objects.apply(first, Generation(2), RANGE).unwrap();
    assert_eq!(changes[0].action, Action::Unchanged);
    let other = documents("a", &service("cart", ", clusterIP: 127.96.9.9"));
    let errors = objects
        .clone()
        .apply(other, Generation(3), RANGE)
        .unwrap_err();
    assert_eq!(errors[0].path, "spec.clusterIP");
    assert_eq!(spec(&objects, "cart").cluster_ip, Some(address));
}

#[test]
fn the_folder_owns_its_objects() {
    let mut objects = Objects::default();
    let both = service("a", "") + &service("b", "");
    objects
        .replace_folder(documents("dir/x.yaml", &both), Generation(1), RANGE)
        .unwrap();
    let errors = objects
        .clone()
        .apply(documents("stdin", &service("a", "")), Generation(2), RANGE);
    assert!(errors.unwrap_err()[0].message.contains("dir/x.yaml"));
    let error = objects.delete(&key(Kind::Service, "a")).unwrap_err();
    assert!(error.to_string().contains("dir/x.yaml:2"), "{error}");
    let only = documents("dir/x.yaml", &service("a", ""));
    let changes = objects.replace_folder(only, Generation(2), RANGE).unwrap();
    let actions: Vec<_> = changes.iter().map(|change| change.action).collect();
    assert_eq!(actions, [Action::Unchanged, Action::Deleted]);
    assert!(objects.find(&key(Kind::Service, "b")).is_none());
}

#[test]
fn doubles_and_stale_versions_are_refused_together() {
    let mut objects = Objects::default();
    objects
        .apply(documents("a", &service("a", "")), Generation(7), RANGE)
        .unwrap();
    let stale = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a, resourceVersion: '6'}\n\
                 spec: {}\n";
    let text = service("b", "") + &service("b", "") + stale;
    let errors = objects
        .apply(documents("a", &text), Generation(8), RANGE)
        .unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["", "metadata.resourceVersion"]);
    assert!(errors[0].message.contains("a:2"), "{}", errors[0].message);
}

fn place(objects: &mut Objects, ports: &[u16]) -> WorkloadName {
    let ports = ports.iter().map(|port| WorkloadPort {
        name: None,
        port: Port::new(*port).unwrap(),
        protocol: Protocol::Tcp,
    });
    let request = PlaceRequest {
        service: "web".parse().unwrap(),
        ports: ports.collect(),
        publish: Vec::new(),
        resolver: ResolverSpec::default(),
        port_mode: PortMode::Shared,
    };
    let name = objects
        .free_replica_name(&request.service, |_| false)
        .unwrap();
    let cgroup = CgroupRef::Path(format!("/selvedge/{name}"));
    objects
        .place(&request, &name, &cgroup, Generation(1), RANGE)
        .unwrap();
    name
}

fn port_numbers(objects: &Objects) -> Vec<u16> {
    spec(objects, "web")
        .ports
        .iter()
        .map(|port| port.port.get())
        .collect()
}

#[test]
fn a_service_made_by_run_has_the_ports_it_is_seen_on() {
    let mut objects = Objects::default();
    let first = place(&mut objects, &[]);
    let second = place(&mut objects, &[]);
    assert_eq!(
        [first.to_string(), second.to_string()],
        ["web-0.default", "web-1.default"]
    );
    let web = "web".parse().unwrap();
    let mut see = |port: u16, idle: &[u16]| {
        let idle = |_, port: Port| idle.contains(&port.get());
        let port = Port::new(port).unwrap();
        objects.see_port(&web, Protocol::Tcp, port, idle, Generation(2)) == Seen::Served
    };
    assert!(see(80, &[]));
    assert!(!see(80, &[]), "known already");
    assert!(see(9000, &[]));
    assert!(
        !see(80, &[80, 9000]),
        "all replicas restart: nothing leaves"
    );
    assert!(
        see(9001, &[9000]),
        "a changing port takes the place of the old one"
    );
    assert_eq!(port_numbers(&objects), [80, 9001]);
    let gone = objects.remove_placed(&CgroupRef::Path("/selvedge/web-0.default".to_owned()));
    assert_eq!(gone.unwrap().key, key(Kind::Workload, "web-0"));
    assert_eq!(port_numbers(&objects), [80, 9001], "the service stays");
}

#[test]
fn declared_ports_are_the_only_ones() {
    let mut objects = Objects::default();
    place(&mut objects, &[8080]);
    let web = "web".parse().unwrap();
    let seen = Port::new(81).unwrap();
    let idle = |_, _| false;
    let seen = objects.see_port(&web, Protocol::Tcp, seen, idle, Generation(2));
    assert_eq!(seen, Seen::NotServed);
    assert_eq!(port_numbers(&objects), [8080]);
}

#[test]
fn what_run_makes_is_judged_like_what_people_write() {
    let port = |number: u16| WorkloadPort {
        name: Some(Label::new("http").unwrap()),
        port: Port::new(number).unwrap(),
        protocol: Protocol::Tcp,
    };
    let request = PlaceRequest {
        service: "web".parse().unwrap(),
        ports: vec![port(80), port(81)],
        publish: Vec::new(),
        resolver: ResolverSpec::default(),
        port_mode: PortMode::Shared,
    };
    let mut objects = Objects::default();
    let name = objects
        .free_replica_name(&request.service, |_| false)
        .unwrap();
    let cgroup = CgroupRef::Path("/selvedge/web-0".to_owned());
    let error = objects
        .place(&request, &name, &cgroup, Generation(1), RANGE)
        .unwrap_err();
    let PlaceError::Refused { diagnostics, .. } = error else {
        panic!("{error}")
    };
    assert!(diagnostics[0].message.contains("twice"), "{diagnostics:?}");
}
