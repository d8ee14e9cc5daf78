//! Cgroups: finding the file system, the mesh's own tree in it, and placing processes.
//!
//! The tree is `<cgroup2>/<name>/workloads/<workload>` and `<cgroup2>/<name>/proxy`; a workload's
//! folder is named as the workload is, `cart-0.default`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use selvedge_model::{CgroupId, Label, WorkloadName};

use crate::error::Error;

/// Longest path the kernel takes, with its zero byte (limits.h).
const PATH_MAX: usize = 4096;

/// How often a cgroup is looked at for processes that are still to be moved out of it.
const RELEASE_ROUNDS: u32 = 1000;

/// The mesh's cgroups.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    file_system: PathBuf,
    mesh: PathBuf,
}

/// How a cgroup lies to the mesh's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// It is a workload's that `run` has placed, or in one.
    Workload,
    /// It is another of the mesh's, or around them all.
    Own,
    /// Neither holds the other.
    Beside,
}

impl Tree {
    /// Makes what is missing of the tree called `name`.
    pub(crate) fn make(name: &str) -> Result<Self, Error> {
        let tree = Self::locate(name)?;
        for folder in [tree.workloads_folder(), tree.proxy_folder()] {
            fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
            skip_pressure(&folder);
        }
        skip_pressure(&tree.mesh);
        Ok(tree)
    }

    /// Makes the tree called `name` that of the mesh in `run_dir`, which is written on it: unlike a
    /// lock it outlives the agent, as the mesh does. A mesh whose run folder is gone, with no process
    /// left, has nothing to lose.
    pub(crate) fn claim(name: &str, run_dir: &Path) -> Result<(), Error> {
        const OWNER: &str = "trusted.selvedge.run_dir";
        let tree = Self::locate(name)?;
        let run_dir = std::path::absolute(run_dir).map_err(Error::file("find", run_dir))?;
        match fs::create_dir(&tree.mesh) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::file("create", &tree.mesh)(error));
            }
            _ => {}
        }
        let mut owner = Vec::with_capacity(PATH_MAX);
        if getxattr(&tree.mesh, OWNER, spare_capacity(&mut owner)).is_ok() {
            let owner = PathBuf::from(OsString::from_vec(owner));
            if owner != run_dir && (owner.exists() || populated(&tree.mesh)) {
                let cgroup = tree.mesh;
                return Err(Error::Taken { cgroup, owner });
            }
        } else if populated(&tree.mesh) || !children(&tree.mesh).is_empty() {
            return Err(Error::Foreign { cgroup: tree.mesh });
        }
        let mark = run_dir.as_os_str().as_bytes();
        setxattr(&tree.mesh, OWNER, mark, XattrFlags::empty())
            .map_err(|error| Error::file("mark", &tree.mesh)(error.into()))
    }

    /// The tree called `name`, whether or not it is there.
    pub(crate) fn locate(name: &str) -> Result<Self, Error> {
        let file_system = cgroup2_mount()?;
        Ok(Self {
            mesh: file_system.join(name),
            file_system,
        })
    }

    pub(crate) fn workloads_folder(&self) -> PathBuf {
        self.mesh.join("workloads")
    }

    pub(crate) fn proxy_folder(&self) -> PathBuf {
        self.mesh.join("proxy")
    }

    /// Makes the cgroup of a workload; one that is there and empty is made anew, so that its id, and
    /// with it everything the kernel knows of it, is fresh.
    pub(crate) fn add(&self, name: &WorkloadName) -> Result<CgroupId, Error> {
        let folder = self.folder_of(name);
        if folder.exists() && !populated(&folder) {
            remove_below(&folder)?;
        }
        fs::create_dir(&folder).map_err(Error::file("create", &folder))?;
        skip_pressure(&folder);
        id(&folder)
    }

    /// Removes the cgroup of a workload that has no processes left.
    pub(crate) fn remove(&self, name: &WorkloadName) -> Result<(), Error> {
        remove_below(&self.folder_of(name))
    }

    pub(crate) fn folder_of(&self, name: &WorkloadName) -> PathBuf {
        self.workloads_folder().join(name.to_string())
    }

    /// Every workload's cgroup that is there.
    pub(crate) fn workloads(&self) -> Result<Vec<(WorkloadName, CgroupId)>, Error> {
        let folder = self.workloads_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::file("list", &folder))?,
        };
        let mut found = Vec::new();
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            let text = entry.file_name();
            if let Some(name) = text.to_str().and_then(workload_name) {
                found.push((name, id(&entry.path())?));
            }
        }
        found.sort();
        Ok(found)
    }

    /// A cgroup by its path below the file system's root, as `/proc/PID/cgroup` gives it.
    pub(crate) fn resolve(&self, path: &Path) -> Result<(PathBuf, CgroupId), Error> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let folder = self.file_system.join(relative);
        let id = id(&folder)?;
        Ok((folder, id))
    }

    /// The path of a folder of ours below the file system's root, as `/proc/PID/cgroup` gives it.
    pub(crate) fn path_of(&self, folder: &Path) -> String {
        let relative = folder.strip_prefix(&self.file_system).unwrap_or(folder);
        format!("/{}", relative.display())
    }

    /// How a folder lies to the mesh's own.
    pub(crate) fn relation(&self, folder: &Path) -> Relation {
        let workloads = self.workloads_folder();
        if folder != workloads && folder.starts_with(&workloads) {
            Relation::Workload
        } else if folder.starts_with(&self.mesh) || self.mesh.starts_with(folder) {
            Relation::Own
        } else {
            Relation::Beside
        }
    }

    /// The file system's root.
    pub(crate) fn file_system(&self) -> &Path {
        &self.file_system
    }

    /// The folder of a systemd unit, wherever its slices put it.
    pub(crate) fn find_unit(&self, unit: &str) -> Option<PathBuf> {
        /// Slices nest by name (`a-b.slice` in `a.slice`): deeper than this nobody nests them.
        const DEPTH: usize = 6;
        find_below(&self.file_system, unit, DEPTH)
    }

    /// Moves every process in one of our cgroups out of the mesh: into the root cgroup, which belongs
    /// to no unit that would take them along when it stops. Where that takes none (in a container it
    /// is somebody's leaf or branch), into this process's own.
    pub(crate) fn release(&self, folder: &Path) -> Result<(), Error> {
        let own = self.own_folder()?;
        let mut last = None;
        // Whoever forks while it is moved may leave a child behind, which is moved in the next round.
        for _ in 0..RELEASE_ROUNDS {
            let left = processes(folder);
            if left.is_empty() {
                return Ok(());
            }
            let moved = left
                .into_iter()
                .map(|pid| place(pid, &self.file_system).or_else(|_| place(pid, &own)));
            // One that has ended cannot be moved, and need not be.
            last = moved.filter_map(Result::err).next_back().or(last);
        }
        let folder = folder.to_owned();
        Err(last.unwrap_or(Error::Restless { folder }))
    }

    /// The cgroup of this process.
    fn own_folder(&self) -> Result<PathBuf, Error> {
        let path = "/proc/self/cgroup";
        let table = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let mut lines = table.lines();
        let own = lines.find_map(|line| line.strip_prefix("0::"));
        let (folder, _) = self.resolve(Path::new(own.unwrap_or("/")))?;
        Ok(folder)
    }

    /// Removes the whole tree. All its processes must be gone.
    pub(crate) fn remove_all(&self) -> Result<(), Error> {
        remove_below(&self.workloads_folder())?;
        remove_below(&self.proxy_folder())?;
        remove_empty(&self.mesh)
    }
}

