//! Writing headers, for servers.

use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::net::{IpAddr, SocketAddr};

use super::v2::{HEAD, SIGNATURE};
use super::{Addresses, MAX_LEN, Tlv, Transport, kind};

/// What goes into a version 2 header.
#[derive(Clone, Debug)]
pub struct V2<'a> {
    /// The ends of the client's connection.
    pub addresses: Addresses,
    /// The name the client asked for (SNI); takes the place of one that is passed on.
    pub authority: Option<&'a [u8]>,
    /// The protocol agreed on by ALPN; takes the place of one that is passed on.
    pub alpn: Option<&'a [u8]>,
}

/// Appends a version 1 line for a TCP connection.
///
/// The line has one family: where the two differ, both are written as IPv6 (the IPv4 one mapped).
pub fn encode_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (source, destination) = same_family(source, destination);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    // Writing to a vector cannot fail.
    let _ = write!(
        Text(out),
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
}

/// Appends a version 2 header; its checksum is its last field. At most [`MAX_LEN`] bytes: fields that do not fit are left out.
///
/// `passed_on` are fields that came from the client's side; a checksum or padding among them is not passed on.
pub fn encode_v2<'a>(
    header: &V2<'_>,
    passed_on: impl IntoIterator<Item = Tlv<'a>>,
    out: &mut Vec<u8>,
) {
    const CHECKSUM: usize = 7;
    let start = out.len();
    out.extend_from_slice(&SIGNATURE);
    out.extend_from_slice(&[0x21, 0, 0, 0]);
    let family = addresses(&header.addresses, out);
    let field = |out: &mut Vec<u8>, kind: u8, value: &[u8]| {
        if out.len() - start + 3 + value.len() + CHECKSUM <= MAX_LEN {
            put(out, kind, value);
        }
    };
    if let Some(alpn) = header.alpn {
        field(out, kind::ALPN, alpn);
    }
    if let Some(authority) = header.authority {
        field(out, kind::AUTHORITY, authority);
    }
    for tlv in passed_on {
        let replaced = match tlv.kind {
            kind::CRC32C | kind::NOOP => true,
            kind::ALPN => header.alpn.is_some(),
            kind::AUTHORITY => header.authority.is_some(),
            _ => false,
        };
        if !replaced {
            field(out, tlv.kind, tlv.value);
        }
    }
    put(out, kind::CRC32C, &[0; 4]);
    let len = u16::try_from(out.len() - start - HEAD).expect("MAX_LEN is below 64 KiB");
    out[start + 13] = family;
    out[start + 14..start + 16].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c(&out[start..]).to_be_bytes();
    let end = out.len();
    out[end - 4..].copy_from_slice(&crc);
}

/// Appends the address block; the family byte for it.
fn addresses(addresses: &Addresses, out: &mut Vec<u8>) -> u8 {
    let low = |transport: &Transport| match transport {
        Transport::Unspecified => 0,
        Transport::Stream => 1,
        Transport::Datagram => 2,
    };
    match addresses {
        Addresses::Unknown => 0,
        Addresses::Ip {
            source,
            destination,
            transport,
        } => {
            let (source, destination) = same_family(*source, *destination);
            for addr in [source, destination] {
                match addr.ip() {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            for addr in [source, destination] {
                out.extend_from_slice(&addr.port().to_be_bytes());
            }
            low(transport) | if source.is_ipv4() { 0x10 } else { 0x20 }
        }
        Addresses::Unix {
            source,
            destination,
            transport,
        } => {
            out.extend_from_slice(&source.0);
            out.extend_from_slice(&destination.0);
            low(transport) | 0x30
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    // The caller keeps the whole header under MAX_LEN, so a value's length fits.
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

/// Both addresses in the plainest family that holds them.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (s, d) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let (s, d) = match (s, d) {
        (IpAddr::V4(s), IpAddr::V6(_)) => (s.to_ipv6_mapped().into(), d),
        (IpAddr::V6(_), IpAddr::V4(d)) => (s, d.to_ipv6_mapped().into()),
        same => same,
    };
    (
        SocketAddr::new(s, source.port()),
        SocketAddr::new(d, destination.port()),
    )
}

struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.extend_from_slice(s.as_bytes());
        Ok(())
    }
}
