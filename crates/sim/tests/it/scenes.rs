//! Scenarios that tests share.

use std::time::Duration;

use selvedge_model::Urgency;
use selvedge_scenario::{
    Arrivals, Client, Forwards, Objective, Rate, Scenario, Service, ServiceTime,
};

/// One replica that works on `permits` requests at once.
pub(crate) fn service(name: &str, permits: u32, time: ServiceTime) -> Service {
    Service {
        name: name.to_owned(),
        replicas: 1,
        permits,
        queue: Scenario::MOST_QUEUE,
        time,
        calls: Vec::new(),
        forwards: Forwards::default(),
        link: None,
    }
}

pub(crate) fn open(per_second: f64) -> Arrivals {
    let from = Duration::ZERO;
    Arrivals::Open(vec![Rate { from, per_second }])
}

/// One service and one client, for so many seconds after ten of warming up. Every answer is in time.
pub(crate) fn scene(service: Service, arrivals: Arrivals, seconds: u64) -> Scenario {
    let patience = Duration::from_secs(100);
    Scenario {
        name: "a test's".to_owned(),
        about: String::new(),
        length: Duration::from_secs(seconds + 10),
        warm_up: Duration::from_secs(10),
        objective: Objective {
            latency: patience,
            deadline: patience,
        },
        services: vec![service],
        clients: vec![Client {
            calls: 0,
            urgency: Urgency::default(),
            arrivals,
            classes: Vec::new(),
        }],
        faults: Vec::new(),
        agent_away: None,
    }
}
