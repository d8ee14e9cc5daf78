//! Instructions, counted by callgrind: a figure that does not depend on what else the machine does,
//! and stays near the same from day to day.
//!
//! What is counted runs twice, the second time with more requests: of the difference, each request
//! has its share, and what starting and ending take is none of it. The proxy here has no kernel
//! programs beside it, which callgrind could not run.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::process::{Process, family, find, signal};

/// How long a program may take until it serves; under callgrind everything does.
const PATIENCE: Duration = Duration::from_secs(60);
/// Calls of the gate that the one run is longer by.
const MORE_CALLS: u64 = 100;
/// What `gate_cost` makes of each call: so many rounds, from outside and from a workload.
const GATE_ROUNDS: u64 = 2 * 101;

/// Programs under callgrind, which were built beside the binary.
pub(super) struct Counter {
    valgrind: PathBuf,
    examples: PathBuf,
    folder: PathBuf,
}

impl Counter {
    /// # Errors
    /// Valgrind is not installed, or the programs are not there.
    pub(super) fn new(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let valgrind = find("valgrind").context("valgrind is not installed; try: make bench")?;
        let examples = program.parent().map(|built| built.join("examples"));
        let examples = examples.filter(|path| path.join("fed_proxy").is_file());
        Ok(Self {
            valgrind,
            examples: examples.context("fed_proxy is not built; try: make bench")?,
            folder: folder.to_owned(),
        })
    }

    /// Instructions of the proxy for a request; `exchange` sends so many to an address.
    pub(super) fn of_proxy(
        &self,
        origin: SocketAddr,
        (fewer, more): (u64, u64),
        mut exchange: impl FnMut(SocketAddr, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let mut count = |requests| {
            let counts = self.folder.join(format!("requests-{requests}.callgrind"));
            let mut command = Command::new(self.examples.join("fed_proxy"));
            command
                .arg(origin.to_string())
                .arg(&self.valgrind)
                .args(callgrind(&counts));
            let log = self.folder.join(format!("requests-{requests}.log"));
            let mut fed = Process::start("fed_proxy", &mut command, log)?;
            let address = fed.await_word("serving at ", PATIENCE)?;
            let address = address.parse().context("fed_proxy says no address")?;
            exchange(address, requests)?;
            for pid in family(fed.pid())?.into_iter().skip(1) {
                signal(pid, Signal::TERM)?;
            }
            fed.wait()?;
            total(&counts)
        };
        let (less, all) = (count(fewer)?, count(more)?);
        Ok(all.saturating_sub(less) as f64 / (more - fewer) as f64)
    }

    /// Instructions of the gate for a request: admit, attempt, answer, finish.
    pub(super) fn of_gate(&self) -> anyhow::Result<f64> {
        let count = |calls: u64| {
            let counts = self.folder.join(format!("gate-{calls}.callgrind"));
            let output = Command::new(&self.valgrind)
                .args(callgrind(&counts))
                .arg(self.examples.join("gate_cost"))
                .args([&calls.to_string(), "1"])
                .output()
                .context("cannot start gate_cost")?;
            if !output.status.success() {
                bail!("gate_cost: {}", String::from_utf8_lossy(&output.stderr));
            }
            total(&counts)
        };
        let (less, all) = (count(MORE_CALLS)?, count(2 * MORE_CALLS)?);
        Ok(all.saturating_sub(less) as f64 / (GATE_ROUNDS * MORE_CALLS) as f64)
    }
}

fn callgrind(counts: &Path) -> [String; 3] {
    let file = format!("--callgrind-out-file={}", counts.display());
    ["-q".to_owned(), "--tool=callgrind".to_owned(), file]
}

fn total(counts: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(counts).context("callgrind wrote nothing")?;
    total_of(&text).context("callgrind wrote no total")
}

/// The totals of every part of a profile: a thread that ends or a dump begins another.
fn total_of(text: &str) -> Option<u64> {
    let totals = text.lines().filter_map(|line| {
        let total = line.strip_prefix("totals: ")?;
        total.split(' ').next()?.parse::<u64>().ok()
    });
    totals.reduce(|sum, total| sum + total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_what_callgrind_writes() {
        let text = "version: 1\nsummary: 7\nfn=(1) main\n1 40\n\ntotals: 1234\n";
        assert_eq!(total_of(text), Some(1234));
        assert_eq!(total_of("summary: 7\n"), None);
    }
}
