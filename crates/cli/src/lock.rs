//! Who has a run folder: one agent, or one command that acts in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
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
    /// Takes the run folder, which is made where it is not there, or says who has it.
    pub(crate) fn take(run_dir: &Path) -> anyhow::Result<Self> {
        let path = run_dir.join(FILE);
        // Whoever had it before has removed the file, perhaps the one that was waited for.
        let (mut file, is_ours) = loop {
            let file = open(&path)?;
            let is_ours = lock_soon(&file);
            if !is_ours || is_at(&file, &path) {
                break (file, is_ours);
            }
        };
        if !is_ours {
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

fn open(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("could not create the folder {}", folder.display()))?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let opened = options.open(path);
    opened.with_context(|| format!("could not open {}", path.display()))
}

/// Whether this file is the one that is found at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (opened, found) = (file.metadata().map(place), fs::metadata(path).map(place));
    matches!((opened, found), (Ok(opened), Ok(found)) if opened == found)
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

    /// Who waits for a lock whose file goes with its holder must not have that file in the end.
    #[test]
    fn who_has_waited_keeps_others_off() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = folder.path().join("run");
        let lock = Lock::take(&run_dir).unwrap();
        let waiting = std::thread::spawn({
            let run_dir = run_dir.clone();
            move || Lock::take(&run_dir)
        });
        // It waits once it has the file open, beside the one that is held.
        let opened = || {
            let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let targets = descriptors.filter_map(|it| fs::read_link(it.path()).ok());
            targets
                .filter(|target| *target == run_dir.join(FILE))
                .count()
        };
        while opened() < 2 && !waiting.is_finished() {
            std::thread::yield_now();
        }
        drop(lock);
        // Where it has waited too long it is refused, and nothing is shown.
        if let Ok(_second) = waiting.join().unwrap() {
            assert!(Lock::is_held(&run_dir));
            Lock::take(&run_dir).unwrap_err();
        }
    }
}
