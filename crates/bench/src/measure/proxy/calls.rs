//! System calls, counted by the kernel's tracepoint for them: strace would slow the proxy, and a
//! slower proxy makes fewer calls for a request.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::Signal;

use crate::process::{Process, find, signal};

/// How long perf may take until it counts.
const PATIENCE: Duration = Duration::from_secs(5);

/// A count that runs.
pub(super) struct CallCount {
    perf: Process,
    file: PathBuf,
}

impl CallCount {
    /// Counts from now on.
    pub(super) fn begin(pids: &[u32], folder: &Path) -> anyhow::Result<Self> {
        let perf = find("perf").context("perf is not installed")?;
        let file = folder.join("calls.csv");
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut command = Command::new(perf);
        command
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p"])
            .arg(pids.join(","))
            .arg("-o")
            .arg(&file);
        let mut perf = Process::start("perf", &mut command, folder.join("perf.log"))?;
        let deadline = Instant::now() + PATIENCE;
        while !has_counters(perf.pid()) {
            perf.check()?;
            if Instant::now() > deadline {
                bail!("perf does not count{}", perf.last_words());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(Self { perf, file })
    }

    /// What was counted.
    pub(super) fn end(mut self) -> anyhow::Result<u64> {
        signal(self.perf.pid(), Signal::INT)?;
        self.perf.wait()?;
        let text = fs::read_to_string(&self.file).context("perf wrote nothing")?;
        count_of(&text).with_context(|| format!("perf did not count: {text}"))
    }
}

/// Whether a process has opened a counter.
fn has_counters(pid: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:[perf_event]")
    })
}

/// The first field of the line about the tracepoint.
fn count_of(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("sys_enter"))?;
    line.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_perf_writes() {
        let text = "# started on Wed\n\n24258,,raw_syscalls:sys_enter,2,100.00,,\n";
        assert_eq!(count_of(text), Some(24_258));
        assert_eq!(
            count_of("<not counted>,,raw_syscalls:sys_enter,0,0.00,,"),
            None
        );
        assert_eq!(count_of(""), None);
    }
}
