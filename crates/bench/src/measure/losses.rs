//! Requests through the proxy while a replica is killed every second, and while the proxy itself is.
//!
//! Every request has an id. The clients record how each ended; the origins record each before they
//! answer it, so that what a killed one had taken is known too. Read next: `losses/ledger.rs`.

mod crew;
mod ledger;
mod proxy;

use std::time::{Duration, Instant};

use super::Bench;
use crate::interrupt;
use crate::report::{Section, Unit};
use crew::{Callers, Demand, LONGEST, Replica};
use ledger::Ledger;

const SERVICE: &str = "shop";
const PORT: u16 = 7080;
const REPLICAS: usize = 4;

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    replicas_die(bench, section)?;
    proxy::dies(bench, section)
}

fn replicas_die(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mut mesh = bench.mesh()?;
    let mut replicas = Vec::new();
    for number in 0..REPLICAS {
        replicas.push(Replica::start(&mesh, SERVICE, PORT, number)?);
    }
    mesh.apply(&route_document(SERVICE, PORT))?;
    let full = Demand {
        connections: 10_000,
        requests: 100_000,
        rate: 5000,
        posts: 30,
    };
    let quick = Demand {
        connections: 200,
        requests: 1000,
        rate: 1000,
        posts: 30,
    };
    let demand = bench.sized(full, quick);
    let period = bench.sized(Duration::from_secs(1), Duration::from_millis(200));
    let began = Instant::now();
    let mut callers = Callers::start(&mesh, SERVICE, PORT, demand)?;
    let mut deaths = 0;
    let mut ledger = Ledger::default();
    while !callers.are_done()? && began.elapsed() < LONGEST {
        interrupt::pass(period)?;
        let number = REPLICAS + deaths;
        deaths += 1;
        // Started first: what is measured is a death, not an outage of the service.
        replicas.push(Replica::start(&mesh, SERVICE, PORT, number)?);
        ledger.read_origin(&replicas.remove(0).kill()?)?;
    }
    ledger.read_callers(&callers.end()?)?;
    for replica in replicas {
        ledger.read_origin(&replica.kill()?)?;
    }
    mesh.down()?;
    tell(&ledger, demand, deaths as u64, section);
    let took = began.elapsed().as_secs_f64();
    section.amount("time", Unit::Seconds, took, None);
    Ok(())
}

fn tell(ledger: &Ledger, demand: Demand, deaths: u64, section: &mut Section) {
    section.count("connections", demand.connections, None);
    section.count("requests", ledger.requests(), None);
    section.count(
        "requests not sent",
        demand.requests - ledger.requests(),
        Some(0),
    );
    section.count("replicas killed", deaths, None);
    section.count("GET without a good answer", ledger.lost("GET"), Some(0));
    section.count(
        "GET sent to more than one replica",
        ledger.repeated("GET"),
        None,
    );
    section.count("answered more than once", ledger.answered_twice(), Some(0));
    section.count(
        "POST delivered more than once",
        ledger.repeated("POST"),
        Some(0),
    );
    for (end, count) in ledger.bad_ends() {
        section.count(&format!("ended: {end}"), count, None);
    }
    let unexplained = ledger.without_reason();
    section.count("failures without a reason", unexplained, Some(0));
    let unfounded = ledger.unfounded();
    section.count("good answers no origin gave", unfounded, Some(0));
}

/// A route that sends everything to the service itself: enough to put its requests on the proxy.
fn route_document(service: &str, port: u16) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {service}}}\nspec:\n\
         \u{20}\u{20}parentRefs: [{{group: '', kind: Service, name: {service}}}]\n\
         \u{20}\u{20}rules: [{{backendRefs: [{{name: {service}, port: {port}}}]}}]\n"
    )
}
