//! `selvedge status`: how the node is.
//!
//! Exit status 1 where something is broken rather than merely worth a look, for scripts and monitors.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use selvedge_control_plane::wire::{
    ConfigurationReport, GatewayReport, KernelReport, ProxyReport, RequestsReport, ServiceReport,
    StatusReport,
};

use crate::client;
use crate::output::{OutputArgs, Table, Tone, age, bytes, count, findings_text, toned};

/// Arguments of `selvedge status`.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 all works, be it in part; 1 something is broken.")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows the status.
pub(crate) fn status(run_dir: &Path, args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let report: StatusReport = client::get(run_dir, "/v1/status")?;
    args.output.print(&report, text)?;
    Ok(if is_well(&report) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether everything works, be it in part.
fn is_well(report: &StatusReport) -> bool {
    let configuration = &report.configuration;
    let folder_is_taken = configuration
        .folder
        .as_ref()
        .is_none_or(|it| it.errors.is_empty());
    report.proxy.state != "away"
        && report.kernel.error.is_none()
        && report.kernel.drift.is_empty()
        && configuration.store_error.is_none()
        && configuration.refused.is_empty()
        && folder_is_taken
}

/// Writing to a String does not fail, so the outcome of `writeln!` is left aside below.
fn text(report: &StatusReport) -> String {
    let mut text = String::new();
    processes(&mut text, report);
    configuration(&mut text, &report.configuration);
    kernel(&mut text, &report.kernel);
    services(&mut text, &report.services);
    gateways(&mut text, &report.gateways);
    workloads(&mut text, report);
    warnings(&mut text, report);
    text
}

fn title(text: &mut String, title: &str) {
    let _ = writeln!(text, "{}", toned(title, Tone::Title));
}

fn memory(kib: Option<u64>) -> String {
    kib.map_or_else(|| "-".to_owned(), |kib| bytes(kib * 1024))
}

fn processes(text: &mut String, report: &StatusReport) {
    let agent = &report.agent;
    let mut table = Table::new(&["PROCESS", "STATE", "SINCE", "PID", "MEMORY", "GENERATION"]);
    table.row([
        format!("agent {}", agent.version),
        "serving".to_owned(),
        age(agent.age),
        agent.pid.to_string(),
        memory(agent.memory_kib),
        report.configuration.generation.to_string(),
    ]);
    let proxy = &report.proxy;
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
    table.row([
        "proxy".to_owned(),
        proxy.state.clone(),
        proxy.age.map_or_else(|| "-".to_owned(), age),
        number(proxy.pid.map(u64::from)),
        memory(proxy.memory_kib),
        number(proxy.generation),
    ]);
    text.push_str(&table.into_text());
    proxy_notes(text, proxy);
}

fn proxy_notes(text: &mut String, proxy: &ProxyReport) {
    if let Some(answered) = proxy.answered_age {
        let _ = writeln!(text, "  the proxy last answered {} ago", age(answered));
    }
    if proxy.reconnects > 0 {
        let end = proxy
            .last_end
            .as_deref()
            .unwrap_or("the agent knows no reason");
        let _ = writeln!(
            text,
            "  it reconnected {} times; last: {end}",
            proxy.reconnects
        );
    }
}

fn configuration(text: &mut String, configuration: &ConfigurationReport) {
    let durable = if configuration.is_durable {
        "stored"
    } else {
        "NOT STORED"
    };
    let _ = writeln!(
        text,
        "\n{}: generation {} for {}, {}, {durable}",
        toned("configuration", Tone::Title),
        configuration.generation,
        age(configuration.age),
        count(configuration.objects, "object"),
    );
    if let Some(folder) = &configuration.folder {
        let state = match folder.errors.len() {
            0 => "in force".to_owned(),
            errors => format!("{}, NOT IN FORCE", count(errors, "error")),
        };
        let _ = writeln!(
            text,
            "  folder {}: {state}, read {} ago",
            folder.path,
            age(folder.age)
        );
        indent(text, &findings_text(&folder.errors));
    }
    indent(text, &findings_text(&configuration.refused));
}

fn indent(text: &mut String, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "    {line}");
    }
}

