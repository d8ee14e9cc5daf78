//! Requests, as the proxy has told of them.

use selvedge_model::{
    Backend, BackendReading, EndpointPace, EndpointTraffic, Place, Snapshot, Traffic, TrafficPath,
    TrafficRoute, TrafficUnit,
};
use selvedge_telemetry::{Exposition, Kind};

use crate::traffic::{class, names};

/// Upper bounds of the time of requests in microseconds: 250 us to 67 s.
const REQUEST_BOUNDS_US: [u64; 14] = [
    255, 511, 1_023, 2_047, 4_095, 8_191, 16_383, 32_767, 65_535, 262_143, 1_048_575, 4_194_303,
    16_777_215, 67_108_863,
];

pub(super) fn write(text: &mut Exposition, traffic: &Traffic, snapshot: &Snapshot) {
    let help = "Requests that came through the proxy and have ended, by what the client got.";
    ends(
        text,
        traffic,
        TrafficUnit::Request,
        "selvedge_requests_total",
        help,
    );
    let help = "Connections without requests that came to the proxy and have ended.";
    let name = "selvedge_relayed_connections_total";
    ends(text, traffic, TrafficUnit::Connection, name, help);
    let help =
        "From a request's first byte to the last of its response, where an endpoint answered.";
    let mut family = text.family("selvedge_request_seconds", Kind::Histogram, help);
    for (TrafficRoute { edge, route }, latency) in &traffic.latency_us {
        let (source, destination) = names(edge);
        let labels = [
            ("source", &*source),
            ("destination", &*destination),
            ("route", route.as_deref().unwrap_or_default()),
        ];
        family.histogram(&labels, latency, &REQUEST_BOUNDS_US, 1_000_000);
    }
    let backends: Vec<_> = traffic.backends.iter().map(Named::new).collect();
    attempts(text, &backends);
    endpoints(text, &backends, snapshot);
    paces(text, &backends, snapshot);
}

fn ends(text: &mut Exposition, traffic: &Traffic, unit: TrafficUnit, name: &str, help: &str) {
    let mut family = text.family(name, Kind::Counter, help);
    let paths = traffic.paths.iter().filter(|(path, _)| path.unit == unit);
    for (path, ends) in paths {
        let TrafficPath {
            edge,
            route,
            backend,
            ..
        } = path;
        let (source, destination) = names(edge);
        let backend = backend.as_ref().map(name_of).unwrap_or_default();
        for (end, count) in ends {
            let mut labels = vec![
                ("source", &*source),
                ("destination", &*destination),
                ("route", route.as_deref().unwrap_or_default()),
                ("backend", &*backend),
            ];
            if unit == TrafficUnit::Request {
                labels.push(("status", class(*end)));
            }
            labels.push(("reason", end.reason.map_or("", |reason| reason.word())));
            family.sample(&labels, count);
        }
    }
}

fn name_of(backend: &Backend) -> String {
    format!("{}:{}", backend.service, backend.port)
}

/// A backend with its name.
struct Named<'a> {
    backend: String,
    reading: &'a BackendReading,
}

