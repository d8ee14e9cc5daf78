//! A program the demo has started: its log, its end.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a program may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines of a program's log that are shown when it fails.
const LAST_LINES: usize = 12;

/// A running program in a process group of its own, so that Ctrl-C reaches the demo alone. Dropping
/// it ends it, and whatever it started that stayed in the group.
pub(super) struct Program {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Program {
    /// Starts `command`; what it prints goes to a file in `folder`.
    pub(super) fn start(name: &str, folder: &Path, mut command: Command) -> anyhow::Result<Self> {
        let output = folder.join(format!("{name}.log"));
        let failed = || format!("cannot write {}", output.display());
        let file = File::options()
            .create(true)
            .append(true)
            .open(&output)
            .with_context(failed)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().with_context(failed)?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({:?})", command.get_program()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            output,
        })
    }

    pub(super) fn pid(&self) -> i32 {
        // Process ids are below 2^22.
        self.child.id() as i32
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// What it has printed so far.
    pub(super) fn printed(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// The error to report about it, with the end of what it printed.
    pub(super) fn failure(&self, what: &str) -> anyhow::Error {
        let printed = self.printed();
        let lines: Vec<_> = printed.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
        anyhow::anyhow!("{} {what}; the end of its output:\n  {last}", self.name)
    }

    /// As `kill -9`, for this process alone.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot kill a child")?;
        self.child.wait().context("cannot wait for a child")?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let Some(group) = Pid::from_raw(self.pid()) else {
            return;
        };
        if self.ended().is_none() {
            let _gone_already = kill_process_group(group, Signal::TERM);
            let end = Instant::now() + PATIENCE;
            while self.ended().is_none() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // The group outlives its leader for as long as members are left.
        let _gone_already = kill_process_group(group, Signal::KILL);
        let _reaped = self.child.wait();
    }
}
