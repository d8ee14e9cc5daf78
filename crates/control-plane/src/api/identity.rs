//! Who a peer is, by the kernel and by the host's user database.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;

use crate::host::Peer;
use crate::permission::Identity;

/// Asks the kernel who connected.
pub(super) fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    let (uid, gid) = (credentials.uid(), credentials.gid());
    // 0 is a process of another pid namespace, which has no number here.
    let pid = credentials.pid().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the kernel names no process"))?;
    let process = match getsockopt(stream, PeerPidfd) {
        // Linux before 6.5.
        Err(Errno::ENOPROTOOPT) => process_by_number(pid, uid, stream)?,
        process => process?,
    };
    Ok(Peer {
        uid,
        gid,
        pid: pid.as_raw_nonzero().get(),
        process: Arc::new(process),
    })
}

/// The peer by its number, which is another's if the peer has ended meanwhile.
///
/// As a rule it lives while its connection is open. Who hands the connection on to another process
/// and ends can make this find a stranger, but only one of the same user, and gains nothing by it.
fn process_by_number(pid: Pid, uid: u32, connection: impl AsFd) -> io::Result<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    if is_closed(connection)? {
        return Err(io::Error::other("it is closed already"));
    }
    if effective_uid(pid)? != Some(uid) {
        let what = format!("process {pid} is not of user {uid}, who connected");
        return Err(io::Error::other(what));
    }
    Ok(process)
}

fn is_closed(connection: impl AsFd) -> io::Result<bool> {
    let mut polled = [PollFd::new(&connection, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut polled, Some(&at_once))?;
    Ok(polled[0].revents().contains(PollFlags::HUP))
}

/// The user whose rights a process has (`Uid:` of proc_pid_status(5) is real, effective, ...).
fn effective_uid(pid: Pid) -> io::Result<Option<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut lines = status.lines();
    let uids = lines.find_map(|line| line.strip_prefix("Uid:"));
    Ok(uids.and_then(|uids| uids.split_whitespace().nth(1)?.parse().ok()))
}

/// Looks a peer up. A user that the database does not know has its number and its group alone.
pub(super) fn of(peer: &Peer) -> Identity {
    let user = User::from_uid(Uid::from_raw(peer.uid)).ok().flatten();
    let mut groups = vec![peer.gid];
    if let Some(user) = &user
        && let Ok(name) = CString::new(user.name.as_str())
        && let Ok(more) = getgrouplist(&name, user.gid)
    {
        groups.extend(more.into_iter().map(Gid::as_raw));
    }
    groups.sort_unstable();
    groups.dedup();
    let named = |gid| {
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        (gid, group.map(|group| group.name))
    };
    Identity {
        uid: peer.uid,
        user: user.map(|user| user.name),
        groups: groups.into_iter().map(named).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    /// A process of which only the number is known is taken for the peer only where it is the same
    /// user's and the connection is still open.
    #[test]
    fn a_number_alone_is_looked_at_closely() {
        // First, since for a moment it has copies of all that is open.
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        let pid = Pid::from_child(&child);
        let own = rustix::process::geteuid().as_raw();
        let by_number = |uid| process_by_number(pid, uid, &near);
        let found = by_number(own);
        let other = by_number(own + 1);
        drop(far);
        let closed = by_number(own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.is_ok(), "{found:?}");
        assert!(other.unwrap_err().to_string().contains("user"));
        assert!(closed.unwrap_err().to_string().contains("closed"));
        let (near, _far) = UnixStream::pair().unwrap();
        assert!(process_by_number(pid, own, &near).is_err(), "it has ended");
    }

    /// The pidfd is that of the process that connected.
    #[tokio::test]
    async fn the_peer_is_who_connected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let _own = UnixStream::connect(&path).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let peer = peer(&stream).unwrap();
        assert_eq!(peer.pid, std::process::id() as i32);
        let info = format!("/proc/self/fdinfo/{}", peer.process.as_raw_fd());
        let info = fs::read_to_string(info).unwrap();
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
        assert_eq!(pid.unwrap().trim(), peer.pid.to_string());
    }
}
