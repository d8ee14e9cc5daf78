//! Who is at the entry of a route, and that everything asked for must be there.

use selvedge_model::{BackendIndex, CgroupId, Reason, RequestPolicy, RouteIndex, Timeouts};
use selvedge_resilience::{Call, Ending};

use crate::rig::{OK, Rig, call};

fn in_flight(rig: &Rig) -> u32 {
    rig.node.reading(rig.now).routes[0].in_flight
}

#[test]
fn callers_that_serve_nothing_are_at_the_entry() {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let sources = [
        (None, 1),
        (Some(100), 1),
        (Some(101), 0),
        (Some(1), 0),
        (Some(555), 1),
    ];
    for (source, counted) in sources {
        let source = source.map(CgroupId);
        let admission = rig.admit_as(&Call { source, ..call() }).unwrap();
        assert_eq!(in_flight(&rig), counted, "{source:?}");
        admission.finish(rig.now, Ending::Complete);
        assert_eq!(in_flight(&rig), 0, "{source:?}");
    }
}

#[test]
fn unknown_routes_and_backends_are_refused() {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let no_route = Call {
        route: RouteIndex(1),
        ..call()
    };
    let no_backend = Call {
        destination: BackendIndex(1),
        ..call()
    };
    assert_eq!(rig.admit_as(&no_route).unwrap_err().reason, Reason::NoRoute);
    assert_eq!(
        rig.admit_as(&no_backend).unwrap_err().reason,
        Reason::NoBackend
    );
    assert_eq!(in_flight(&rig), 0);
}

#[test]
fn the_nearer_deadline_counts_and_the_route_is_asked_first() {
    let policy = RequestPolicy {
        timeouts: Timeouts {
            request: Some(std::time::Duration::from_secs(9)),
            attempt: Some(std::time::Duration::from_secs(2)),
        },
        ..RequestPolicy::default()
    };
    let mut rig = Rig::new(&[1], policy);
    let second = std::time::Duration::from_secs(1);
    let timeouts = Timeouts {
        request: Some(3 * second),
        attempt: None,
    };
    let began = rig.now;
    let mut admission = rig.admit_as(&Call { timeouts, ..call() }).unwrap();
    assert_eq!(admission.deadline(), Some(began + 3 * second));
    assert_eq!(
        rig.attempt(&mut admission).deadline(),
        Some(began + 2 * second)
    );
    rig.wait(2 * second);
    assert_eq!(
        rig.attempt(&mut admission).deadline(),
        Some(began + 3 * second)
    );
    rig.wait(second);
    let late = admission.attempt(rig.now, &mut rig.seat).unwrap_err();
    assert_eq!(late.reason, Reason::RequestTimeout);
}

#[test]
fn what_lives_on_is_known_by_its_key() {
    let mut rig = Rig::new(&[1, 1], RequestPolicy::default());
    rig.ask(OK);
    let held = rig.send();
    rig.plan.upstreams[0].endpoints.reverse();
    rig.plan.routes.insert(
        0,
        selvedge_resilience::RoutePlan {
            name: "new".into(),
            service: None,
            law: selvedge_resilience::LimitLaw::Static,
            is_applied: true,
        },
    );
    let before = rig.endpoints();
    rig.reconfigure();
    for endpoint in rig.endpoints() {
        let same = before.iter().find(|it| it.port == endpoint.port);
        assert_eq!(same, Some(&endpoint));
    }
    let reading = rig.node.reading(rig.now);
    assert_eq!(
        (reading.routes[0].in_flight, reading.routes[1].in_flight),
        (0, 1)
    );
    assert_eq!(reading.upstreams[0].totals.requests, 2);
    drop(held);
    assert!(rig.endpoints().iter().all(|it| it.in_flight == 0));
}
