//! Everything that is counted, as Prometheus text.
//!
//! Values are read when asked for; nothing is kept between scrapes. Read next: `telemetry`'s
//! `exposition.rs`.

mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use selvedge_model::{EdgeCounters, EdgeDetail, HeldBy, KernelStatus, Observation, Reason};
use selvedge_telemetry::{Exposition, Kind};

use tokio::sync::watch;

use crate::api::{Api, PROBLEMS, REFUSED_CONNECTIONS, REQUESTS};
use crate::graph::Names;
use crate::host::Host;
use crate::pilot::{Known, Pilot};
use crate::plane::{ControlPlane, StoreState, View};
use crate::publish::{HANGS, OFFENCES, ProxyHealth};

/// Upper bounds of connect times in microseconds: 50 us to 5 s.
const CONNECT_BOUNDS_US: [u64; 11] = [
    63, 127, 255, 511, 1_023, 4_095, 16_383, 65_535, 262_143, 1_048_575, 4_194_303,
];

/// What metrics are read from.
#[derive(Clone)]
pub struct Metrics {
    /// The configuration.
    pub plane: ControlPlane,
    /// The node.
    pub host: Arc<dyn Host>,
    /// The proxy.
    pub proxy: watch::Receiver<ProxyHealth>,
    /// What the controllers tell.
    pub pilot: Pilot,
    /// When the agent started.
    pub started: Instant,
}

impl From<&Api> for Metrics {
    fn from(api: &Api) -> Self {
        Self {
            plane: api.plane.clone(),
            host: api.host.clone(),
            proxy: api.proxy.clone(),
            pilot: api.pilot.clone(),
            started: api.started,
        }
    }
}

impl Metrics {
    /// All of them at this moment. The kernel's are read for it: an effort that grows with the edges.
    pub fn exposition(&self) -> String {
        let mut text = Exposition::new();
        let view = self.plane.view();
        configuration(&mut text, &view);
        own(&mut text, self.started);
        proxy(&mut text, &self.proxy.borrow());
        pilot(&mut text, &self.pilot);
        traffic::write(&mut text, &self.proxy.borrow().traffic, &view.snapshot);
        if let Ok(observation) = self.host.observe() {
            edges(&mut text, &Names::new(&view.snapshot), &observation);
        }
        if let Ok(status) = self.host.kernel() {
            kernel(&mut text, &status);
        }
        text.into_text()
    }
}

fn configuration(text: &mut Exposition, view: &View) {
    let generation = view.snapshot.generation.0;
    text.single(
        "selvedge_generation",
        Kind::Gauge,
        "Generation in force.",
        generation,
    );
    let mut kinds = BTreeMap::new();
    for object in view.objects.iter() {
        *kinds.entry(object.document.key.kind).or_insert(0u64) += 1;
    }
    let mut objects = text.family("selvedge_objects", Kind::Gauge, "Objects stored.");
    for (kind, count) in kinds {
        objects.sample(&[("kind", kind.word())], count);
    }
    let durable = u8::from(view.store.is_durable());
    let help = "Whether the configuration in force is stored.";
    text.single("selvedge_state_durable", Kind::Gauge, help, durable);
    let failures = match &view.store {
        StoreState::Durable => 0,
        StoreState::InMemory { failures, .. } | StoreState::Refusing { failures, .. } => *failures,
    };
    let help = "Saves of the state that failed since one last succeeded.";
    text.single("selvedge_state_save_failures", Kind::Gauge, help, failures);
    let errors = view.folder.as_ref().map_or(0, |folder| folder.errors.len());
    let help = "Errors for which the configuration folder is not in force.";
    text.single("selvedge_folder_errors", Kind::Gauge, help, errors);
    let help = "Listening ports not taken note of because there were too many.";
    text.single(
        "selvedge_unseen_ports_total",
        Kind::Counter,
        help,
        view.unseen_ports,
    );
}

fn own(text: &mut Exposition, started: Instant) {
    let age = started.elapsed().as_secs_f64();
    text.single(
        "selvedge_agent_age_seconds",
        Kind::Gauge,
        "How long the agent has run.",
        age,
    );
    for (name, help, counter) in [
        (
            "selvedge_api_requests_total",
            "Requests to the control API.",
            &REQUESTS,
        ),
        (
            "selvedge_api_problems_total",
            "Requests answered with a problem.",
            &PROBLEMS,
        ),
        (
            "selvedge_api_connections_refused_total",
            "Connections to the control API that could not be served.",
            &REFUSED_CONNECTIONS,
        ),
        (
            "selvedge_proxy_hangs_total",
            "Times the proxy was found to hang.",
            &HANGS,
        ),
        (
            "selvedge_proxy_offences_total",
            "Feed connections ended because of what the proxy sent.",
            &OFFENCES,
        ),
    ] {
        text.single(name, Kind::Counter, help, counter.value());
    }
}

