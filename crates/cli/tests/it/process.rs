//! Programs that a test has started, and waiting for what they do.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(5);
/// How long to wait before a test fails, on a machine of ordinary speed.
const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A program whose output goes to a file. It leads a process group, which ends with it when dropped.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
    shown: String,
}

impl Process {
    pub(crate) fn start(folder: &Path, mut command: Command) -> Self {
        let output = folder.join(format!("output-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let file = File::options().create_new(true).append(true).open(&output);
        let file = file.expect("the test's folder can be written");
        let shown = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a descriptor is free"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        Self {
            child,
            output,
            shown,
        }
    }

    /// What it has printed so far, errors included.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits for a line with `part` in it.
    pub(crate) fn line(&mut self, part: &str) -> String {
        self.lines(part, 1).remove(0)
    }

    /// Waits for `count` lines with `part` in them.
    pub(crate) fn lines(&mut self, part: &str, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        let printed = |process: &Self| -> Vec<String> {
            let text = process.printed();
            let lines = text.lines().filter(|line| line.contains(part));
            lines.map(str::to_owned).collect()
        };
        let holds = eventually(|| {
            let ended = self.ended();
            found = printed(self);
            found.len() >= count || ended
        });
        assert!(
            holds && found.len() >= count,
            "`{}` has not printed `{part}` {count} times but:\n{}",
            self.shown,
            self.printed()
        );
        found
    }

    pub(crate) fn ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_some()
    }

    /// Waits for its end; the exit status as a shell gives it, and all it has printed.
    pub(crate) fn finish(&mut self) -> (i32, String) {
        let ended = eventually(|| self.ended());
        assert!(
            ended,
            "`{}` does not end; it printed:\n{}",
            self.shown,
            self.printed()
        );
        let status = self.child.wait().expect("it has ended");
        let code = status.code().or_else(|| status.signal().map(|it| 128 + it));
        (code.expect("it has ended in some way"), self.printed())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    /// As `kill -9`, for this process alone, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A demo or a mesh in the midst of something takes with it what it has started, if it may.
        if !self.ended() {
            let _nobody_is_left = kill_process_group(self.pid(), Signal::TERM);
            eventually(|| self.ended());
        }
        let _nobody_is_left = kill_process_group(self.pid(), Signal::KILL);
        let _reaped_already = self.child.wait();
    }
}

/// Waits until `holds`, for as long as a slow machine may need; whether it came to hold.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let factor = std::env::var("SELVEDGE_TEST_SLOW").ok();
    let factor: u32 = factor.and_then(|it| it.parse().ok()).unwrap_or(1);
    let end = Instant::now() + PATIENCE * factor;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(GLANCE);
    }
}
