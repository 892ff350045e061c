//! Each rule with the paragraph it comes from, as tables.

use super::*;
use crate::head::{Body, Method, Name, RequestHead, ResponseHead, Version};
use proptest::prelude::*;

fn request(text: &str) -> Result<(RequestHead, Progress), Malformed> {
    let mut head = RequestHead::default();
    let progress = head.parse(text.as_bytes(), &Limits::default())?;
    Ok((head, progress))
}

fn response(text: &str) -> Result<(ResponseHead, Progress), Malformed> {
    let mut head = ResponseHead::default();
    let progress = head.parse(text.as_bytes(), &Limits::default())?;
    Ok((head, progress))
}

/// RFC 9112 §11.2: what two readers could frame in two ways, and RFC 9110 §5.5: what must not stand in a field.
#[test]
fn refused_requests() {
    use Malformed as M;
    let h = "Host: a\r\n";
    let table: &[(&str, &str, Malformed)] = &[
        (
            "9112 §2.2 bare LF after the request line",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            M::BareLf,
        ),
        (
            "9112 §2.2 bare LF after a field",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            M::BareLf,
        ),
        (
            "9112 §2.2 bare LF ends the head",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            M::BareLf,
        ),
        (
            "9112 §2.2 bare CR in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            M::BareCr,
        ),
        (
            "9112 §2.2 bare CR in the request line",
            "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
            M::BareCr,
        ),
        (
            "9112 §2.2 two empty lines first",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            M::RequestLine,
        ),
        ("9112 §3 HTTP/0.9", "GET /\r\n\r\n", M::RequestLine),
        (
            "9112 §3 nothing but a method",
            "GET\r\n\r\n",
            M::RequestLine,
        ),
        (
            "9112 §3 two spaces",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9112 §3 space in the target",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9112 §3 tab for space",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Method,
        ),
        (
            "9112 §3 space before the method",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Method,
        ),
        (
            "9110 §9.1 method not a token",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Method,
        ),
        (
            "9112 §2.3 version",
            "GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
            M::Version,
        ),
        (
            "9112 §2.3 version in lower case",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            M::Version,
        ),
        (
            "9112 §2.3 version 1.10",
            "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
            M::Version,
        ),
        (
            "9110 §15.6.6 version 2",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            M::VersionUnsupported,
        ),
        (
            "9113 §3.4 preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            M::VersionUnsupported,
        ),
        (
            "9112 §3.2 relative target",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9112 §3.2 fragment",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9112 §3.2 NUL in the target",
            "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9112 §3.2.2 other scheme",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9110 §4.2.4 userinfo",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9110 §4.2.1 empty host",
            "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9110 §4.2.1 port alone",
            "GET http://:80/x HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9112 §3.2.4 asterisk with GET",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            M::Target,
        ),
        (
            "9110 §9.3.6 CONNECT",
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            M::ConnectMethod,
        ),
        (
            "9112 §3.2 no Host",
            "GET / HTTP/1.1\r\n\r\n",
            M::HostMissing,
        ),
        (
            "9112 §3.2 two Hosts",
            &format!("GET / HTTP/1.1\r\n{h}{h}\r\n"),
            M::HostTwice,
        ),
        (
            "9112 §3.2 Host with a path",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            M::Host,
        ),
        (
            "9112 §3.2 Host with userinfo",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            M::Host,
        ),
        (
            "9112 §3.2 Host with a bad port",
            "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n",
            M::Host,
        ),
        (
            "9112 §3.2 two hosts in one",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            M::Host,
        ),
        (
            "9112 §5.1 space before colon",
            &format!("GET / HTTP/1.1\r\n{h}X : y\r\n\r\n"),
            M::SpaceBeforeColon,
        ),
        (
            "9112 §5.1 CL with space",
            &format!("GET / HTTP/1.1\r\n{h}Content-Length : 3\r\n\r\n"),
            M::SpaceBeforeColon,
        ),
        (
            "9112 §5.2 obs-fold",
            &format!("GET / HTTP/1.1\r\n{h}X: y\r\n z\r\n\r\n"),
            M::ObsFold,
        ),
        (
            "9112 §5.2 fold as first line",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            M::ObsFold,
        ),
        (
            "9110 §5.1 empty name",
            &format!("GET / HTTP/1.1\r\n{h}: y\r\n\r\n"),
            M::FieldName,
        ),
        (
            "9110 §5.1 no colon",
            &format!("GET / HTTP/1.1\r\n{h}X\r\n\r\n"),
            M::FieldName,
        ),
        (
            "9110 §5.1 name not a token",
            &format!("GET / HTTP/1.1\r\n{h}X\"y: z\r\n\r\n"),
            M::FieldName,
        ),
        (
            "9110 §5.1 name with NUL",
            &format!("GET / HTTP/1.1\r\n{h}X\0: z\r\n\r\n"),
            M::FieldName,
        ),
        (
            "9110 §5.5 NUL",
            &format!("GET / HTTP/1.1\r\n{h}X: a\0b\r\n\r\n"),
            M::FieldValue,
        ),
        (
            "9110 §5.5 control",
            &format!("GET / HTTP/1.1\r\n{h}X: a\x01b\r\n\r\n"),
            M::FieldValue,
        ),
        (
            "9110 §5.5 DEL",
            &format!("GET / HTTP/1.1\r\n{h}X: a\x7fb\r\n\r\n"),
            M::FieldValue,
        ),
        (
            "9110 §8.6 CL list",
            &format!("POST / HTTP/1.1\r\n{h}Content-Length: 3, 3\r\n\r\n"),
            M::ContentLength,
        ),
        (
            "9110 §8.6 CL sign",
            &format!("POST / HTTP/1.1\r\n{h}Content-Length: +3\r\n\r\n"),
            M::ContentLength,
        ),
        (
            "9110 §8.6 CL negative",
            &format!("POST / HTTP/1.1\r\n{h}Content-Length: -3\r\n\r\n"),
            M::ContentLength,
        ),
        (
            "9110 §8.6 CL hex",
            &format!("POST / HTTP/1.1\r\n{h}Content-Length: 0x3\r\n\r\n"),
            M::ContentLength,
        ),
        (
            "9110 §8.6 CL empty",
            &format!("POST / HTTP/1.1\r\n{h}Content-Length:\r\n\r\n"),
            M::ContentLength,
        ),
        (
            "9110 §8.6 CL over u64",
            &format!("POST / HTTP/1.1\r\n{h}Content-Length: 18446744073709551616\r\n\r\n"),
            M::ContentLength,
        ),
        (
            "9112 §6.3 CL twice, equal",
            &format!("POST / HTTP/1.1\r\n{h}Content-Length: 3\r\nContent-Length: 3\r\n\r\n"),
            M::ContentLengthTwice,
        ),
        (
            "9112 §6.1 CL and TE",
            &format!(
                "POST / HTTP/1.1\r\n{h}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            M::LengthAndCoding,
        ),
        (
            "9112 §6.1 TE and CL",
            &format!(
                "POST / HTTP/1.1\r\n{h}transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n"
            ),
            M::LengthAndCoding,
        ),
        (
            "9112 §6.1 TE other",
            &format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: gzip\r\n\r\n"),
            M::TransferEncoding,
        ),
        (
            "9112 §6.1 TE list",
            &format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            M::TransferEncoding,
        ),
        (
            "9112 §6.1 chunked twice",
            &format!(
                "POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            M::TransferEncoding,
        ),
        (
            "9112 §6.1 xchunked",
            &format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: xchunked\r\n\r\n"),
            M::TransferEncoding,
        ),
        (
            "9112 §6.1 chunked with a vertical tab",
            &format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: \x0bchunked\r\n\r\n"),
            M::FieldValue,
        ),
        (
            "9112 §6.1 TE identity",
            &format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: identity\r\n\r\n"),
            M::TransferEncoding,
        ),
        (
            "9112 §6.1 TE in 1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            M::CodingInHttp10,
        ),
        (
            "6585 §5 fields",
            &format!("GET / HTTP/1.1\r\n{h}{}\r\n", "a: b\r\n".repeat(256)),
            M::TooManyFields,
        ),
        (
            "6585 §5 head",
            &format!("GET / HTTP/1.1\r\n{h}X: {}\r\n\r\n", "y".repeat(65536)),
            M::HeadTooLarge,
        ),
        (
            "6585 §5 head, unfinished",
            &format!("GET / HTTP/1.1\r\n{h}X: {}", "y".repeat(65536)),
            M::HeadTooLarge,
        ),
        (
            "9110 §15.5.15",
            &format!("GET /{} HTTP/1.1\r\n{h}\r\n", "y".repeat(16384)),
            M::UriTooLong,
        ),
        (
            "9110 §15.5.15 unfinished",
            &format!("GET /{}", "y".repeat(17000)),
            M::UriTooLong,
        ),
    ];
    for (rule, text, why) in table {
        assert_eq!(request(text).map(|(_, p)| p), Err(*why), "RFC {rule}");
        fuzz_request(text.as_bytes(), 1);
    }
}

#[test]
fn accepted_requests() {
    type Row = (
        &'static str,
        &'static str,
        &'static str,
        &'static str,
        Option<&'static str>,
        Body,
    );
    let table: &[Row] = &[
        (
            "origin-form",
            "GET /a?b=c HTTP/1.1\r\nHost: x:80\r\n\r\n",
            "x",
            "/a",
            Some("b=c"),
            Body::None,
        ),
        (
            "absolute-form wins over Host",
            "GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n",
            "y",
            "/a",
            None,
            Body::None,
        ),
        (
            "absolute-form without path",
            "GET http://y?q HTTP/1.1\r\nHost: x\r\n\r\n",
            "y",
            "/",
            Some("q"),
            Body::None,
        ),
        (
            "IPv6",
            "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
            "[::1]",
            "/",
            None,
            Body::None,
        ),
        (
            "asterisk-form",
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            "x",
            "*",
            None,
            Body::None,
        ),
        (
            "empty line first",
            "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "x",
            "/",
            None,
            Body::None,
        ),
        (
            "1.0 without Host",
            "GET / HTTP/1.0\r\n\r\n",
            "",
            "/",
            None,
            Body::None,
        ),
        (
            "empty Host",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "",
            "/",
            None,
            Body::None,
        ),
        (
            "higher minor",
            "GET / HTTP/1.2\r\nHost: x\r\n\r\n",
            "x",
            "/",
            None,
            Body::None,
        ),
        (
            "length",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
            "x",
            "/",
            None,
            Body::Length(5),
        ),
        (
            "length 0",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "x",
            "/",
            None,
            Body::None,
        ),
        (
            "chunked",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "x",
            "/",
            None,
            Body::Chunked,
        ),
    ];
    for (what, text, host, path, query, body) in table {
        let (head, progress) = request(text).unwrap_or_else(|e| panic!("{what}: {e}"));
        let view = head.view(text.as_bytes());
        assert_eq!(progress, Progress::Complete(text.len()), "{what}");
        assert_eq!(view.host(), host.as_bytes(), "{what}");
        assert_eq!(view.path(), path.as_bytes(), "{what}");
        assert_eq!(view.query(), query.map(str::as_bytes), "{what}");
        assert_eq!(head.body(), *body, "{what}");
        fuzz_request(text.as_bytes(), 1);
    }
}

#[test]
fn the_head_ends_where_it_ends() {
    let text = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\n";
    assert_eq!(request(text).unwrap().1, Progress::Complete(27));
}

#[test]
fn connection_options() {
    let text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive, X-A ,upgrade\r\nX-a: 1\r\nTE: trailers\r\n\r\n";
    let (head, _) = request(text).unwrap();
    let c = head.fields().connection;
    assert!(c.keep_alive && c.upgrade && c.names_fields && !c.close);
    assert!(head.fields().connection_names(text.as_bytes(), b"X-a"));
    assert!(!head.fields().connection_names(text.as_bytes(), b"X-b"));
    assert!(head.fields().te_trailers);
}

#[test]
fn refused_responses() {
    use Malformed as M;
    let table: &[(&str, &str, Malformed)] = &[
        ("9112 §4 garbage", "SSH-2.0-OpenSSH\r\n\r\n", M::StatusLine),
        (
            "9112 §4 status of two digits",
            "HTTP/1.1 20 OK\r\n\r\n",
            M::StatusLine,
        ),
        (
            "9112 §4 status of four digits",
            "HTTP/1.1 2000 OK\r\n\r\n",
            M::StatusLine,
        ),
        (
            "9112 §4 status under 100",
            "HTTP/1.1 099 OK\r\n\r\n",
            M::StatusLine,
        ),
        (
            "9112 §4 control in the reason",
            "HTTP/1.1 200 O\x01K\r\n\r\n",
            M::StatusLine,
        ),
        (
            "9112 §2.3 version",
            "HTTP/2.0 200 OK\r\n\r\n",
            M::StatusLine,
        ),
        (
            "9112 §2.2 bare LF",
            "HTTP/1.1 200 OK\nA: b\r\n\r\n",
            M::BareLf,
        ),
        (
            "9112 §5.2 obs-fold",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            M::ObsFold,
        ),
        (
            "9110 §5.5 NUL",
            "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
            M::FieldValue,
        ),
        (
            "9112 §6.3 CL twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            M::ContentLengthTwice,
        ),
        (
            "9112 §6.3 CL and TE",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            M::LengthAndCoding,
        ),
        (
            "9112 §6.1 TE other",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            M::TransferEncoding,
        ),
    ];
    for (rule, text, why) in table {
        assert_eq!(response(text).map(|(_, p)| p), Err(*why), "RFC {rule}");
        fuzz_response(text.as_bytes(), 1);
    }
}

/// RFC 9112 §6.3, in its order.
#[test]
fn response_bodies() {
    let table: &[(&str, &str, Method, Body)] = &[
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            Method::Head,
            Body::None,
        ),
        (
            "304",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            Method::Get,
            Body::None,
        ),
        (
            "204",
            "HTTP/1.1 204 No Content\r\n\r\n",
            Method::Get,
            Body::None,
        ),
        (
            "1xx",
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            Method::Get,
            Body::None,
        ),
        (
            "chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Method::Get,
            Body::Chunked,
        ),
        (
            "length",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            Method::Get,
            Body::Length(9),
        ),
        (
            "length 0",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Method::Get,
            Body::None,
        ),
        (
            "neither",
            "HTTP/1.1 200 OK\r\n\r\n",
            Method::Get,
            Body::UntilClose,
        ),
        (
            "no reason, no space",
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            Method::Get,
            Body::None,
        ),
        (
            "1.0",
            "HTTP/1.0 200 OK\r\n\r\n",
            Method::Get,
            Body::UntilClose,
        ),
    ];
    for (what, text, method, body) in table {
        let (head, progress) = response(text).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(progress, Progress::Complete(text.len()), "{what}");
        assert_eq!(head.body(*method), *body, "{what}");
        fuzz_response(text.as_bytes(), 1);
    }
}

/// RFC 9112 §5.1: a proxy MUST remove whitespace before the colon from a response before sending it on.
#[test]
fn response_with_space_before_colon_is_mended() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length : 0\r\nX-Y\t: z\r\n\r\n";
    let (head, _) = response(text).unwrap();
    assert!(!head.is_verbatim());
    let mut out = Vec::new();
    let mut writer = Writer::response(&mut out, head.status(), head.view(text.as_bytes()).reason());
    writer.rewrite(head.view(text.as_bytes()).fields(), |_| true);
    writer.end();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Y: z\r\n\r\n"
    );
}

