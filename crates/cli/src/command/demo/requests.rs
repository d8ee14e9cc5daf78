//! The act in which requests are understood, for the services that want it and no others.

use std::fs;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use selvedge_model::Reason;

use super::acts::{listening, processes_beside};
use super::program::Program;
use super::say;
use super::stage::{PATIENCE, Stage};

/// Requests over which shares are counted.
const MANY: usize = 300;
/// What a tenth of them may be: five standard deviations to either side.
const A_TENTH: std::ops::RangeInclusive<usize> = 4..=56;
/// Failures in a row after which a replica is left out, as the policy says.
const FAILURES: usize = 3;

pub(super) fn understand(stage: &mut Stage) -> anyhow::Result<()> {
    say!("8  Requests are understood where something asks for it");
    stage.run(
        "web-v2",
        "web-v2 --replicas 3 -- env VERSION=v2 gunicorn --bind 0.0.0.0:8000 app:app",
    )?;
    stage.await_that("replicas of web-v2", |stage| {
        listening(stage, "web-v2") == 3
    })?;
    say!("   $ selvedge apply -f routes.yaml");
    stage.ask(&["apply", "-f", "routes.yaml"])?;
    shift(stage)?;
    eject(stage)?;
    for (method, name) in [("GET", "get"), ("POST", "post")] {
        kill_amid(stage, method, name)?;
    }
    say!("");
    Ok(())
}

/// A canary by header, and a tenth of everything else.
fn shift(stage: &Stage) -> anyhow::Result<()> {
    let canary = versions(stage, &["--header", "X-Canary: yes"], 20)?;
    let all = canary.iter().filter(|it| *it == "v2").count();
    say!("   with the field X-Canary, {all} of 20 requests go to the new version");
    ensure!(all == 20, "{canary:?}");
    let others = versions(stage, &[], MANY)?;
    let new = others.iter().filter(|it| *it == "v2").count();
    say!("   without it, {new} of {MANY}, since its weight is 10 of 100");
    ensure!(A_TENTH.contains(&new), "that is no tenth");
    ensure!(
        others.iter().all(|it| it == "v1" || it == "v2"),
        "{others:?}"
    );
    Ok(())
}

/// A replica that only fails is left out.
fn eject(stage: &mut Stage) -> anyhow::Result<()> {
    stage.run(
        "web-v2-broken",
        "web-v2 -- env BROKEN=1 gunicorn --bind 0.0.0.0:8000 app:app",
    )?;
    stage.await_that("a fourth replica", |stage| listening(stage, "web-v2") == 4)?;
    let answers = versions(stage, &["--header", "X-Canary: yes"], 100)?;
    let failed = answers.iter().filter(|it| *it == "broken").count();
    say!(
        "   a replica that answers 500 got {failed} of 100 requests, and then none: it is ejected for a minute"
    );
    ensure!(failed == FAILURES, "it should have been {FAILURES}");
    Ok(())
}

/// The last words of so many answers, over one connection.
fn versions(stage: &Stage, fields: &[&str], count: usize) -> anyhow::Result<Vec<String>> {
    let target = format!("http://web:8000/version?[1-{count}]");
    let mut words = vec!["run", "visitor", "--", "curl", "--silent"];
    words.extend(fields);
    words.push(&target);
    let answers = stage.ask(&words)?;
    Ok(answers.lines().map(str::to_owned).collect())
}

/// A replica is killed with a request in it: one that may be sent again is, and any other is refused
/// with its reason.
fn kill_amid(stage: &mut Stage, method: &str, name: &str) -> anyhow::Result<()> {
    let target = format!("http://web:8000/slow/{name}");
    let words = [
        "run",
        "visitor",
        "--",
        "curl",
        "--silent",
        "--include",
        "--request",
        method,
        "--header",
        "X-Canary: yes",
        &target,
    ];
    let mut request = Program::start(name, stage.folder(), stage.selvedge(&words))?;
    let file = stage.folder().join(format!("{name}.pid"));
    let victim = || fs::read_to_string(&file).ok()?.trim().parse().ok();
    stage.await_that("the request to arrive", |_| victim().is_some())?;
    let victim = victim().context("it is there")?;
    for pid in processes_beside(victim)?
        .into_iter()
        .filter_map(Pid::from_raw)
    {
        let _gone_already = kill_process(pid, Signal::KILL);
    }
    let is_over = stage
        .interrupt
        .until(PATIENCE, || request.ended().is_some())?;
    ensure!(is_over, "a {method} whose replica was killed does not end");
    let printed = request.printed();
    let answer = printed.find("HTTP/1.1 ").map(|at| &printed[at..]);
    let answer = answer.with_context(|| request.failure("got no answer"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let field = answer
        .lines()
        .find_map(|line| line.strip_prefix("selvedge-reason: "));
    let reason = field.map(str::trim);
    let known = Reason::ALL.iter().find(|it| Some(it.word()) == reason);
    match known {
        None => say!("   its replica is killed amid a {method}: {status}, from another replica"),
        Some(reason) => say!(
            "   its replica is killed amid a {method}: {status}, {reason}: {}",
            reason.explanation().trim()
        ),
    }
    let expected = match method {
        "GET" => ("200", None),
        _ => ("502", Some(Reason::ResponseCut)),
    };
    ensure!((status, known.copied()) == expected, "{answer}");
    Ok(())
}
