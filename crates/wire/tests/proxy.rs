//! The PROXY protocol: what is taken, what is refused, and that no split and no bytes surprise it.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use fathom_wire::proxy::{
    Addresses, Command, MAX_LEN, Parsed, Reason, Tlvs, Transport, UnixPath, V2, Version, encode_v1,
    encode_v2, kind, parse,
};
use proptest::prelude::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(head: [u8; 2], len: u16, rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, &head, &len.to_be_bytes(), rest].concat()
}

fn v2_whole(head: [u8; 2], rest: &[u8]) -> Vec<u8> {
    v2(head, rest.len() as u16, rest)
}

fn tcp(source: &str, destination: &str) -> Addresses {
    Addresses::Ip {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        transport: Transport::Stream,
    }
}

/// For every input, each shorter beginning must be incomplete or say what the whole says.
fn assert_splits(bytes: &[u8]) {
    let whole = parse(bytes);
    for n in 0..bytes.len() {
        let part = parse(&bytes[..n]);
        assert!(
            part == Parsed::Incomplete || part == whole,
            "{:?} at {n}: {part:?}, whole {whole:?}",
            bytes.escape_ascii().to_string()
        );
    }
}

#[test]
fn version_1_lines() {
    let good: &[(&str, Addresses)] = &[
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            tcp("192.0.2.1:56324", "198.51.100.2:443"),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            tcp("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 0 80\r\n",
            tcp("[2001:db8::1]:0", "[::1]:80"),
        ),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            tcp(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ),
        ("PROXY UNKNOWN\r\n", Addresses::Unknown),
        ("PROXY UNKNOWN whatever it says\r\n", Addresses::Unknown),
    ];
    for (line, addresses) in good {
        let bytes = [line.as_bytes(), b"GET / HTTP/1.1\r\n"].concat();
        let Parsed::Complete { header, len } = parse(&bytes) else {
            panic!("{line}: {:?}", parse(&bytes))
        };
        assert_eq!(
            (len, header.version, header.command),
            (line.len(), Version::V1, Command::Proxy),
            "{line}"
        );
        assert_eq!(&header.addresses, addresses, "{line}");
        assert_splits(&bytes);
    }
}

#[test]
fn version_1_refused() {
    let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 15));
    let bad: &[(&str, Reason)] = &[
        ("GET / HTTP/1.1\r\n", Reason::NoSignature),
        ("PROXYTCP4", Reason::NoSignature),
        ("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Reason::NoSignature),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", Reason::Line),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX", Reason::Line),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Reason::Line),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Reason::Line),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", Reason::Line),
        ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", Reason::Address),
        ("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", Reason::Address),
        ("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", Reason::Line),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", Reason::Address),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", Reason::Address),
        ("PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n", Reason::Address),
        ("PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", Reason::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", Reason::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Reason::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", Reason::Address),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", Reason::Address),
        ("PROXY UNKNOWNX\r\n", Reason::Line),
        ("PROXY \r\n", Reason::Line),
        (&too_long, Reason::TooLong),
    ];
    for (line, reason) in bad {
        assert_eq!(parse(line.as_bytes()), Parsed::Invalid(*reason), "{line}");
        assert_splits(line.as_bytes());
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert!(matches!(
        parse(longest.as_bytes()),
        Parsed::Complete { len: 107, .. }
    ));
}

#[test]
fn version_2_headers() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];
    let bytes = v2_whole([0x21, 0x11], &v4);
    let Parsed::Complete { header, len } = parse(&bytes) else {
        panic!()
    };
    assert_eq!(
        (header.addresses, len),
        (tcp("192.0.2.1:56324", "198.51.100.2:443"), 28)
    );

    let bytes = v2_whole([0x21, 0x12], &v4);
    let Parsed::Complete { header, .. } = parse(&bytes) else {
        panic!()
    };
    assert!(matches!(
        header.addresses,
        Addresses::Ip {
            transport: Transport::Datagram,
            ..
        }
    ));

    let mut v6 = [0u8; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[35] = 80;
    let bytes = v2_whole([0x21, 0x21], &v6);
    let Parsed::Complete { header, .. } = parse(&bytes) else {
        panic!()
    };
    assert_eq!(header.addresses, tcp("[::1]:0", "[::2]:80"));

    let mut unix = [0u8; 216];
    unix[..6].copy_from_slice(b"/run/a");
    unix[108..114].copy_from_slice(b"\0abstr");
    let bytes = v2_whole([0x21, 0x31], &unix);
    let Parsed::Complete { header, .. } = parse(&bytes) else {
        panic!()
    };
    let Addresses::Unix {
        source,
        destination,
        ..
    } = header.addresses
    else {
        panic!()
    };
    assert_eq!(
        (source.as_bytes(), destination.as_bytes()),
        (&b"/run/a"[..], &b"\0abstr"[..])
    );

    // Unspecified family: only fields follow.
    let bytes = v2_whole([0x21, 0x00], &[0x05, 0, 2, b'i', b'd']);
    let Parsed::Complete { header, .. } = parse(&bytes) else {
        panic!()
    };
    assert_eq!(header.addresses, Addresses::Unknown);
    assert_eq!(header.tlvs.find(kind::UNIQUE_ID), Some(&b"id"[..]));

    // LOCAL: the rest is skipped, whatever it is.
    for rest in [&b""[..], b"anything", &v4] {
        let bytes = v2_whole([0x20, 0xff], rest);
        let Parsed::Complete { header, len } = parse(&bytes) else {
            panic!()
        };
        assert_eq!(
            (header.command, header.addresses, len),
            (Command::Local, Addresses::Unknown, 16 + rest.len())
        );
        assert_splits(&bytes);
    }
}

