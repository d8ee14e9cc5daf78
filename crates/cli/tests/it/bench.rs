//! The bench: every measure works, what must never happen does not happen even in seconds, and
//! nothing is left behind. Its other figures are not judged here.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::mesh::{SELVEDGE, skip_unless};
use crate::process::{Process, eventually};

const PROGRAMS: [&str; 3] = ["bpftool", "dnsmasq", "unbound"];
const MEASURES: [&str; 9] = [
    "direct", "names", "replicas", "restart", "limit", "scale", "idle", "proxy", "losses",
];

/// A bench whose temporary folder is in `folder`.
fn bench(folder: &Path, arguments: &[&str]) -> Command {
    let mut bench = Command::new(SELVEDGE);
    bench.arg("bench").args(arguments).env("TMPDIR", folder);
    bench
}

/// A folder that every user can pass through.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary folder can be made")
}

fn check_nothing_is_left(folder: &Path, pid: u32) {
    let text = folder.to_str().expect("it is plain");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    assert!(!mounts.contains(text), "{mounts}");
    for cgroup in ["plain", "1", "2"] {
        let cgroup = format!("selvedge-bench-{pid}-{cgroup}");
        assert!(!crate::life::cgroup_exists(&cgroup), "{cgroup} is left");
    }
    let entries = fs::read_dir(folder).expect("it is there").flatten();
    let left: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("selvedge-bench-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_measure_works() {
    if !skip_unless("every_measure_works", &PROGRAMS) {
        return;
    }
    let folder = folder();
    let json = folder.path().join("found.json");
    let json_text = json.to_str().expect("it is plain");
    let arguments = ["--quick", "--seed", "7", "--json", json_text];
    let bench = bench(folder.path(), &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let pid = bench.id();
    let output = bench.wait_with_output().expect("it can be waited for");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    check_nothing_is_left(folder.path(), pid);

    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).expect("it is JSON");
    assert_eq!(report["provenance"]["seed"], 7);
    let sections = report["sections"].as_array().expect("a list");
    let measures: Vec<_> = sections.iter().map(|it| it["measure"].as_str()).collect();
    assert_eq!(measures, MEASURES.map(Some));
    for section in sections {
        let findings = section["findings"].as_array().expect("a list");
        assert!(!findings.is_empty(), "{section}");
        for finding in findings {
            let verdict = finding["verdict"].as_str().expect("a word");
            let is_bad = ["missed", "not_had"].contains(&verdict);
            assert!(!is_bad, "{finding}\n{printed}");
        }
    }
}

/// An origin that records, and where it listens.
fn origin(folder: &Path, record: &str) -> (Process, String) {
    let mut command = Command::new(SELVEDGE);
    command.args(["bench", "serve", "-o", "json", "--record", record]);
    let mut origin = Process::start(folder, command);
    let line = origin.line("listening at");
    let address = line.rsplit(' ').next().expect("a line has words");
    (origin, address.to_owned())
}

/// Runs a load to its end; gives its report.
fn load(target: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(SELVEDGE);
    command.args(["bench", "load", target, "-o", "json"]);
    let output = command.args(arguments).output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}

fn sorted_lines(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).expect("the record is there");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// What a load says it sent, and what the origin says it got, are the same requests one by one, in
/// a closed loop and at a rate.
#[test]
fn load_and_origin_agree_on_every_request() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (got, closed, open) = (path("got"), path("closed"), path("open"));
    let (mut origin, address) = origin(folder.path(), &got);
    let target = format!("http://{address}/items?colour=red");
    let bounds = ["--requests", "3000", "--posts", "30", "--connections", "7"];
    let by_count = load(&target, &[&bounds[..], &["--record", &closed]].concat());
    let bounds = ["--rate", "2000", "--warm-up", "50ms", "--duration", "200ms"];
    let by_rate = load(&target, &[&bounds[..], &["--record", &open]].concat());
    origin.signal(Signal::TERM);
    let (status, printed) = origin.finish();
    assert_eq!(status, 0, "{printed}");

    let sent = |report: &Value, part: &str| {
        let part = &report[part];
        assert_eq!(part["errors"], serde_json::json!({}), "{report}");
        assert_eq!(part["unsent"], 0, "{report}");
        let requests = part["requests"].as_u64().expect("a count");
        let answers = part["answers"]["2xx"].as_u64().unwrap_or(0);
        assert_eq!(answers, requests, "{report}");
        requests
    };
    let all = |report: &Value| sent(report, "warm_up") + sent(report, "measured");
    assert_eq!(all(&by_count), 3000);
    assert!(all(&by_rate) > 0);
    let json = printed.split_once('\n').expect("the report follows").1;
    let report: Value = serde_json::from_str(json).expect("it is JSON");
    assert_eq!(report["requests"], all(&by_count) + all(&by_rate));
    assert_eq!(report["malformed"], 0);

    let mut outcomes = sorted_lines(&closed);
    outcomes.extend(sorted_lines(&open));
    let mut sent: Vec<String> = outcomes
        .iter()
        .map(|line| line.strip_suffix(" 200").expect("all went well").to_owned())
        .collect();
    sent.sort_unstable();
    let got = sorted_lines(&got);
    assert_eq!(sent, got);
    assert!(got.iter().any(|line| line.starts_with("POST ")));
    assert!(
        got.windows(2).all(|pair| pair[0] != pair[1]),
        "an id came twice"
    );
}

