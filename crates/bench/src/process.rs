//! Processes that the bench started, and what the kernel says of processes.
//!
//! Every one is ended by its own pid, when its owner goes.

mod accounts;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::interrupt;
pub(crate) use accounts::{Accounts, Bill};

/// How often an ending process is looked at.
const GLANCE: Duration = Duration::from_millis(2);
/// How long one may take to end by itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A child process; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a command with what it prints appended to `log`. It is in a process group of its own,
    /// so that a Ctrl-C meant for the bench does not reach it first.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let open = || {
            let file = fs::OpenOptions::new().create(true).append(true).open(&log);
            file.with_context(|| format!("cannot open {}", log.display()))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({command:?})"))?;
        let name = name.to_owned();
        Ok(Self { name, log, child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error, with the last it said, when it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("cannot wait for a child")? {
            None => Ok(()),
            Some(status) => Err(anyhow!(
                "{} ended: {status}{}",
                self.name,
                self.last_words()
            )),
        }
    }

    /// Waits until it prints something with `part` in it; gives the rest of that line.
    pub(crate) fn await_word(&mut self, part: &str, patience: Duration) -> anyhow::Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            interrupt::check()?;
            self.check()?;
            let words = self.last_words();
            if let Some((_, rest)) = words.split_once(part) {
                return Ok(rest.lines().next().unwrap_or_default().to_owned());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not say `{part}` in time{words}",
                self.name
            );
            thread::sleep(GLANCE);
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        let status = self.child.try_wait().context("cannot wait for a child")?;
        Ok(status.is_some())
    }

    /// The last it printed, for messages.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(8)..];
        last.iter().map(|line| format!("\n    {line}")).collect()
    }

    /// Waits until it has ended by itself, and kills it when that takes too long.
    pub(crate) fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(GLANCE);
        }
        self.kill()
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.child
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        Ok(self.child.wait()?)
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        // Gone already is as good.
        let _gone = signal(self.pid(), Signal::TERM);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it is gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Sends a signal to a process that the caller knows to be its own.
pub(crate) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(kill_process(pid.context("not a process id")?, signal)?)
}

/// Whether a process is there and has not ended (a zombie has).
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; the state follows (proc_pid_stat(5)).
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// How long ago a process was started, in steps of 10 ms.
pub(crate) fn age(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("no such process")?;
    let uptime = fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    // Fields 3 and on follow the name; the 22nd is the start after boot in ticks (proc_pid_stat(5)).
    let rest = stat.rsplit_once(") ").map(|(_, rest)| rest);
    let ticks = rest.and_then(|rest| rest.split(' ').nth(19)?.parse::<u64>().ok());
    let started = ticks.context("/proc/PID/stat has another form")? as f64 / 100.0;
    let uptime = uptime
        .split(' ')
        .next()
        .and_then(|it| it.parse::<f64>().ok());
    let uptime = uptime.context("/proc/uptime has another form")?;
    Ok(Duration::from_secs_f64((uptime - started).max(0.0)))
}

/// Ties every thread of a process to one CPU; threads made later follow their maker.
pub(crate) fn pin(pid: u32, cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    for thread in threads(pid)? {
        sched_setaffinity(Some(thread), &set)
            .with_context(|| format!("cannot pin process {pid}"))?;
    }
    Ok(())
}

/// Starts something tied to one CPU from its first instruction on: what it counts then is that one.
pub(crate) fn start_pinned<T>(
    cpu: usize,
    start: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let before = sched_getaffinity(None).context("cannot read the allowed CPUs")?;
    let mut one = CpuSet::new();
    one.set(cpu);
    // Of this thread, whose children have it too.
    sched_setaffinity(None, &one).context("cannot pin what is started")?;
    let started = start();
    sched_setaffinity(None, &before).context("cannot go back to all CPUs")?;
    started
}

/// Lets every thread of a process run on any of these CPUs again.
pub(crate) fn unpin(pid: u32, cpus: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    for thread in threads(pid)? {
        sched_setaffinity(Some(thread), &set)?;
    }
    Ok(())
}