#[test]
fn version_2_refused() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];
    let with = |tlvs: &[u8]| v2_whole([0x21, 0x11], &[&v4[..], tlvs].concat());
    let bad: Vec<(&str, Vec<u8>, Reason)> = vec![
        (
            "signature",
            b"\r\n\r\n\0\r\nQUIX\n".to_vec(),
            Reason::NoSignature,
        ),
        (
            "version 1 in 2",
            v2([0x11, 0x11], 12, &v4),
            Reason::VersionOrCommand,
        ),
        (
            "version 3",
            v2([0x31, 0x11], 12, &v4),
            Reason::VersionOrCommand,
        ),
        (
            "command",
            v2([0x22, 0x11], 12, &v4),
            Reason::VersionOrCommand,
        ),
        ("family", v2_whole([0x21, 0x41], &v4), Reason::Family),
        ("transport", v2_whole([0x21, 0x13], &v4), Reason::Family),
        (
            "short v4",
            v2_whole([0x21, 0x11], &v4[..11]),
            Reason::TooShort,
        ),
        (
            "short v6",
            v2_whole([0x21, 0x21], &[0; 35]),
            Reason::TooShort,
        ),
        (
            "short unix",
            v2_whole([0x21, 0x31], &[0; 215]),
            Reason::TooShort,
        ),
        ("too long", v2([0x21, 0x11], u16::MAX, &v4), Reason::TooLong),
        ("tlv head", with(&[1, 0]), Reason::Tlv),
        ("tlv value", with(&[1, 0, 2, 9]), Reason::Tlv),
        ("crc length", with(&[3, 0, 3, 1, 2, 3]), Reason::Checksum),
        ("crc wrong", with(&[3, 0, 4, 1, 2, 3, 4]), Reason::Checksum),
        (
            "crc twice",
            with(&[3, 0, 4, 1, 2, 3, 4, 3, 0, 4, 1, 2, 3, 4]),
            Reason::Checksum,
        ),
    ];
    for (name, bytes, reason) in bad {
        assert_eq!(parse(&bytes), Parsed::Invalid(reason), "{name}");
        assert_splits(&bytes);
    }
}

#[test]
fn checksum_is_last_and_covers_every_byte() {
    let mut out = b"before".to_vec();
    let tlvs = [
        0x05, 0, 2, b'i', b'd', 0x03, 0, 4, 1, 2, 3, 4, 0x04, 0, 1, 0, 0x02, 0, 1, b'x',
    ];
    encode_v2(
        &V2 {
            addresses: tcp("192.0.2.1:1", "192.0.2.2:2"),
            authority: Some(b"example.com"),
            alpn: None,
        },
        Tlvs::new(&tlvs).unwrap(),
        &mut out,
    );
    let bytes = &out[6..];
    let Parsed::Complete { header, len } = parse(bytes) else {
        panic!("{:?}", parse(bytes))
    };
    assert_eq!(len, bytes.len());
    let kinds: Vec<u8> = header.tlvs.map(|t| t.kind).collect();
    assert_eq!(kinds, [kind::AUTHORITY, kind::UNIQUE_ID, kind::CRC32C]);
    assert_eq!(header.tlvs.find(kind::AUTHORITY), Some(&b"example.com"[..]));
    for at in 16..bytes.len() {
        let mut wrong = bytes.to_vec();
        wrong[at] ^= 0x40;
        // A flipped length or kind may also break the fields; it must never pass with all addresses in place.
        match parse(&wrong) {
            Parsed::Invalid(_) => {}
            Parsed::Complete { header, .. } => {
                // The checksum's own kind byte was hit: there is none any more.
                assert!(header.tlvs.find(kind::CRC32C).is_none(), "byte {at}");
            }
            Parsed::Incomplete => panic!("byte {at}"),
        }
    }
}

