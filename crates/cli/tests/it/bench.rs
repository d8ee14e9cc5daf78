//! The bench: every measure works, what must never happen does not happen even in seconds, and
//! nothing is left behind. Its other figures are not judged here.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::mesh::{SELVEDGE, skip_unless};
use crate::process::{Process, eventually};

const PROGRAMS: [&str; 3] = ["bpftool", "dnsmasq", "unbound"];
const MEASURES: [&str; 7] = [
    "direct", "names", "replicas", "restart", "limit", "scale", "idle",
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
