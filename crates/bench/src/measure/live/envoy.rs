//! Envoy between the programs, as a mesh of sidecars has it: once before every caller, which balances and
//! retries, and once before every replica, which limits. All of it is one process with one thread, so that
//! neither plane has more of the processor.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use selvedge_scenario::Scenario;
use serde_json::{Value, json};

use super::policy::{Envoy, Retries};
use super::replica::{Start, own_folder};
use crate::crew::Worker;
use crate::interrupt;
use crate::load::Target;
use crate::measure::Bench;
use crate::process::start_pinned;
use crate::rivals::Contender;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(20);

pub(super) struct EnvoyPlane {
    process: Option<Contender>,
    folder: PathBuf,
    admin: SocketAddr,
    /// Where callers of each service connect to.
    outbound: Vec<SocketAddr>,
    /// Of each replica of each service: before it, and itself.
    inbound: Vec<Vec<(SocketAddr, SocketAddr)>>,
    settings: Value,
    program: PathBuf,
}

impl EnvoyPlane {
    pub(super) fn plan(
        bench: &mut Bench<'_>,
        scenario: &Scenario,
        envoy: Envoy,
    ) -> anyhow::Result<Self> {
        bench.meshes += 1;
        let admin = free(bench, 1)?;
        let services = scenario.services.iter();
        let outbound = services.clone().map(|_| free(bench, 2));
        let outbound = outbound.collect::<anyhow::Result<Vec<_>>>()?;
        let inbound = services.map(|service| {
            let both = |_| Ok((free(bench, 3)?, free(bench, 4)?));
            (0..service.replicas).map(both).collect()
        });
        let inbound = inbound.collect::<anyhow::Result<Vec<Vec<_>>>>()?;
        Ok(Self {
            process: None,
            folder: own_folder(bench, &format!("live-{}", bench.meshes))?,
            settings: bootstrap(scenario, envoy, admin, &outbound, &inbound),
            admin,
            outbound,
            inbound,
            program: bench.copy.clone(),
        })
    }

    pub(super) fn replica_command(
        &self,
        scenario: &Scenario,
        place: usize,
        number: u32,
    ) -> anyhow::Result<Start> {
        let (_, itself) = self.inbound[place][number as usize];
        let mut command = Command::new(&self.program);
        command.args(["bench", "serve", "--listen", &itself.to_string()]);
        let steps = scenario.services[place].calls.iter();
        let url = |called: &usize| format!("http://{}/", self.outbound[*called]);
        Ok(Start {
            command,
            name: format!("s{place}-{number}"),
            folder: self.folder.clone(),
            calls: steps.map(|step| step.iter().map(url).collect()).collect(),
        })
    }

    /// Starts it, once the replicas listen.
    pub(super) fn start(&mut self, bench: &Bench<'_>) -> anyhow::Result<()> {
        let file = self.folder.join("envoy.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&self.settings)?)?;
        let start = || Contender::envoy(&file, &self.folder, &bench.program);
        let mut process = start_pinned(bench.cpu(), start)?;
        let deadline = Instant::now() + PATIENCE;
        let listeners = self
            .outbound
            .iter()
            .chain(self.inbound.iter().flatten().map(|it| &it.0));
        for listener in listeners {
            while TcpStream::connect(listener).is_err() {
                process.check()?;
                if Instant::now() > deadline {
                    bail!("envoy does not listen{}", process.last_words());
                }
                interrupt::pass(GLANCE)?;
            }
        }
        self.process = Some(process);
        Ok(())
    }

    /// A client outside of any mesh, with where it asks.
    pub(super) fn client(
        &self,
        bench: &mut Bench<'_>,
        calls: usize,
    ) -> anyhow::Result<(Worker, Target)> {
        let worker = bench.crew.start("client")?;
        let target = format!("http://{}/", self.outbound[calls]).parse()?;
        Ok((worker, target))
    }

    /// What each limit takes for the latency without load; none where there is no limit, or nothing is said.
    pub(super) fn min_rtt_ms(&self) -> Vec<u64> {
        let said = self.ask("/stats?filter=min_rtt_msecs").unwrap_or_default();
        let values = said.lines().filter_map(|line| line.rsplit_once(": "));
        values.filter_map(|(_, value)| value.parse().ok()).collect()
    }

    fn ask(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.admin).context("envoy is gone")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// A free port at an address of this run alone: nobody else binds there until it is taken.
fn free(bench: &Bench<'_>, number: u8) -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind(bench.own_address(number, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?)
}

/// More than there ever are, as Istio sets it: no limit but the one that is compared.
const MANY: u32 = 1_000_000_000;

fn bootstrap(
    scenario: &Scenario,
    envoy: Envoy,
    admin: SocketAddr,
    outbound: &[SocketAddr],
    inbound: &[Vec<(SocketAddr, SocketAddr)>],
) -> Value {
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for (place, replicas) in inbound.iter().enumerate() {
        let service = format!("s{place}");
        let is_entry = scenario.clients.iter().any(|client| client.calls == place);
        let deadline = match is_entry {
            true => scenario.objective.deadline,
            false => Duration::ZERO,
        };
        let mut route = json!({"cluster": service, "timeout": seconds(deadline)});
        if envoy.retries != Retries::None {
            route["retry_policy"] = json!({
                "retry_on": "connect-failure,refused-stream,retriable-status-codes",
                "retriable_status_codes": [500, 503],
                "num_retries": 2,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
                "retry_host_predicate": [{
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
                }],
                "host_selection_retry_max_attempts": 5,
            });
        }
        listeners.push(listener(&service, outbound[place], &route, None));
        let before: Vec<SocketAddr> = replicas.iter().map(|(before, _)| *before).collect();
        clusters.push(cluster(&service, &before, envoy.retries, true));
        for (number, (before, itself)) in replicas.iter().enumerate() {
            let replica = format!("{service}-{number}");
            let route = json!({"cluster": replica, "timeout": "0s"});
            let limit = envoy.measures_every.map(adaptive_concurrency);
            listeners.push(listener(&replica, *before, &route, limit));
            clusters.push(cluster(&replica, &[*itself], Retries::None, false));
        }
    }
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn listener(name: &str, at: SocketAddr, route: &Value, limit: Option<Value>) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<Value> = limit.into_iter().chain([router]).collect();
    json!({
        "name": name,
        "address": address(at),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "codec_type": "HTTP1",
                "route_config": {"virtual_hosts": [{
                    "name": name,
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": route}],
                }]},
                "http_filters": filters,
            },
        }]}],
    })
}