fn kernel(text: &mut String, kernel: &KernelReport) {
    let generation = kernel
        .generation
        .map_or_else(|| "none".to_owned(), |it| it.to_string());
    let memory: u64 = kernel.maps.iter().map(|map| map.bytes).sum();
    let _ = writeln!(
        text,
        "\n{}: generation {generation}, {} of maps, seen {} ago",
        toned("kernel path", Tone::Title),
        bytes(memory),
        age(kernel.age),
    );
    if let Some(error) = &kernel.error {
        let _ = writeln!(text, "  {}", toned(error, Tone::Bad));
    }
    let mut table = Table::new(&["FEATURE", "STATE", ""]).indented(2);
    for feature in &kernel.features {
        table.row([
            feature.name.clone(),
            feature.state.clone(),
            feature.reason.clone(),
        ]);
    }
    text.push_str(&table.into_text());
    match kernel.drift.len() {
        0 => text.push_str("  intent and kernel maps agree\n"),
        differences => {
            let _ = writeln!(
                text,
                "  {} between intent and kernel maps, until the agent is started again:",
                count(differences, "difference")
            );
            indent(text, &kernel.drift.join("\n"));
        }
    }
}

fn services(text: &mut String, services: &[ServiceReport]) {
    text.push('\n');
    title(text, "services");
    let mut table = Table::new(&["SERVICE", "ADDRESS", "PORT", "ENDPOINT", "STATE", "NOTE"]);
    table = table.indented(2);
    for service in services {
        let name = format!("{}.{}", service.name, service.namespace);
        let address = service
            .address
            .map_or_else(|| "-".to_owned(), |it| it.to_string());
        let mut begin = vec![name, address];
        for port in &service.ports {
            let mut at = format!("{}/{}", port.port, port.protocol);
            if port.endpoints.is_empty() {
                let rest = [at, "-".to_owned(), "no endpoint".to_owned()];
                table.row(begin.drain(..).chain(rest));
                begin = vec![String::new(); 2];
                continue;
            }
            for endpoint in &port.endpoints {
                let place = format!("{}:{}", endpoint.place, endpoint.port);
                let mut note = Vec::new();
                note.extend(endpoint.bound.map(|bound| format!("really on {bound}")));
                if endpoint.weight != 1 {
                    note.push(format!("weight {}", endpoint.weight));
                }
                let rest = [at, place, endpoint.state.clone(), note.join(", ")];
                table.row(begin.drain(..).chain(rest));
                begin = vec![String::new(); 2];
                at = String::new();
            }
        }
        if service.ports.is_empty() {
            let rest = ["-".to_owned(), "-".to_owned(), "no port yet".to_owned()];
            table.row(begin.into_iter().chain(rest));
        }
    }
    if table.is_empty() {
        text.push_str(
            "  none; try: selvedge run hello --port 8080 -- python3 -m http.server 8080\n",
        );
    }
    text.push_str(&table.into_text());
    notes(text, services);
}

fn gateways(text: &mut String, gateways: &[GatewayReport]) {
    if gateways.is_empty() {
        return;
    }
    text.push('\n');
    let mut table = Table::new(&["GATEWAY", "LISTENER", "PORT", "HOSTS", "STATE"]);
    for gateway in gateways {
        for listener in &gateway.listeners {
            table.row([
                format!("{}.{}", gateway.name, gateway.namespace),
                listener.name.clone(),
                listener.port.to_string(),
                listener.hostname.clone().unwrap_or_else(|| "*".to_owned()),
                listener.state.clone(),
            ]);
        }
    }
    text.push_str(&table.into_text());
}

fn notes(text: &mut String, services: &[ServiceReport]) {
    for service in services {
        for published in &service.published {
            let _ = writeln!(text, "  published for {}: {published}", service.name);
        }
        if let Some(limit) = service.connection_limit {
            let _ = writeln!(text, "  {} takes at most {limit} connections", service.name);
        }
        for port in service.ports.iter().filter(|port| port.pinned > 0) {
            let oldest = port.pinned_age.map_or_else(|| "-".to_owned(), age);
            let _ = writeln!(
                text,
                "  {}: {} to port {} pinned to the direct path until closed, the oldest for {oldest}",
                service.name,
                count(
                    usize::try_from(port.pinned).unwrap_or(usize::MAX),
                    "connection"
                ),
                port.port
            );
        }
        if !service.proxied_by.is_empty() {
            let objects = first_few(&service.proxied_by);
            let _ = writeln!(text, "  {} goes through the proxy: {objects}", service.name);
        }
        if let Some(requests) = &service.requests {
            let _ = writeln!(text, "  {} got {}", service.name, requests_text(requests));
        }
    }
}

/// As `120 requests: 112 2xx, 8 5xx; 8 no_endpoint`, or of connections in which none is seen
/// `connections refused: 8 no_endpoint`.
fn requests_text(requests: &RequestsReport) -> String {
    let list = |counts: &BTreeMap<String, u64>| {
        let counts = counts.iter().map(|(word, count)| format!("{count} {word}"));
        counts.collect::<Vec<_>>().join(", ")
    };
    if requests.total == 0 {
        return format!("connections refused: {}", list(&requests.refused));
    }
    let mut text = format!("{} requests: {}", requests.total, list(&requests.statuses));
    if !requests.refused.is_empty() {
        let _ = write!(text, "; {}", list(&requests.refused));
    }
    text
}

