//! Claims: every resource answers what its peer may see and do; problems say what to do next; a
//! replica that cannot be placed leaves nothing behind; a peer cannot make the agent keep more than
//! its bounds.
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Mutex;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use selvedge_model::{
    Backend, BackendReading, CgroupId, Edge, EdgeCounters, EdgeDetail, EndpointPace,
    EndpointTraffic, Generation, KernelStatus, Listening, Observation, Place, Port, Protocol,
    Reason, ServiceName, Traffic, TrafficEdge, TrafficEnd, TrafficPath, TrafficUnit, Withheld,
    WorkloadName,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::address::VirtualRange;
use crate::document::CgroupRef;
use crate::host::{Hint, HostPlacement, PlacedCgroup};
use crate::metrics::Metrics;
use crate::plane::{Options, start};
use crate::problem::ProblemKind;
use crate::store::{Disk, Store};

/// A node that only remembers.
struct FakeHost {
    placed: Mutex<BTreeMap<WorkloadName, CgroupId>>,
    refuses: bool,
    limits: Vec<String>,
    applied: watch::Receiver<Generation>,
    observation: Mutex<Observation>,
}

impl Host for FakeHost {
    fn place(&self, placement: &HostPlacement<'_>) -> Result<PlacedCgroup, Problem> {
        if self.refuses {
            return Err(Problem::new(ProblemKind::Conflict, "the port is taken"));
        }
        let mut placed = self.placed.lock().unwrap();
        let id = CgroupId(100 + placed.len() as u64);
        placed.insert(placement.name.clone(), id);
        let reference = CgroupRef::Path(format!("/selvedge/{}", placement.name));
        Ok(PlacedCgroup { reference, id })
    }

    fn abandon(&self, name: &WorkloadName) {
        self.placed.lock().unwrap().remove(name);
    }

    fn limits_of(&self, _: &Peer) -> Result<Vec<String>, Problem> {
        Ok(self.limits.clone())
    }

    fn cgroup_of(&self, _: &Peer) -> Result<CgroupRef, Problem> {
        let placed = self.placed.lock().unwrap();
        let (name, _) = placed.last_key_value().expect("somebody is placed");
        Ok(CgroupRef::Path(format!("/selvedge/{name}")))
    }

    fn is_populated(&self, _: &CgroupRef) -> bool {
        true
    }

    fn kernel(&self) -> Result<KernelStatus, Problem> {
        Ok(KernelStatus::default())
    }

    fn gateway_ports(&self) -> BTreeMap<Port, Result<(), String>> {
        BTreeMap::new()
    }

    fn pinned(&self) -> Result<Vec<selvedge_model::Pinned>, Problem> {
        Ok(Vec::new())
    }

    fn observe(&self) -> Result<Observation, Problem> {
        Ok(self.observation.lock().unwrap().clone())
    }

    fn applied(&self) -> watch::Receiver<Generation> {
        self.applied.clone()
    }

    fn hints(&self) -> Vec<Hint> {
        Vec::new()
    }
}

struct Bench {
    api: Api,
    host: Arc<FakeHost>,
    kernel: watch::Sender<Generation>,
    _state: TempDir,
    proxy: watch::Sender<ProxyHealth>,
    stops: mpsc::Receiver<Down>,
}

/// A user of no group that reads.
const NOBODY: u32 = 65_534;

fn begin_with(refuses: bool, limits: &[&str]) -> Bench {
    let state = tempfile::tempdir().unwrap();
    let (store, restored) = Store::open(Disk::open(state.path()).unwrap()).unwrap();
    let options = Options {
        virtual_range: VirtualRange::DEFAULT,
        floor: Generation(0),
    };
    let (plane, task) = start(store, restored, options);
    tokio::spawn(task);
    let (kernel, applied) = watch::channel(Generation(u64::MAX));
    let (proxy, health) = watch::channel(ProxyHealth::default());
    let (down, stops) = mpsc::channel(1);
    let (pilot, writing) = Pilot::open(&state.path().join("journal"));
    tokio::spawn(writing);
    let host = Arc::new(FakeHost {
        placed: Mutex::default(),
        refuses,
        limits: limits.iter().map(|limit| (*limit).to_owned()).collect(),
        applied,
        observation: Mutex::default(),
    });
    let api = Api {
        plane,
        host: host.clone(),
        proxy: health,
        traffic: watch::channel(0).0,
        pilot: pilot.clone(),
        down,
        readers: Some(4_242),
        started: Instant::now(),
    };
    Bench {
        api,
        host,
        kernel,
        _state: state,
        proxy,
        stops,
    }
}

fn begin() -> Bench {
    begin_with(false, &[])
}

fn peer(uid: u32, gid: u32) -> Peer {
    let own = rustix::process::getpid();
    let process = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty());
    Peer {
        uid,
        gid,
        pid: own.as_raw_nonzero().get(),
        process: Arc::new(process.unwrap()),
    }
}