#[test]
fn encoding_mixed_families() {
    let mut out = Vec::new();
    encode_v1(
        "192.0.2.1:1".parse().unwrap(),
        "[2001:db8::1]:2".parse().unwrap(),
        &mut out,
    );
    assert_eq!(out, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n");
    out.clear();
    encode_v1(
        "[::ffff:192.0.2.1]:1".parse().unwrap(),
        "192.0.2.2:2".parse().unwrap(),
        &mut out,
    );
    assert_eq!(out, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
}

#[test]
fn too_many_fields_are_left_out_not_sent_broken() {
    let many: Vec<u8> = std::iter::repeat_n([0x30, 0, 4, 1, 2, 3, 4], 4000)
        .flatten()
        .collect();
    let mut out = Vec::new();
    let tlvs = Tlvs::new(&many).unwrap();
    encode_v2(
        &V2 {
            addresses: Addresses::Unknown,
            authority: None,
            alpn: None,
        },
        tlvs,
        &mut out,
    );
    assert!(out.len() <= MAX_LEN);
    assert!(matches!(parse(&out), Parsed::Complete { len, .. } if len == out.len()));
}

fn ip4() -> impl Strategy<Value = SocketAddr> {
    (any::<u32>(), any::<u16>()).prop_map(|(a, p)| SocketAddr::new(Ipv4Addr::from(a).into(), p))
}

fn ip6() -> impl Strategy<Value = SocketAddr> {
    (any::<u128>(), any::<u16>())
        .prop_map(|(a, p)| SocketAddr::new(Ipv6Addr::from(a | 1 << 100).into(), p))
}

fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    prop_oneof![(ip4(), ip4()), (ip6(), ip6())]
}

fn addresses() -> impl Strategy<Value = Addresses> {
    let transport = prop_oneof![
        Just(Transport::Unspecified),
        Just(Transport::Stream),
        Just(Transport::Datagram)
    ];
    let unix = proptest::array::uniform32(any::<u8>()).prop_map(|b| {
        let mut path = [0; 108];
        path[..32].copy_from_slice(&b);
        UnixPath(path)
    });
    prop_oneof![
        Just(Addresses::Unknown),
        (pair(), transport.clone()).prop_map(|((source, destination), transport)| Addresses::Ip {
            source,
            destination,
            transport
        }),
        (unix.clone(), unix, transport).prop_map(|(source, destination, transport)| {
            Addresses::Unix {
                source,
                destination,
                transport,
            }
        }),
    ]
}

/// Bytes that get past the signature more often than chance would.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let tail = proptest::collection::vec(any::<u8>(), 0..80);
    let text = "[A-Z0-9 .:\r\n]{0,120}".prop_map(String::into_bytes);
    prop_oneof![
        tail.clone(),
        (Just(b"PROXY ".to_vec()), text).prop_map(|(a, b)| [a, b].concat()),
        (Just(SIGNATURE.to_vec()), tail.clone()).prop_map(|(a, b)| [a, b].concat()),
        (0x20u8..=0x21, any::<u8>(), 0u16..100, tail).prop_map(|(c, f, n, t)| v2(
            [c, f & 0x33],
            n,
            &t
        )),
    ]
}

proptest! {
    #[test]
    fn any_bytes_any_split(bytes in nearly()) {
        assert_splits(&bytes);
    }

    #[test]
    fn v1_round_trip((source, destination) in pair(), tail in proptest::collection::vec(any::<u8>(), 0..8)) {
        let mut out = Vec::new();
        encode_v1(source, destination, &mut out);
        let n = out.len();
        prop_assert!(n <= 107);
        out.extend(tail);
        let expected = Addresses::Ip { source, destination, transport: Transport::Stream };
        match parse(&out) {
            Parsed::Complete { header, len } => { prop_assert_eq!(len, n); prop_assert_eq!(header.addresses, expected); }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn v2_round_trip(
        addresses in addresses(),
        fields in proptest::collection::vec((5u8..=255, proptest::collection::vec(any::<u8>(), 0..20)), 0..6),
        authority in proptest::option::of("[a-z.]{1,30}"),
        tail in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut raw = Vec::new();
        for (kind, value) in &fields {
            raw.push(*kind);
            raw.extend((value.len() as u16).to_be_bytes());
            raw.extend(value);
        }
        let mut out = Vec::new();
        let authority = authority.as_deref().map(str::as_bytes);
        encode_v2(&V2 { addresses: addresses.clone(), authority, alpn: Some(b"h2") }, Tlvs::new(&raw).unwrap(), &mut out);
        let n = out.len();
        out.extend(tail);
        assert_splits(&out);
        match parse(&out) {
            Parsed::Complete { header, len } => {
                prop_assert_eq!(len, n);
                prop_assert_eq!(header.addresses, addresses);
                prop_assert_eq!(header.tlvs.find(kind::ALPN), Some(&b"h2"[..]));
                prop_assert_eq!(header.tlvs.find(kind::AUTHORITY), authority);
                let passed: Vec<_> = header.tlvs.filter(|t| t.kind > 4).map(|t| (t.kind, t.value.to_vec())).collect();
                prop_assert_eq!(passed, fields);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