/// Some of the objects; the rest is counted.
fn first_few(objects: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = objects.iter().take(SHOWN).map(String::as_str);
    let mut shown = shown.collect::<Vec<_>>().join(", ");
    if objects.len() > SHOWN {
        let _ = write!(shown, " and {} more", objects.len() - SHOWN);
    }
    shown
}

fn workloads(text: &mut String, report: &StatusReport) {
    let mut table = Table::new(&["WORKLOAD", "SERVICE", "CGROUP", "LISTENS ON"]).indented(2);
    for workload in &report.workloads {
        table.row([
            format!("{}.{}", workload.name, workload.namespace),
            workload.service.clone(),
            workload.cgroup.to_string(),
            workload.listening.join(" "),
        ]);
    }
    if !table.is_empty() {
        text.push('\n');
        title(text, "workloads");
        text.push_str(&table.into_text());
    }
    if !report.refused.is_empty() {
        let refused = report
            .refused
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"));
        let _ = writeln!(
            text,
            "\nrefused so far: {}",
            refused.collect::<Vec<_>>().join(", ")
        );
    }
    if report.bypassed > 0 {
        let bypassed = report.bypassed;
        let _ = writeln!(
            text,
            "\nconnections past the absent proxy so far: {bypassed}"
        );
    }
}

fn warnings(text: &mut String, report: &StatusReport) {
    if report.warnings.is_empty() {
        return;
    }
    text.push('\n');
    title(text, "to look at");
    for warning in &report.warnings {
        let about = toned(&warning.about, Tone::Poor);
        let _ = writeln!(text, "  {about}: {}", warning.what);
        if !warning.next.is_empty() {
            let _ = writeln!(text, "    next: {}", warning.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_control_plane::wire::{EndpointReport, ServicePortReport, Warning};

    #[test]
    fn connections_without_requests_are_no_requests() {
        let refused = RequestsReport {
            refused: [("no_backend".to_owned(), 12)].into(),
            ..RequestsReport::default()
        };
        let text = requests_text(&refused);
        assert_eq!(text, "connections refused: 12 no_backend");
    }

    #[test]
    fn the_text_reads_from_processes_to_warnings() {
        let endpoint = |place: &str, bound, state: &str| EndpointReport {
            place: place.to_owned(),
            port: 8080,
            bound,
            weight: 1,
            state: state.to_owned(),
        };
        let port = ServicePortReport {
            port: 80,
            protocol: "TCP".to_owned(),
            endpoints: vec![
                endpoint("cart-0.default", None, "listening"),
                endpoint("cart-1.default", Some(61000), "listening"),
                endpoint("10.0.0.1", None, "not ready"),
            ],
            ..ServicePortReport::default()
        };
        let service = ServiceReport {
            name: "cart".to_owned(),
            namespace: "default".to_owned(),
            address: Some([127, 96, 0, 1].into()),
            ports: vec![port],
            requests: Some(RequestsReport {
                total: 120,
                statuses: [("2xx".to_owned(), 112), ("5xx".to_owned(), 8)].into(),
                refused: [("no_endpoint".to_owned(), 8)].into(),
                ..RequestsReport::default()
            }),
            proxied_by: (0..6).map(|n| format!("HTTPRoute r-{n}.default")).collect(),
            ..ServiceReport::default()
        };
        let mut report = StatusReport {
            services: vec![service],
            bypassed: 4,
            ..StatusReport::default()
        };
        report.proxy.state = "serving".to_owned();
        assert!(is_well(&report));
        report.warnings = vec![Warning {
            about: "host".to_owned(),
            what: "nscd runs".to_owned(),
            next: "stop it".to_owned(),
        }];
        let text = text(&report);
        let services = "\
services
  SERVICE       ADDRESS     PORT    ENDPOINT             STATE      NOTE
  cart.default  127.96.0.1  80/TCP  cart-0.default:8080  listening
                                    cart-1.default:8080  listening  really on 61000
                                    10.0.0.1:8080        not ready
  cart goes through the proxy: HTTPRoute r-0.default, HTTPRoute r-1.default, \
HTTPRoute r-2.default, HTTPRoute r-3.default and 2 more
  cart got 120 requests: 112 2xx, 8 5xx; 8 no_endpoint
";
        assert!(text.contains(services), "{text}");
        assert!(text.contains("absent proxy so far: 4\n"), "{text}");
        assert!(
            text.ends_with("to look at\n  host: nscd runs\n    next: stop it\n"),
            "{text}"
        );
        report.configuration.store_error = Some("disk full".to_owned());
        assert!(!is_well(&report));
    }
}