fn pilot(text: &mut Exposition, pilot: &Pilot) {
    let journal = pilot.journal();
    let help = "Entries of the journal of controllers, numbered so far.";
    let entries = journal.next.saturating_sub(1);
    text.single(
        "selvedge_journal_entries_total",
        Kind::Counter,
        help,
        entries,
    );
    let help = "Entries that were told and are not in the journal, or never came, since this agent started.";
    text.single(
        "selvedge_journal_lost_total",
        Kind::Counter,
        help,
        journal.lost,
    );
    let help = "Whether the journal of controllers can be written.";
    let writable = u8::from(journal.trouble.is_none());
    text.single("selvedge_journal_writable", Kind::Gauge, help, writable);
    let help = "Limits that controllers move.";
    let all = pilot.count(|_| true);
    text.single("selvedge_pilot_limits", Kind::Gauge, help, all);
    let is_doubted = |known: &Known| matches!(known.held, Some((_, HeldBy::Doubt(_))));
    let help = "Limits that are frozen or put back.";
    let held = pilot.count(|known| known.held.is_some() && !is_doubted(known));
    text.single("selvedge_pilot_limits_held", Kind::Gauge, help, held);
    let help = "Limits that rest because their controllers do not trust what they see.";
    let doubted = pilot.count(is_doubted);
    text.single("selvedge_pilot_limits_doubted", Kind::Gauge, help, doubted);
    let help = "Limits whose objective cannot be kept: without load requests take longer.";
    let beyond = pilot.count(|known| known.out_of_reach().is_some());
    text.single(
        "selvedge_pilot_objectives_out_of_reach",
        Kind::Gauge,
        help,
        beyond,
    );
    let help = "Limits of which nothing is known because there are more than 100,000.";
    text.single(
        "selvedge_pilot_limits_unlisted_total",
        Kind::Counter,
        help,
        journal.unlisted,
    );
}

fn proxy(text: &mut Exposition, health: &ProxyHealth) {
    let up = u8::from(health.is_connected);
    text.single(
        "selvedge_proxy_up",
        Kind::Gauge,
        "Whether the proxy is connected.",
        up,
    );
    if let Some(generation) = health.generation {
        let help = "Generation in force at the proxy.";
        text.single("selvedge_proxy_generation", Kind::Gauge, help, generation.0);
    }
    let help = "Resources the proxy could not take.";
    text.single(
        "selvedge_proxy_refused_resources",
        Kind::Gauge,
        help,
        health.refusals.len(),
    );
    let help = "Feed connections of the proxy.";
    text.single(
        "selvedge_proxy_connections_total",
        Kind::Counter,
        help,
        health.connections,
    );
    // What has not happened yet is 0 and not absent: a rate over its first time would be lost.
    for counter in selvedge_feed::Counter::ALL {
        let value = health.report.counters.get(counter).copied().unwrap_or(0);
        let name = format!("selvedge_{}_total", counter.word());
        text.single(&name, Kind::Counter, counter.explanation().trim(), value);
    }
}

/// One edge with the names of its ends.
struct Named<'a> {
    source: String,
    destination: String,
    counters: &'a EdgeCounters,
}

impl Named<'_> {
    fn labels(&self) -> [(&str, &str); 2] {
        [("source", &self.source), ("destination", &self.destination)]
    }
}

