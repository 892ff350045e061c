//! Ports for programs that must be told where to listen.
//!
//! A port found by binding port 0 and closing again may be taken by anyone the next moment, and with
//! `SO_REUSEPORT` two programs would even share it unnoticed. So a [`Port`] is taken from below the range that
//! the kernel hands out by itself, and held against other tests by a lock on a file until it is dropped.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

/// A port that no other test uses while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

const LOWEST: u16 = 10_240;

impl Port {
    /// Reserves a port that is free for TCP and UDP on every local address.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn reserve() -> Self {
        let locks = std::env::temp_dir().join(format!("fathom-test-ports-{}", user()));
        fs::create_dir_all(&locks).unwrap();
        let highest = lowest_automatic().clamp(LOWEST + 1000, 32_768);
        for attempt in 0..10_000_u64 {
            let spread = RandomState::new().hash_one(attempt) % u64::from(highest - LOWEST);
            let number = LOWEST + u16::try_from(spread).unwrap();
            let lock = File::create(locks.join(number.to_string())).unwrap();
            if lock.try_lock().is_ok() && is_free(number) {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port between {LOWEST} and {highest}");
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1` with this port.
    #[must_use]
    pub fn v4(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    /// `[::1]` with this port.
    #[must_use]
    pub fn v6(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, self.number).into()
    }
}

fn is_free(port: u16) -> bool {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let taken = |e: &std::io::Error| e.kind() == std::io::ErrorKind::AddrInUse;
    // A machine without IPv6 refuses for another reason.
    [v4, v6].into_iter().all(|address| {
        !TcpListener::bind(address).is_err_and(|e| taken(&e))
            && !UdpSocket::bind(address).is_err_and(|e| taken(&e))
    })
}

/// The lowest port that the kernel hands out by itself.
fn lowest_automatic() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Whether IPv6 works on loopback here.
#[must_use]
pub fn has_v6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_differ_and_can_be_bound() {
        let (a, b) = (Port::reserve(), Port::reserve());
        assert_ne!(a.number(), b.number());
        assert!(TcpListener::bind(a.v4()).is_ok());
    }
}
