//! Version 2: twelve bytes of signature, four of head, addresses, TLVs.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Addresses, Command, Header, MAX_LEN, Parsed, Reason, Tlvs, Transport, UnixPath, Version, kind,
    signed,
};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
pub(super) const HEAD: usize = 16;

pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    match signed(bytes, &SIGNATURE) {
        None => return Parsed::Incomplete,
        Some(false) => return Parsed::Invalid(Reason::NoSignature),
        Some(true) => {}
    }
    // Wrong heads are refused at their first wrong byte, not when the length they claim has come.
    let Some(&version_command) = bytes.get(12) else {
        return Parsed::Incomplete;
    };
    let command = match version_command {
        0x20 => Command::Local,
        0x21 => Command::Proxy,
        _ => return Parsed::Invalid(Reason::VersionOrCommand),
    };
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return Parsed::Incomplete;
    };
    let len = HEAD + usize::from(u16::from_be_bytes([head[14], head[15]]));
    if len > MAX_LEN {
        return Parsed::Invalid(Reason::TooLong);
    }
    let Some(whole) = bytes.get(..len) else {
        return Parsed::Incomplete;
    };
    let body = match command {
        // The specification, on LOCAL: "the receiver must [...] discard the protocol block including the family which is
        // ignored".
        Command::Local => Ok((Addresses::Unknown, Tlvs::EMPTY)),
        Command::Proxy => body(whole, head[13]),
    };
    match body {
        Ok((addresses, tlvs)) => Parsed::Complete {
            header: Header {
                version: Version::V2,
                command,
                addresses,
                tlvs,
            },
            len,
        },
        Err(reason) => Parsed::Invalid(reason),
    }
}

fn body(whole: &[u8], family: u8) -> Result<(Addresses, Tlvs<'_>), Reason> {
    let transport = match family & 0x0f {
        0 => Transport::Unspecified,
        1 => Transport::Stream,
        2 => Transport::Datagram,
        _ => return Err(Reason::Family),
    };
    let mut rest = &whole[HEAD..];
    let addresses = match family >> 4 {
        0 => Addresses::Unknown,
        1 => {
            let (source, destination) = (take::<4>(&mut rest)?, take::<4>(&mut rest)?);
            ip(
                Ipv4Addr::from(source),
                Ipv4Addr::from(destination),
                transport,
                &mut rest,
            )?
        }
        2 => {
            let (source, destination) = (take::<16>(&mut rest)?, take::<16>(&mut rest)?);
            ip(
                Ipv6Addr::from(source),
                Ipv6Addr::from(destination),
                transport,
                &mut rest,
            )?
        }
        3 => Addresses::Unix {
            source: UnixPath(take(&mut rest)?),
            destination: UnixPath(take(&mut rest)?),
            transport,
        },
        _ => return Err(Reason::Family),
    };
    let tlvs = Tlvs::new(rest).ok_or(Reason::Tlv)?;
    verify(whole, tlvs)?;
    Ok((addresses, tlvs))
}

fn ip<A: Into<core::net::IpAddr>>(
    source: A,
    destination: A,
    transport: Transport,
    rest: &mut &[u8],
) -> Result<Addresses, Reason> {
    let source = SocketAddr::new(source.into(), u16::from_be_bytes(take(rest)?));
    let destination = SocketAddr::new(destination.into(), u16::from_be_bytes(take(rest)?));
    Ok(Addresses::Ip {
        source,
        destination,
        transport,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Reason> {
    let (&head, tail) = rest.split_first_chunk::<N>().ok_or(Reason::TooShort)?;
    *rest = tail;
    Ok(head)
}

/// The specification, 2.2.3: "If the checksum is provided as part of the PROXY header and the checksum functionality is
/// supported by the receiver, the receiver MUST verify". It covers the whole header with its own four bytes as zero.
fn verify(whole: &[u8], tlvs: Tlvs<'_>) -> Result<(), Reason> {
    let mut sums = tlvs.filter(|t| t.kind == kind::CRC32C);
    let Some(sum) = sums.next() else {
        return Ok(());
    };
    let claimed = <[u8; 4]>::try_from(sum.value).map_err(|_| Reason::Checksum)?;
    if sums.next().is_some() {
        return Err(Reason::Checksum);
    }
    // `value` is a part of `whole`, so the distance of their starts is where it stands.
    let at = sum.value.as_ptr().addr() - whole.as_ptr().addr();
    let crc = crc32c::crc32c(&whole[..at]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    let crc = crc32c::crc32c_append(crc, &whole[at + 4..]);
    if crc == u32::from_be_bytes(claimed) {
        Ok(())
    } else {
        Err(Reason::Checksum)
    }
}