/// Leaves a cgroup out of pressure accounting, which costs at every switch between processes of two
/// cgroups, once per level, and which nobody reads here (Linux 6.1 on, `cgroup.pressure` in the
/// kernel's cgroup-v2 documentation). Whoever wants it writes 1 to the file. Where there is no such
/// file there is nothing to leave out, or no way to.
fn skip_pressure(folder: &Path) {
    let _nothing_to_skip = fs::write(folder.join("cgroup.pressure"), "0");
}

/// Moves the process of a pidfd, whose number is `pid`, into a cgroup.
///
/// The kernel moves by number only, and a process has its number until it has ended. So one that
/// lives before and after the move is the one that was moved. One that ends in between could have
/// lost its number to another only if every other number was given out meanwhile; that is not
/// likely, but can be seen: after [`Error::Ended`] whoever is in the cgroup does not belong there.
pub(crate) fn place_known(process: impl AsFd, pid: i32, folder: &Path) -> Result<(), Error> {
    let ensure_alive = || match has_ended(&process) {
        true => Err(Error::Ended { pid }),
        false => Ok(()),
    };
    ensure_alive()?;
    let placed = place(pid, folder);
    ensure_alive()?;
    placed
}

/// Whether the process of a pidfd has ended (pidfd_open(2): it is readable then). What cannot be
/// told counts as ended.
fn has_ended(process: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    !matches!(poll(&mut polled, Some(&at_once)), Ok(0))
}

/// Moves whoever has this number into a cgroup: a child that was not waited for, as a rule.
pub(crate) fn place(pid: i32, folder: &Path) -> Result<(), Error> {
    let procs = folder.join("cgroup.procs");
    fs::write(&procs, pid.to_string()).map_err(Error::file("place a process in", procs))
}