impl Bench {
    async fn ask_as(&self, peer: Peer, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let body = Full::new(Bytes::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(body)
            .unwrap();
        let answer = self.api.respond(&peer, request).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        self.ask_as(peer(0, 0), method, path, &body).await
    }

    async fn apply(&self, text: &str) -> (u16, Value) {
        let body = json!({"files": [{"name": "f.yaml", "text": text}]});
        self.ask(Method::POST, "/v1/apply", body).await
    }
}

const CART: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: [{port: 80}]}\n";
const RUN: &str = "/v1/run";

fn cart() -> Value {
    json!({"service": "cart", "namespace": "default"})
}

#[tokio::test]
async fn objects_are_applied_read_and_deleted() {
    let bench = begin();
    let (status, reply) = bench.apply(CART).await;
    assert_eq!(
        (status, &reply["changes"][0]["action"]),
        (200, &json!("created"))
    );
    let path = "/v1/objects?kind=svc&name=cart";
    let (_, list) = bench.ask(Method::GET, path, Value::Null).await;
    let object = &list["items"][0];
    assert_eq!(object["status"]["owner"], "api");
    assert_eq!(
        object["metadata"]["resourceVersion"],
        reply["generation"].to_string()
    );
    // What was read can be applied as it is.
    let (status, reply) = bench.apply(&object.to_string()).await;
    assert_eq!(
        (status, &reply["changes"][0]["action"]),
        (200, &json!("unchanged")),
        "{reply}"
    );
    let (status, _) = bench.ask(Method::DELETE, path, Value::Null).await;
    assert_eq!(status, 200);
    let (status, problem) = bench.ask(Method::DELETE, path, Value::Null).await;
    assert_eq!((status, &problem["kind"]), (404, &json!("notFound")));
}

