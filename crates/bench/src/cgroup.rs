//! Cgroups for processes without a mesh: one each, as a service manager puts them.
//!
//! The kernel accounts pressure (PSI) for every level of the tree at each switch between processes of
//! different cgroups. That is a cost of running services, not of the mesh, so both sides pay it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// How long the kernel may take to take a removed process out of its cgroup, in looks.
const LOOKS: u32 = 200;
const GLANCE: std::time::Duration = std::time::Duration::from_millis(5);

/// A folder of cgroups, two levels below the root as `system.slice/x.service` is. Dropping it removes
/// what is empty by then.
#[derive(Debug)]
pub(crate) struct Slice {
    folder: PathBuf,
    made: u32,
}

impl Slice {
    pub(crate) fn make(name: &str) -> anyhow::Result<Self> {
        let folder = mount()?.join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder, made: 0 })
    }

    /// Puts a process into a cgroup of its own. Sockets it has already stay where they were made.
    pub(crate) fn place(&mut self, pid: u32) -> anyhow::Result<()> {
        self.made += 1;
        let cgroup = self.folder.join(format!("{}.service", self.made));
        fs::create_dir(&cgroup).with_context(|| format!("cannot create {}", cgroup.display()))?;
        fs::write(cgroup.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("cannot place a process in {}", cgroup.display()))
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        let children = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let children = children
            .map(|child| child.path())
            .filter(|path| path.is_dir());
        for cgroup in children.chain([self.folder.clone()]) {
            if let Err(error) = remove(&cgroup) {
                eprintln!(
                    "selvedge bench: cannot remove {}: {error}",
                    cgroup.display()
                );
            }
        }
    }
}

/// Removes a cgroup whose processes have just ended.
fn remove(cgroup: &Path) -> std::io::Result<()> {
    let mut looks = 0;
    loop {
        match fs::remove_dir(cgroup) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && looks < LOOKS => {
                looks += 1;
                std::thread::sleep(GLANCE);
            }
            other => return other,
        }
    }
}

/// Where the cgroup2 file system is mounted (proc_pid_mountinfo(5)).
fn mount() -> anyhow::Result<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    for line in table.lines() {
        if let Some((before, after)) = line.split_once(" - ")
            && after.starts_with("cgroup2 ")
            && let Some(path) = before.split(' ').nth(4)
        {
            return Ok(PathBuf::from(path.replace("\\040", " ")));
        }
    }
    bail!("no cgroup2 file system is mounted")
}
