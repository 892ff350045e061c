//! Admission: connections of a listener, connections and their rate by client.

mod connections;
mod rate;

use std::net::IpAddr;

pub use connections::{Connections, Guard};
pub use rate::Rates;

/// Who counts as one client: an IPv4 address, or an IPv6 network of 64 bits (what one customer commonly has).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// An address.
    V4(u32),
    /// The upper half of an address.
    V6(u64),
}

impl From<IpAddr> for ClientKey {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client() {
        for (a, b, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            let key = |s: &str| ClientKey::from(s.parse::<IpAddr>().unwrap());
            assert_eq!(key(a) == key(b), same, "{a} {b}");
        }
    }
}
