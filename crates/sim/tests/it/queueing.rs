//! The engine against queueing theory (L. Kleinrock, "Queueing Systems", volume I, 1975). Errors stated are
//! about four deviations of what such a run estimates; seeds are fixed, so that a run cannot fail by chance.

use std::time::Duration;

use selvedge_scenario::{Arrivals, Class, Crowd, Scenario, ServiceTime};
use selvedge_sim::{Policy, Second, run};

use crate::scenes::{open, scene, service};

const MEAN: Duration = Duration::from_millis(2);

fn total(scenario: &Scenario) -> Second {
    run(scenario, &Policy::default(), 1).unwrap().total()
}

/// Mean time from asking to the answer, in seconds.
fn response(scenario: &Scenario) -> f64 {
    let total = total(scenario);
    assert_eq!(total.good, total.offered);
    total.latency_us.sum() as f64 / total.good as f64 / 1e6
}

fn check(what: &str, got: f64, want: f64, error: f64) {
    let off = got / want - 1.0;
    assert!(
        off.abs() < error,
        "{what}: {got}, expected {want}, off by {off}"
    );
}

/// The probability that a request waits (A. K. Erlang's second formula), by its recursion.
fn waits(servers: u32, load: f64) -> f64 {
    let blocked = (1..=servers).fold(1.0, |b, n| load * b / (f64::from(n) + load * b));
    let servers = f64::from(servers);
    servers * blocked / (servers - load * (1.0 - blocked))
}

#[test]
fn many_servers_with_exponential_times() {
    for (servers, busy) in [(1, 0.5), (1, 0.8), (8, 0.8), (32, 0.95)] {
        let (count, mean) = (f64::from(servers), MEAN.as_secs_f64());
        let rate = busy * count / mean;
        let seconds = (400_000.0 / rate) as u64;
        let times = ServiceTime::Exponential(MEAN);
        let got = response(&scene(service("a", servers, times), open(rate), seconds));
        let want = mean + waits(servers, busy * count) / (count / mean - rate);
        check(&format!("M/M/{servers} at {busy}"), got, want, 0.04);
    }
}

/// Pollaczek and Khinchine: the mean wait hangs on the second moment alone.
#[test]
fn one_server_with_any_times() {
    let (mean, sigma) = (MEAN.as_secs_f64(), 0.8);
    for (times, square) in [
        (ServiceTime::Fixed(MEAN), 0.0),
        (
            ServiceTime::Lognormal { mean: MEAN, sigma },
            libm::exp(sigma * sigma) - 1.0,
        ),
    ] {
        for busy in [0.3, 0.7] {
            let rate = busy / mean;
            let seconds = (300_000.0 / rate) as u64;
            let got = response(&scene(service("a", 1, times), open(rate), seconds));
            let want = mean + rate * mean * mean * (1.0 + square) / (2.0 * (1.0 - busy));
            check(&format!("M/G/1 {times:?} at {busy}"), got, want, 0.04);
        }
    }
}

/// The same of requests of two kinds.
#[test]
fn one_server_with_classes() {
    let mean = MEAN.as_secs_f64();
    let rate = 0.6 / mean;
    let mut scenario = scene(service("a", 1, ServiceTime::Fixed(MEAN)), open(rate), 1500);
    let class = |share, work| Class { share, work };
    scenario.clients[0].classes = vec![class(9.0, 0.5), class(1.0, 5.5)];
    let square = 0.9 * 0.25 + 0.1 * 30.25;
    let want = mean + rate * mean * mean * square / (2.0 * (1.0 - 0.6));
    check("two classes", response(&scenario), want, 0.04);
    let capacity = scenario.capacity(Duration::from_secs(20)).unwrap();
    check("capacity", capacity, 1.0 / mean, 1e-9);
}

/// The machine-repair model: users think, and ask one of few servers.
#[test]
fn closed_load() {
    let think = Duration::from_millis(100);
    let (servers, mean) = (4, MEAN.as_secs_f64());
    for users in [50, 200, 400] {
        let from = Duration::ZERO;
        let arrivals = Arrivals::Closed {
            users: vec![Crowd { from, users }],
            think,
        };
        let times = ServiceTime::Exponential(MEAN);
        let seconds = 150;
        let scenario = scene(service("a", servers, times), arrivals, seconds);
        let got = total(&scenario).offered as f64 / seconds as f64;
        // Birth and death of requests under way.
        let (mut weight, mut sum, mut answered) = (1.0, 0.0, 0.0);
        for under_way in 0..=users {
            let rate = f64::from(under_way.min(servers)) / mean;
            sum += weight;
            answered += weight * rate;
            let next = f64::from((under_way + 1).min(servers)) / mean;
            weight *= f64::from(users - under_way) / think.as_secs_f64() / next;
        }
        check(&format!("{users} users"), got, answered / sum, 0.015);
    }
}
