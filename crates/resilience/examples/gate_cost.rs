//! Prints what the gate costs per request: admit, attempt, answer, finish, with one thread and with two
//! on the same upstream and route, under limits of a policy and under limits that a law moves.
//!
//! `cargo run --release -p selvedge-resilience --example gate_cost [REQUESTS]`; under callgrind one
//! thread alone and one kind of limits is told by `gate_cost REQUESTS 1 adaptive`.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::num::NonZeroU32;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use selvedge_model::{
    Backend, BackendIndex, CgroupId, Ejection, Place, Port, RequestPolicy, RetryBudget, Rng,
    RouteIndex, ServiceName, Timeouts,
};
use selvedge_resilience::{
    BalanceLaw, Call, Ending, EndpointPlan, LimitLaw, Node, NodePlan, RetryLaw, RoutePlan, Seat,
    UpstreamPlan, WorkloadPlan,
};

const ROUNDS: usize = 101;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default| {
        let number = arguments.next().and_then(|text| text.parse::<usize>().ok());
        number.unwrap_or(default)
    };
    let (requests, most_threads) = (next(20_000), next(2));
    let objective = Duration::from_millis(100);
    let laws = [
        (LimitLaw::Static, "static"),
        (LimitLaw::of_endpoint(objective), "adaptive"),
    ];
    let only = arguments.next();
    let is_wanted = |limits: &str| only.as_deref().is_none_or(|only| only == limits);
    for (law, limits) in laws.into_iter().filter(|(_, limits)| is_wanted(limits)) {
        for (source, caller) in [(None, "outside"), (Some(CgroupId(7)), "a workload")] {
            for threads in 1..=most_threads {
                let mut rounds = [(); ROUNDS].map(|()| measure(threads, requests, source, law));
                rounds.sort_unstable();
                let (least, median) = (rounds[0], rounds[ROUNDS / 2]);
                println!(
                    "{limits} limits, {threads} threads, from {caller}: least {least} ns, median {median} ns"
                );
            }
        }
    }
}

/// Time until all threads are through, by the requests of one, in ns. Threads that run one after the
/// other because other work takes a core need longer than those that are in each other's way: the
/// least of many short rounds tells what the gate takes.
fn measure(threads: usize, requests: usize, source: Option<CgroupId>, law: LimitLaw) -> u64 {
    let node = &Node::new(&plan(law), None, threads);
    let start = &Barrier::new(threads);
    let drive = |worker| {
        move || {
            start.wait();
            let began = Instant::now();
            drive(node, worker, requests as u64, source);
            (began, Instant::now())
        }
    };
    let times: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let drivers: Vec<_> = (0..threads).map(|w| scope.spawn(drive(w))).collect();
        let times = drivers.into_iter().map(|driver| driver.join());
        times
            .map(|time| time.expect("a driver does not panic"))
            .collect()
    });
    let began = times
        .iter()
        .map(|(began, _)| *began)
        .min()
        .expect("a thread");
    let ended = times
        .iter()
        .map(|(_, ended)| *ended)
        .max()
        .expect("a thread");
    (ended - began).as_nanos() as u64 / requests as u64
}

fn drive(node: &Node, worker: usize, requests: u64, source: Option<CgroupId>) {
    let mut seat = Seat::new(worker, Rng::seeded(worker as u64 + 1));
    for number in 0..requests {
        let now = selvedge_model::Instant::from_nanos(number * 1000);
        let call = Call {
            source,
            route: RouteIndex(0),
            destination: BackendIndex(0),
            trace: Rng::seeded(number ^ (worker as u64) << 60).next_u64(),
            urgency: None,
            client_timeout: None,
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

fn plan(law: LimitLaw) -> NodePlan {
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
            caller_weights: vec![],
            backend: Backend { service, port },
            policy,
            law,
            balance: match law {
                LimitLaw::Static => BalanceLaw::LeastRequest,
                _ => BalanceLaw::LeastTime,
            },
            retries: match law {
                LimitLaw::Static => RetryLaw::Budget,
                _ => RetryLaw::Headroom,
            },
            hedges: law != LimitLaw::Static,
            is_applied: true,
            endpoints: (1..=4).map(endpoint).collect(),
        }],
        routes: vec![RoutePlan {
            name: "cart".into(),
            service: Some("cart".parse().expect("a name")),
            law,
            is_applied: true,
        }],
        workloads: vec![WorkloadPlan {
            cgroup: CgroupId(7),
            is_entry: false,
        }],
    }
}
