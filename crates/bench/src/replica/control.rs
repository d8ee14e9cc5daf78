//! The socket by which a replica is told how to be: a condition in, what it has done out, a line each.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use selvedge_scenario::Condition;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::ReplicaReport;
use super::work::Work;
use crate::interrupt::GLANCE;

/// Longest line.
const MOST_BYTES: u64 = 4096;

/// How a replica is to be: what is left out is as it should be.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Controlled {
    permits: Option<u32>,
    slow: Option<f64>,
    extra_ms: Option<f64>,
    errors: Option<f64>,
}

impl From<&Condition> for Controlled {
    fn from(condition: &Condition) -> Self {
        Self {
            permits: condition.permits,
            slow: Some(condition.slow),
            extra_ms: Some(condition.extra.as_secs_f64() * 1e3),
            errors: Some(condition.errors),
        }
    }
}

impl Controlled {
    fn condition(self) -> Result<Condition, String> {
        let well = Condition::default();
        let slow = self.slow.unwrap_or(well.slow);
        if !(0.001..=1000.0).contains(&slow) {
            return Err("slow: expected a factor from 0.001 to 1000".to_owned());
        }
        let errors = self.errors.unwrap_or(well.errors);
        if !(0.0..=1.0).contains(&errors) {
            return Err("errors: expected a share from 0 to 1".to_owned());
        }
        let extra_s = self.extra_ms.unwrap_or(0.0) / 1e3;
        if !(0.0..=3600.0).contains(&extra_s) {
            return Err("extra_ms: expected up to an hour".to_owned());
        }
        Ok(Condition {
            permits: self.permits,
            slow,
            extra: Duration::from_secs_f64(extra_s),
            errors,
            absent: false,
        })
    }
}

/// What is answered to a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is so from now on, and this is what was done so far.
    Done(ReplicaReport),
    /// It is as before, because of this.
    Refused(String),
}

/// Listens at a path; a socket that an earlier one left there is replaced.
pub(super) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let left = std::fs::symlink_metadata(path);
    if left.is_ok_and(|left| left.file_type().is_socket()) {
        std::fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    UnixListener::bind(path)
        .with_context(|| format!("cannot listen at {}: is its folder there?", path.display()))
}

pub(super) async fn serve(listener: UnixListener, work: Rc<Work>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                spawn_local(converse(stream, Rc::clone(&work)));
            }
            Err(_) => sleep(GLANCE).await,
        }
    }
}

async fn converse(mut stream: UnixStream, work: Rc<Work>) {
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    loop {
        let mut line = String::new();
        let read = (&mut from).take(MOST_BYTES).read_line(&mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let reply = match told(&line) {
            Ok(condition) => {
                work.set(condition);
                Reply::Done(work.report())
            }
            Err(error) => Reply::Refused(error),
        };
        let Ok(mut text) = serde_json::to_vec(&reply) else {
            return;
        };
        text.push(b'\n');
        if to.write_all(&text).await.is_err() {
            return;
        }
    }
}

fn told(line: &str) -> Result<Condition, String> {
    let read: Result<Controlled, _> = serde_json::from_str(line);
    read.map_err(|error| format!("no condition: {error}"))?
        .condition()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_bounded() {
        let told = |line| told(line).map(|it| (it.permits, it.slow, it.extra, it.errors));
        let well = (None, 1.0, Duration::ZERO, 0.0);
        assert_eq!(told("{}"), Ok(well));
        let line = r#"{"permits":3,"slow":10,"extra_ms":1.5,"errors":0.5}"#;
        let all = (Some(3), 10.0, Duration::from_micros(1500), 0.5);
        assert_eq!(told(line), Ok(all));
        for (line, part) in [
            ("", "no condition"),
            (r#"{"permit":3}"#, "permit"),
            (r#"{"slow":0}"#, "slow"),
            (r#"{"errors":1.1}"#, "errors"),
            (r#"{"extra_ms":-1}"#, "extra_ms"),
            (r#"{"extra_ms":1e300}"#, "extra_ms"),
        ] {
            let error = told(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        let condition = Condition {
            extra: Duration::from_millis(150),
            permits: Some(2),
            ..Condition::default()
        };
        assert_eq!(Controlled::from(&condition).condition(), Ok(condition));
    }
}
