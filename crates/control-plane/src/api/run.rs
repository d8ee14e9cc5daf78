//! Placing a process as a replica of a service.
//!
//! The child that `selvedge run` forked asks for itself and waits; it is answered when it is in its
//! cgroup and the kernel knows the workload, and only then runs its program. Once begun a placement
//! is finished even if the child goes away meanwhile: its cgroup is then found empty and removed
//! like any other. Read next: `host.rs`, `objects/placement.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use selvedge_model::{
    Generation, Label, Port, PortMode, Protocol, ServiceName, Workload, WorkloadName,
};
use selvedge_telemetry::info;
use tokio::time::timeout;

use super::{Api, identity};
use crate::document::{
    Document, Kind, MAX_NDOTS, ObjectKey, Publish, ResolverSpec, Spec, WorkloadPlace, WorkloadPort,
    WorkloadSpec, search_suffix,
};
use crate::host::{HostPlacement, Peer};
use crate::objects::{PlaceError, PlaceRequest};
use crate::permission::Leave;
use crate::plane::Gone;
use crate::problem::{Problem, ProblemKind};
use crate::wire::{RunReply, RunRequest};

/// How long the kernel path may take to know a new workload.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ports below this one need root, as everywhere on Unix.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Places the peer.
pub(super) async fn run(api: &Api, peer: &Peer, wanted: RunRequest) -> Result<RunReply, Problem> {
    let request = read(&wanted)?;
    check_leave(api, peer, &request)?;
    forget_ended(api).await?;
    let (api, peer) = (api.clone(), peer.clone());
    // A task of its own, since a request whose peer goes away is dropped in the middle.
    let placing = tokio::spawn(async move { place(&api, &peer, request).await });
    placing
        .await
        .map_err(|panic| Problem::new(ProblemKind::Failed, panic.to_string()))?
}

/// Takes note that the peer was placed but cannot become its program, so that nothing stays of it.
/// From who was not placed it has no effect.
pub(super) async fn failed(api: &Api, peer: &Peer) -> Result<(), Problem> {
    let cgroup = api.host.cgroup_of(peer)?;
    api.plane.not_started(cgroup).await.map_err(gone)
}

fn read(wanted: &RunRequest) -> Result<PlaceRequest, Problem> {
    let label = |what: &str, text: &str| {
        Label::new(text).map_err(|error| {
            Problem::new(ProblemKind::Invalid, format!("{what} {text:?}: {error}"))
        })
    };
    let namespace = label("namespace", &wanted.namespace)?;
    let service = ServiceName::new(namespace, label("service", &wanted.service)?);
    let ports = wanted.ports.iter().map(|port| {
        Ok(WorkloadPort {
            name: port
                .name
                .as_deref()
                .map(|name| label("port name", name))
                .transpose()?,
            port: read_port(port.port)?,
            protocol: read_protocol(port.protocol.as_deref())?,
        })
    });
    let ports = ports.collect::<Result<Vec<_>, Problem>>()?;
    let publish = wanted.publish.iter().map(|publish| {
        Ok(Publish {
            port: read_port(publish.port)?,
            protocol: read_protocol(publish.protocol.as_deref())?,
            service_port: publish.service_port.map(read_port).transpose()?,
        })
    });
    // What is no domain name in a resolv.conf has no effect there either.
    let search = wanted
        .search
        .iter()
        .filter_map(|suffix| search_suffix(suffix));
    Ok(PlaceRequest {
        service,
        ports,
        publish: publish.collect::<Result<Vec<_>, Problem>>()?,
        resolver: ResolverSpec {
            search: search.take(32).collect(),
            ndots: wanted.ndots.map(|ndots| ndots.min(MAX_NDOTS)),
            nameservers: wanted.nameservers.iter().copied().take(8).collect(),
            shadow_search: None,
        },
        port_mode: if wanted.keep_ports {
            PortMode::Kept
        } else {
            PortMode::Shared
        },
    })
}

fn read_port(number: u16) -> Result<Port, Problem> {
    Port::new(number).ok_or_else(|| Problem::new(ProblemKind::Invalid, "0 is not a port"))
}

fn read_protocol(text: Option<&str>) -> Result<Protocol, Problem> {
    let Some(text) = text else {
        return Ok(Protocol::Tcp);
    };
    text.parse().map_err(|()| {
        Problem::new(
            ProblemKind::Invalid,
            format!("protocol {text:?} is neither TCP nor UDP"),
        )
    })
}

/// Whether the peer may run this service, and leave its own limits behind.
fn check_leave(api: &Api, peer: &Peer, request: &PlaceRequest) -> Result<(), Problem> {
    if peer.is_root() {
        return Ok(());
    }
    let service = &request.service;
    let who = identity::of(peer);
    let name = who.user.clone().unwrap_or_else(|| who.uid.to_string());
    let leave = api
        .plane
        .view()
        .objects
        .run_permission()
        .leave(&who, service);
    if leave == Leave::Refused {
        let what = format!("user {name} may not run programs as service {service}");
        return Err(Problem::new(ProblemKind::Forbidden, what)
            .because("the RunPermission `default` gives no leave for it; by default only root may")
            .try_next(format!(
                "root can allow it: a rule in the RunPermission with subjects [{{user: {name}}}] \
                 and services [{{namespace: {}, name: {}}}]",
                service.namespace, service.name
            )));
    }
    let low = request
        .publish
        .iter()
        .find(|publish| publish.port.get() < FIRST_UNPRIVILEGED);
    if let Some(publish) = low {
        let what = format!("only root may publish port {}", publish.port);
        let next = format!("publish a port from {FIRST_UNPRIVILEGED} on");
        return Err(Problem::new(ProblemKind::Forbidden, what).try_next(next));
    }
    let limits = match leave {
        Leave::GrantedShedding => Vec::new(),
        _ => api.host.limits_of(peer)?,
    };
    if !limits.is_empty() {
        let what = format!(
            "user {name} would leave limits behind: {}",
            limits.join(", ")
        );
        return Err(Problem::new(ProblemKind::Forbidden, what)
            .because("a workload has its own cgroup, so the limits of the caller's do not hold")
            .try_next("root can allow it: `shedLimits: true` in the rule of the RunPermission"));
    }
    Ok(())
}

