//! Users of this host, read from `/etc/passwd` and `/etc/group` (passwd(5), group(5)).

use std::collections::BTreeSet;
use std::fs;

use anyhow::Context;
use selvedge_node::ProxyUser;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Every group, the first one included.
    pub(crate) groups: Vec<u32>,
}

/// The user with this name or number.
pub(crate) fn find(user: &str) -> anyhow::Result<Account> {
    let passwd = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
    let group = fs::read_to_string("/etc/group").context("could not read /etc/group")?;
    find_in(&passwd, &group, user)
        .with_context(|| format!("there is no user `{user}` on this host"))
}

fn find_in(passwd: &str, group: &str, user: &str) -> Option<Account> {
    let mut account = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        (name == user || uid == user).then_some(Account {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            groups: Vec::new(),
        })
    })?;
    account.groups.push(account.gid);
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields[..] else {
            continue;
        };
        let Ok(gid) = gid.parse() else { continue };
        let is_member = members.split(',').any(|member| member == account.name);
        if is_member && !account.groups.contains(&gid) {
            account.groups.push(gid);
        }
    }
    Some(account)
}

/// The number of the group with this name.
pub(crate) fn group(name: &str) -> Option<u32> {
    let text = fs::read_to_string("/etc/group").ok()?;
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// The user that the package makes for the proxy.
const PROXY_ACCOUNT: &str = "selvedge-proxy";

/// Whom the proxy runs as: its own account or, where nobody has made one, a user number that
/// nobody has, out of the range that systemd keeps for such users.
pub(crate) fn proxy_user() -> anyhow::Result<ProxyUser> {
    if let Ok(account) = find(PROXY_ACCOUNT) {
        return Ok(ProxyUser {
            uid: account.uid,
            gid: account.gid,
        });
    }
    let taken = taken_numbers();
    let free = (61_184..=65_519)
        .rev()
        .find(|number| !taken.contains(number));
    let uid = free.context("no user number is free for the proxy")?;
    Ok(ProxyUser { uid, gid: uid })
}

/// Numbers of users and groups that are in the databases, that processes run as, or that systemd
/// has given out.
fn taken_numbers() -> BTreeSet<u32> {
    let mut taken = BTreeSet::new();
    for file in ["/etc/passwd", "/etc/group"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        taken.extend(
            text.lines()
                .filter_map(|line| line.split(':').nth(2)?.parse::<u32>().ok()),
        );
    }
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in folders {
        let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
        let users = status
            .lines()
            .filter(|line| line.starts_with("Uid:") || line.starts_with("Gid:"));
        taken.extend(users.flat_map(|line| {
            line.split_whitespace()
                .filter_map(|word| word.parse::<u32>().ok())
        }));
    }
    let given_out = fs::read_dir("/run/systemd/dynamic-uid")
        .into_iter()
        .flatten()
        .flatten();
    taken.extend(given_out.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number_with_all_their_groups() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbroken\n";
        let group = "root:x:0:\nann:x:1000:\nweb:x:33:bob,ann\nsudo:x:27:annabel\n";
        let ann = find_in(passwd, group, "ann").unwrap();
        assert_eq!(
            (ann.uid, ann.gid, ann.groups.as_slice()),
            (1000, 1000, &[1000, 33][..])
        );
        assert_eq!(find_in(passwd, group, "1000"), Some(ann));
        assert_eq!(find_in(passwd, group, "bob"), None);
    }
}