/// Only root has limits stay or go on, for what there is, and a decision is undone by its number.
#[tokio::test]
async fn limits_are_frozen_put_back_and_released() {
    use selvedge_model::{ControllerState, Decision, JournalEntry, JournalEvent, Limited, Why};
    let bench = begin();
    let objective = "apiVersion: selvedge.dev/v1alpha1\nkind: ServiceObjective\nmetadata: {name: cart}\n\
                     spec: {targetRefs: [{kind: Service, name: cart}], latency: {p95: 100ms}}\n";
    let freeze = |service: Value| json!({"service": service});
    let post = |path: &'static str, body: Value| bench.ask(Method::POST, path, body);
    let (status, _) = post("/v1/pilot/freeze", freeze("cart".into())).await;
    assert_eq!(status, 404, "there is no such service");
    bench.apply(CART).await;
    let (status, _) = post("/v1/pilot/freeze", freeze("cart".into())).await;
    assert_eq!(status, 409, "it has no objective");
    bench.apply(objective).await;
    let (status, report) = post("/v1/pilot/freeze", freeze("cart".into())).await;
    assert_eq!((status, &report["frozen"]), (200, &json!(["cart.default"])));
    assert_eq!(report["isInForce"], false, "there is no proxy");
    let about = Limited::Entry {
        service: "cart".parse().unwrap(),
        route: "r".to_owned(),
    };
    let state = JournalEvent::State(ControllerState {
        at: selvedge_model::Instant::default(),
        objective: Duration::from_millis(100),
        fixed: None,
        is_applied: true,
        limit: 8,
        memory: Vec::new(),
    });
    let decided = JournalEvent::Decided {
        window: selvedge_model::WindowSummary {
            limit: 8,
            ..Default::default()
        },
        decision: Decision {
            limit: 6,
            is_fresh: true,
            why: Why::Slow,
            floor: 120_000.0,
        },
    };
    let entry = |event| JournalEntry {
        about: about.clone(),
        event,
    };
    let told = bench.api.pilot.on_part(selvedge_feed::JournalPart {
        is_beginning: true,
        entries: vec![entry(state), entry(decided)],
        ..Default::default()
    });
    assert_eq!(told, Ok(()));
    // Told is not written yet.
    let journal = loop {
        let path = "/v1/pilot/journal?service=cart&last=5&all";
        let (status, reply) = bench.ask(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{reply}");
        if reply["lines"].as_array().unwrap().len() == 2 {
            break reply;
        }
    };
    assert_eq!(journal["lines"][1]["limitBefore"], 8);
    let (_, report) = bench.ask(Method::GET, "/v1/pilot", Value::Null).await;
    let limit = &report["limits"][0];
    assert_eq!(
        (&limit["limit"], &limit["mode"]),
        (&json!(6), &json!("drive"))
    );
    assert_eq!(limit["isBeyondReach"], true, "without load it takes longer");
    let path = "/v1/objects?kind=serviceobjective";
    let (_, list) = bench.ask(Method::GET, path, Value::Null).await;
    let conditions = &list["items"][0]["status"]["conditions"];
    assert!(
        conditions
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["type"] == "ObjectiveOutOfReach"
                && it["message"] == "entry of r: without load 95 of 100 requests take 120 ms"),
        "{list:#}"
    );
    let (_, status) = bench.ask(Method::GET, "/v1/status", Value::Null).await;
    let warned = |about: &str| {
        let warnings = status["warnings"].as_array().unwrap();
        warnings.iter().filter(|it| it["about"] == about).count()
    };
    assert_eq!(
        (warned("objective of cart.default"), warned("pilot")),
        (1, 1),
        "{status:#}"
    );
    let metrics = Metrics::from(&bench.api).exposition();
    for line in [
        "selvedge_journal_entries_total 2",
        "selvedge_journal_writable 1",
        "selvedge_pilot_limits 1",
        "selvedge_pilot_limits_held 0",
        "selvedge_pilot_limits_doubted 0",
        "selvedge_pilot_objectives_out_of_reach 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
    for (number, due) in [(1, 400), (3, 404), (2, 200)] {
        let (status, reply) = post("/v1/pilot/undo", json!({"number": number})).await;
        assert_eq!(status, due, "{reply}");
    }
    let held = bench.api.pilot.wanted().borrow().holds.clone();
    assert_eq!(held.pins, [(about, Some(8))].into());
    post("/v1/pilot/freeze", freeze(Value::Null)).await;
    let (status, _) = post("/v1/pilot/release", freeze("cart".into())).await;
    assert_eq!(status, 409, "everything is frozen");
    let (status, report) = post("/v1/pilot/release", freeze(Value::Null)).await;
    assert_eq!((status, &report["pinned"]), (200, &json!(0)));
    let (status, _) = post("/v1/pilot/release", freeze("cart".into())).await;
    assert_eq!(status, 404, "nothing is held");
    for query in ["last=0", "last=x", "since=1", "service=A_"] {
        let path = format!("/v1/pilot/journal?{query}");
        assert_eq!(
            bench.ask(Method::GET, &path, Value::Null).await.0,
            400,
            "{query}"
        );
    }
    let reader = peer(1000, 4_242);
    for path in ["/v1/pilot/freeze", "/v1/pilot/release", "/v1/pilot/undo"] {
        let (status, _) = bench
            .ask_as(reader.clone(), Method::POST, path, &json!({}))
            .await;
        assert_eq!(status, 403, "{path}");
    }
    let (status, _) = bench
        .ask_as(reader, Method::GET, "/v1/pilot", &Value::Null)
        .await;
    assert_eq!(status, 200);
}

/// What a change takes from objects that it does not name is said too, and once.
#[tokio::test]
async fn who_changes_something_hears_what_that_does_to_others() {
    let bench = begin();
    let route = |name: &str, path: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
             spec:\n  parentRefs: [{{kind: Service, name: cart, group: \"\"}}]\n  rules:\n  \
             - matches: [{{path: {{value: {path}}}}}]\n    backendRefs: [{{name: cart, port: 80}}]\n"
        )
    };
    bench.apply(CART).await;
    let (status, reply) = bench.apply(&route("b", "/x")).await;
    assert_eq!((status, &reply["warnings"]), (200, &Value::Null), "{reply}");
    let (_, reply) = bench.apply(&route("a", "/x")).await;
    let warnings = reply["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{reply}");
    assert_eq!(warnings[0]["object"], "HTTPRoute default/b");
    let (_, reply) = bench.apply(CART).await;
    assert_eq!(reply["warnings"], Value::Null, "{reply}");
    let (_, reply) = bench.apply(&CART.replace("80", "81")).await;
    let warnings = reply["warnings"].as_array().unwrap().iter();
    let lost = warnings.filter(|it| it["message"] == "service cart.default has no TCP port 80");
    assert_eq!(lost.count(), 2, "{reply}");
}

/// What speaks gRPC is no mistake that an author could mend.
#[tokio::test]
async fn what_is_advice_is_no_warning() {
    let bench = begin();
    let grpc = "{port: 80, appProtocol: kubernetes.io/h2c}";
    let (status, reply) = bench.apply(&CART.replace("{port: 80}", grpc)).await;
    assert_eq!((status, &reply["warnings"]), (200, &Value::Null), "{reply}");
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: \
                 {kubernetes.io/service-name: cart}}\naddressType: IPv4\nports: [{port: 80}]\n\
                 endpoints: [{addresses: [127.0.0.9]}]\n";
    let (status, reply) = bench.apply(slice).await;
    assert_eq!((status, &reply["warnings"]), (200, &Value::Null), "{reply}");
}

#[tokio::test]
async fn problems_are_whole() {
    let bench = begin();
    let (status, problem) = bench.apply(&CART.replace("port:", "prot:")).await;
    assert_eq!(status, 400);
    assert_eq!(problem["diagnostics"].as_array().unwrap().len(), 2);
    assert_eq!(problem["diagnostics"][0]["line"], 4);
    for (method, path, body, status) in [
        (Method::GET, "/v2/objects", Value::Null, 404),
        (Method::GET, "/v1/objects?kind=Pod", Value::Null, 404),
        (Method::GET, "/v1/objects?colour=red", Value::Null, 400),
        (Method::DELETE, "/v1/objects?kind=Service", Value::Null, 400),
        (Method::POST, "/v1/apply", json!({"file": []}), 400),
        (
            Method::POST,
            RUN,
            json!({"service": "Cart", "namespace": "default"}),
            400,
        ),
        (
            Method::POST,
            RUN,
            json!({"service": "x".repeat(300_000), "namespace": "d"}),
            413,
        ),
    ] {
        let (found, problem) = bench.ask(method.clone(), path, body).await;
        assert_eq!(found, status, "{method} {path}: {problem}");
        assert!(problem["what"].is_string());
    }
}

#[tokio::test]
async fn peers_may_do_what_their_verb_allows() {
    let bench = begin();
    let nobody = || peer(NOBODY, NOBODY);
    let reader = || peer(NOBODY, 4_242);
    let dry_run = json!({"files": [], "mode": "dryRun"});
    let apply = json!({"files": []});
    let down = json!({"workloads": "stop"});
    for (method, path, body, seen, read) in [
        (Method::GET, "/v1/objects", &Value::Null, 403, 200),
        (Method::GET, "/v1/status", &Value::Null, 403, 200),
        (Method::GET, "/v1/graph", &Value::Null, 403, 200),
        (Method::GET, "/metrics", &Value::Null, 403, 200),
        (Method::POST, "/v1/apply", &dry_run, 403, 200),
        (Method::POST, "/v1/apply", &apply, 403, 403),
        (
            Method::DELETE,
            "/v1/objects?kind=svc&name=x",
            &Value::Null,
            403,
            403,
        ),
        (Method::POST, "/v1/down", &down, 403, 403),
        (Method::POST, RUN, &cart(), 403, 403),
    ] {
        for (peer, want) in [(nobody(), seen), (reader(), read)] {
            let (found, problem) = bench.ask_as(peer, method.clone(), path, body).await;
            assert_eq!(found, want, "{method} {path}: {problem}");
            assert!(
                found == 200 || problem["next"].is_string(),
                "{method} {path}: {problem}"
            );
        }
    }
}

#[tokio::test]
async fn leave_to_run_is_given_by_the_permission() {
    let bench = begin_with(false, &["memory.max 1G in /user.slice"]);
    let permission = |shed: &str| {
        format!(
            "apiVersion: selvedge.dev/v1alpha1\nkind: RunPermission\nmetadata: {{name: default}}\n\
             spec: {{rules: [{{subjects: [{{uid: {NOBODY}}}], services: [{{name: cart}}]{shed}}}]}}"
        )
    };
    let run = async |body: Value| {
        bench
            .ask_as(peer(NOBODY, NOBODY), Method::POST, RUN, &body)
            .await
    };
    bench.apply(&permission("")).await;
    let (status, problem) = run(cart()).await;
    assert_eq!(status, 403);
    assert!(
        problem["what"].as_str().unwrap().contains("memory.max 1G"),
        "{problem}"
    );
    bench.apply(&permission(", shedLimits: true")).await;
    let (status, reply) = run(cart()).await;
    assert_eq!(
        (status, &reply["workload"]),
        (200, &json!("cart-0")),
        "{reply}"
    );
    let (status, _) = run(json!({"service": "shop", "namespace": "default"})).await;
    assert_eq!(status, 403);
    let mut low = cart();
    low["publish"] = json!([{"port": 80}]);
    assert_eq!(run(low).await.0, 403, "only root publishes port 80");
}

#[tokio::test]
async fn a_replica_is_answered_when_the_kernel_knows_it() {
    let bench = begin();
    bench.kernel.send_replace(Generation(0));
    let api = bench.api.clone();
    let asked = tokio::spawn(async move {
        let body = Full::new(Bytes::from(cart().to_string()));
        let request = Request::post(RUN).body(body).unwrap();
        api.respond(&peer(0, 0), request).await.status().as_u16()
    });
    let mut snapshots = bench.api.plane.snapshots();
    let placed = snapshots
        .wait_for(|snapshot| !snapshot.workloads.is_empty())
        .await;
    let generation = placed.unwrap().generation;
    tokio::task::yield_now().await;
    assert!(!asked.is_finished());
    bench.kernel.send_replace(generation);
    assert_eq!(asked.await.unwrap(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_replica_the_kernel_does_not_take_leaves_nothing() {
    let bench = begin();
    bench.kernel.send_replace(Generation(0));
    let (status, problem) = bench.ask(Method::POST, RUN, cart()).await;
    assert_eq!(status, 503, "{problem}");
    assert!(bench.host.placed.lock().unwrap().is_empty());
    let mut snapshots = bench.api.plane.snapshots();
    snapshots
        .wait_for(|snapshot| snapshot.services.is_empty())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_replica_whose_program_is_missing_leaves_no_service() {
    let bench = begin();
    let (_, placed) = bench.ask(Method::POST, RUN, cart()).await;
    let failed = "/v1/run/failed";
    let (status, _) = bench.ask(Method::POST, failed, Value::Null).await;
    assert_eq!(status, 200);
    let cgroup = CgroupId(placed["cgroup"].as_u64().unwrap());
    bench.api.plane.emptied(cgroup).await.unwrap();
    let mut snapshots = bench.api.plane.snapshots();
    let gone = snapshots.wait_for(|snapshot| snapshot.services.is_empty());
    gone.await.unwrap();
}

#[tokio::test]
async fn a_replica_the_host_refuses_leaves_its_name() {
    let bench = begin_with(true, &[]);
    for _ in 0..3 {
        let (status, problem) = bench.ask(Method::POST, RUN, cart()).await;
        assert_eq!(
            (status, &problem["what"]),
            (409, &json!("the port is taken"))
        );
    }
    let name = bench
        .api
        .plane
        .reserve("cart".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(name.to_string(), "cart-0.default");
    assert_eq!(bench.api.plane.view().objects.iter().count(), 0);
}

/// The kernel path would lead callers of the port to one of the two services.
#[tokio::test]
async fn a_port_is_published_for_one_service() {
    let bench = begin();
    let publishing = |service: &str, lead: Value| json!({"service": service, "namespace": "default", "publish": [lead]});
    let first = publishing("cart", json!({"port": 9102, "servicePort": 9100}));
    let (status, problem) = bench.ask(Method::POST, RUN, first).await;
    assert_eq!(status, 200, "{problem}");
    let before = bench.api.plane.view();

    let second = publishing("shop", json!({"port": 9102, "servicePort": 9200}));
    let (status, problem) = bench.ask(Method::POST, RUN, second).await;
    assert_eq!(status, 409, "{problem}");
    let said = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
    for name in ["TCP port 9102", "shop.default", "cart.default"] {
        assert!(said("what").contains(name), "{problem}");
    }
    assert!(
        said("where").contains("Workload default/cart-0"),
        "{problem}"
    );
    assert!(
        !said("cause").is_empty() && !said("next").is_empty(),
        "{problem}"
    );
    assert_eq!(bench.host.placed.lock().unwrap().len(), 1);

    let (status, problem) = bench
        .apply(
            "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {ports: []}\n---\n\
             apiVersion: selvedge.dev/v1alpha1\nkind: Workload\nmetadata: {name: w}\n\
             spec: {service: shop, cgroup: /w, publish: [{port: 9101}, {port: 9102}]}\n",
        )
        .await;
    assert_eq!(
        (status, &problem["diagnostics"][0]["path"]),
        (400, &json!("spec.publish[1]"))
    );

    let after = bench.api.plane.view();
    assert_eq!(after.snapshot, before.snapshot);
    // Over UDP the number is another port; and a replica of the same service shares.
    let udp = publishing("shop", json!({"port": 9102, "protocol": "UDP"}));
    let sibling = publishing("cart", json!({"port": 9102, "servicePort": 9100}));
    for free in [udp, sibling] {
        let (status, problem) = bench.ask(Method::POST, RUN, free).await;
        assert_eq!(status, 200, "{problem}");
    }
}

#[tokio::test]
async fn status_graph_and_metrics_tell_what_was_seen() {
    let bench = begin();
    bench.apply(CART).await;
    let (_, placed) = bench.ask(Method::POST, RUN, cart()).await;
    let address = placed["address"].as_str().unwrap().parse().unwrap();
    let port = Port::new(80).unwrap();
    let mut times = selvedge_model::Histogram::new();
    times.record(40);
    let counters = EdgeCounters {
        connections: 9,
        failures: 2,
        bypassed: 3,
        refused: [(Reason::NoEndpoint, 4)].into(),
        detail: Some(EdgeDetail {
            bytes_sent: 10,
            bytes_received: 20,
            open: 1,
            connect_time_us: times,
        }),
    };
    *bench.host.observation.lock().unwrap() = Observation {
        edges: [(
            Edge {
                source: None,
                destination: Some(address),
            },
            counters,
        )]
        .into(),
        refused: [(Reason::NoSuchService, 1)].into(),
        upstream_refused: [(Reason::ConnectionLimit, 2)].into(),
        listening: vec![Listening {
            cgroup: CgroupId(placed["cgroup"].as_u64().unwrap()),
            protocol: Protocol::Tcp,
            port,
            bound: Port::new(61_000).unwrap(),
        }],
        ..Observation::default()
    };
    let (_, status) = bench.ask(Method::GET, "/v1/status", Value::Null).await;
    let endpoint = &status["services"][0]["ports"][0]["endpoints"][0];
    let want = json!({
        "place": "cart-0.default", "port": 80, "bound": 61_000, "weight": 1, "state": "listening",
    });
    assert_eq!(*endpoint, want);
    assert_eq!(
        status["refused"],
        json!({"no_endpoint": 4, "no_such_service": 1})
    );
    assert_eq!(status["bypassed"], 3);
    assert_eq!(status["proxy"]["state"], "away");
    assert_eq!(status["warnings"][0]["about"], "proxy");
    let (_, graph) = bench.ask(Method::GET, "/v1/graph", Value::Null).await;
    assert_eq!(graph["nodes"], json!(["cart.default", "outside"]));
    // The end of the bucket that 40 us are in.
    assert_eq!(graph["edges"][0]["detail"]["connectP50Us"], 43);
    assert_eq!(graph["edges"][0]["bypassed"], 3);
    let metrics = Metrics::from(&bench.api).exposition();
    let edge = "{source=\"outside\",destination=\"cart.default\"";
    for line in [
        format!("selvedge_connections_total{edge}}} 9"),
        format!("selvedge_connections_bypassed_total{edge}}} 3"),
        format!("selvedge_connections_refused_total{edge},reason=\"no_endpoint\"}} 4"),
        "selvedge_refusals_total{reason=\"no_such_service\"} 1".to_owned(),
        "selvedge_upstream_refused_total{reason=\"connection_limit\"} 2".to_owned(),
        format!("selvedge_connect_seconds_count{edge}}} 1"),
        "selvedge_objects{kind=\"Service\"} 1".to_owned(),
        "selvedge_proxy_up 0".to_owned(),
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    check_families(&metrics);
}

/// What a proxy has told of requests to `cart`.
fn traffic(cgroup: CgroupId) -> Traffic {
    let cart: ServiceName = "cart".parse().unwrap();
    let backend = Backend {
        service: cart.clone(),
        port: Port::new(80).unwrap(),
    };
    let edge = TrafficEdge {
        source: Some("web".parse().unwrap()),
        destination: Some(cart),
    };
    let path = |unit, backend: Option<&Backend>| TrafficPath {
        edge: edge.clone(),
        unit,
        route: backend.map(|_| "HTTPRoute/default/cart/0".to_owned()),
        backend: backend.cloned(),
    };
    let well = TrafficEnd::new(200, None);
    let refused = TrafficEnd::new(503, Some(Reason::NoEndpoint));
    let lost = TrafficEnd::new(404, Some(Reason::NoRoute));
    let led = selvedge_model::TrafficRoute {
        edge: edge.clone(),
        route: Some("HTTPRoute/default/cart/0".to_owned()),
    };
    let mut latency_us = selvedge_model::Histogram::new();
    latency_us.record_many(1_000, 6);
    let reading = BackendReading {
        limit: Some(8),
        requests: 7,
        retries: 2,
        hedges: 3,
        hedges_won: 1,
        withheld: [(Withheld::BudgetSpent, 1)].into(),
        failed: [(Reason::ConnectFailed, 4)].into(),
        endpoints: vec![EndpointTraffic {
            place: Place::Local(cgroup),
            port: Port::new(80).unwrap(),
            in_flight: 3,
            is_ejected: true,
            ejections: 2,
            pace: Some(EndpointPace {
                mean_us: 2500,
                good_per_mille: 875,
            }),
        }],
        ..BackendReading::default()
    };
    Traffic {
        paths: [
            (
                path(TrafficUnit::Request, Some(&backend)),
                [(well, 6), (refused, 1)].into(),
            ),
            (path(TrafficUnit::Request, None), [(lost, 2)].into()),
            (
                path(TrafficUnit::Connection, Some(&backend)),
                [(TrafficEnd::default(), 9)].into(),
            ),
        ]
        .into(),
        latency_us: [(led, latency_us)].into(),
        backends: [(backend, reading)].into(),
    }
}

#[tokio::test]
async fn requests_are_seen_by_edge_route_status_and_reason() {
    let bench = begin();
    bench.apply(CART).await;
    let (_, placed) = bench.ask(Method::POST, RUN, cart()).await;
    let cgroup = CgroupId(placed["cgroup"].as_u64().unwrap());
    bench
        .proxy
        .send_modify(|health| health.traffic = Arc::new(traffic(cgroup)));
    let want = json!({
        "total": 9, "statuses": {"2xx": 6, "4xx": 2, "5xx": 1},
        "refused": {"no_endpoint": 1, "no_route": 2}, "p50Us": 1_023, "p99Us": 1_023,
    });
    let (_, status) = bench.ask(Method::GET, "/v1/status", Value::Null).await;
    assert_eq!(status["services"][0]["requests"], want);
    let (_, graph) = bench.ask(Method::GET, "/v1/graph", Value::Null).await;
    assert_eq!(graph["nodes"], json!(["cart.default", "web.default"]));
    assert_eq!(graph["edges"][0]["requests"], want);
    let metrics = Metrics::from(&bench.api).exposition();
    let edge = "source=\"web.default\",destination=\"cart.default\"";
    let route = "route=\"HTTPRoute/default/cart/0\",backend=\"cart.default:80\"";
    let backend = "backend=\"cart.default:80\"";
    let endpoint = format!("{backend},endpoint=\"cart-0.default:80\"");
    for line in [
        format!("selvedge_requests_total{{{edge},{route},status=\"2xx\",reason=\"\"}} 6"),
        format!(
            "selvedge_requests_total{{{edge},{route},status=\"5xx\",reason=\"no_endpoint\"}} 1"
        ),
        format!(
            "selvedge_requests_total{{{edge},route=\"\",backend=\"\",status=\"4xx\",reason=\"no_route\"}} 2"
        ),
        format!("selvedge_relayed_connections_total{{{edge},{route},reason=\"\"}} 9"),
        format!(
            "selvedge_request_seconds_bucket{{{edge},route=\"HTTPRoute/default/cart/0\",le=\"0.001023\"}} 6"
        ),
        format!("selvedge_retries_total{{{backend}}} 2"),
        format!("selvedge_hedges_total{{{backend}}} 3"),
        format!("selvedge_hedges_won_total{{{backend}}} 1"),
        format!("selvedge_retries_withheld_total{{{backend},reason=\"retry_budget\"}} 1"),
        format!("selvedge_attempts_failed_total{{{backend},reason=\"connect_failed\"}} 4"),
        format!("selvedge_endpoint_request_limit{{{backend}}} 8"),
        format!("selvedge_endpoint_requests_in_flight{{{endpoint}}} 3"),
        format!("selvedge_endpoint_ejected{{{endpoint}}} 1"),
        format!("selvedge_ejections_total{{{endpoint}}} 2"),
        format!("selvedge_endpoint_answer_seconds{{{endpoint}}} 0.0025"),
        format!("selvedge_endpoint_good_ratio{{{endpoint}}} 0.875"),
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    check_families(&metrics);
}

/// Every family is described once, and every sample belongs to the family above it.
fn check_families(metrics: &str) {
    let mut seen = std::collections::BTreeSet::new();
    let mut family = "";
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap();
            assert!(seen.insert(family), "{family} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} below {family}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
}

#[tokio::test]
async fn down_is_handed_to_the_wiring() {
    let mut bench = begin();
    let api = bench.api.clone();
    let asked = tokio::spawn(async move {
        let body = Full::new(Bytes::from(r#"{"workloads":"stop"}"#));
        let request = Request::post("/v1/down").body(body).unwrap();
        api.respond(&peer(0, 0), request).await.status().as_u16()
    });
    let stop = bench.stops.recv().await.unwrap();
    let what = "workloads run: cart-0.default";
    stop.reply
        .send(Err(Problem::new(ProblemKind::Conflict, what)))
        .unwrap();
    assert_eq!(asked.await.unwrap(), 409);
}

/// Over a real socket: this process is the peer, and heads have a bound.
#[tokio::test]
async fn the_socket_serves_whoever_the_kernel_says_it_is() {
    let bench = begin();
    let socket = bench._state.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let serving = tokio::spawn(bench.api.clone().serve(listener));
    let exchange = move |request: String| {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        // The other end may stop reading a head that is too long.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let head = |more: &str| {
        format!("GET /v1/objects HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n")
    };
    let (short, long) = (
        head(""),
        head(&format!("x: {}\r\n", "y".repeat(2 * MAX_HEAD))),
    );
    let asked = tokio::task::spawn_blocking(move || (exchange(short), exchange(long)));
    let (short, long) = asked.await.unwrap();
    let want = if rustix::process::geteuid().is_root() {
        "200"
    } else {
        "403"
    };
    assert!(short.starts_with(&format!("HTTP/1.1 {want}")), "{short}");
    assert!(!long.starts_with("HTTP/1.1 200"), "{long}");
    serving.abort();
}
