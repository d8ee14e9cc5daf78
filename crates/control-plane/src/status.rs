//! How the node is, every part with its age.
//!
//! Read from what is known already, and what the proxy has just told of requests. Read next: `wire.rs` for the
//! report's fields.

mod gateways;
mod routed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Instant;

use selvedge_model::{
    CgroupId, Diagnostic, Endpoint, FeatureState, KernelStatus, Listening, Observation, Pinned,
    Place, Port, Protocol, Service, ServicePort, Snapshot, Way, Workload,
};

use crate::api::Api;
use crate::pilot::Pilot;
use crate::pilot::lines::{self, milliseconds};
use crate::plane::{StoreState, View};
use crate::problem::{Finding, Problem};
use crate::publish::ProxyHealth;
use crate::traffic::requests_by_service;
use crate::wire::{
    ConfigurationReport, EndpointReport, FeatureReport, FolderReport, KernelReport, MapReport,
    ProcessReport, ProxyReport, ServicePortReport, ServiceReport, StatusReport, Warning,
    WorkloadReport,
};
use routed::Routed;

/// The report at this moment.
pub(crate) fn report(api: &Api) -> StatusReport {
    let view = api.plane.view();
    let health = api.proxy.borrow().clone();
    let kernel = api.host.kernel();
    let observed = api.host.observe();
    let liveness = Liveness::new(observed.as_ref().ok());
    let mut warnings = warnings(&view, &health, kernel.as_ref().ok());
    warnings.extend(api.host.hints().into_iter().map(|hint| Warning {
        about: hint.about,
        what: hint.what,
        next: hint.next,
    }));
    warnings.extend(pilot_warnings(&api.pilot, &view));
    let routed = Routed::of(&view);
    let held = api.host.gateway_ports();
    warnings.extend(gateways::warnings(&view.snapshot, &held));
    // Where it cannot be asked, the kernel's report says so.
    let pinned = api.host.pinned().unwrap_or_default();
    let requests = requests_by_service(&health.traffic);
    let services = view.snapshot.services.values();
    let workloads = view.snapshot.workloads.values();
    StatusReport {
        agent: ProcessReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            age: api.started.elapsed().as_secs_f64(),
            memory_kib: memory_kib(std::process::id()),
        },
        proxy: proxy_report(&health),
        configuration: configuration_report(&view),
        kernel: kernel_report(kernel),
        services: services
            .map(|it| {
                let mut report = service_report(it, &view.snapshot, &liveness);
                report.proxied_by = routed.objects(&it.name);
                report.requests = requests.get(&it.name.to_string()).cloned();
                note_pinned(it, &pinned, &mut report.ports);
                report
            })
            .collect(),
        gateways: gateways::reports(&view.snapshot, &held, health.is_connected),
        workloads: workloads.map(|it| workload_report(it, &liveness)).collect(),
        refused: observed.as_ref().map(refused).unwrap_or_default(),
        bypassed: observed.as_ref().map(bypassed).unwrap_or_default(),
        warnings,
    }
}

