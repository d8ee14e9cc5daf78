//! Prints what a controller costs: the time of a window that is closed, and of a look at one that is not due.
//!
//! `cargo run --release -p selvedge-resilience --example controller_cost [ENDPOINTS] [WINDOWS] [WORKERS]`
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::time::{Duration, Instant};

use selvedge_model::{
    Backend, BackendIndex, CgroupId, JournalEvent, Place, Port, RequestPolicy, Rng, RouteIndex,
    Timeouts,
};
use selvedge_resilience::{
    BalanceLaw, Call, Controllers, Ending, EndpointPlan, LimitLaw, Node, NodePlan, RetryLaw,
    RoutePlan, Seat, UpstreamPlan,
};

/// Requests of an endpoint in a window.
const REQUESTS: u64 = 60;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default| {
        let number = arguments.next().and_then(|text| text.parse::<u64>().ok());
        number.unwrap_or(default)
    };
    let (endpoints, windows, workers) = (next(500), next(40), next(2));
    let node = Node::new(&plan(endpoints), None, workers as usize);
    let mut seats: Vec<Seat> = (0..workers)
        .map(|worker| Seat::new(worker as usize, Rng::seeded(worker)))
        .collect();
    let mut controllers = Controllers::new(Rng::seeded(1));
    let mut now = selvedge_model::Instant::from_nanos(1);
    controllers.tick(now, &node, &mut |_, _| {});
    let (mut closing, mut looking) = (Vec::new(), Vec::new());
    let mut closed = 0;
    for _ in 0..windows {
        for request in 0..REQUESTS * endpoints {
            let seat = &mut seats[(request % workers) as usize];
            ask(&node, now, seat, request);
        }
        now = now + Duration::from_millis(700);
        let mut count = 0;
        let began = Instant::now();
        controllers.tick(now, &node, &mut |_, event| {
            count += u64::from(matches!(event, JournalEvent::Decided { .. }));
        });
        let took = began.elapsed().as_nanos() as u64;
        closing.extend(took.checked_div(count));
        closed += count;
        let began = Instant::now();
        controllers.tick(now, &node, &mut |_, _| {});
        looking.push(began.elapsed().as_nanos() as u64 / endpoints);
    }
    closing.sort_unstable();
    looking.sort_unstable();
    let spread = |times: &[u64]| (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!("{closed} windows of {endpoints} endpoints, {workers} workers; min/median/max in ns");
    println!("a window that is closed: {:?}", spread(&closing));
    println!("a look at one that is not due: {:?}", spread(&looking));
}

/// A request that takes from 1 to 100 ms.
fn ask(node: &Node, now: selvedge_model::Instant, seat: &mut Seat, request: u64) {
    let call = Call {
        source: None,
        route: RouteIndex(0),
        destination: BackendIndex(0),
        trace: 0,
        urgency: None,
        client_timeout: None,
        timeouts: Timeouts::default(),
        retry: None,
    };
    let mut admission = node.admit(now, seat, &call).expect("no limit");
    let mut attempt = admission.attempt(now, seat).expect("one at once");
    let later = now + Duration::from_millis(1 + request % 100);
    let _ = admission.on_answer(later, seat, &mut attempt, 200, false);
    attempt.finish(later, Ending::Complete);
    admission.finish(later, Ending::Complete);
}

fn plan(endpoints: u64) -> NodePlan {
    let port = Port::MIN;
    NodePlan {
        upstreams: vec![UpstreamPlan {
            caller_weights: vec![],
            backend: Backend {
                service: "cart".parse().expect("a name"),
                port,
            },
            policy: RequestPolicy::default(),
            law: LimitLaw::of_endpoint(Duration::from_millis(100)),
            balance: BalanceLaw::LeastTime,
            retries: RetryLaw::Headroom,
            hedges: true,
            is_applied: true,
            endpoints: (1..=endpoints)
                .map(|cgroup| EndpointPlan {
                    place: Place::Local(CgroupId(cgroup)),
                    port,
                    weight: 1,
                })
                .collect(),
        }],
        routes: vec![RoutePlan {
            name: "cart".into(),
            service: None,
            law: LimitLaw::Static,
            is_applied: true,
        }],
        workloads: Vec::new(),
    }
}
