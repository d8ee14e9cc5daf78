//! The kernel path outlives the agent; a new one adopts it; `clear` leaves nothing.

use std::fs;

use selvedge_model::{FeatureState, Generation, Protocol, Reason};

use crate::testbed::{Testbed, local};

#[test]
fn every_feature_is_had() {
    let Some(mut bed) = Testbed::new("features") else {
        return;
    };
    let lacks_iterators = bed.lacks_iterators("the feature of pinned connections");
    let features = bed.node().status().unwrap().features;
    let expected = features
        .into_iter()
        .filter(|it| !(lacks_iterators && it.name == "pinned"));
    for feature in expected {
        assert_eq!(feature.state, FeatureState::Active, "{}", feature.name);
    }
}

#[test]
fn connections_and_counters_live_on_without_the_agent() {
    let Some(mut bed) = Testbed::new("adoption") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    let caller_service = bed.service("caller", 1, Protocol::Tcp);
    let mut server = bed.program("web", "web-0");
    server.tell("serve a 0.0.0.0:18095");
    bed.endpoint("web", local(&server), 18095, 1);
    let mut caller = bed.program("caller", "caller-0");
    caller.tell(&format!("connect old {web}:80"));

    bed.lose_agent();
    assert_eq!(caller.tell("echo old"), "echoed");
    assert_eq!(caller.tell("peer old"), format!("{web}:80"));
    assert!(
        caller
            .tell(&format!("ask {web}:80"))
            .starts_with(&server.pid().to_string())
    );

    bed.start_agent();
    assert_eq!(caller.tell("echo old"), "echoed");
    assert_eq!(caller.tell("peer old"), format!("{web}:80"));
    assert!(
        caller
            .tell(&format!("ask {web}:80"))
            .starts_with(&server.pid().to_string())
    );
    let edge = bed.edge(Some(caller_service), web);
    assert_eq!((edge.connections, edge.failures), (3, 0));
    assert_eq!(bed.node().status().unwrap().drift, []);
    assert_eq!(bed.node().workloads().unwrap().len(), 2);
}

#[test]
fn the_newest_generation_is_known_to_the_next_agent() {
    let Some(mut bed) = Testbed::new("generations") else {
        return;
    };
    bed.snapshot.generation = Generation(1 << 33);
    bed.apply();
    let newest = bed.snapshot.generation;
    bed.lose_agent();
    bed.snapshot.generation = Generation(0);
    bed.start_agent();
    assert_eq!(bed.node().newest_generation().unwrap(), newest);
    assert_eq!(bed.node().status().unwrap().generation, Some(Generation(1)));
}

#[test]
fn a_service_deleted_keeps_its_connections_and_refuses_new_ones() {
    let Some(mut bed) = Testbed::new("deleted services") else {
        return;
    };
    let web = bed.service("web", 80, Protocol::Tcp);
    let caller_service = bed.service("caller", 1, Protocol::Tcp);
    let mut server = bed.program("web", "web-0");
    server.tell("serve a 0.0.0.0:18096");
    bed.endpoint("web", local(&server), 18096, 1);
    let mut caller = bed.program("caller", "caller-0");
    caller.tell(&format!("connect old {web}:80"));
    bed.snapshot.services.remove(&"web".parse().unwrap());
    bed.apply();
    assert_eq!(caller.tell("echo old"), "echoed");
    assert_eq!(caller.tell(&format!("ask {web}:80")), "error ECONNREFUSED");
    let edge = bed.edge(Some(caller_service), None);
    assert_eq!(edge.refused[&Reason::NoSuchService], 1);
}

#[test]
fn another_layout_is_refused_with_a_message() {
    let Some(mut bed) = Testbed::new("other layouts") else {
        return;
    };
    bed.lose_agent();
    let foreign = bed.options.run_dir.join("bpf/v9999");
    fs::create_dir(&foreign).unwrap();
    let error = selvedge_node::Node::start(bed.options.clone())
        .err()
        .expect("refused");
    assert!(error.to_string().contains("another version"), "{error}");
    fs::remove_dir(&foreign).unwrap();
}
