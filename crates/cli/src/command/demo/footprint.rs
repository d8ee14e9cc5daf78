//! What the mesh itself costs while nothing happens: memory and wake-ups of its two processes.

use std::fs;
use std::time::Duration;

use anyhow::Context;

use super::interrupt::Interrupt;

/// Idle figures of several processes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    /// Memory, shared pages counted in proportion (proc_pid_smaps(5)), in KiB.
    pub(super) pss_kib: u64,
    /// Times a thread went to sleep and was woken, per second.
    pub(super) wakeups_per_s: f64,
}

/// Watches `processes` for `duration`.
pub(super) fn measure(
    interrupt: &Interrupt,
    processes: &[i32],
    duration: Duration,
) -> anyhow::Result<Footprint> {
    let total = |read: fn(i32) -> anyhow::Result<u64>| -> anyhow::Result<u64> {
        processes.iter().map(|pid| read(*pid)).sum()
    };
    let before = total(wakeups)?;
    interrupt.pause(duration)?;
    let after = total(wakeups)?;
    Ok(Footprint {
        pss_kib: total(pss_kib)?,
        wakeups_per_s: after.saturating_sub(before) as f64 / duration.as_secs_f64(),
    })
}

fn pss_kib(pid: i32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    field(&text, "Pss:").with_context(|| format!("{path} has no Pss"))
}

/// Voluntary context switches of all threads: each is a wait that ended or will end in a wake-up.
fn wakeups(pid: i32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).with_context(|| format!("cannot list {path}"))?;
    let statuses = threads.flatten().map(|thread| thread.path().join("status"));
    // A thread may end between the listing and the reading.
    let counts = statuses.filter_map(|status| {
        let text = fs::read_to_string(status).ok()?;
        field(&text, "voluntary_ctxt_switches:")
    });
    Ok(counts.sum())
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Pss:   12 kB\nPss_Anon: 3 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(field(text, "Pss:"), Some(12));
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(text, "Rss:"), None);
    }
}
