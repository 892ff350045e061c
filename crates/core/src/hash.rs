//! Stable hashing of keys: the same on every machine, in every run, of every version.
//!
//! Two balancers with one configuration must send one client to the same server.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Of keys; changing it moves every client of every `hash` pool.
const SEED: u64 = 0x4661_7468_6f6d_0001;

/// Hash of some bytes (XXH3, seeded).
#[must_use]
pub fn bytes(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}

/// Hash of an address; an IPv4 address and its IPv6-mapped form are the same.
#[must_use]
pub fn ip(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => bytes(&v4.octets()),
        IpAddr::V6(v6) => bytes(&v6.octets()),
    }
}

/// Hash of an address and port.
#[must_use]
pub fn socket(address: SocketAddr) -> u64 {
    let octets = match address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => Ipv6Addr::octets(&v6),
    };
    let mut key = [0; 18];
    key[..16].copy_from_slice(&octets);
    key[16..].copy_from_slice(&address.port().to_be_bytes());
    bytes(&key)
}

/// Spreads a number over all 64 bits (splitmix64's finalizer); for deriving further draws from one.
#[must_use]
pub const fn mix(x: u64) -> u64 {
    fathom_balance::mix(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pinned: a change of these numbers moves clients between servers at an upgrade.
    #[test]
    fn values_are_pinned() {
        assert_eq!(ip("192.0.2.1".parse().unwrap()), bytes(&[192, 0, 2, 1]));
        assert_eq!(
            ip("::ffff:192.0.2.1".parse().unwrap()),
            ip("192.0.2.1".parse().unwrap())
        );
        assert_eq!(
            socket("[::ffff:192.0.2.1]:80".parse().unwrap()),
            socket("192.0.2.1:80".parse().unwrap())
        );
        assert_ne!(
            socket("192.0.2.1:80".parse().unwrap()),
            socket("192.0.2.1:81".parse().unwrap())
        );
        assert_eq!(bytes(b"fathom"), 4_899_315_385_462_738_942);
    }
}