fn edges(text: &mut Exposition, names: &Names, observation: &Observation) {
    let edges = observation.edges.iter().map(|(edge, counters)| Named {
        source: names.of_source(edge.source),
        destination: names.of_destination(edge.destination),
        counters,
    });
    let edges: Vec<_> = edges.collect();
    let help = "Connections led to an endpoint or to the proxy.";
    let mut family = text.family("selvedge_connections_total", Kind::Counter, help);
    for edge in &edges {
        family.sample(&edge.labels(), edge.counters.connections);
    }
    let help = "Connections led to an endpoint or to the proxy that could not be established.";
    let mut family = text.family("selvedge_connection_failures_total", Kind::Counter, help);
    for edge in &edges {
        family.sample(&edge.labels(), edge.counters.failures);
    }
    let help = "Connections led to an endpoint directly because the proxy was away.";
    let mut family = text.family("selvedge_connections_bypassed_total", Kind::Counter, help);
    for edge in &edges {
        family.sample(&edge.labels(), edge.counters.bypassed);
    }
    let help = "Connections refused by the mesh, by reason.";
    let mut family = text.family("selvedge_connections_refused_total", Kind::Counter, help);
    for edge in &edges {
        for (reason, count) in &edge.counters.refused {
            let [source, destination] = edge.labels();
            family.sample(&[source, destination, ("reason", reason.word())], count);
        }
    }
    let help = "Refusals that belong to no edge, by reason.";
    let mut family = text.family("selvedge_refusals_total", Kind::Counter, help);
    for reason in Reason::ALL.iter().filter(|it| it.is_counted_by_kernel()) {
        let count = observation.refused.get(reason).copied().unwrap_or(0);
        family.sample(&[("reason", reason.word())], count);
    }
    let help = "Connections of the proxy to endpoints that the kernel did not make, by reason: each try \
                counts, also where the request was served in the end.";
    let mut family = text.family("selvedge_upstream_refused_total", Kind::Counter, help);
    for reason in [Reason::ConnectionLimit, Reason::NoEndpoint] {
        let count = observation.upstream_refused.get(&reason);
        family.sample(&[("reason", reason.word())], count.copied().unwrap_or(0));
    }
    details(text, &edges);
}

fn details(text: &mut Exposition, edges: &[Named<'_>]) {
    let detailed = || {
        let detail = |edge: &'_ Named<'_>| edge.counters.detail.is_some();
        edges.iter().filter(move |edge| detail(edge))
    };
    let mut gauge = |name: &str, kind, help: &str, value: fn(&EdgeDetail) -> u64| {
        let mut family = text.family(name, kind, help);
        for edge in detailed() {
            if let Some(detail) = &edge.counters.detail {
                family.sample(&edge.labels(), value(detail));
            }
        }
    };
    let open = "Connections open.";
    gauge("selvedge_connections_open", Kind::Gauge, open, |detail| {
        detail.open
    });
    let sent = "Bytes from caller to endpoint.";
    gauge("selvedge_sent_bytes_total", Kind::Counter, sent, |detail| {
        detail.bytes_sent
    });
    let received = "Bytes from endpoint to caller.";
    gauge(
        "selvedge_received_bytes_total",
        Kind::Counter,
        received,
        |it| it.bytes_received,
    );
    let help = "Time from the first SYN to established.";
    let mut family = text.family("selvedge_connect_seconds", Kind::Histogram, help);
    for edge in detailed() {
        if let Some(detail) = &edge.counters.detail {
            let times = &detail.connect_time_us;
            family.histogram(&edge.labels(), times, &CONNECT_BOUNDS_US, 1_000_000);
        }
    }
}

fn kernel(text: &mut Exposition, status: &KernelStatus) {
    if let Some(generation) = status.generation {
        let help = "Generation that the kernel's maps hold.";
        text.single(
            "selvedge_kernel_generation",
            Kind::Gauge,
            help,
            generation.0,
        );
    }
    let help = "Differences between intent and kernel maps.";
    text.single(
        "selvedge_kernel_drift",
        Kind::Gauge,
        help,
        status.drift.len(),
    );
    let help = "Whether a feature of the kernel path works: 1 active, 0 degraded or missing.";
    let mut family = text.family("selvedge_kernel_feature", Kind::Gauge, help);
    for feature in &status.features {
        let active = u8::from(feature.state == selvedge_model::FeatureState::Active);
        family.sample(&[("feature", &feature.name)], active);
    }
    type Value = fn(&selvedge_model::MapUsage) -> Option<u64>;
    let columns: [(&str, Kind, &str, Value); 4] = [
        (
            "selvedge_map_entries",
            Kind::Gauge,
            "Entries in a kernel map.",
            |map| map.entries,
        ),
        (
            "selvedge_map_capacity",
            Kind::Gauge,
            "Entries it has room for.",
            |map| Some(map.capacity),
        ),
        (
            "selvedge_map_bytes",
            Kind::Gauge,
            "Memory of a kernel map.",
            |map| Some(map.bytes),
        ),
        (
            "selvedge_map_full_total",
            Kind::Counter,
            "Insertions that found a kernel map full and were left out.",
            |map| Some(map.full),
        ),
    ];
    for (name, kind, help, value) in columns {
        let mut family = text.family(name, kind, help);
        for map in &status.maps {
            if let Some(value) = value(map) {
                family.sample(&[("map", &map.name)], value);
            }
        }
    }
}
