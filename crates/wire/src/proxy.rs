//! The PROXY protocol, versions 1 and 2, sans-IO: bytes in, a [`Header`] out, and the other way round.
//!
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, "the specification" below. Who may send a header is
//! not decided here; the front asks for one from the peers that the configuration names and hands the bytes over.

mod encode;
mod tlv;
mod v1;
mod v2;

use core::fmt;
use core::net::SocketAddr;

pub use encode::{V2, encode_v1, encode_v2};
pub use tlv::{Tlv, Tlvs, kind};

/// Longest header that is accepted, of either version: a version 2 header carries at most this many bytes in all.
///
/// The format allows 64 KiB. What real senders put in (addresses, authority, a client certificate) fits in far less, and
/// the bytes wait in memory for a peer that has not said anything yet.
pub const MAX_LEN: usize = 16 * 1024;

/// What [`parse`] made of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
// Read once and taken apart at once.
#[allow(clippy::large_enum_variant)]
pub enum Parsed<'a> {
    /// A whole header.
    Complete {
        /// What it says.
        header: Header<'a>,
        /// Its bytes; what follows them belongs to the connection.
        len: usize,
    },
    /// A good beginning: read more and parse again from the start.
    Incomplete,
    /// Not a header, or a wrong one: the connection has to be closed.
    Invalid(Reason),
}

/// A header of either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Which format it came in.
    pub version: Version,
    /// On whose behalf the connection was made.
    pub command: Command,
    /// The two ends of the original connection.
    pub addresses: Addresses,
    /// Version 2's further fields; empty in version 1 and with [`Command::Local`].
    pub tlvs: Tlvs<'a>,
}

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version {
    V1,
    V2,
}

/// On whose behalf the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// By the sender itself (a health check): the connection's own addresses hold.
    Local,
    /// For somebody else, whose addresses follow.
    Proxy,
}

/// The two ends of the original connection.
#[derive(Clone, Debug, PartialEq, Eq)]
// One is made per connection and taken apart at once; a box would cost more than the copy.
#[allow(clippy::large_enum_variant)]
pub enum Addresses {
    /// Not known, or not of a family that can be told: the connection's own addresses hold.
    Unknown,
    /// IPv4 or IPv6; both of the same family.
    Ip {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
        /// What the original connection was.
        transport: Transport,
    },
    /// Unix sockets.
    Unix {
        /// The client's path.
        source: UnixPath,
        /// The path the client connected to.
        destination: UnixPath,
        /// What the original connection was.
        transport: Transport,
    },
}

/// What the original connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transport {
    Unspecified,
    Stream,
    Datagram,
}

/// A unix socket's path as the header carries it: 108 bytes, the rest zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnixPath(pub [u8; 108]);

impl UnixPath {
    /// The path, up to its first zero byte. (An abstract name begins with one; it is kept whole.)
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let from = usize::from(self.0[0] == 0);
        let end = self.0[from..]
            .iter()
            .position(|&b| b == 0)
            .map_or(self.0.len(), |n| n + from);
        &self.0[..end]
    }
}

impl fmt::Debug for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// They begin with neither version's signature.
    NoSignature,
    /// Longer than the version allows, or than [`MAX_LEN`].
    TooLong,
    /// A version 1 line that is not `PROXY TCP4|TCP6|UNKNOWN ...\r\n`.
    Line,
    /// A version 1 address or port that is none.
    Address,
    /// A version nibble other than 2, or a command that does not exist.
    VersionOrCommand,
    /// A family or transport that does not exist.
    Family,
    /// The length is less than the family's addresses need.
    TooShort,
    /// A TLV reaches past the header's end.
    Tlv,
    /// The CRC32C does not match, is there twice, or is not four bytes.
    Checksum,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSignature => "no PROXY protocol signature",
            Self::TooLong => "the header is too long",
            Self::Line => "malformed version 1 line",
            Self::Address => "malformed address or port",
            Self::VersionOrCommand => "unknown version or command",
            Self::Family => "unknown address family or transport",
            Self::TooShort => "the header is too short for its addresses",
            Self::Tlv => "a TLV reaches past the header's end",
            Self::Checksum => "the CRC32C does not match",
        })
    }
}

impl core::error::Error for Reason {}

/// Reads a header of either version from the start of `bytes`.
///
/// Any split of the input gives the same: as long as [`Parsed::Incomplete`] is answered, call it again with more.
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    match bytes.first() {
        None => Parsed::Incomplete,
        Some(b'P') => v1::parse(bytes),
        Some(b'\r') => v2::parse(bytes),
        Some(_) => Parsed::Invalid(Reason::NoSignature),
    }
}

/// Whether `bytes` begins with `signature`: `None` while it is too short to say.
fn signed(bytes: &[u8], signature: &[u8]) -> Option<bool> {
    let n = bytes.len().min(signature.len());
    if bytes[..n] != signature[..n] {
        return Some(false);
    }
    (n == signature.len()).then_some(true)
}
