//! `selvedge sim` as a user types it: needs no mesh, no root and no kernel feature.

use std::process::{Command, Output};

use serde_json::Value;

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    let output = command.arg("sim").args(arguments).output();
    output.expect("the binary can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

#[test]
fn what_is_listed_can_be_run() {
    let listed = text(&sim(&["list"]).stdout);
    for name in ["capacity-loss", "chain-storm", "istio-default", "static-24"] {
        assert!(listed.contains(name), "{listed}");
    }
    let run = [
        "run",
        "capacity-loss",
        "--policy",
        "static-24",
        "--seed",
        "7",
    ];
    let output = sim(&run);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(
        printed.contains("good answers, of those that were possible"),
        "{printed}"
    );
    assert_eq!(
        printed,
        text(&sim(&run).stdout),
        "the same seed gives the same bytes"
    );
}

#[test]
fn a_users_own_file_is_run_and_its_seconds_are_given() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("own.yaml");
    let own = "name: own\nabout: mine\nlength: 20s\nobjective: {latency: 100ms, deadline: 1s}\n\
               services:\n- {name: a, permits: 4, time: {exponential: {mean: 5ms}}}\n\
               clients:\n- {calls: a, open: [{rate: 100}]}\n- calls: a\n  closed: {users: [{users: 10}], think: 1s}\n";
    std::fs::write(&file, own).expect("it can be written");
    let file = file.to_str().expect("it is text");
    let output = sim(&["run", file, "-o", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let reply: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let seconds = reply["seconds"].as_array().expect("there are some");
    assert_eq!(seconds.len(), 20);
    let sum = |field: &str| {
        seconds
            .iter()
            .filter_map(|it| it[field].as_u64())
            .sum::<u64>()
    };
    assert!(
        sum("good") > 2000 && sum("good") == sum("offered"),
        "{reply}"
    );
}

#[test]
fn what_cannot_be_run_says_file_field_and_reason() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("bad.yaml");
    std::fs::write(
        &file,
        "name: bad\nabout: mine\nlength: 20s\nobjective: {latency: 100ms, deadline: 1s}\n\
         services:\n- {name: a, permits: 0, time: {fixed: {mean: 5ms}}}\n\
         clients:\n- {calls: a, open: [{rate: 100}]}\n",
    )
    .expect("it can be written");
    let file = file.to_str().expect("it is text");
    for (arguments, status, parts) in [
        (
            &["run", file][..],
            1,
            &["bad.yaml", "services[0].permits", "nothing would be served"][..],
        ),
        (&["run", "nowhere"], 1, &["nowhere", "selvedge sim list"]),
        (&["run", "step", "--policy", "x"], 2, &["istio-default"]),
    ] {
        let output = sim(arguments);
        assert_eq!(output.status.code(), Some(status));
        let said = text(&output.stderr);
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn a_sweep_gives_each_run_and_the_same_each_time() {
    let arguments = [
        "sweep",
        "steady",
        "step",
        "--policy",
        "none,static-24",
        "--seeds",
        "3..5",
        "-o",
        "csv",
    ];
    let output = sim(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let csv = text(&output.stdout);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 8, "{csv}");
    assert!(lines[1].starts_with("steady,none,3,") && lines[8].starts_with("step,static-24,4,"));
    assert_eq!(csv, text(&sim(&arguments).stdout));
    let table = text(&sim(&arguments[..7]).stdout);
    assert_eq!(table.lines().count(), 1 + 4, "{table}");
}

#[test]
fn a_sweep_in_another_length_is_written_beside_what_is_printed() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("runs.json");
    let file_text = file.to_str().expect("it is text");
    let length = ["--length", "40s"];
    let sweep = [
        "sweep",
        "step",
        "--policy",
        "without-leak",
        "--seeds",
        "3..5",
    ];
    let output = sim(&[&sweep[..], &length, &["--json", file_text]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("without-leak"));
    let runs = std::fs::read(&file).expect("it is there");
    let runs: Value = serde_json::from_slice(&runs).expect("it is JSON");
    let runs = runs.as_array().expect("a list");
    assert_eq!(runs.len(), 2);
    let run = ["run", "step", "--policy", "without-leak", "--seed", "3"];
    let output = sim(&[&run[..], &length, &["-o", "json"]].concat());
    let reply: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(reply["seconds"].as_array().map(Vec::len), Some(40));
    assert_eq!(reply["goodput"], runs[0]["goodput"]);
}

#[test]
fn decisions_are_told_with_their_reasons() {
    let run = ["run", "step", "--policy", "adaptive", "--decisions"];
    let output = sim(&[&run[..], &["-o", "json"]].concat());
    let reply: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let decisions = reply["decisions"].as_array().expect("there are some");
    let is_told = |about: &str, why: &str| {
        let mut told = decisions.iter();
        told.any(|it| it["about"] == about && it["why"] == why)
    };
    assert!(is_told("a.0", "room") && is_told("a.0", "slow"));
    assert!(is_told("entry of a", "room"));
    let printed = text(&sim(&run).stdout);
    assert!(printed.contains("8 -> 16"), "{printed}");
}

#[test]
fn plants_are_held_against_static_limits() {
    let plants = ["plants", "--plants", "1..3", "--policy", "none,adaptive"];
    let printed = text(&sim(&plants).stdout);
    for row in ["none", "adaptive", "for all", "best static of each"] {
        assert!(printed.contains(row), "{printed}");
    }
    let output = sim(&[&plants[..], &["-o", "csv"]].concat());
    assert_eq!(text(&output.stdout).lines().count(), 5);
    let one = sim(&["run", "plant-7", "--policy", "adaptive"]);
    assert!(one.status.success(), "{}", text(&one.stderr));
    assert!(!sim(&["run", "plant-x"]).status.success());
}
