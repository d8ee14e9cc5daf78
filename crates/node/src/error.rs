//! What can go wrong on the node, with what a user can do about it.

use std::io;
use std::path::PathBuf;

/// A failure of the node. Display says what was tried and on what; [`std::error::Error::source`]
/// says why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, folder or kernel interface file.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call on no file.
    #[error("could not {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused a program or map that nothing works without.
    #[error(
        "the kernel refused the feature `{feature}`, without which {without}.\n\
         Needed: Linux 6.1 or newer with BTF and cgroup2, and root (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON).\n\
         The kernel said: {said}"
    )]
    Feature {
        /// The feature's name.
        feature: &'static str,
        /// What users lose.
        without: &'static str,
        /// The end of the verifier's or loader's output.
        said: String,
    },
    /// A kernel map could not be read or written.
    #[error("could not {action} the kernel map `{map}`")]
    Map {
        /// What was tried.
        action: &'static str,
        /// Which map.
        map: &'static str,
        /// Why it failed.
        source: libbpf_rs::Error,
    },
    /// Pinned maps of another layout are in place.
    #[error(
        "the mesh in this kernel was set up by another version of selvedge (map `{map}`: {found}, needed {needed}).\n\
         Stop its workloads and run `selvedge down` with that version, or `selvedge down` with this one, then start again."
    )]
    Layout {
        /// The first map that differs.
        map: String,
        /// What is there.
        found: String,
        /// What this version has.
        needed: String,
    },
    /// No cgroup2 file system is mounted.
    #[error(
        "no cgroup2 file system is mounted, and workloads are cgroups of it.\n\
         Mount one: mount -t cgroup2 none /sys/fs/cgroup/unified"
    )]
    NoCgroup2,
    /// The cgroup is another mesh's.
    #[error(
        "the cgroup {} is that of the mesh in {}.\n\
         Name another with --cgroup, or end that mesh: selvedge --run-dir {} down",
        cgroup.display(), owner.display(), owner.display()
    )]
    Taken {
        /// The cgroup's folder.
        cgroup: PathBuf,
        /// The run folder of the mesh that has it.
        owner: PathBuf,
    },
    /// A cgroup that cannot be a workload.
    #[error("the cgroup {} is the mesh's own, or around it, and cannot be a workload", cgroup.display())]
    OwnCgroup {
        /// The cgroup's folder.
        cgroup: PathBuf,
    },
    /// Processes that appear as fast as they are moved.
    #[error("processes in {} start others faster than they can be moved out of it", folder.display())]
    Restless {
        /// The cgroup's folder.
        folder: PathBuf,
    },
    /// The cgroup is no mesh's.
    #[error(
        "the cgroup {} was made by somebody else, and is in use.\n\
         Name one that is not there with --cgroup",
        cgroup.display()
    )]
    Foreign {
        /// The cgroup's folder.
        cgroup: PathBuf,
    },
    /// Not the rights to do it.
    #[error("selvedge needs root here: it {needs}.\nTry: sudo {command}")]
    NotRoot {
        /// What for.
        needs: &'static str,
        /// What to type.
        command: String,
    },
    /// A process that was to be placed is no more.
    #[error("process {pid} has ended before it was placed")]
    Ended {
        /// Which process.
        pid: i32,
    },
}

impl Error {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    pub(crate) fn map(
        action: &'static str,
        map: &'static str,
    ) -> impl FnOnce(libbpf_rs::Error) -> Self {
        move |source| Self::Map {
            action,
            map,
            source,
        }
    }
}
