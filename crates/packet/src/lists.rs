//! Allow and deny lists: what the kernel has is made what the configuration says, entry by entry.

use std::collections::HashSet;

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, MapData};
use ipnet::IpNet;

use crate::Error;

/// A prefix of one listener: bits beyond the 32 of the listener's number, and both as bytes.
pub(crate) type Entry = (u32, [u8; 20]);

pub(crate) fn entry(listener: u32, net: &IpNet) -> Entry {
    let mut key = [0u8; 20];
    key[..4].copy_from_slice(&listener.to_ne_bytes());
    match net.network() {
        std::net::IpAddr::V4(a) => key[4..8].copy_from_slice(&a.octets()),
        std::net::IpAddr::V6(a) => key[4..20].copy_from_slice(&a.octets()),
    }
    (32 + u32::from(net.prefix_len()), key)
}

/// Adds what is missing first, then removes what is too much.
pub(crate) fn make(
    trie: &mut LpmTrie<MapData, [u8; 20], u32>,
    wanted: &HashSet<Entry>,
    what: &str,
) -> Result<(), Error> {
    let present: HashSet<Entry> = trie
        .keys()
        .filter_map(Result::ok)
        .map(|k| (k.prefix_len(), k.data()))
        .collect();
    for (bits, data) in wanted.difference(&present) {
        trie.insert(&Key::new(*bits, *data), 1, 0)
            .map_err(|e| Error::Full {
                what: format!("the {what} lists: {e}"),
            })?;
    }
    for (bits, data) in present.difference(wanted) {
        let _ = trie.remove(&Key::new(*bits, *data));
    }
    Ok(())
}
