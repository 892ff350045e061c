//! The ClientHello peek: what is read out of it, what is refused, and that no split and no bytes surprise it.
#![allow(clippy::unwrap_used)]

use fathom_wire::client_hello::{Hello, MAX_LEN, Parsed, Peek, Reason, parse};
use proptest::prelude::*;

fn vector16(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes()[..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn sni(name: &str) -> Vec<u8> {
    extension(
        0,
        &vector16(&[&[0][..], &vector16(name.as_bytes())].concat()),
    )
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|n| [&[n.len() as u8][..], n.as_bytes()].concat())
        .collect();
    extension(16, &vector16(&list))
}

/// A message with its head, `extensions` as given.
fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([32]);
    body.extend([9; 32]);
    body.extend(vector16(&[0x13, 1, 0x13, 2]));
    body.extend([1, 0]);
    body.extend(vector16(extensions));
    let mut out = vec![1, 0];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

/// The message in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|c| [&[22, 3, 1][..], &vector16(c)].concat())
        .collect()
}

fn hello(extensions: &[u8]) -> Vec<u8> {
    records(&message(extensions), 1 << 14)
}

fn complete(bytes: &[u8]) -> Hello {
    match parse(bytes) {
        Parsed::Complete(hello) => hello,
        other => panic!("{other:?}"),
    }
}

fn assert_splits(bytes: &[u8]) {
    let whole = parse(bytes);
    let mut peek = Peek::default();
    let mut decided = false;
    for n in 0..=bytes.len() {
        let part = parse(&bytes[..n]);
        assert!(
            part == Parsed::Incomplete || part == whole,
            "at {n}: {part:?}, whole {whole:?}"
        );
        if !decided {
            assert_eq!(peek.parse(&bytes[..n]), part, "at {n}");
        }
        decided |= part != Parsed::Incomplete;
    }
}

#[test]
fn name_and_protocols() {
    let bytes = hello(
        &[
            sni("Www.Example.COM"),
            extension(43, &[2, 3, 4]),
            alpn(&["h2", "http/1.1"]),
        ]
        .concat(),
    );
    let hello = complete(&bytes);
    assert_eq!(hello.sni.as_deref(), Some("www.example.com"));
    assert_eq!(hello.alpn().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    assert_splits(&bytes);
    // What follows the hello does not matter.
    assert_eq!(
        complete(&[&bytes[..], b"\x17\x03\x03 early data"].concat()),
        hello
    );
}

#[test]
fn neither() {
    assert_eq!(complete(&hello(&[])), Hello::default());
    // No extensions field at all, as before TLS 1.2.
    let mut bare = message(&[]);
    bare.truncate(bare.len() - 2);
    bare[3] -= 2;
    assert_eq!(complete(&records(&bare, 1 << 14)), Hello::default());
}

#[test]
fn names_as_clients_send_them() {
    for (name, read) in [
        ("example.com.", Some("example.com")),
        ("localhost", Some("localhost")),
        ("_a-b.example", Some("_a-b.example")),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
    ] {
        assert_eq!(complete(&hello(&sni(name))).sni.as_deref(), read, "{name}");
    }
    let long = format!("{}.example", "a".repeat(64));
    for name in [
        "",
        ".",
        "a..b",
        "-é-",
        "a b",
        "a\0b",
        "a/b",
        "*.example.com",
        &long,
    ] {
        assert_eq!(
            parse(&hello(&sni(name))),
            Parsed::Invalid(Reason::ServerName),
            "{name:?}"
        );
    }
}

#[test]
fn spread_over_records() {
    let message = message(&[sni("example.com"), alpn(&["h2"]), extension(21, &[0; 3000])].concat());
    let whole = complete(&records(&message, 1 << 14));
    for size in [1, 2, 3, 4, 5, 100, 1000] {
        let bytes = records(&message, size);
        assert_eq!(complete(&bytes), whole, "records of {size}");
    }
    assert_splits(&records(&message[..], 700));
}

#[test]
fn other_protocols() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\x80\x2e\x01\x00\x02", // SSL 2
        b"\x16\x02\x00",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x17\x03\x03\x00\x10",
        b"\x16\x03\x01\x00\x20\x02", // a ServerHello
        b"\0",
    ] {
        assert_eq!(
            parse(bytes),
            Parsed::NotTls,
            "{:?}",
            bytes.escape_ascii().to_string()
        );
        assert_splits(bytes);
    }
    assert_eq!(parse(b""), Parsed::Incomplete);
}

