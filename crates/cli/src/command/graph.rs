//! `selvedge graph`: who calls whom, with figures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use selvedge_control_plane::wire::{EdgeReport, GraphReport};

use crate::client;
use crate::output::{Table, age, bytes, print};

/// Arguments of `selvedge graph`.
#[derive(Args, Debug)]
pub(crate) struct GraphArgs {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: GraphFormat,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum GraphFormat {
    /// For people.
    #[default]
    Text,
    /// For Graphviz: selvedge graph -o dot | dot -Tsvg
    Dot,
    /// For programs.
    Json,
    /// For people and programs.
    Yaml,
}

/// Shows the graph.
pub(crate) fn graph(run_dir: &Path, args: &GraphArgs) -> anyhow::Result<ExitCode> {
    let graph: GraphReport = client::get(run_dir, "/v1/graph")?;
    print(&match args.output {
        GraphFormat::Text => text(&graph),
        GraphFormat::Dot => dot(&graph),
        GraphFormat::Json => format!("{}\n", serde_json::to_string_pretty(&graph)?),
        GraphFormat::Yaml => serde_saphyr::to_string(&graph)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The graph as a table of edges, then services that nobody has called.
pub(crate) fn text(graph: &GraphReport) -> String {
    let heading = [
        "FROM",
        "TO",
        "CONNECTIONS",
        "FAILED",
        "BYPASSED",
        "REFUSED",
        "REQUESTS",
        "OPEN",
        "BYTES",
        "CONNECT",
    ];
    let mut table = Table::new(&heading);
    for edge in &graph.edges {
        let detail = edge.detail.as_ref();
        let figure = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        table.row([
            edge.source.clone(),
            edge.destination.clone(),
            edge.connections.to_string(),
            edge.failures.to_string(),
            edge.bypassed.to_string(),
            refusals(edge),
            figure(total(edge).map(|total| total.to_string())),
            figure(detail.map(|it| it.open.to_string())),
            figure(detail.map(|it| bytes(it.bytes_sent.saturating_add(it.bytes_received)))),
            figure(detail.and_then(|it| Some(format!("{} us", it.connect_p50_us?)))),
        ]);
    }
    let mut text = table.into_text();
    let idle = graph.nodes.iter().filter(|node| {
        !graph
            .edges
            .iter()
            .any(|edge| edge.source == **node || edge.destination == **node)
    });
    let idle: Vec<_> = idle.map(String::as_str).collect();
    // Writing to a String does not fail.
    if !idle.is_empty() {
        let _ = writeln!(text, "without connections: {}", idle.join(", "));
    }
    let _ = writeln!(text, "counted until {} ago", age(graph.age));
    text
}

/// Requests, where any is seen.
fn total(edge: &EdgeReport) -> Option<u64> {
    edge.requests
        .as_ref()
        .map(|it| it.total)
        .filter(|total| *total > 0)
}

/// What the kernel has refused and what the proxy has, by reason.
fn refused(edge: &EdgeReport) -> BTreeMap<&str, u64> {
    let of_requests = edge.requests.iter().flat_map(|it| &it.refused);
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in edge.refused.iter().chain(of_requests) {
        let sum = sums.entry(reason).or_default();
        *sum = sum.saturating_add(*count);
    }
    sums
}

fn refusals(edge: &EdgeReport) -> String {
    let sums = refused(edge);
    if sums.is_empty() {
        return "0".to_owned();
    }
    let sums = sums
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"));
    sums.collect::<Vec<_>>().join(", ")
}

fn dot(graph: &GraphReport) -> String {
    let mut text = "digraph mesh {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for node in &graph.nodes {
        let _ = writeln!(text, "  {node:?};");
    }
    for edge in &graph.edges {
        let EdgeReport {
            source,
            destination,
            connections,
            failures,
            ..
        } = edge;
        let refused = refused(edge).into_values().fold(0, u64::saturating_add);
        let mut label = format!("{connections}");
        if *failures > 0 {
            let _ = write!(label, ", {failures} failed");
        }
        if refused > 0 {
            let _ = write!(label, ", {refused} refused");
        }
        let _ = writeln!(text, "  {source:?} -> {destination:?} [label={label:?}];");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_control_plane::wire::{EdgeDetailReport, RequestsReport};

    fn example() -> GraphReport {
        let edge = EdgeReport {
            source: "outside".to_owned(),
            destination: "web.default".to_owned(),
            connections: 12,
            failures: 1,
            bypassed: 2,
            refused: [("no_endpoint".to_owned(), 3)].into(),
            requests: Some(RequestsReport {
                total: 70,
                refused: [("no_endpoint".to_owned(), 4), ("no_route".to_owned(), 5)].into(),
                ..RequestsReport::default()
            }),
            detail: Some(EdgeDetailReport {
                open: 2,
                bytes_sent: 1024,
                bytes_received: 1024,
                connect_p50_us: Some(31),
                connect_p99_us: None,
            }),
        };
        GraphReport {
            age: 0.1,
            nodes: ["cart.default", "outside", "web.default"]
                .map(str::to_owned)
                .to_vec(),
            edges: vec![edge],
        }
    }

    #[test]
    fn the_text_has_every_edge_and_who_is_idle() {
        let want = "\
FROM     TO           CONNECTIONS  FAILED  BYPASSED  REFUSED                    REQUESTS  OPEN  BYTES    CONNECT
outside  web.default  12           1       2         7 no_endpoint, 5 no_route  70        2     2.0 KiB  31 us
without connections: cart.default
counted until 100ms ago
";
        assert_eq!(text(&example()), want);
    }

    #[test]
    fn dot_is_what_graphviz_reads() {
        let want = "\
digraph mesh {
  rankdir=LR;
  node [shape=box];
  \"cart.default\";
  \"outside\";
  \"web.default\";
  \"outside\" -> \"web.default\" [label=\"12, 1 failed, 12 refused\"];
}
";
        assert_eq!(dot(&example()), want);
    }
}