/// What each thread of a process has used so far.
#[derive(Clone, Debug)]
pub(crate) struct Usage(BTreeMap<i32, Spent>);

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// CPU time in nanoseconds (scheduler statistics: the exact run-time, where /proc/PID/stat counts
    /// ticks of 10 ms).
    pub(crate) cpu_ns: u64,
    /// How often threads gave up the CPU to wait: each wake-up ends so.
    pub(crate) wake_ups: u64,
}

impl Usage {
    pub(crate) fn read(pid: u32) -> anyhow::Result<Self> {
        let mut usage = BTreeMap::new();
        for thread in threads(pid)? {
            let number = thread.as_raw_nonzero().get();
            let folder = format!("/proc/{pid}/task/{number}");
            // A thread may end meanwhile.
            let Ok(schedule) = fs::read_to_string(format!("{folder}/schedstat")) else {
                continue;
            };
            let Ok(status) = fs::read_to_string(format!("{folder}/status")) else {
                continue;
            };
            let cpu_ns = schedule.split_whitespace().next().unwrap_or_default();
            let spent = Spent {
                cpu_ns: cpu_ns.parse().context("no CPU time in schedstat")?,
                wake_ups: field(&status, "voluntary_ctxt_switches"),
            };
            usage.insert(number, spent);
        }
        ensure!(!usage.is_empty(), "process {pid} has no threads");
        Ok(Self(usage))
    }

    /// What was used since `before`, by the threads that are still there.
    pub(crate) fn since(&self, before: &Self) -> Spent {
        let mut total = Spent::default();
        for (thread, now) in &self.0 {
            let then = before.0.get(thread).copied().unwrap_or_default();
            total.cpu_ns += now.cpu_ns.saturating_sub(then.cpu_ns);
            total.wake_ups += now.wake_ups.saturating_sub(then.wake_ups);
        }
        total
    }
}

/// A process and all that descend from it.
pub(crate) fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        for thread in threads(parent)? {
            let thread = thread.as_raw_nonzero();
            let path = format!("/proc/{parent}/task/{thread}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            family.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    Ok(family)
}

/// Proportional set size in bytes: pages shared by n processes count 1/n.
pub(crate) fn proportional_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(field(&text, "Pss") * 1024)
}

fn threads(pid: u32) -> anyhow::Result<Vec<Pid>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {folder}"))?;
    let numbers = entries.flatten().filter_map(|entry| {
        let number: i32 = entry.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    });
    Ok(numbers.collect())
}

/// The number of the first `name: number` line; 0 where there is none.
fn field(text: &str, wanted: &str) -> u64 {
    let found = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let number = value.split_whitespace().next()?.parse().ok()?;
        (name == wanted).then_some(number)
    });
    found.unwrap_or(0)
}

/// Whether a program can be found on the path, and where.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(Path::new).map(Path::to_path_buf);
    let folders = std::env::split_paths(&path).chain(more);
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "nonvoluntary_ctxt_switches:\t30\nvoluntary_ctxt_switches:\t12\nPss:  7 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches"), 12);
        assert_eq!(field(text, "Pss"), 7);
        assert_eq!(field(text, "Swap"), 0);
    }

    #[test]
    fn threads_that_ended_take_nothing_away() {
        let usage = |spent: &[(i32, u64)]| {
            let spent = spent.iter().map(|(thread, cpu_ns)| {
                let wake_ups = 2 * cpu_ns;
                (
                    *thread,
                    Spent {
                        cpu_ns: *cpu_ns,
                        wake_ups,
                    },
                )
            });
            Usage(spent.collect())
        };
        let before = usage(&[(1, 10), (2, 50)]);
        let after = usage(&[(1, 15), (3, 4)]);
        let spent = after.since(&before);
        assert_eq!((spent.cpu_ns, spent.wake_ups), (9, 18));
    }

    #[test]
    fn this_process_is_alive_and_uses_cpu() {
        let own = std::process::id();
        assert!(is_alive(own));
        assert!(age(own).unwrap() < Duration::from_secs(24 * 3600));
        let before = Usage::read(own).unwrap();
        let mut random = crate::random::Random::new(1);
        let deadline = Instant::now() + Duration::from_millis(100);
        while Instant::now() < deadline {
            random.next();
        }
        assert!(Usage::read(own).unwrap().since(&before).cpu_ns > 0);
        assert!(proportional_bytes(own).unwrap() > 0);
    }
}