#[test]
fn order_and_case_survive_writing() {
    let text =
        "GET /a HTTP/1.1\r\nB: 1\r\nhOST: x\r\nConnection: close\r\na:2\r\nTE: x\r\nB:  3 \r\n\r\n";
    let (head, _) = request(text).unwrap();
    let view = head.view(text.as_bytes());
    let mut out = Vec::new();
    let mut writer = Writer::request(&mut out, view.method(), &[view.target()]);
    writer.copy(view.bytes, view.fields(), |f| !f.id.is_hop_by_hop());
    writer.field(b"X", b"y").number(b"N", 7);
    writer.end();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "GET /a HTTP/1.1\r\nB: 1\r\nhOST: x\r\na:2\r\nB:  3 \r\nX: y\r\nN: 7\r\n\r\n"
    );
}

/// RFC 9112 §7.1.
#[test]
fn chunked_bodies() {
    use Malformed as M;
    type Row = (
        &'static str,
        &'static str,
        Result<Option<&'static str>, Malformed>,
    );
    let table: &[Row] = &[
        (
            "two chunks",
            "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            Ok(Some("abcde")),
        ),
        ("empty", "0\r\n\r\n", Ok(Some(""))),
        (
            "leading zeros, case",
            "0003\r\nabc\r\n0A\r\n0123456789\r\n000\r\n\r\n",
            Ok(Some("abc0123456789")),
        ),
        (
            "trailers",
            "1\r\na\r\n0\r\nX: y\r\nZ: 1\r\n\r\n",
            Ok(Some("a")),
        ),
        (
            "§7.1.1 extensions are ignored",
            "1;a=b;c=\"d;\\\"e\"\r\na\r\n0;x\r\n\r\n",
            Ok(Some("a")),
        ),
        ("unfinished size", "1", Ok(None)),
        ("unfinished data", "5\r\nabc", Ok(None)),
        ("no last chunk", "1\r\na\r\n", Ok(None)),
        ("no end of trailers", "0\r\nX: y\r\n", Ok(None)),
        ("size empty", "\r\nabc\r\n", Err(M::ChunkSize)),
        ("size not hex", "g\r\n", Err(M::ChunkSize)),
        ("size with 0x", "0x3\r\nabc\r\n", Err(M::ChunkSize)),
        ("size with a sign", "+3\r\nabc\r\n", Err(M::ChunkSize)),
        (
            "size with a space before",
            " 3\r\nabc\r\n",
            Err(M::ChunkSize),
        ),
        (
            "size with a space behind",
            "3 \r\nabc\r\n",
            Err(M::ChunkSize),
        ),
        (
            "size of 17 digits",
            "00000000000000003\r\nabc\r\n",
            Err(M::ChunkSize),
        ),
        ("size with an underscore", "1_0\r\n", Err(M::ChunkSize)),
        ("bare LF behind the size", "3\nabc\r\n", Err(M::BareLf)),
        ("bare CR behind the size", "3\rabc\r\n", Err(M::BareCr)),
        ("bare LF in an extension", "3;a\nabc\r\n", Err(M::BareLf)),
        (
            "bare LF in a quoted extension",
            "3;a=\"\n\"\r\nabc\r\n",
            Err(M::BareLf),
        ),
        (
            "NUL in an extension",
            "3;a\0\r\nabc\r\n",
            Err(M::ChunkExtension),
        ),
        (
            "data longer than its size",
            "3\r\nabcd\r\n",
            Err(M::ChunkEnd),
        ),
        ("data ends in LF", "3\r\nabc\n0\r\n\r\n", Err(M::ChunkEnd)),
        (
            "data shorter than its size",
            "5\r\nabc\r\n0\r\n\r\n",
            Err(M::ChunkEnd),
        ),
        ("bare LF in trailers", "0\r\nX: y\n\r\n", Err(M::BareLf)),
        ("bare LF ends the body", "0\r\n\n", Err(M::BareLf)),
        (
            "fold in trailers",
            "0\r\nX: y\r\n z\r\n\r\n",
            Err(M::ObsFold),
        ),
        (
            "trailer without a colon",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            Err(M::FieldName),
        ),
    ];
    for (what, text, expected) in table {
        for cut in 1..=text.len() {
            let got = fuzz_chunked(text.as_bytes(), cut);
            let expected = expected.map(|o| o.map(|s| s.as_bytes().to_vec()));
            assert_eq!(got, expected, "{what}, in pieces of {cut}");
        }
    }
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(2000));
    assert_eq!(fuzz_chunked(long.as_bytes(), 7), Err(M::ChunkExtension));
    let long = format!("0\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(fuzz_chunked(long.as_bytes(), 999), Err(M::Trailer));
}

