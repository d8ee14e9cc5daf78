//! What a workload works on itself: its requests, less those that wait for calls.

use selvedge_model::{CgroupId, RequestPolicy};
use selvedge_resilience::{Admission, Attempt, Call, Ending, WorkloadReading};

use crate::rig::{Rig, call};

const SERVER: CgroupId = CgroupId(1);

/// A request into the server, in this trace.
fn request(rig: &mut Rig, trace: u64) -> (Admission, Attempt) {
    let mut admission = rig.admit_as(&Call { trace, ..call() }).unwrap();
    let attempt = rig.attempt(&mut admission);
    (admission, attempt)
}

/// A call that the server makes, in this trace.
fn make_call(rig: &mut Rig, trace: u64) -> Admission {
    let source = Some(SERVER);
    let call = Call {
        source,
        trace,
        ..call()
    };
    rig.admit_as(&call).unwrap()
}

fn server(rig: &Rig) -> WorkloadReading {
    let reading = rig.node.reading(rig.now);
    *reading
        .workloads
        .iter()
        .find(|it| it.cgroup == SERVER)
        .unwrap()
}

#[test]
fn parallel_children_count_once() {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let parent = request(&mut rig, 7);
    let other = request(&mut rig, 8);
    assert_eq!(server(&rig).own(), 2);
    let mut children: Vec<_> = (0..3).map(|_| make_call(&mut rig, 7)).collect();
    for _ in 0..3 {
        assert_eq!((server(&rig).waiting, server(&rig).own()), (1, 1));
        children.pop();
    }
    assert_eq!((server(&rig).waiting, server(&rig).own()), (0, 2));
    drop((parent, other));
    assert_eq!(server(&rig).own(), 0);
}

/// However many attempts a call makes, it is one.
#[test]
fn attempts_of_a_call_count_once() {
    let mut rig = Rig::new(&[1, 1], RequestPolicy::default());
    rig.plan.upstreams[0].endpoints.truncate(1);
    let _parents = [request(&mut rig, 7), request(&mut rig, 7)];
    let mut child = make_call(&mut rig, 7);
    let both = [(); 2].map(|()| rig.attempt(&mut child));
    let waiting = |rig: &Rig| -> u32 {
        let reading = rig.node.reading(rig.now);
        reading.workloads.iter().map(|it| it.waiting).sum()
    };
    assert_eq!(waiting(&rig), 1);
    drop(both);
    assert_eq!(waiting(&rig), 1);
    drop(child);
    assert_eq!(waiting(&rig), 0);
}

#[test]
fn a_trace_that_comes_back_counts_each_request() {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let _parents = [request(&mut rig, 7), request(&mut rig, 7)];
    let calls = [make_call(&mut rig, 7), make_call(&mut rig, 7)];
    assert_eq!(server(&rig).own(), 0);
    drop(calls);
    assert_eq!(server(&rig).own(), 2);
}

/// A program that forwards no trace: its calls are taken for one of a request each.
#[test]
fn calls_of_no_known_request_are_estimated() {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let _parents = [request(&mut rig, 7), request(&mut rig, 0)];
    let stray = [make_call(&mut rig, 0), make_call(&mut rig, 9)];
    assert_eq!(server(&rig).unjoined_calls, 2);
    assert_eq!(server(&rig).own(), 0);
    let more = make_call(&mut rig, 11);
    assert_eq!(server(&rig).own(), 0, "never below zero");
    drop((stray, more));
    assert_eq!((server(&rig).own(), server(&rig).unjoined_calls), (2, 0));
}

/// The request is over before the call that was made for it.
#[test]
fn a_call_may_outlive_its_request() {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let (admission, attempt) = request(&mut rig, 7);
    let child = make_call(&mut rig, 7);
    attempt.finish(rig.now, Ending::Complete);
    admission.finish(rig.now, Ending::Complete);
    let _next = request(&mut rig, 8);
    assert_eq!((server(&rig).waiting, server(&rig).own()), (0, 1));
    let late = make_call(&mut rig, 7);
    assert_eq!(server(&rig).unjoined_calls, 1, "its request is no more");
    drop((child, late));
    assert_eq!((server(&rig).waiting, server(&rig).own()), (0, 1));
}

/// The table has an end, at which requests are counted and still served.
#[test]
fn a_full_table_is_counted_and_let_go() {
    let mut rig = Rig::new(&[1], RequestPolicy::default());
    let held: Vec<_> = (1..=30_000).map(|trace| request(&mut rig, trace)).collect();
    let unjoined = rig.node.reading(rig.now).unjoined_requests;
    assert!((30_000 - 16_384..20_000).contains(&unjoined), "{unjoined}");
    let calls: Vec<_> = (1..=30_000)
        .map(|trace| make_call(&mut rig, trace))
        .collect();
    let full = server(&rig);
    assert_eq!(u64::from(full.unjoined_calls), unjoined);
    assert_eq!((full.in_flight, full.own()), (30_000, 0));
    drop(held);
    drop(calls);
    let empty = server(&rig);
    assert_eq!(
        (empty.in_flight, empty.waiting, empty.unjoined_calls),
        (0, 0, 0)
    );
    let reading = rig.node.reading(rig.now);
    assert_eq!((reading.trace_slots_used, reading.trace_slots), (0, 16_384));
    let _held = request(&mut rig, 1);
    let _call = make_call(&mut rig, 1);
    assert_eq!(server(&rig).waiting, 1, "there is room again");
}