fn age(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// Proportional share of memory; readable for root where the kernel has it.
fn memory_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn proxy_report(health: &ProxyHealth) -> ProxyReport {
    let pid = health.pid.filter(|_| health.is_connected);
    let state = match (health.is_connected, health.generation) {
        (false, _) => "away",
        (true, None) => "starting",
        (true, Some(_)) => "serving",
    };
    ProxyReport {
        state: state.to_owned(),
        pid,
        age: health.since.map(age),
        answered_age: health.answered.map(age),
        memory_kib: pid.and_then(memory_kib),
        generation: health.generation.map(|generation| generation.0),
        refusals: BTreeMap::clone(&health.refusals),
        reconnects: health.connections.saturating_sub(1),
        last_end: health.last_end.as_deref().map(str::to_owned),
        shadowed: health.report.shadowed.clone(),
    }
}

fn configuration_report(view: &View) -> ConfigurationReport {
    let since = match &view.store {
        StoreState::Durable => None,
        StoreState::InMemory { since, .. } | StoreState::Refusing { since, .. } => Some(*since),
    };
    let folder = view.folder.as_ref().map(|folder| FolderReport {
        path: folder.path.clone(),
        age: age(folder.read_at),
        errors: folder.errors.iter().map(Finding::from).collect(),
    });
    ConfigurationReport {
        generation: view.snapshot.generation.0,
        age: age(view.since),
        objects: view.objects.iter().count(),
        is_durable: view.store.is_durable(),
        store_error: view.store.trouble().as_deref().map(str::to_owned),
        store_error_age: since.map(age),
        folder,
        refused: view.refused.iter().map(Finding::from).collect(),
    }
}

fn kernel_report(status: Result<KernelStatus, Problem>) -> KernelReport {
    let status = match status {
        Ok(status) => status,
        Err(problem) => {
            return KernelReport {
                error: Some(problem.what),
                ..KernelReport::default()
            };
        }
    };
    let features = status.features.into_iter().map(|feature| {
        let (state, reason) = match feature.state {
            FeatureState::Active => ("active", String::new()),
            FeatureState::Degraded { reason } => ("degraded", reason),
            FeatureState::Missing { reason } => ("missing", reason),
        };
        FeatureReport {
            name: feature.name,
            state: state.to_owned(),
            reason,
        }
    });
    let maps = status.maps.into_iter().map(|map| MapReport {
        name: map.name,
        entries: map.entries,
        capacity: map.capacity,
        bytes: map.bytes,
        full: map.full,
    });
    let drift = status.drift.into_iter();
    KernelReport {
        error: None,
        age: status.age.as_secs_f64(),
        generation: status.generation.map(|generation| generation.0),
        features: features.collect(),
        maps: maps.collect(),
        drift: drift
            .map(|drift| format!("{}: {}", drift.place, drift.difference))
            .collect(),
    }
}

/// Which ports are listened on, as the kernel last said; `None` where it could not be asked.
struct Liveness(Option<BTreeMap<(CgroupId, Protocol, Port), Port>>);

impl Liveness {
    fn new(observation: Option<&Observation>) -> Self {
        let listening = |observation: &Observation| {
            let listening = observation.listening.iter();
            listening
                .map(|it: &Listening| ((it.cgroup, it.protocol, it.port), it.bound))
                .collect()
        };
        Self(observation.map(listening))
    }

    fn bound(&self, cgroup: CgroupId, protocol: Protocol, port: Port) -> Option<Port> {
        self.0.as_ref()?.get(&(cgroup, protocol, port)).copied()
    }
}

fn service_report(service: &Service, snapshot: &Snapshot, liveness: &Liveness) -> ServiceReport {
    let tcp = service.published.iter();
    let tcp = tcp.map(|(port, leads_to)| format!("{port} -> {leads_to}"));
    let udp = service.published_udp.iter();
    let udp = udp.map(|port| format!("{port}/udp, shared by the replicas"));
    let ports = service
        .ports
        .iter()
        .map(|port| port_report(port, snapshot, liveness));
    ServiceReport {
        name: service.name.name.to_string(),
        namespace: service.name.namespace.to_string(),
        address: Some(service.address),
        ports: ports.collect(),
        published: tcp.chain(udp).collect(),
        connection_limit: service.connection_limit,
        proxied_by: Vec::new(),
        requests: None,
    }
}

fn note_pinned(service: &Service, pinned: &[Pinned], ports: &mut [ServicePortReport]) {
    let of_service = pinned.iter().filter(|it| it.service == service.address);
    for it in of_service {
        let is_it = |port: &&mut ServicePortReport| {
            port.port == it.port.get() && port.protocol == Protocol::Tcp.to_string()
        };
        if let Some(port) = ports.iter_mut().find(is_it) {
            port.pinned = it.count;
            port.pinned_age = Some(it.oldest.as_secs_f64());
        }
    }
}

fn port_report(port: &ServicePort, snapshot: &Snapshot, liveness: &Liveness) -> ServicePortReport {
    let endpoints = port
        .endpoints
        .iter()
        .map(|endpoint| endpoint_report(endpoint, port.protocol, snapshot, liveness));
    ServicePortReport {
        name: port.name.as_ref().map(ToString::to_string),
        port: port.port.get(),
        protocol: port.protocol.to_string(),
        app_protocol: port
            .app_protocol
            .as_ref()
            .map(|protocol| protocol.0.clone()),
        way: way(port.way).to_owned(),
        endpoints: endpoints.collect(),
        pinned: 0,
        pinned_age: None,
    }
}

fn way(way: Way) -> &'static str {
    match way {
        Way::Direct => "direct",
        Way::ProxyOrDirect => "proxy, direct while that is away",
        Way::ProxyOnly => "proxy",
    }
}

fn endpoint_report(
    endpoint: &Endpoint,
    protocol: Protocol,
    snapshot: &Snapshot,
    liveness: &Liveness,
) -> EndpointReport {
    let mut bound = None;
    let (place, state) = match endpoint.place {
        Place::Outside(address) => (
            address.to_string(),
            if endpoint.ready { "ready" } else { "not ready" },
        ),
        Place::Local(cgroup) => {
            let workload = snapshot.workloads.get(&cgroup);
            let name = workload.map(|workload| workload.name.to_string());
            bound = liveness.bound(cgroup, protocol, endpoint.port);
            let state = match (&liveness.0, bound) {
                (None, _) => "unknown",
                (Some(_), None) => "silent",
                (Some(_), Some(_)) => "listening",
            };
            (name.unwrap_or_else(|| format!("{cgroup:?}")), state)
        }
    };
    EndpointReport {
        place,
        port: endpoint.port.get(),
        bound: bound.filter(|bound| *bound != endpoint.port).map(Port::get),
        weight: endpoint.weight,
        state: state.to_owned(),
    }
}