/// RFC 9110 §6.5.1: fields of framing and routing have no place in trailers and are dropped.
#[test]
fn forbidden_trailers_are_dropped() {
    let mut decoder = BodyDecoder::new(Body::Chunked);
    let step = decoder
        .step(b"0\r\nContent-Length: 5\r\nX: y\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\nGET")
        .unwrap();
    assert!(step.done);
    assert_eq!(step.skip, 67);
    assert_eq!(decoder.trailers(), b"X: y\r\n");
}

#[test]
fn chunk_heads() {
    for (n, text) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (4096, "1000\r\n"),
        (0xabcdef, "abcdef\r\n"),
    ] {
        let mut out = Vec::new();
        chunk_head(&mut out, n);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn length_and_close() {
    let mut decoder = BodyDecoder::new(Body::Length(5));
    assert_eq!(
        decoder.step(b"abc").unwrap(),
        Step {
            skip: 0,
            data: 3,
            done: false
        }
    );
    assert!(!decoder.whole_at_close());
    assert_eq!(
        decoder.step(b"defg").unwrap(),
        Step {
            skip: 0,
            data: 2,
            done: true
        }
    );
    assert!(BodyDecoder::new(Body::UntilClose).whole_at_close());
    assert!(!BodyDecoder::new(Body::Chunked).whole_at_close());
}

#[test]
fn built_heads_read_like_parsed_ones() {
    let mut builder = crate::head::Builder::new(Vec::new());
    builder.field(b"x-a", b"1");
    builder.field(b"te", b"trailers");
    let (bytes, head) = builder.request(Version::Http2, b"GET", b"h:8", b"/p?q", Body::None);
    let view = head.view(&bytes);
    assert_eq!(
        (view.method(), view.host(), view.path(), view.query()),
        (&b"GET"[..], &b"h"[..], &b"/p"[..], Some(&b"q"[..]))
    );
    assert_eq!(view.get("X-A"), Some(&b"1"[..]));
    assert_eq!(view.known(Name::Te), Some(&b"trailers"[..]));
    assert!(head.fields().te_trailers);
}

/// Text that is nearly HTTP: random bytes hardly ever pass the first line.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let parts: &[&[u8]] = &[
        b"GET ",
        b"POST ",
        b"/",
        b"/a?b ",
        b"http://h/",
        b"HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b":",
        b"Host: x\r\n",
        b"Content-Length: ",
        b"5\r\n",
        b",",
        b"Transfer-Encoding: chunked\r\n",
        b"X: y\r\n",
        b"Connection: close, x\r\n",
        b"0\r\n",
        b"3\r\nabc\r\n",
        b";e=\"v\"",
        b"\0",
        b"\xff",
        b"A",
    ];
    let part = prop::sample::select(parts);
    prop::collection::vec(prop_oneof![4 => part.prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 0..6)], 0..24)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_request(bytes in nearly_http(), cut in 1_usize..16) {
        fuzz_request(&bytes, cut);
    }

    #[test]
    fn any_split_gives_the_same_response(bytes in nearly_http(), cut in 1_usize..16) {
        fuzz_response(&bytes, cut);
    }

    #[test]
    fn any_split_gives_the_same_chunks(bytes in nearly_http(), cut in 1_usize..16) {
        let _ = fuzz_chunked(&bytes, cut);
    }

    #[test]
    fn what_is_chunked_comes_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6), cut in 1_usize..50) {
        let mut coded = Vec::new();
        for part in &parts {
            chunk_head(&mut coded, part.len());
            coded.extend_from_slice(part);
            coded.extend_from_slice(b"\r\n");
        }
        coded.extend_from_slice(LAST_CHUNK);
        prop_assert_eq!(fuzz_chunked(&coded, cut), Ok(Some(parts.concat())));
    }
}
