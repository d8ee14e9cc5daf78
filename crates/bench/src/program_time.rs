//! Time of the mesh's kernel programs, as the kernel counts it (`kernel.bpf_stats_enabled`).
//!
//! The count itself costs some 20 ns per run of a program and is part of the figure, so that it is
//! on only for short passes of its own, never while something else is measured.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::process::find;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What one program cost per operation of the load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProgramCost {
    /// Which load.
    pub(crate) load: String,
    /// The program's name in the kernel.
    pub(crate) program: String,
    /// Nanoseconds of one run.
    pub(crate) ns_per_run: f64,
    /// Runs per operation (connection, round trip) of the load.
    pub(crate) runs_per_operation: f64,
}

impl fmt::Display for ProgramCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "program {:<16} {:>6.0} ns x {:>5.2} per {}",
            self.program, self.ns_per_run, self.runs_per_operation, self.load
        )
    }
}

/// The kernel counts time of programs while this lives.
pub(crate) struct Counting {
    before: String,
}

impl Counting {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // It could be written a moment ago; if not now, the kernel goes on counting, which is harmless.
        let _kept_on = fs::write(SWITCH, &self.before);
    }
}

/// The programs of one mesh, found by the links it pinned.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    bpftool: PathBuf,
    /// Program ids and names.
    names: BTreeMap<u64, String>,
}

/// Time and runs of each program so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(BTreeMap<u64, (u64, u64)>);

impl Programs {
    /// The programs of the mesh whose runtime folder is given.
    pub(crate) fn of_mesh(run_dir: &Path) -> anyhow::Result<Self> {
        let bpftool = find("bpftool").context("bpftool is not installed")?;
        let mut ids = Vec::new();
        for pin in files_below(&run_dir.join("bpf")) {
            if !pin.components().any(|part| part.as_os_str() == "links") {
                continue;
            }
            let link = ask(&bpftool, &["link", "show", "pinned"], Some(&pin))?;
            ids.extend(link["prog_id"].as_u64());
        }
        ensure!(
            !ids.is_empty(),
            "no pinned link below {}",
            run_dir.display()
        );
        let all = ask(&bpftool, &["prog", "show"], None)?;
        let names = all.as_array().into_iter().flatten().filter_map(|program| {
            let id = program["id"].as_u64().filter(|id| ids.contains(id))?;
            Some((id, program["name"].as_str().unwrap_or("?").to_owned()))
        });
        Ok(Self {
            names: names.collect(),
            bpftool,
        })
    }

    /// Times so far. They grow only while [`Counting`] lives.
    pub(crate) fn read(&self) -> anyhow::Result<Times> {
        let all = ask(&self.bpftool, &["prog", "show"], None)?;
        let times = all.as_array().into_iter().flatten().filter_map(|program| {
            let id = program["id"]
                .as_u64()
                .filter(|id| self.names.contains_key(id))?;
            // Both are absent until the program has run once while counted.
            let time = program["run_time_ns"].as_u64().unwrap_or(0);
            Some((id, (time, program["run_cnt"].as_u64().unwrap_or(0))))
        });
        Ok(Times(times.collect()))
    }

    /// What each program cost between two readings, over `operations` of `load`, dearest first.
    pub(crate) fn costs(
        &self,
        (before, after): (&Times, &Times),
        load: &str,
        operations: u64,
    ) -> Vec<ProgramCost> {
        let mut costs: Vec<ProgramCost> = Vec::new();
        for (id, name) in &self.names {
            let (time, runs) = after.since(before, *id);
            if runs * 100 < operations {
                continue;
            }
            costs.push(ProgramCost {
                load: load.to_owned(),
                program: name.clone(),
                ns_per_run: time as f64 / runs as f64,
                runs_per_operation: runs as f64 / operations as f64,
            });
        }
        let weight = |cost: &ProgramCost| cost.ns_per_run * cost.runs_per_operation;
        costs.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        costs
    }
}

impl Times {
    /// Nanoseconds of all programs between two readings.
    pub(crate) fn total_ns_since(&self, before: &Self) -> u64 {
        self.0.keys().map(|id| self.since(before, *id).0).sum()
    }

    fn since(&self, before: &Self, id: u64) -> (u64, u64) {
        let (time, runs) = self.0.get(&id).copied().unwrap_or_default();
        let (time0, runs0) = before.0.get(&id).copied().unwrap_or_default();
        (time.saturating_sub(time0), runs.saturating_sub(runs0))
    }
}

/// Memory that the mesh's pinned maps take, as the kernel says it, in bytes.
pub(crate) fn map_bytes(run_dir: &Path) -> anyhow::Result<u64> {
    let bpftool = find("bpftool").context("bpftool is not installed")?;
    let mut total = 0;
    for pin in files_below(&run_dir.join("bpf")) {
        if pin.components().any(|part| part.as_os_str() == "maps") {
            let map = ask(&bpftool, &["map", "show", "pinned"], Some(&pin))?;
            total += map["bytes_memlock"].as_u64().unwrap_or(0);
        }
    }
    ensure!(total > 0, "no pinned map below {}", run_dir.display());
    Ok(total)
}

/// Every entry of one of the mesh's pinned maps.
pub(crate) fn dump_map(run_dir: &Path, name: &str) -> anyhow::Result<Value> {
    let bpftool = find("bpftool").context("bpftool is not installed")?;
    let pins = files_below(&run_dir.join("bpf"));
    let is_wanted = |pin: &&PathBuf| pin.ends_with(Path::new("maps").join(name));
    let pin = pins.iter().find(is_wanted);
    let pin = pin.with_context(|| format!("no map called {name} is pinned"))?;
    ask(&bpftool, &["map", "dump", "pinned"], Some(pin))
}

fn ask(bpftool: &Path, arguments: &[&str], pin: Option<&Path>) -> anyhow::Result<Value> {
    let output = Command::new(bpftool)
        .arg("--json")
        .args(arguments)
        .args(pin)
        .output()
        .context("cannot start bpftool")?;
    ensure!(
        output.status.success(),
        "bpftool {arguments:?} {pin:?}: {}",
        String::from_utf8_lossy(&output.stdout).trim()
    );
    serde_json::from_slice(&output.stdout).context("bpftool printed something else than JSON")
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_differences_per_operation() {
        let programs = Programs {
            bpftool: PathBuf::new(),
            names: [
                (1, "connect".to_owned()),
                (2, "state".to_owned()),
                (3, "idle".to_owned()),
            ]
            .into(),
        };
        let before = Times([(1, (100, 1)), (2, (0, 0)), (3, (50, 5))].into());
        let after = Times([(1, (700, 3)), (2, (900, 6)), (3, (50, 5))].into());
        let costs = programs.costs((&before, &after), "connect", 2);
        let found: Vec<_> = costs
            .iter()
            .map(|it| (it.program.as_str(), it.ns_per_run, it.runs_per_operation))
            .collect();
        assert_eq!(found, [("state", 150.0, 3.0), ("connect", 300.0, 1.0)]);
        assert_eq!(after.total_ns_since(&before), 1500);
    }
}
