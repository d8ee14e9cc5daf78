//! Why the proxy cannot run. Once it serves, failures are of one query or one connection and are
//! counted, not raised.

use std::io;

/// Why the proxy cannot run or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Rights could not be given up.
    #[error("cannot give up {what}")]
    Rights {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The list of allowed system calls could not be put in force.
    #[error("cannot confine the process to the system calls it needs")]
    Filter(#[from] FilterError),
    /// No runtime or thread.
    #[error("cannot start the {what}")]
    Start {
        /// Which thread.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A listening socket cannot be served any more.
    #[error("cannot serve {address}")]
    Serve {
        /// Where it listens.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread that follows the feed ended, which it never should.
    #[error("the feed thread has ended")]
    FeedThread,
    /// A thread that takes datagrams has ended or hangs, which it never should.
    #[error("a thread of the resolver does not take the next socket")]
    ReceiverThread,
    /// A thread that serves connections to services has ended, which it never should.
    #[error("a worker of the proxy path has ended")]
    WorkerThread,
    /// A task or thread that serves a socket panicked.
    #[error("a task of the resolver panicked")]
    Panicked,
}

/// Why there is no system call filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// It could not be built or installed.
    #[error(transparent)]
    Seccomp(#[from] seccompiler::Error),
    /// It could not be built.
    #[error(transparent)]
    Backend(#[from] seccompiler::BackendError),
}