fn workload_report(workload: &Workload, liveness: &Liveness) -> WorkloadReport {
    let all = liveness.0.iter().flatten();
    let own = all.filter(|((cgroup, _, _), _)| *cgroup == workload.cgroup);
    WorkloadReport {
        name: workload.name.name.to_string(),
        namespace: workload.name.namespace.to_string(),
        service: workload.service.to_string(),
        cgroup: workload.cgroup.0,
        listening: own
            .map(|((_, protocol, port), _)| format!("{protocol}/{port}"))
            .collect(),
    }
}

fn refused(observation: &Observation) -> BTreeMap<String, u64> {
    let of_edges = observation
        .edges
        .values()
        .flat_map(|counters| &counters.refused);
    let mut refused = BTreeMap::new();
    for (reason, count) in of_edges.chain(&observation.refused) {
        *refused.entry(reason.to_string()).or_insert(0) += count;
    }
    refused
}

fn bypassed(observation: &Observation) -> u64 {
    observation.edges.values().map(|edge| edge.bypassed).sum()
}

/// What the parts above say between the lines.
fn warnings(view: &View, health: &ProxyHealth, kernel: Option<&KernelStatus>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |about: String, what: String, next: &str| {
        let next = next.to_owned();
        warnings.push(Warning { about, what, next });
    };
    if let Some(error) = view.store.trouble() {
        let what = match view.store.is_durable() {
            true => format!("changes are refused because they cannot be stored: {error}"),
            false => format!("the configuration in force is not stored: {error}"),
        };
        warn(
            "state".to_owned(),
            what,
            "make room on the disk of the state folder",
        );
    }
    if let Some(folder) = view
        .folder
        .as_ref()
        .filter(|folder| !folder.errors.is_empty())
    {
        let what = format!(
            "{} errors; what was in force before still is",
            folder.errors.len()
        );
        warn(folder.path.clone(), what, "selvedge check -f FOLDER");
    }
    if !view.refused.is_empty() {
        let what = "the stored configuration contradicts itself and is not in force".to_owned();
        warn(
            "state".to_owned(),
            what,
            "selvedge up with the --virtual-range it was made for",
        );
    }
    for condition in view.conditions.iter() {
        let Diagnostic { path, message, .. } = &condition.diagnostic;
        let next = condition.reason.next_step();
        warn(
            condition.key.to_string(),
            format!("{path}: {message}"),
            next,
        );
    }
    if !health.is_connected {
        let ended = health
            .last_end
            .as_deref()
            .unwrap_or("it has not come up yet");
        let next = "mesh names already resolved work on; new ones are retried by programs";
        warn("proxy".to_owned(), format!("it is away: {ended}"), next);
    }
    for (resource, why) in health.refusals.iter() {
        warn(format!("proxy: {resource}"), why.clone(), "");
    }
    for name in BTreeSet::from_iter(&health.report.shadowed) {
        let what = "this outside name is hidden by a mesh service of the same name".to_owned();
        let next = "to reach it: a TrafficPolicy with resolver.shadowSearch: false";
        warn(name.clone(), what, next);
    }
    for map in kernel
        .into_iter()
        .flat_map(|kernel| &kernel.maps)
        .filter(|map| map.full > 0)
    {
        let what = format!(
            "was full {} times; what found no room is not counted",
            map.full
        );
        warn(format!("map {}", map.name), what, "");
    }
    warnings
}

fn pilot_warnings(pilot: &Pilot, view: &View) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |about: String, what: String, next: &str| {
        let next = next.to_owned();
        warnings.push(Warning { about, what, next });
    };
    for (limited, known) in pilot.limits() {
        if let Some(floor) = known.out_of_reach() {
            let objective = milliseconds(known.state.objective.as_secs_f64() * 1e6);
            let what = format!(
                "{}: without load 95 of 100 requests take {}, and the objective is {objective}",
                lines::about(&limited, Some(&view.snapshot)),
                milliseconds(floor),
            );
            let next = "an objective above that, or a faster service; meanwhile the limit keeps requests from taking much longer than they have to";
            warn(format!("objective of {}", limited.service()), what, next);
        }
    }
    let holds = pilot.wanted().borrow().holds.clone();
    if !holds.is_empty() {
        let what = "limits are frozen or put back, and do not move".to_owned();
        warn("pilot".to_owned(), what, "selvedge pilot release");
    }
    let journal = pilot.journal();
    if let Some(trouble) = journal.trouble {
        let what = format!("the journal of the controllers is not written: {trouble}");
        let next = "make room in the state folder; the limits move all the same";
        warn("pilot".to_owned(), what, next);
    }
    if let Some(error) = journal.forgotten {
        let what =
            format!("what was frozen or put back before is not known, and moves again: {error}");
        warn(
            "pilot".to_owned(),
            what,
            "selvedge pilot freeze, or release",
        );
    }
    warnings
}
