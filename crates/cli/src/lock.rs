//! Who has a run folder: one agent, or one command that acts in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// The file's name in the run folder. It holds the process id of who has the lock.
const FILE: &str = "agent.pid";

/// Held while somebody has the run folder.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the run folder, or says who has it.
    pub(crate) fn take(run_dir: &Path) -> anyhow::Result<Self> {
        let path = run_dir.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("could not open {}", path.display()))?;
        if !lock_soon(&file) {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            bail!(
                "selvedge runs here already: process {} has {}.\n\
                 Look at it with `selvedge status`, or stop it with `selvedge down`.",
                holder.trim(),
                run_dir.display()
            );
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file, path })
    }

    /// Whether somebody has it.
    pub(crate) fn is_held(run_dir: &Path) -> bool {
        let file = File::open(run_dir.join(FILE));
        file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// Waits until nobody has it.
    pub(crate) fn wait_until_free(run_dir: &Path) {
        if let Ok(file) = File::open(run_dir.join(FILE)) {
            let _gone = flock(&file, FlockOperation::LockShared);
        }
    }
}

/// Whoever looks whether it is held has it for that moment, and a killed agent until the kernel has
/// let go all it had: both are waited for.
fn lock_soon(file: &File) -> bool {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    (0..TRIES).any(|tried| {
        if tried > 0 {
            std::thread::sleep(PAUSE);
        }
        flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The folder goes with the last file in it, if `down` has left it empty.
        let _already_gone = fs::remove_file(&self.path);
        if let Some(folder) = self.path.parent() {
            let _not_empty = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = folder.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        assert!(!Lock::is_held(&run_dir));
        let lock = Lock::take(&run_dir).unwrap();
        assert!(Lock::is_held(&run_dir));
        let refusal = Lock::take(&run_dir).unwrap_err().to_string();
        assert!(
            refusal.contains(&std::process::id().to_string()),
            "{refusal}"
        );
        drop(lock);
        assert!(!run_dir.exists(), "it was empty");
    }
}