/// A replica of a service answers what it is asked, fails as it is told, and tells what it did.
#[test]
fn a_service_that_takes_its_time_is_told_how_to_be() {
    let folder = folder();
    let control = folder.path().join("control");
    let control_text = control.to_str().expect("it is plain");
    let mut command = Command::new(SELVEDGE);
    command.args(["bench", "serve", "-o", "json", "--permits", "4"]);
    command.args(["--time", "exponential:1ms", "--control", control_text]);
    let mut service = Process::start(folder.path(), command);
    let line = service.line("listening at");
    let address = line.rsplit(' ').next().expect("a line has words");
    let target = format!("http://{address}/");
    let bounds = ["--requests", "50", "--connections", "5", "--warm-up", "0s"];
    let well = load(&target, &bounds);
    assert_eq!(well["measured"]["answers"]["2xx"], 50, "{well}");

    let mut told = UnixStream::connect(&control).expect("it listens");
    told.write_all(b"{\"errors\": 1}\n").expect("it reads");
    let mut said = String::new();
    let mut answers = BufReader::new(told);
    answers.read_line(&mut said).expect("it answers");
    assert!(said.contains("\"requests\":50"), "{said}");
    let badly = load(&target, &bounds);
    assert_eq!(badly["measured"]["answers"]["5xx"], 50, "{badly}");
    service.signal(Signal::TERM);
    let (status, printed) = service.finish();
    assert_eq!(status, 0, "{printed}");
    let json = printed.split_once('\n').expect("the report follows").1;
    let report: Value = serde_json::from_str(json).expect("it is JSON");
    assert_eq!(
        (&report["requests"], &report["errors"]),
        (&100.into(), &50.into())
    );
    assert!(!control.exists(), "the socket is left");
}

/// A scenario with real programs in real meshes, beside the simulated one. How well it went is not judged here.
#[test]
fn a_scenario_is_played_and_nothing_is_left() {
    if !skip_unless("a_scenario_is_played_and_nothing_is_left", &[]) {
        return;
    }
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (own, json) = (path("own.yaml"), path("found.json"));
    let text = "name: own\nabout: mine\nlength: 30s\nobjective: {latency: 100ms, deadline: 5s}\n\
                services:\n- {name: a, permits: 4, time: {exponential: {mean: 5ms}}, calls: [[b]]}\n\
                - {name: b, replicas: 2, permits: 4, time: {fixed: {mean: 5ms}}}\n\
                clients:\n- {calls: a, open: [{rate: 40}]}\n\
                faults:\n- {from: 10s, until: 20s, service: b, replica: 1, permits: 1}\n";
    fs::write(&own, text).expect("it can be written");
    let arguments = ["live", &own, "--policy", "none,adaptive", "--length", "3s"];
    let more = ["--simulated", "1", "--seed", "5", "--json", &json];
    let live = bench(folder.path(), &[&arguments[..], &more].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let pid = live.id();
    let output = live.wait_with_output().expect("it can be waited for");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    check_nothing_is_left(folder.path(), pid);
    assert_eq!(printed.matches("own ").count(), 2, "a row each: {printed}");
    let found: Value = serde_json::from_slice(&fs::read(&json).unwrap()).expect("it is JSON");
    let runs = |of: &str| found[of].as_array().expect("a list").clone();
    assert_eq!((runs("runs").len(), runs("simulated").len()), (2, 2));
    for run in runs("runs") {
        assert_eq!(
            (&run["failed"], &run["unsent"]),
            (&0.into(), &0.into()),
            "{run}"
        );
        let attempts = run["attempts"].as_f64().expect("a number");
        assert!(attempts > 1.0, "one request is two: {run}");
    }
}

/// A load against nothing ends in time, and says what failed.
#[test]
fn a_load_without_a_server_fails_with_the_cause() {
    // Bound and not listening: nobody else can take the port meanwhile.
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    nobody.bind(&any.into()).expect("a port is free");
    let address = nobody.local_addr().expect("it is bound").as_socket();
    let address = address.expect("it is of IP").to_string();
    let output = Command::new(SELVEDGE)
        .args([
            "bench",
            "load",
            &address,
            "--duration",
            "50ms",
            "--warm-up",
            "0s",
        ])
        .output()
        .expect("it can be started");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("failed: refused"), "{printed}");
}

#[test]
fn an_interrupted_bench_leaves_nothing_behind() {
    if !skip_unless("an_interrupted_bench_leaves_nothing_behind", &PROGRAMS) {
        return;
    }
    let folder = folder();
    let mut bench = Process::start(folder.path(), bench(folder.path(), &["limit"]));
    let pid = bench.pid().as_raw_nonzero().get().unsigned_abs();
    let client = format!("selvedge-bench-{pid}-1/workloads/client-1.default");
    // In the middle of it: the clients run.
    assert!(eventually(|| crate::life::cgroup_exists(&client)));
    bench.signal(Signal::INT);
    let (status, printed) = bench.finish();
    assert_eq!(status, 130, "{printed}");
    assert!(printed.contains("interrupted"), "{printed}");
    check_nothing_is_left(folder.path(), pid);
}
