//! The slow loop on a node: what the planner sees, and what becomes of its plans.
//!
//! A plan that differs from the one in force is a generation like any other change. It is kept beside the journal, so
//! that an agent that starts does not take services off the proxy until it knows again what stands behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use selvedge_model::{
    AppProtocol, Objective, Observation, PilotMode, Service, ServiceName, Snapshot,
};
use selvedge_resilience::planner::{self, Plan, Seen};
use selvedge_telemetry::{info, warn};
use tokio::time::sleep;

use crate::host::Host;
use crate::pilot::Pilot;
use crate::plane::{ControlPlane, Gone};
use crate::stored_plan;

/// What makes plans for the services of a node.
pub struct Planning {
    /// What is to be in force.
    pub plane: ControlPlane,
    /// Who knows who calls whom.
    pub host: Arc<dyn Host>,
    /// Who knows how long requests take.
    pub pilot: Pilot,
}

impl Planning {
    /// Makes a plan now and then while there are objectives, and has it in force. Ends with the control plane.
    ///
    /// # Errors
    /// Where the control plane is gone.
    pub async fn run(self) -> Result<(), Gone> {
        let mut snapshots = self.plane.snapshots();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let has_objective = snapshot.services.values().any(|it| objective(it).is_some());
            if !has_objective && self.plane.view().plan.shares.is_empty() {
                snapshots.changed().await.map_err(|_| Gone)?;
                continue;
            }
            sleep(planner::PERIOD).await;
            let view = self.plane.view();
            let (snapshot, in_force) = (&view.snapshot, view.plan.clone());
            let observed = match self.host.observe() {
                Ok(observed) => observed,
                Err(problem) => {
                    warn!("no plan is made, who calls whom is not known: {problem}");
                    continue;
                }
            };
            let told = self.pilot.take_told();
            let seen = observation(snapshot, &observed, &told);
            let plan = planner::plan(&seen, &in_force);
            if plan == *in_force {
                continue;
            }
            tell(&plan, &in_force);
            let folder = self.pilot.folder().to_owned();
            let written = plan.clone();
            let writing =
                tokio::task::spawn_blocking(move || stored_plan::write(&folder, &written));
            if let Ok(Err(error)) = writing.await {
                warn!("the plan is not stored, and a later agent starts without it: {error}");
            }
            self.plane.set_plan(plan).await?;
        }
    }
}

/// What is to be kept of a service's whole answers.
fn objective(service: &Service) -> Option<Objective> {
    let objective = service.requests.as_ref()?.objective;
    objective.filter(|it| it.mode != PilotMode::Off)
}

/// What of services may be planned: those whose requests are seen anyway, or are known to be there to be seen. What
/// is spoken elsewhere may be anything, and is not put on the proxy for somebody else's sake.
fn is_seen(service: &Service, led: &Led<'_>) -> bool {
    let mut spoken = service
        .ports
        .iter()
        .filter_map(|it| it.app_protocol.as_ref());
    let said = service.requests.as_ref();
    said.is_some_and(|it| it.says_anything())
        || spoken.any(AppProtocol::is_http1)
        || led.contains_key(&service.name)
        || led.values().any(|it| it.contains(&service.name))
}

/// Where the routes of a service lead its requests.
type Led<'s> = BTreeMap<&'s ServiceName, BTreeSet<&'s ServiceName>>;

fn led(snapshot: &Snapshot) -> Led<'_> {
    let mut led = Led::new();
    for route in snapshot.http_routes.values() {
        let backends = route.rules.iter().flat_map(|rule| &rule.backends);
        let backends = backends.filter(|it| it.weight > 0);
        let backends: BTreeSet<_> = backends.map(|it| &it.backend.service).collect();
        for parent in &route.parents {
            led.entry(&parent.service).or_default().extend(&backends);
        }
    }
    led
}

fn observation(
    snapshot: &Snapshot,
    observed: &Observation,
    told: &planner::Told,
) -> planner::Observation {
    let led = led(snapshot);
    let seen = snapshot.services.values().filter(|it| is_seen(it, &led));
    let by_address: BTreeMap<_, _> = seen.map(|it| (it.address, it)).collect();
    let mut calls: BTreeMap<&ServiceName, BTreeSet<ServiceName>> = BTreeMap::new();
    for (edge, counters) in &observed.edges {
        let end = |address: Option<_>| by_address.get(&address?);
        if let (Some(caller), Some(called)) = (end(edge.source), end(edge.destination))
            && counters.connections > 0
        {
            let of_it = calls.entry(&caller.name).or_default();
            of_it.insert(called.name.clone());
        }
    }
    let seen = |service: &&Service| {
        let mut calls = calls.get(&service.name).cloned().unwrap_or_default();
        let others = led.get(&service.name).into_iter().flatten();
        calls.extend(others.map(|it| ServiceName::clone(it)));
        calls.remove(&service.name);
        let mut seen = Seen {
            objective: objective(service),
            calls,
            ..Seen::default()
        };
        told.see(&service.name, &mut seen);
        seen
    };
    let services = by_address.values();
    planner::Observation {
        services: services.map(|it| (it.name.clone(), seen(it))).collect(),
    }
}

fn tell(plan: &Plan, before: &Plan) {
    for (service, share) in &plan.shares {
        let is_same = |it: &planner::Share| (it.objective, &it.of) == (share.objective, &share.of);
        if !before.shares.get(service).is_some_and(is_same) {
            let (time, of) = (share.objective.latency, &share.of);
            info!("plan: {service} is to keep {time:.1?} for the objective of {of}");
        }
    }
    let gone = before.shares.keys();
    for service in gone.filter(|it| !plan.shares.contains_key(it)) {
        info!("plan: {service} works for no other objective any more");
    }
}

#[cfg(test)]
mod tests;
