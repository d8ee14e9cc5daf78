//! Claims: what controllers decide of real requests is written down with its reason, follows from what is
//! written, and can be undone; that outlives the agent, and `down` leaves nothing of it.

use rustix::process::Signal;
use serde_json::Value;

use crate::mesh::Mesh;
use crate::process::eventually;

const TALK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/fetch.py");

const OBJECTIVE: &str = "
apiVersion: selvedge.dev/v1alpha1
kind: ServiceObjective
metadata: {name: web}
spec: {targetRefs: [{kind: Service, name: web}], latency: {p95: 5s}}
";

fn read(mesh: &Mesh, arguments: &[&str]) -> Value {
    let printed = mesh.ask(&[&["pilot"], arguments, &["-o", "json"]].concat());
    serde_json::from_str(&printed).expect("it is JSON")
}

/// The number of a decision about an endpoint, once one is written down.
fn decision(mesh: &Mesh) -> Option<u64> {
    let paths = ["/a"; 15];
    let call = [
        &["/usr/bin/python3", TALK, "get", "web", "8080"],
        &paths[..],
    ]
    .concat();
    let (status, printed) = mesh.run_to_end("shop", &call);
    assert_eq!(status, 0, "{printed}");
    let journal = read(mesh, &["journal", "web", "--all"]);
    let lines = journal["lines"].as_array()?;
    let decided = lines.iter().find(|line| {
        let about = line["about"].as_str().unwrap_or_default();
        line["event"] == "decided" && about.starts_with("web-0")
    })?;
    assert_eq!(decided["limitBefore"], 8, "{decided}");
    assert!(decided["window"]["samples"].as_u64()? >= 10, "{decided}");
    decided["number"].as_u64()
}

fn limit_of_any<'a>(report: &'a Value, about: &str) -> Option<&'a Value> {
    let limits = report["limits"].as_array()?;
    limits.iter().find(|limit| {
        let name = limit["about"].as_str().unwrap_or_default();
        name.starts_with(about)
    })
}

fn limit_of<'a>(report: &'a Value, about: &str) -> &'a Value {
    let found = limit_of_any(report, about);
    found.unwrap_or_else(|| panic!("{about} is not in {report:#}"))
}

/// One objective is enough: who was called for a service's answers keeps a share of it, and is on the proxy, as
/// long as there is that objective.
#[test]
fn a_plan_reaches_the_services_behind_an_objective() {
    let test = "a_plan_reaches_the_services_behind_an_objective";
    let Some(mut mesh) = Mesh::start(test, &["python3"]) else {
        return;
    };
    mesh.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: store}\n\
         spec: {ports: [{port: 8081, appProtocol: http}]}\n",
    );
    let serve = |service, port| [service, "--", "/usr/bin/python3", TALK, "serve", port];
    let _web = mesh.run(&serve("web", "8080"));
    mesh.await_listening("web", 1);
    let _store = mesh.run(&serve("store", "8081"));
    mesh.await_listening("store", 1);
    mesh.apply(OBJECTIVE);
    let called = ["/usr/bin/python3", TALK, "get", "store", "8081", "/a"];
    let (status, printed) = mesh.run_to_end("web", &called);
    assert_eq!(status, 0, "{printed}");

    let planned = |mesh: &Mesh| {
        let report = read(mesh, &["status"]);
        let plan = report["plan"].as_array().cloned().unwrap_or_default();
        let share = |it: &Value| (it["service"].clone(), it["latencyUs"].clone());
        plan.iter().map(share).collect::<Vec<_>>()
    };
    let whole = || serde_json::json!(5_000_000);
    let expected = [("store.default", whole()), ("web.default", whole())];
    let expected = expected.map(|(it, time)| (Value::from(it), time));
    assert!(
        eventually(|| planned(&mesh) == expected),
        "{:?}",
        planned(&mesh)
    );
    assert!(eventually(|| {
        let report = read(&mesh, &["status"]);
        limit_of_any(&report, "store-0").is_some_and(|limit| limit["mode"] == "drive")
    }));

    // The next agent has it from the start,
    mesh.kill_agent();
    mesh.start_agent();
    assert_eq!(planned(&mesh), expected);
    // and nothing is left of it without the objective.
    mesh.ask(&["delete", "serviceobjective", "web"]);
    assert!(eventually(|| planned(&mesh).is_empty()));
    let plan = mesh.state_dir().join("journal/plan");
    assert_eq!(std::fs::read_to_string(&plan).ok().as_deref(), Some("[]"));
    assert!(mesh.down(&["--stop"]).status.success());
    assert!(!plan.exists());
}

#[test]
fn decisions_are_written_down_and_can_be_undone() {
    let test = "decisions_are_written_down_and_can_be_undone";
    let Some(mut mesh) = Mesh::start(test, &["python3"]) else {
        return;
    };
    let serve = ["web", "--", "/usr/bin/python3", TALK, "serve", "8080"];
    let _server = mesh.run(&serve);
    mesh.await_listening("web", 1);
    mesh.apply(OBJECTIVE);
    let mut number = None;
    assert!(eventually(|| {
        number = decision(&mesh);
        number.is_some()
    }));
    let number = number.expect("a decision came").to_string();

    let journal = mesh.state_dir().join("journal");
    let journal_path = journal.to_str().expect("a path of ours").to_owned();
    let replayed = read(&mesh, &["replay", &journal_path]);
    assert_eq!(
        (&replayed["differing"], &replayed["unfounded"]),
        (&0.into(), &0.into())
    );
    assert!(replayed["equal"].as_u64() > Some(0), "{replayed}");

    let report = read(&mesh, &["freeze", "web"]);
    assert_eq!(report["isInForce"], true, "{report:#}");
    let endpoint = limit_of(&report, "web-0");
    assert_eq!(
        (&endpoint["limit"], &endpoint["held"]),
        (&Value::Null, &"frozen".into())
    );
    let report = read(&mesh, &["undo", &number]);
    let endpoint = limit_of(&report, "web-0");
    assert_eq!(
        (&endpoint["limit"], &endpoint["held"]),
        (&8.into(), &"pinned".into())
    );

    // All that outlives the proxy,
    mesh.signal_proxy(Signal::KILL);
    let mut report = Value::Null;
    assert!(eventually(|| {
        report = read(&mesh, &["status"]);
        let held = |about| limit_of_any(&report, about).map(|limit| limit["held"].clone());
        report["isInForce"] == true && held("web-0") == Some("pinned".into())
    }));
    assert_eq!(limit_of(&report, "web-0")["limit"], 8);

    // and the agent, whose journal goes on.
    let next = report["journal"]["next"].as_u64();
    mesh.kill_agent();
    mesh.start_agent();
    let mut report = Value::Null;
    assert!(eventually(|| {
        report = read(&mesh, &["status"]);
        report["isInForce"] == true && report["limits"].as_array().map(Vec::len) == Some(2)
    }));
    assert!(report["journal"]["next"].as_u64() >= next, "{report:#}");
    assert_eq!(limit_of(&report, "web-0")["held"], "pinned");
    assert_eq!(limit_of(&report, "entry of")["held"], "frozen");
    assert_eq!(report["frozen"], serde_json::json!(["web.default"]));

    let report = read(&mesh, &["release", "web"]);
    assert_eq!(limit_of(&report, "web-0")["held"], Value::Null);
    let (status, printed) = mesh.refused(&["pilot", "release", "web"]);
    assert_eq!(status, 1, "{printed}");
    assert!(printed.contains("selvedge pilot status"), "{printed}");
    assert!(mesh.down(&["--stop"]).status.success());
    assert!(!journal.exists());
}