/// Whether this is a replica that `run` has placed and whose processes have ended. Its object goes with
/// the kernel's word that its cgroup is empty, which is under way then.
fn has_ended(api: &Api, document: &Document) -> bool {
    match &document.spec {
        Spec::Workload(WorkloadSpec {
            place: WorkloadPlace::Cgroup(cgroup),
            ..
        }) => document.metadata.is_made_by_run() && !api.host.is_populated(cgroup),
        _ => false,
    }
}

/// Forgets replicas that have ended: whoever saw that may ask for the ports that they had.
pub(super) async fn forget_ended(api: &Api) -> Result<(), Problem> {
    let view = api.plane.view();
    let documents = view.objects.documents();
    let ended = documents.filter(|document| has_ended(api, document));
    let ended: BTreeSet<_> = ended.map(|document| &document.key).collect();
    for (cgroup, Workload { name, .. }) in &view.snapshot.workloads {
        let key = ObjectKey::new(Kind::Workload, &name.namespace, name.name.as_str());
        if ended.contains(&key) {
            api.plane.emptied(*cgroup).await.map_err(gone)?;
        }
    }
    Ok(())
}

/// Whether every port to publish is free of other services. Of two that ask at the same moment the
/// second is refused when its objects are made.
fn check_published(api: &Api, request: &PlaceRequest) -> Result<(), Problem> {
    let service = &request.service;
    let view = api.plane.view();
    let taken = request.publish.iter().find_map(|publish| {
        let found = view.objects.published_for_another(service, publish);
        found.map(|(document, other)| (publish, document, other))
    });
    let Some((Publish { protocol, port, .. }, document, other)) = taken else {
        return Ok(());
    };
    let what = format!(
        "{protocol} port {port} cannot be published for service {service}: it leads to service {other}"
    );
    Err(Problem::new(ProblemKind::Conflict, what)
        .at(format!("{} ({})", document.key, document.origin))
        .because("a port of the host leads to one service, and another asked for it first")
        .try_next(format!(
            "publish another port, or first end what publishes it for {other} \
             (selvedge get workloads)"
        )))
}

async fn place(api: &Api, peer: &Peer, request: PlaceRequest) -> Result<RunReply, Problem> {
    let service = request.service.clone();
    let reserved = api.plane.reserve(service.clone()).await.map_err(gone)?;
    let name = reserved.map_err(not_placed)?;
    let publish = request
        .publish
        .iter()
        .map(|publish| (publish.protocol, publish.port));
    let publish: Vec<_> = publish.collect();
    let placement = HostPlacement {
        name: &name,
        service: &service,
        peer,
        publish: &publish,
    };
    // Commands are carried out in order: with the reservation, replicas that had ended are forgotten.
    let free = check_published(api, &request);
    let cgroup = match free.and_then(|()| api.host.place(&placement)) {
        Ok(cgroup) => cgroup,
        Err(problem) => {
            api.plane.release(name).await.map_err(gone)?;
            return Err(problem);
        }
    };
    let placed = api
        .plane
        .place(request, name.clone(), cgroup.reference.clone(), cgroup.id)
        .await;
    let settled = match placed.map_err(gone)? {
        Ok(placed) => wait_for_kernel(api, placed.generation).await,
        Err(error) => Err(not_placed(error)),
    };
    if let Err(problem) = settled {
        api.host.abandon(&name);
        api.plane
            .not_started(cgroup.reference)
            .await
            .map_err(gone)?;
        api.plane.emptied(cgroup.id).await.map_err(gone)?;
        return Err(problem);
    }
    info!(
        "{name} is placed as a replica of {service} (process {})",
        peer.pid
    );
    Ok(reply(api, &name, &service, cgroup.id.0))
}

/// The kernel must know the workload before its program binds its first port.
async fn wait_for_kernel(api: &Api, generation: Generation) -> Result<(), Problem> {
    let mut applied = api.host.applied();
    let reached = applied.wait_for(|applied| *applied >= generation);
    match timeout(PATIENCE, reached).await {
        Ok(Ok(_)) => Ok(()),
        _ => {
            let what = format!("the kernel path has not taken generation {generation} in time");
            Err(Problem::new(ProblemKind::Unavailable, what).try_next("selvedge status"))
        }
    }
}

fn reply(api: &Api, name: &WorkloadName, service: &ServiceName, cgroup: u64) -> RunReply {
    let view = api.plane.view();
    let address = view
        .snapshot
        .services
        .get(service)
        .map(|service| service.address);
    RunReply {
        workload: name.name.to_string(),
        namespace: name.namespace.to_string(),
        cgroup,
        address,
        generation: view.snapshot.generation.0,
    }
}

fn gone(error: Gone) -> Problem {
    Problem::new(ProblemKind::Unavailable, error.to_string())
}

fn not_placed(error: PlaceError) -> Problem {
    let what = error.to_string();
    match error {
        PlaceError::TooMany { .. } => Problem::new(ProblemKind::Conflict, what),
        PlaceError::Refused { diagnostics, .. } => {
            Problem::new(ProblemKind::Conflict, what).with_diagnostics(&diagnostics)
        }
    }
}
