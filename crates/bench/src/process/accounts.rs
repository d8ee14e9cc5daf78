//! What processes use in a stretch of time, and what the whole host does.

use std::fs;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Usage;

/// What /proc counts in: USER_HZ is 100 on every architecture that this runs on.
const TICK_NS: u64 = 10_000_000;

/// What processes use from an instant on.
#[derive(Debug)]
pub(crate) struct Accounts {
    opened: Vec<Account>,
    host_busy_ns: u64,
    bill: Bill,
}

#[derive(Debug)]
struct Account {
    pid: u32,
    usage: Usage,
    ticks: Ticks,
}

/// What processes used together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bill {
    pub(crate) cpu_ns: u64,
    /// The part of it outside the kernel, from 0 to 1. Counted in ticks: within some per cent of a
    /// second's figure.
    pub(crate) user_share: f64,
    /// What the whole host used meanwhile, in ticks too.
    pub(crate) host_busy_ns: u64,
}

impl Accounts {
    pub(crate) fn open(pids: &[u32]) -> anyhow::Result<Self> {
        let opened = pids.iter().map(|pid| Account::read(*pid));
        Ok(Self {
            opened: opened.collect::<anyhow::Result<_>>()?,
            host_busy_ns: host_busy_ns()?,
            bill: Bill::default(),
        })
    }

    pub(crate) fn close(&mut self) -> anyhow::Result<()> {
        let (mut cpu_ns, mut user, mut all) = (0, 0, 0);
        for before in &self.opened {
            let after = Account::read(before.pid)?;
            cpu_ns += after.usage.since(&before.usage).cpu_ns;
            user += after.ticks.user - before.ticks.user;
            all += after.ticks.all() - before.ticks.all();
        }
        let user_share = user as f64 / all.max(1) as f64;
        self.bill = Bill {
            cpu_ns,
            user_share,
            host_busy_ns: host_busy_ns()?.saturating_sub(self.host_busy_ns),
        };
        Ok(())
    }

    pub(crate) fn bill(&self) -> Bill {
        self.bill
    }
}

impl Account {
    fn read(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(Self {
            pid,
            usage: Usage::read(pid)?,
            ticks: Ticks::of(&stat).with_context(|| format!("{path} has another form"))?,
        })
    }
}

/// CPU time that the host's CPUs have used together, in nanoseconds.
fn host_busy_ns() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = busy_ticks(&text).context("/proc/stat has another form")?;
    Ok(ticks * TICK_NS)
}

/// All of the first line but idle, waiting for disks and guests, who are counted as users already
/// (proc_stat(5)).
fn busy_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let fields = fields.by_ref().take(8).map(|field| field.parse().ok());
    let fields = fields.collect::<Option<Vec<u64>>>()?;
    let busy = fields
        .iter()
        .enumerate()
        .filter(|(place, _)| ![3, 4].contains(place));
    Some(busy.map(|(_, ticks)| ticks).sum())
}

/// CPU time in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    user: u64,
    system: u64,
}

impl Ticks {
    /// From the text of /proc/PID/stat: its fields 14 and 15 (proc_pid_stat(5)).
    fn of(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split_whitespace().skip(11);
        let user = fields.next()?.parse().ok()?;
        let system = fields.next()?.parse().ok()?;
        Some(Self { user, system })
    }

    fn all(self) -> u64 {
        self.user + self.system
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_host_is_not_idle_and_counts_no_guest_twice() {
        let stat = "cpu  1 2 4 1000 1000 8 16 32 64 128\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(63));
        assert_eq!(busy_ticks("intr 1 2"), None);
    }

    #[test]
    fn ticks_are_found_behind_whatever_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 31 12 0 0 20 0 1 0 5";
        let ticks = Ticks::of(stat).unwrap();
        assert_eq!((ticks.user, ticks.system), (31, 12));
        assert_eq!(Ticks::of("7 (a) S 1"), None);
    }
}