/// Whether any process is in this cgroup or below it.
pub(crate) fn populated(folder: &Path) -> bool {
    let events = fs::read_to_string(folder.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// The processes in this cgroup and those below it.
pub(crate) fn processes(folder: &Path) -> Vec<i32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(folder) {
        pids.extend(processes(&child));
    }
    pids
}

fn find_below(folder: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let children = children(folder);
    if let Some(found) = children
        .iter()
        .find(|child| child.file_name().is_some_and(|it| it == name))
    {
        return Some(found.clone());
    }
    let deeper = depth.checked_sub(1)?;
    children
        .iter()
        .find_map(|child| find_below(child, name, deeper))
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn remove_below(folder: &Path) -> Result<(), Error> {
    for child in children(folder) {
        remove_below(&child)?;
    }
    remove_empty(folder)
}

fn remove_empty(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove the cgroup", folder)(error))
        }
        _ => Ok(()),
    }
}

/// A cgroup's id is the inode of its folder.
pub(crate) fn id(folder: &Path) -> Result<CgroupId, Error> {
    let metadata = fs::metadata(folder).map_err(Error::file("find the cgroup", folder))?;
    Ok(CgroupId(metadata.ino()))
}

fn workload_name(text: &str) -> Option<WorkloadName> {
    let (name, namespace) = text.split_once('.')?;
    Some(WorkloadName {
        namespace: Label::new(namespace).ok()?,
        name: Label::new(name).ok()?,
    })
}

/// Where the cgroup2 file system is mounted: `/sys/fs/cgroup` where it is alone, `.../unified` where
/// version 1 is beside it, anywhere else where somebody chose so.
fn cgroup2_mount() -> Result<PathBuf, Error> {
    let path = "/proc/self/mountinfo";
    let table = fs::read_to_string(path).map_err(Error::file("read", path))?;
    table.lines().find_map(cgroup2_of).ok_or(Error::NoCgroup2)
}

/// The mount point in a line of mountinfo, if it is a cgroup2 one (proc_pid_mountinfo(5)).
fn cgroup2_of(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    if after.split(' ').next()? != "cgroup2" {
        return None;
    }
    let escaped = before.split(' ').nth(4)?;
    Some(PathBuf::from(escaped.replace("\\040", " ")))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::Command;
    use std::thread;

    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use rustix::pipe::fcntl_setpipe_size;
    use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

    use super::*;

    #[test]
    fn the_mount_is_found_in_any_layout() {
        let hybrid = "34 24 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_of(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let plain = "29 22 0:26 / /sys/fs/cgroup rw - cgroup2 none rw,nsdelegate";
        assert_eq!(cgroup2_of(plain), Some("/sys/fs/cgroup".into()));
        let version1 = "36 24 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(cgroup2_of(version1), None);
        assert_eq!(cgroup2_of("nonsense"), None);
    }
    /// A process that ends before the move is not moved, nor who has its number then; one that ends
    /// during the move is told from one that was moved.
    #[test]
    fn a_process_that_ends_is_not_taken_for_placed() {
        let folder = tempfile::tempdir().unwrap();
        let procs = folder.path().join("cgroup.procs");
        let mut full = full_fifo(&procs);
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id() as i32;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let opened = inotify::init(CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&opened, &procs, WatchFlags::OPEN).unwrap();
        let writing = thread::spawn({
            let (process, folder) = (process.try_clone().unwrap(), folder.path().to_owned());
            move || place_known(&process, pid, &folder)
        });
        let mut events = fs::File::from(opened);
        events.read_exact(&mut [0; size_of::<[u32; 4]>()]).unwrap();
        // It has begun to write, and goes on once there is room.
        child.kill().unwrap();
        child.wait().unwrap();
        full.read_exact(&mut [0; PIPE_BYTES]).unwrap();
        let placed = writing.join().unwrap();
        assert!(matches!(placed, Err(Error::Ended { .. })), "{placed:?}");

        fs::remove_file(&procs).unwrap();
        let placed = place_known(&process, pid, folder.path());
        assert!(matches!(placed, Err(Error::Ended { .. })), "{placed:?}");
        assert!(!procs.exists(), "nothing was written");
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        place_known(own, 1, folder.path()).unwrap();
        assert_eq!(fs::read_to_string(procs).unwrap(), "1");
    }

    /// The least room that the kernel gives a pipe.
    const PIPE_BYTES: usize = 4096;

    /// Writers to it wait until somebody reads.
    fn full_fifo(path: &Path) -> fs::File {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let fifo = fs::File::options().read(true).write(true).open(path);
        let mut fifo = fifo.unwrap();
        assert_eq!(fcntl_setpipe_size(&fifo, PIPE_BYTES).unwrap(), PIPE_BYTES);
        fifo.write_all(&[0; PIPE_BYTES]).unwrap();
        fifo
    }
}
