//! Who a peer is, by the host's user database.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use crate::host::Peer;
use crate::permission::Identity;

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