#[test]
fn refused() {
    let good = message(&sni("example.com"));
    let mut cut_inside = good.clone();
    cut_inside.truncate(60);
    cut_inside[3] = 56;
    let mut foreign = records(&good[..50], 50);
    foreign.extend(b"\x15\x03\x01\x00\x02\x02\x28");
    let mut lying = good.clone();
    let at = lying.len() - 12;
    lying[at] = 200;
    let bad: Vec<(&str, Vec<u8>, Reason)> = vec![
        (
            "empty record",
            b"\x16\x03\x01\x00\x00".to_vec(),
            Reason::Record,
        ),
        (
            "record too long",
            b"\x16\x03\x01\x40\x01\x01".to_vec(),
            Reason::Record,
        ),
        (
            "message too long",
            b"\x16\x03\x01\x00\x10\x01\x01\x00\x00".to_vec(),
            Reason::TooLong,
        ),
        ("alert in the middle", foreign, Reason::Record),
        ("cut inside", records(&cut_inside, 100), Reason::Length),
        ("name's length lies", records(&lying, 1000), Reason::Length),
        (
            "two names",
            hello(&[sni("a.example"), sni("b.example")].concat()),
            Reason::Duplicate,
        ),
        (
            "two ALPN",
            hello(&[alpn(&["h2"]), alpn(&["h2"])].concat()),
            Reason::Duplicate,
        ),
        (
            "two host names",
            hello(&extension(0, &vector16(b"\0\0\x01a\0\0\x01b"))),
            Reason::Duplicate,
        ),
        (
            "no name in list",
            hello(&extension(0, &vector16(b""))),
            Reason::ServerName,
        ),
        (
            "empty list of protocols",
            hello(&extension(16, &vector16(b""))),
            Reason::Protocols,
        ),
        (
            "empty protocol",
            hello(&extension(16, &vector16(b"\x02h2\0"))),
            Reason::Protocols,
        ),
        (
            "protocol cut",
            hello(&extension(16, &vector16(b"\x03h2"))),
            Reason::Protocols,
        ),
        (
            "list cut",
            hello(&extension(16, b"\0\x09\x02h2")),
            Reason::Length,
        ),
    ];
    for (name, bytes, reason) in bad {
        assert_eq!(parse(&bytes), Parsed::Invalid(reason), "{name}");
        assert_splits(&bytes);
    }
}

#[test]
fn bounded() {
    // One-byte records fill the window long before they carry a hello of the length they claim.
    let mut endless = records(&[1, 0, 0xff, 0xf0], 1);
    endless.extend(records(&vec![0; MAX_LEN / 6], 1));
    let cut = endless.len().min(MAX_LEN - 1);
    assert_eq!(parse(&endless[..cut]), Parsed::Incomplete);
    endless.extend(records(&[0; 100], 1));
    assert_eq!(parse(&endless), Parsed::Invalid(Reason::TooLong));
}

fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof!["[a-z]{1,8}\\.example", "[ -~]{0,12}"];
    let noise = proptest::collection::vec(any::<u8>(), 0..60);
    let made = (
        names,
        proptest::collection::vec("[a-z0-9]{1,8}", 0..3),
        noise.clone(),
        1usize..200,
    )
        .prop_map(|(name, protocols, noise, size)| {
            let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
            records(
                &message(&[sni(&name), alpn(&protocols), extension(51, &noise)].concat()),
                size,
            )
        });
    let broken = (made.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        },
    );
    prop_oneof![noise, made, broken]
}

proptest! {
    #[test]
    fn any_bytes_any_split(bytes in nearly()) {
        assert_splits(&bytes);
    }

    #[test]
    fn what_was_written_is_read(
        name in "[a-z]{1,20}(\\.[a-z]{1,20}){0,3}",
        protocols in proptest::collection::vec("[a-z0-9/.]{1,12}", 1..5),
        padding in 0usize..3000,
        size in 1usize..4000,
    ) {
        let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
        let message = message(&[extension(21, &vec![0; padding]), sni(&name), alpn(&protocols)].concat());
        let hello = complete(&records(&message, size));
        prop_assert_eq!(hello.sni.as_deref(), Some(&*name));
        prop_assert!(hello.alpn().eq(protocols.iter().map(|p| p.as_bytes())));
    }
}
