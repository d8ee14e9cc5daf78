//! The proxy without kernel programs, fed as by an agent with one service of ten rules, whose requests
//! all go to one origin. For measuring what a request takes where a whole mesh cannot be: under
//! callgrind, which counts instructions.
//!
//! `fed_proxy ORIGIN [PREFIX...]` prints where connections to the service go; the proxy's command line
//! is appended to the prefix. It ends when the proxy does.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on should fail, and printing is what it is for"
)]

#[path = "../tests/it/agent.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod agent;
#[path = "../tests/it/cart.rs"]
mod cart;

use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use selvedge_model::{Ejection, RequestPolicy, RetryBudget, Timeouts};

use agent::{Agent, Proxy, Sockets};
use cart::{ADDRESS, Cart, route, snapshot};

/// Any: who calls is a workload of its own.
const CALLER: &str = "7";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(origin) = arguments.next().and_then(|text| text.parse().ok()) else {
        eprintln!("usage: fed_proxy ORIGIN [PREFIX...]");
        return ExitCode::from(2);
    };
    let agent = Agent::new();
    let sockets = Sockets::new();
    let words: Vec<String> = arguments.collect();
    let proxy = Proxy::program();
    let mut command = match words.split_first() {
        None => Command::new(proxy),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(proxy);
            command
        }
    };
    let asked = SocketAddr::new(ADDRESS.into(), 80).to_string();
    // A tool that runs the proxy makes system calls of its own.
    command
        .arg(agent.path())
        .args([&asked, CALLER, "unfiltered"]);
    let mut child = command.spawn().unwrap();
    let mut feed = agent.accept(&sockets);
    feed.publish(snapshot(1, service(origin)));
    println!("serving at {}", sockets.captured.local_addr().unwrap());
    child.wait().unwrap();
    ExitCode::SUCCESS
}

/// With everything on the way of a request: rules, a limit, time-outs, a retry budget, ejection.
fn service(origin: SocketAddr) -> Cart {
    let parts = (1..10).map(|number| format!("/part{number}"));
    Cart {
        endpoints: vec![origin],
        routes: vec![route(parts.chain(["/".to_owned()]))],
        spoken: Some("http"),
        is_direct: false,
        policy: RequestPolicy {
            timeouts: Timeouts {
                request: Some(Duration::from_secs(15)),
                attempt: Some(Duration::from_secs(5)),
            },
            requests_per_endpoint: 1000.try_into().ok(),
            retry_budget: Some(RetryBudget {
                percent: 20,
                per_second: 10,
            }),
            ejection: Some(Ejection {
                consecutive_failures: 5.try_into().unwrap(),
                duration: Duration::from_secs(30),
                most_percent: 50,
            }),
            ..RequestPolicy::default()
        },
    }
}