impl<'a> Named<'a> {
    fn new((backend, reading): (&Backend, &'a BackendReading)) -> Self {
        Self {
            backend: name_of(backend),
            reading,
        }
    }

    fn label(&self) -> (&str, &str) {
        ("backend", &self.backend)
    }
}

fn attempts(text: &mut Exposition, backends: &[Named<'_>]) {
    type Value = fn(&BackendReading) -> u64;
    let counters: [(&str, &str, Value); 6] = [
        (
            "selvedge_first_attempts_total",
            "Requests sent to a backend for the first time.",
            |it| it.requests,
        ),
        (
            "selvedge_retries_total",
            "Attempts made again by a retry policy.",
            |it| it.retries,
        ),
        (
            "selvedge_moves_total",
            "Attempts made again at once elsewhere, since the one before came to nothing.",
            |it| it.moves,
        ),
        (
            "selvedge_repeats_succeeded_total",
            "Retries and moves that were answered with less than 500.",
            |it| it.repeats_succeeded,
        ),
        (
            "selvedge_hedges_total",
            "Attempts made beside late ones.",
            |it| it.hedges,
        ),
        (
            "selvedge_hedges_won_total",
            "Attempts made beside late ones that were answered first.",
            |it| it.hedges_won,
        ),
    ];
    for (name, help, value) in counters {
        let mut family = text.family(name, Kind::Counter, help);
        for backend in backends {
            family.sample(&[backend.label()], value(backend.reading));
        }
    }
    let help = "Retries that were wanted and not made, by reason.";
    let mut family = text.family("selvedge_retries_withheld_total", Kind::Counter, help);
    for backend in backends {
        for (why, count) in &backend.reading.withheld {
            family.sample(&[backend.label(), ("reason", why.word())], count);
        }
    }
    let help = "Attempts that came to no whole response, by reason; some of them were made again.";
    let mut family = text.family("selvedge_attempts_failed_total", Kind::Counter, help);
    for backend in backends {
        for (reason, count) in &backend.reading.failed {
            family.sample(&[backend.label(), ("reason", reason.word())], count);
        }
    }
    let help = "From the start of an attempt to the last byte of its response.";
    let mut family = text.family("selvedge_attempt_seconds", Kind::Histogram, help);
    for backend in backends {
        let latency = &backend.reading.latency_us;
        family.histogram(&[backend.label()], latency, &REQUEST_BOUNDS_US, 1_000_000);
    }
}

fn endpoints(text: &mut Exposition, backends: &[Named<'_>], snapshot: &Snapshot) {
    let help = "Most requests in flight into one endpoint of a backend, where there is a limit.";
    let mut family = text.family("selvedge_endpoint_request_limit", Kind::Gauge, help);
    for backend in backends {
        if let Some(limit) = backend.reading.limit {
            family.sample(&[backend.label()], limit);
        }
    }
    type Value = fn(&EndpointTraffic) -> u64;
    let columns: [(&str, Kind, &str, Value); 3] = [
        (
            "selvedge_endpoint_requests_in_flight",
            Kind::Gauge,
            "Requests in flight into an endpoint.",
            |it| it.in_flight.into(),
        ),
        (
            "selvedge_endpoint_ejected",
            Kind::Gauge,
            "Whether an endpoint is ejected, or tried again.",
            |it| it.is_ejected.into(),
        ),
        (
            "selvedge_ejections_total",
            Kind::Counter,
            "Times an endpoint was ejected.",
            |it| it.ejections,
        ),
    ];
    for (name, kind, help, value) in columns {
        let mut family = text.family(name, kind, help);
        for backend in backends {
            for endpoint in &backend.reading.endpoints {
                let name = place(endpoint, snapshot);
                family.sample(&[backend.label(), ("endpoint", &name)], value(endpoint));
            }
        }
    }
}

/// How endpoints answer, where requests are led by that.
fn paces(text: &mut Exposition, backends: &[Named<'_>], snapshot: &Snapshot) {
    type Value = fn(EndpointPace) -> f64;
    let columns: [(&str, &str, Value); 2] = [
        (
            "selvedge_endpoint_answer_seconds",
            "Mean time to the head of a good answer of an endpoint of late, where requests are led by that.",
            |it| f64::from(it.mean_us) / 1e6,
        ),
        (
            "selvedge_endpoint_good_ratio",
            "Share of good answers of an endpoint of late, where requests are led by that.",
            |it| f64::from(it.good_per_mille) / 1e3,
        ),
    ];
    for (name, help, value) in columns {
        let mut family = text.family(name, Kind::Gauge, help);
        for backend in backends {
            for endpoint in &backend.reading.endpoints {
                let Some(pace) = endpoint.pace else { continue };
                let name = place(endpoint, snapshot);
                family.sample(&[backend.label(), ("endpoint", &name)], value(pace));
            }
        }
    }
}

/// The workload or address, with the port.
fn place(endpoint: &EndpointTraffic, snapshot: &Snapshot) -> String {
    let port = endpoint.port;
    match endpoint.place {
        Place::Outside(address) => std::net::SocketAddr::new(address, port.get()).to_string(),
        Place::Local(cgroup) => match snapshot.workloads.get(&cgroup) {
            Some(workload) => format!("{}:{port}", workload.name),
            None => format!("cgroup {}:{port}", cgroup.0),
        },
    }
}