/// Envoy's limit with what its documentation sets, except that what it refuses is answered 429, so that it is
/// not retried: that costs more than it gains.
fn adaptive_concurrency(measures_every: Duration) -> Value {
    json!({
        "name": "envoy.filters.http.adaptive_concurrency",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
            "concurrency_limit_exceeded_status": {"code": "TooManyRequests"},
            "gradient_controller_config": {
                "sample_aggregate_percentile": {"value": 50},
                "concurrency_limit_params": {"concurrency_update_interval": "0.1s"},
                "min_rtt_calc_params": {
                    "jitter": {"value": 15},
                    "interval": seconds(measures_every),
                    "request_count": 50,
                    "min_concurrency": 3,
                    "buffer": {"value": 25},
                },
            },
        },
    })
}

fn cluster(name: &str, hosts: &[SocketAddr], retries: Retries, ejects: bool) -> Value {
    let endpoint = |host: &SocketAddr| json!({"endpoint": {"address": address(*host)}});
    let endpoints: Vec<Value> = hosts.iter().map(endpoint).collect();
    let mut threshold = json!({
        "max_connections": MANY,
        "max_pending_requests": MANY,
        "max_requests": MANY,
        "max_retries": MANY,
    });
    if retries == Retries::InBudget {
        threshold["retry_budget"] =
            json!({"budget_percent": {"value": 20}, "min_retry_concurrency": 3});
    }
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [threshold]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    });
    if ejects {
        cluster["outlier_detection"] = json!({"consecutive_5xx": 5, "max_ejection_percent": 50});
    }
    cluster
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(scenario: &str, envoy: Envoy) -> String {
        let scenario = crate::scenario(scenario).unwrap();
        let at: SocketAddr = "127.1.2.3:9".parse().unwrap();
        let replicas = scenario
            .services
            .iter()
            .map(|it| vec![(at, at); it.replicas as usize]);
        let inbound: Vec<_> = replicas.collect();
        let outbound = vec![at; scenario.services.len()];
        bootstrap(&scenario, envoy, at, &outbound, &inbound).to_string()
    }

    #[test]
    fn each_replica_has_a_limit_and_each_service_its_retries() {
        let budget = Envoy {
            measures_every: Some(Duration::from_secs(30)),
            retries: Retries::InBudget,
        };
        let chain = text("chain-storm", budget);
        assert_eq!(chain.matches("gradient_controller_config").count(), 4);
        assert_eq!(chain.matches("\"interval\":\"30s\"").count(), 4);
        assert_eq!(chain.matches("retry_policy").count(), 4);
        assert_eq!(chain.matches("retry_budget").count(), 4);
        assert_eq!(
            chain.matches("\"timeout\":\"1s\"").count(),
            1,
            "the entry's"
        );
        let plain = Envoy {
            measures_every: None,
            retries: Retries::None,
        };
        let replicas = text("gray-replica", plain);
        assert!(!replicas.contains("gradient") && !replicas.contains("retry_policy"));
        assert_eq!(replicas.matches("\"cluster_name\":\"s0-").count(), 3);
    }
}
