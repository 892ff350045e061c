//! Version 1: one line of text.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Addresses, Command, Header, Parsed, Reason, Tlvs, Transport, Version, signed};

/// The specification: "a 108-byte buffer is always enough to store all the line and a trailing zero".
const MAX_LINE: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    match signed(bytes, b"PROXY ") {
        None => return Parsed::Incomplete,
        Some(false) => return Parsed::Invalid(Reason::NoSignature),
        Some(true) => {}
    }
    let window = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = window.iter().position(|&b| b == b'\n' || b == b'\r') else {
        return if bytes.len() < MAX_LINE {
            Parsed::Incomplete
        } else {
            Parsed::Invalid(Reason::TooLong)
        };
    };
    // A line ends with CR LF; either alone is an error, so that nobody disagrees on where the line ends.
    match (bytes[end], window.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if end + 1 < MAX_LINE => return Parsed::Incomplete,
        (b'\r', None) => return Parsed::Invalid(Reason::TooLong),
        _ => return Parsed::Invalid(Reason::Line),
    }
    match addresses(&bytes[6..end]) {
        Ok(addresses) => Parsed::Complete {
            header: Header {
                version: Version::V1,
                command: Command::Proxy,
                addresses,
                tlvs: Tlvs::EMPTY,
            },
            len: end + 2,
        },
        Err(reason) => Parsed::Invalid(reason),
    }
}

/// `TCP4 192.0.2.1 192.0.2.2 5000 80`.
fn addresses(line: &[u8]) -> Result<Addresses, Reason> {
    // The specification: "receivers must ignore anything presented before the CRLF is found" after UNKNOWN.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Addresses::Unknown);
    }
    let line = core::str::from_utf8(line).map_err(|_| Reason::Line)?;
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(Reason::Line);
    let (family, source, destination) = (word()?, word()?, word()?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Reason::Line);
    }
    let (source, destination) = match family {
        "TCP4" => (
            ip::<Ipv4Addr>(source)?.into(),
            ip::<Ipv4Addr>(destination)?.into(),
        ),
        "TCP6" => (
            ip::<Ipv6Addr>(source)?.into(),
            ip::<Ipv6Addr>(destination)?.into(),
        ),
        _ => return Err(Reason::Line),
    };
    Ok(Addresses::Ip {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
        transport: Transport::Stream,
    })
}

fn ip<A: core::str::FromStr>(text: &str) -> Result<A, Reason> {
    text.parse().map_err(|_| Reason::Address)
}

/// The specification: "exactly one space", "no leading zeroes", 0 to 65535.
fn port(text: &str) -> Result<u16, Reason> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(Reason::Address);
    }
    text.parse().map_err(|_| Reason::Address)
}
