//! Where figures come from: without it they cannot be compared with any others.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::options::BenchOptions;

/// What made the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Provenance {
    /// When the run began, in UTC (RFC 3339).
    pub(crate) started: String,
    pub(crate) version: String,
    /// The commit the binary's source tree is at now, and whether it has changes; absent where the
    /// binary does not lie in one.
    pub(crate) commit: Option<String>,
    /// `debug` or `release`; figures of the first are no figures.
    pub(crate) profile: &'static str,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) memory_kib: u64,
    /// Mean number of runnable processes over the last minute, before the start.
    pub(crate) load_before: String,
    pub(crate) clock_source: String,
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
    pub(crate) seed: u64,
    pub(crate) arguments: Vec<String>,
}

impl Provenance {
    pub(crate) fn collect(options: &BenchOptions, program: &Path, seed: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let system = rustix::system::uname();
        let kernel = [system.release(), system.version(), system.machine()];
        Self {
            started: date(since.map_or(0, |since| since.as_secs())),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit_of(program),
            profile: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            kernel: kernel.map(|part| part.to_string_lossy()).join(" "),
            cpu: field("/proc/cpuinfo", "model name"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: number(&field("/proc/meminfo", "MemTotal")),
            load_before: first_word("/proc/loadavg"),
            clock_source: first_word(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            ),
            rounds: options.rounds.unwrap_or(BenchOptions::ROUNDS),
            quick: options.quick,
            seed,
            arguments: std::env::args().skip(1).collect(),
        }
    }

    /// Writes it in a few lines.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        writeln!(
            out,
            "selvedge {} ({}), commit {commit}",
            self.version, self.profile
        )?;
        writeln!(out, "kernel {}", self.kernel)?;
        let memory = self.memory_kib / 1024;
        writeln!(
            out,
            "{} x {}, {memory} MiB, clock {}, load {} before",
            self.cpus, self.cpu, self.clock_source, self.load_before
        )?;
        let quick = if self.quick {
            ", quick: figures mean nothing"
        } else {
            ""
        };
        writeln!(
            out,
            "{}, {} rounds, seed {}{quick}\n",
            self.started, self.rounds, self.seed
        )
    }
}

/// The commit of the work tree around the binary, as `cargo build` places it.
fn commit_of(program: &Path) -> Option<String> {
    let folder = program.parent()?;
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(arguments)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changes.is_empty() {
        ""
    } else {
        " with changes"
    };
    Some(commit + mark)
}

/// Seconds since 1970 as a date and time (RFC 3339). Years are counted from March, so that the day
/// that leap years add is their last: each month then begins 30.6 days, rounded, after the last.
fn date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400 + 719_468, unix_s % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let day = day - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The value of the first `key : value` line, empty where there is none.
fn field(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    found.unwrap_or_default()
}

fn first_word(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The number a text such as `24683928 kB` starts with.
fn number(text: &str) -> u64 {
    let digits = text.split_whitespace().next().unwrap_or_default();
    digits.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(date(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
