//! Ending the processes of a cgroup: asking those that can end others first, killing at last.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::processes;

/// Whom to ask to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Programs alone, which end what they have started in an order of their own: a prefork server
    /// whose workers are asked before it is takes that for their crash. What outlives its program is
    /// adopted by somebody outside, and is a program then.
    Programs,
    /// Every process.
    Everybody,
}

/// Who was asked to end, by number and start: a second time many take for "at once".
#[derive(Debug, Default)]
pub struct Asked(BTreeSet<(i32, u64)>);

/// Asks processes in a cgroup and below to end that were not asked yet.
pub(crate) fn terminate(folder: &Path, whom: Whom, asked: &mut Asked) {
    let inside: BTreeSet<i32> = processes(folder).into_iter().collect();
    for pid in &inside {
        // One that cannot be read has ended.
        let Some((parent, start)) = parent_and_start(*pid) else {
            continue;
        };
        let is_meant = whom == Whom::Everybody || !inside.contains(&parent);
        if is_meant && asked.0.insert((*pid, start)) {
            signal(*pid, Signal::TERM);
        }
    }
}

/// The parent of a process, and when it was started in clock ticks since boot: fields 4 and 22 of
/// proc_pid_stat(5). The name before them may hold anything, also `) `.
fn parent_and_start(pid: i32) -> Option<(i32, u64)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn signal(pid: i32, signal: Signal) {
    let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(process) = process {
        let _gone_already = pidfd_send_signal(process, signal);
    }
}

/// Kills every process in a cgroup and below, through `cgroup.kill` (Linux 5.14) or one by one.
pub(crate) fn kill(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in processes(folder) {
        signal(pid, Signal::KILL);
    }
}
