//! Giving up every right the proxy does not need, before it reads its first byte from outside.
//!
//! First, in the only thread there is: no new privileges, no core dump and no tracer, no capability.
//! Then, with all threads started: a list of system calls, for all of them. Neither files nor
//! programs can be opened after that, and no memory be made executable, so that a file system
//! sandbox (Landlock) would have nothing left to forbid. A call that is not on the list fails with
//! EPERM and does not kill: another C library may try one that we do not know and go on without.

use rustix::process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::error::{Error, FilterError};

/// Gives up rights. To be called before any thread is started, which then has no more.
pub(crate) fn shed_rights() -> Result<(), Error> {
    let rights = |what| {
        move |source: rustix::io::Errno| Error::Rights {
            what,
            source: source.into(),
        }
    };
    set_no_new_privs(true).map_err(rights("new privileges"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(rights("core dumps"))?;
    clear_ambient_capability_set().map_err(rights("ambient capabilities"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(rights("capabilities"))
}

/// Lets the process have as many descriptors as it may be given. Programs are started with few for the
/// sake of `select`, which is not used here.
pub(crate) fn allow_descriptors() -> Result<(), Error> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|source| Error::Rights {
        what: "the lower limit of descriptors",
        source: source.into(),
    })
}

/// Confines all threads of the process to the system calls they need.
pub(crate) fn filter_calls() -> Result<(), Error> {
    let program = allow_list().map_err(Error::Filter)?;
    seccompiler::apply_filter_all_threads(&program).map_err(|e| Error::Filter(e.into()))
}

/// System calls that are allowed whatever their arguments.
const ALLOWED: &[libc::c_long] = &[
    // Sockets and descriptors that are open already, or come over the feed socket.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_fcntl,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_ioctl,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory; see below for what makes it executable.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Chance.
    libc::SYS_getrandom,
    // Signals, panics and the end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

fn allow_list() -> Result<BpfProgram, FilterError> {
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    let families: Result<Vec<_>, _> = families.map(family_is).into_iter().collect();
    rules.insert(libc::SYS_socket, families?);
    rules.insert(libc::SYS_mmap, vec![not_executable()?]);
    rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?;
    Ok(filter.try_into()?)
}

fn family_is(family: i32) -> Result<SeccompRule, FilterError> {
    const FAMILY: u8 = 0;
    let family = u64::from(family.unsigned_abs());
    let condition =
        SeccompCondition::new(FAMILY, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn not_executable() -> Result<SeccompRule, FilterError> {
    const PROTECTION: u8 = 2;
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    let masked = SeccompCmpOp::MaskedEq(executable);
    let condition = SeccompCondition::new(PROTECTION, SeccompCmpArgLen::Dword, masked, 0)?;
    Ok(SeccompRule::new(vec![condition])?)
}
