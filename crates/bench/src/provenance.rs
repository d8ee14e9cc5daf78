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
    /// Seconds since 1970 at the start.
    pub(crate) started_unix_s: u64,
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
            started_unix_s: since.map_or(0, |since| since.as_secs()),
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
            rounds: options.rounds,
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
            "started {} s after 1970, {} rounds, seed {}{quick}\n",
            self.started_unix_s, self.rounds, self.seed
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
