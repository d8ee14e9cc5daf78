//! Prints what the gate costs per request: admit, attempt, answer, finish, with one thread and with two
//! on the same upstream and route.
//!
//! `cargo run --release -p selvedge-resilience --example gate_cost [REQUESTS]`; under callgrind one
//! thread alone is told by `gate_cost REQUESTS 1`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::num::NonZeroU32;
use std::time::Duration;

use selvedge_model::{
    Backend, BackendIndex, CgroupId, Ejection, Instant, Place, Port, RequestPolicy, RetryBudget,
    Rng, RouteIndex, ServiceName, Timeouts,
};
use selvedge_resilience::{
    Call, Ending, EndpointPlan, Node, NodePlan, RoutePlan, Seat, UpstreamPlan, WorkloadPlan,
};

const ROUNDS: usize = 50;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default| {
        let number = arguments.next().and_then(|text| text.parse::<usize>().ok());
        number.unwrap_or(default)
    };
    let (requests, most_threads) = (next(100_000), next(2));
    for (source, caller) in [(None, "outside"), (Some(CgroupId(7)), "a workload")] {
        for threads in 1..=most_threads {
            let rounds = [(); ROUNDS].map(|()| measure(threads, requests, source));
            let busy = rounds.iter().map(|(busy, _)| busy).min().expect("rounds");
            let wall = rounds.iter().map(|(_, wall)| wall).min().expect("rounds");
            println!(
                "{threads} threads, from {caller}: {busy} ns on the processor, {wall} ns of time"
            );
        }
    }
}

/// What a request takes in ns: processor time, which what else runs does not touch, and time, which
/// alone tells what threads cost each other where the machine has a core for each.
fn measure(threads: usize, requests: usize, source: Option<CgroupId>) -> (u64, u64) {
    let node = &Node::new(&plan(), None, threads);
    let began = std::time::Instant::now();
    let busy: u64 = std::thread::scope(|scope| {
        let drive = |worker| {
            scope.spawn(move || {
                let before = busy_nanoseconds();
                drive(node, worker, requests as u64, source);
                busy_nanoseconds() - before
            })
        };
        let drivers: Vec<_> = (0..threads).map(drive).collect();
        let busy = drivers.into_iter().map(|driver| driver.join());
        busy.map(|busy| busy.expect("a driver does not panic"))
            .sum()
    });
    let wall = began.elapsed().as_nanos() as u64;
    (busy / (threads * requests) as u64, wall / requests as u64)
}

/// What the kernel says of this thread (proc(5), schedstat).
fn busy_nanoseconds() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let first = text.split(' ').next().and_then(|text| text.parse().ok());
    first.expect("time on the processor comes first")
}

fn drive(node: &Node, worker: usize, requests: u64, source: Option<CgroupId>) {
    let mut seat = Seat::new(worker, Rng::seeded(worker as u64 + 1));
    for number in 0..requests {
        let now = Instant::from_nanos(number * 1000);
        let call = Call {
            source,
            route: RouteIndex(0),
            destination: BackendIndex(0),
            trace: Rng::seeded(number ^ (worker as u64) << 60).next_u64(),
            timeouts: Timeouts::default(),
            retry: None,
        };
        let mut admission = node.admit(now, &mut seat, &call).expect("no limit");
        let mut attempt = admission.attempt(now, &mut seat).expect("low load");
        let _ = admission.on_answer(now, &mut seat, &mut attempt, 200, false);
        attempt.finish(now, Ending::Complete);
        admission.finish(now, Ending::Complete);
    }
}

fn plan() -> NodePlan {
    let port = Port::new(80).expect("not 0");
    let endpoint = |cgroup| EndpointPlan {
        place: Place::Local(CgroupId(cgroup)),
        port,
        weight: 1,
    };
    let service = ServiceName {
        namespace: "default".parse().expect("a label"),
        name: "cart".parse().expect("a label"),
    };
    let policy = RequestPolicy {
        requests_per_endpoint: NonZeroU32::new(1000),
        retry_budget: Some(RetryBudget {
            percent: 20,
            per_second: 10,
        }),
        ejection: Some(Ejection {
            consecutive_failures: 5.try_into().expect("not 0"),
            duration: Duration::from_secs(30),
            most_percent: 10,
        }),
        ..RequestPolicy::default()
    };
    NodePlan {
        upstreams: vec![UpstreamPlan {
            backend: Backend { service, port },
            policy,
            endpoints: (1..=4).map(endpoint).collect(),
        }],
        routes: vec![RoutePlan {
            name: "cart".into(),
        }],
        workloads: vec![WorkloadPlan {
            cgroup: CgroupId(7),
            is_entry: false,
        }],
    }
}
