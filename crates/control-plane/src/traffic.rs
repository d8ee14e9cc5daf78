//! What the proxy has told of requests, in the words of the reports.

use std::collections::BTreeMap;

use selvedge_model::{Histogram, ServiceName, Traffic, TrafficEdge, TrafficEnd, TrafficUnit};

use crate::graph::{OUTSIDE, UNASSIGNED};
use crate::wire::RequestsReport;

/// The names of the two ends, as the graph has them.
pub(crate) fn names(edge: &TrafficEdge) -> (String, String) {
    let name = |service: &Option<ServiceName>, absent: &str| {
        service
            .as_ref()
            .map_or_else(|| absent.to_owned(), ToString::to_string)
    };
    (
        name(&edge.source, OUTSIDE),
        name(&edge.destination, UNASSIGNED),
    )
}

/// The class of a status, as `2xx`.
pub(crate) const fn class(end: TrafficEnd) -> &'static str {
    match end.class {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "none",
    }
}

/// Requests by who calls whom.
pub(crate) fn requests_by_edge(traffic: &Traffic) -> BTreeMap<(String, String), RequestsReport> {
    requests_by(traffic, names)
}

/// Requests by the service that is called.
pub(crate) fn requests_by_service(traffic: &Traffic) -> BTreeMap<String, RequestsReport> {
    requests_by(traffic, |edge| names(edge).1)
}

fn requests_by<K: Ord>(
    traffic: &Traffic,
    key: impl Fn(&TrafficEdge) -> K,
) -> BTreeMap<K, RequestsReport> {
    let mut reports: BTreeMap<K, (RequestsReport, Histogram)> = BTreeMap::new();
    for (path, ends) in &traffic.paths {
        let (report, _) = reports.entry(key(&path.edge)).or_default();
        for (end, count) in ends {
            if path.unit == TrafficUnit::Request {
                add(&mut report.total, *count);
                let class = class(*end).to_owned();
                add(report.statuses.entry(class).or_default(), *count);
            }
            // Of connections in which no request is seen, too.
            if let Some(reason) = end.reason {
                add(
                    report.refused.entry(reason.to_string()).or_default(),
                    *count,
                );
            }
        }
    }
    for (led, latency) in &traffic.latency_us {
        if let Some((_, all)) = reports.get_mut(&key(&led.edge)) {
            all.merge(latency);
        }
    }
    let finish = |(key, (report, latency)): (K, (RequestsReport, Histogram))| {
        let report = RequestsReport {
            p50_us: latency.quantile(1, 2),
            p99_us: latency.quantile(99, 100),
            ..report
        };
        (key, report)
    };
    let has_something = |report: &RequestsReport| report.total > 0 || !report.refused.is_empty();
    reports
        .into_iter()
        .map(finish)
        .filter(|(_, report)| has_something(report))
        .collect()
}

/// The proxy's counts are taken as hostile.
fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}
