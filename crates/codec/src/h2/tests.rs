#![allow(clippy::type_complexity, reason = "rows of tables")]
use http::Request;

use super::*;
use crate::h1::Malformed;
use crate::head::{Body, Name};

const SECOND: u64 = 1_000_000_000;

/// Fields of a request.
type Given<'a> = &'a [(&'a str, &'a str)];

fn request(
    method: &str,
    uri: &str,
    fields: &[(&str, &str)],
    ended: bool,
    protocol: Option<&str>,
) -> Result<Received, Malformed> {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    Received::request(&parts, protocol, ended, Vec::new(), || [7; 16])
}

fn lines(received: &Received) -> String {
    let view = received.head.view(&received.bytes);
    let mut text = format!(
        "{} {} {}",
        view.method().escape_ascii(),
        view.authority().escape_ascii(),
        view.target().escape_ascii()
    );
    for field in view.fields() {
        text += &format!(
            "|{}: {}",
            field.name.escape_ascii(),
            field.value.escape_ascii()
        );
    }
    text
}

#[test]
fn what_is_refused() {
    let long = format!("http://a/{}", "x".repeat(17 << 10));
    let big = "x".repeat(40 << 10);
    let ok = "http://a/";
    let table: &[(&str, &str, Given<'_>, bool, Malformed)] = &[
        (
            "GET",
            ok,
            &[("connection", "close")],
            true,
            Malformed::ConnectionField,
        ),
        (
            "GET",
            ok,
            &[("keep-alive", "5")],
            true,
            Malformed::ConnectionField,
        ),
        (
            "GET",
            ok,
            &[("proxy-connection", "close")],
            true,
            Malformed::ConnectionField,
        ),
        (
            "GET",
            ok,
            &[("transfer-encoding", "chunked")],
            false,
            Malformed::ConnectionField,
        ),
        (
            "GET",
            ok,
            &[("upgrade", "h2c")],
            true,
            Malformed::ConnectionField,
        ),
        (
            "GET",
            ok,
            &[("te", "gzip")],
            true,
            Malformed::ConnectionField,
        ),
        ("GET", ok, &[("host", "b")], true, Malformed::HostDiffers),
        (
            "GET",
            ok,
            &[("host", "a"), ("host", "a")],
            true,
            Malformed::HostTwice,
        ),
        ("GET", "/", &[], true, Malformed::HostMissing),
        ("GET", "/", &[("host", "a b")], true, Malformed::Host),
        ("GET", "/", &[("host", "")], true, Malformed::HostMissing),
        ("GET", "http://u@a/", &[], true, Malformed::Host),
        ("GET", ok, &[("x", " a")], true, Malformed::FieldValue),
        ("GET", ok, &[("x", "a\t")], true, Malformed::FieldValue),
        (
            "POST",
            ok,
            &[("content-length", "1")],
            true,
            Malformed::ContentLength,
        ),
        (
            "POST",
            ok,
            &[("content-length", "+1")],
            false,
            Malformed::ContentLength,
        ),
        (
            "POST",
            ok,
            &[("content-length", "1, 1")],
            false,
            Malformed::ContentLength,
        ),
        (
            "POST",
            ok,
            &[("content-length", "1"), ("content-length", "1")],
            false,
            Malformed::ContentLengthTwice,
        ),
        ("GET", &long, &[], true, Malformed::UriTooLong),
        (
            "GET",
            ok,
            &[("a", &big), ("b", &big)],
            true,
            Malformed::HeadTooLarge,
        ),
        ("CONNECT", "http://a/", &[], false, Malformed::ConnectMethod),
    ];
    for (method, uri, fields, ended, expected) in table {
        let got = request(method, uri, fields, *ended, None);
        assert_eq!(got.unwrap_err(), *expected, "{method} {fields:?}");
    }
    let many: Vec<_> = (0..300).map(|i| (format!("x{i}"), "")).collect();
    let many: Vec<_> = many.iter().map(|(n, v)| (&**n, *v)).collect();
    let got = request("GET", ok, &many, true, None);
    assert_eq!(got.unwrap_err(), Malformed::TooManyFields);
    let got = request("CONNECT", ok, &[], false, Some("connect-udp"));
    assert_eq!(got.unwrap_err(), Malformed::ConnectMethod);
}

#[test]
fn what_is_sent_on() {
    let table: &[(&str, &str, Given<'_>, bool, Body, &str)] = &[
        (
            "GET",
            "https://a:1/p?q",
            &[("accept", "*/*")],
            true,
            Body::None,
            "GET a:1 /p?q|accept: */*",
        ),
        (
            "GET",
            "http://a/",
            &[("host", "A")],
            true,
            Body::None,
            "GET a /",
        ),
        ("GET", "/", &[("host", "h")], true, Body::None, "GET h /"),
        (
            "GET",
            "http://a/",
            &[
                ("cookie", "a=1"),
                ("x", "y"),
                ("cookie", "b=2"),
                ("cookie", "c=3"),
            ],
            true,
            Body::None,
            "GET a /|x: y|cookie: a=1; b=2; c=3",
        ),
        ("POST", "http://a/", &[], false, Body::Chunked, "POST a /"),
        (
            "POST",
            "http://a/",
            &[("content-length", "5")],
            false,
            Body::Length(5),
            "POST a /|content-length: 5",
        ),
        (
            "POST",
            "http://a/",
            &[("content-length", "0")],
            true,
            Body::None,
            "POST a /|content-length: 0",
        ),
        (
            "GET",
            "http://a/",
            &[("te", "trailers")],
            true,
            Body::None,
            "GET a /|te: trailers",
        ),
    ];
    for (method, uri, fields, ended, body, text) in table {
        let got = request(method, uri, fields, *ended, None).unwrap();
        assert_eq!(lines(&got), *text);
        assert_eq!(got.head.body(), *body, "{text}");
        assert!(got.head.authority_in_target());
        assert!(!got.head.fields().has(Name::Host));
    }
}

#[test]
fn a_websocket_becomes_an_upgrade() {
    let fields = [("sec-websocket-version", "13"), ("sec-websocket-key", "x")];
    let got = request(
        "CONNECT",
        "https://a/chat",
        &fields,
        false,
        Some("websocket"),
    )
    .unwrap();
    assert_eq!(
        lines(&got),
        "GET a /chat|sec-websocket-version: 13|Upgrade: websocket|Sec-WebSocket-Key: BwcHBwcHBwcHBwcHBwcHBw=="
    );
    assert!(got.head.fields().connection.upgrade);
    assert_eq!(got.head.body(), Body::None);
}

#[test]
fn responses_and_trailers() {
    let mut map = http::HeaderMap::new();
    map.insert("content-length", "3".parse().unwrap());
    map.insert("x", "y".parse().unwrap());
    let (bytes, head) = received_response(200, &map, Vec::new()).unwrap();
    assert_eq!(head.content_length(), Some(3));
    assert_eq!(head.view(&bytes).get("X"), Some(&b"y"[..]));
    map.append("content-length", "3".parse().unwrap());
    assert_eq!(
        received_response(200, &map, Vec::new()).unwrap_err(),
        Malformed::ContentLengthTwice
    );
    map.insert("grpc-status", "0".parse().unwrap());
    let lines = trailer_lines(&map);
    assert_eq!(lines, b"x: y\r\ngrpc-status: 0\r\n");
    let back = trailer_map(b"x: y\r\ngrpc-status:0\r\nhost: a\r\nbroken\r\n");
    assert_eq!(trailer_lines(&back), lines);
}

fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    bytes.resize(9 + payload, 0);
    bytes
}

/// How many of these in one moment are a flood; at most `most` are tried.
fn until_flood(frames: &[Vec<u8>], most: usize) -> Option<usize> {
    let mut meter = Meter::new(PREFACE.len(), 0);
    meter.received(PREFACE, 0);
    let all = frames.concat();
    (0..most).find(|_| {
        // In pieces that split everything.
        all.chunks(7).for_each(|piece| meter.received(piece, 0));
        meter.is_flood()
    })
}

#[test]
fn floods_are_told_from_use() {
    let table: &[(&str, &[Vec<u8>], bool)] = &[
        ("ping", &[frame(6, 0, 8)], true),
        ("settings", &[frame(4, 0, 0)], true),
        ("empty data", &[frame(0, 0, 0)], true),
        ("continuation", &[frame(9, 0, 10)], true),
        ("priority", &[frame(2, 0, 5)], true),
        ("window update", &[frame(8, 0, 4)], true),
        ("unknown", &[frame(0xfa, 0, 0)], true),
        ("rapid reset", &[frame(1, 5, 20), frame(3, 0, 4)], true),
        ("requests", &[frame(1, 5, 20)], false),
        (
            "half of them reset",
            &[frame(1, 5, 20), frame(1, 5, 20), frame(3, 0, 4)],
            false,
        ),
        ("small content", &[frame(0, 0, 100)], false),
        (
            "calls",
            &[
                frame(1, 4, 20),
                frame(0, 1, 9),
                frame(8, 0, 4),
                frame(8, 0, 4),
            ],
            false,
        ),
    ];
    for (name, frames, flood) in table {
        assert_eq!(until_flood(frames, 20_000).is_some(), *flood, "{name}");
    }
}

#[test]
fn time_and_content_give_credit() {
    let ping = frame(6, 0, 8);
    let mut meter = Meter::new(0, 0);
    for second in 0..100 {
        for _ in 0..150 {
            meter.received(&ping, second * SECOND);
        }
    }
    assert!(!meter.is_flood(), "150 a second");
    let update = frame(8, 0, 4);
    for _ in 0..100_000 {
        meter.sent(16 << 10);
        meter.received(&update, 100 * SECOND);
    }
    assert!(!meter.is_flood(), "a window update for each frame");
}

#[test]
fn a_header_section_that_has_not_ended() {
    let mut meter = Meter::new(0, 0);
    assert!(meter.in_head(), "no SETTINGS yet");
    meter.received(&frame(4, 0, 6), 0);
    assert!(!meter.in_head() && meter.has_settings());
    meter.received(&frame(1, 0, 10), 0);
    assert!(meter.in_head());
    meter.received(&frame(9, 0, 10), 0);
    assert!(meter.in_head());
    meter.received(&frame(9, 4, 10), 0);
    assert!(!meter.in_head());
}
