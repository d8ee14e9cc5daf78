//! Other meshes in this network namespace, as far as they publish ports there.
//!
//! A published TCP port has no listener that a bind of ours could meet. The kernel is asked and not
//! the other agent, since programs lead callers on while their agent is away. It knows a publication
//! once the service has a port to lead to. Nothing of another mesh is ever changed. Read next:
//! `bpf/inbound.bpf.c`.

use std::collections::BTreeSet;

use libbpf_rs::query::{
    LinkInfoIter, LinkTypeInfo, NetNsLinkInfo, ProgInfoIter, ProgInfoQueryOptions,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle, ProgramAttachType};
use zerocopy::IntoBytes;

use crate::abi;
use crate::error::Error;

/// Whether a mesh other than the one with the map `ours` (by id) publishes `key` in the network
/// namespace with the inode number `network`.
pub(crate) fn publishes(key: &abi::PublishedKey, network: u32, ours: u32) -> Result<bool, Error> {
    let lookups: BTreeSet<u32> = LinkInfoIter::default()
        .filter(|link| is_lookup_in(&link.info, network))
        .map(|link| link.prog_id)
        .collect();
    let with_maps = ProgInfoQueryOptions::default().include_map_ids(true);
    let maps: BTreeSet<u32> = ProgInfoIter::with_query_opts(with_maps)
        .filter(|program| lookups.contains(&program.id))
        .flat_map(|program| program.map_ids)
        .filter(|map| *map != ours)
        .collect();
    for id in maps {
        // Gone between the question and now: its mesh went down.
        let Ok(map) = MapHandle::from_map_id(id) else {
            continue;
        };
        let size = size_of::<abi::PublishedKey>() as u32;
        if map.name() != "published" || map.key_size() != size {
            continue;
        }
        let found = map
            .lookup(key.as_bytes(), MapFlags::ANY)
            .map_err(Error::map("read", "published, of another mesh"))?;
        if found.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_lookup_in(link: &LinkTypeInfo, network: u32) -> bool {
    matches!(
        link,
        LinkTypeInfo::NetNs(NetNsLinkInfo { ino, attach_type: ProgramAttachType::SkLookup, .. })
            if *ino == network
    )
}
