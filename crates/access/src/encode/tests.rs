use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::{AccessFormat, Origin};
use proptest::prelude::*;

use super::line;
use crate::{Exchange, Record, Request, Route, Tls};

const FORMATS: [AccessFormat; 3] = [
    AccessFormat::Json,
    AccessFormat::Combined,
    AccessFormat::Logfmt,
];

fn with_record<T>(request: Request<'_>, f: impl FnOnce(&Record<'_>) -> T) -> T {
    let origin = Origin {
        file: Arc::from("fathom.toml"),
        line: 12,
    };
    f(&Record {
        time: Duration::from_millis(1_795_951_601_007),
        client: "[::ffff:192.0.2.7]:4711".parse().unwrap(),
        listener: "web",
        route: Some(Route {
            name: "web/1",
            origin: &origin,
        }),
        pool: Some("api"),
        server: Some("10.0.0.1:80"),
        request_bytes: 3,
        response_bytes: 4096,
        duration: Duration::from_micros(1_234_567),
        connect: Some(Duration::from_micros(42)),
        retries: 1,
        reason: Some("no-server"),
        tls: Some(Tls {
            version: "1.3",
            sni: Some("example.com"),
        }),
        exchange: Exchange::Http(request),
    })
}

const REQUEST: Request<'static> = Request {
    method: b"GET",
    host: b"example.com",
    path: b"/a?b=c d",
    version: "HTTP/1.1",
    status: Some(503),
    first_byte: Some(Duration::from_millis(7)),
    user_agent: b"curl/8 \"quoted\"",
    referer: b"",
    grpc_status: None,
};

#[test]
fn json_holds_every_field() {
    assert_eq!(
        with_record(REQUEST, |r| line(AccessFormat::Json, r)),
        concat!(
            r#"{"time":"2026-11-29T11:26:41.007Z","kind":"http","client":"192.0.2.7:4711","listener":"web","#,
            r#""route":"web/1","origin":"fathom.toml:12","pool":"api","server":"10.0.0.1:80","method":"GET","#,
            r#""host":"example.com","path":"/a?b=c d","version":"HTTP/1.1","status":503,"first_byte_ms":7.000,"#,
            r#""user_agent":"curl/8 \"quoted\"","request_bytes":3,"response_bytes":4096,"duration_ms":1234.567,"#,
            r#""connect_ms":0.042,"retries":1,"reason":"no-server","tls_version":"1.3","sni":"example.com"}"#,
            "\n"
        )
    );
}

#[test]
fn combined_is_what_apache_writes_with_the_reason_after_it() {
    assert_eq!(
        with_record(REQUEST, |r| line(AccessFormat::Combined, r)),
        concat!(
            r#"192.0.2.7 - - [29/Nov/2026:11:26:41 +0000] "GET /a?b=c d HTTP/1.1" 503 4096 "-" "#,
            r#""curl/8 \x22quoted\x22" "no-server fathom.toml:12""#,
            "\n"
        )
    );
}

#[test]
fn logfmt_quotes_where_it_must() {
    assert_eq!(
        with_record(REQUEST, |r| line(AccessFormat::Logfmt, r)),
        concat!(
            r#"time=2026-11-29T11:26:41.007Z kind=http client=192.0.2.7:4711 listener=web route=web/1 "#,
            r#"origin=fathom.toml:12 pool=api server=10.0.0.1:80 method=GET host=example.com path="/a?b=c d" "#,
            r#"version=HTTP/1.1 status=503 first_byte_ms=7.000 user_agent="curl/8 \"quoted\"" request_bytes=3 "#,
            r#"response_bytes=4096 duration_ms=1234.567 connect_ms=0.042 retries=1 reason=no-server "#,
            r#"tls_version=1.3 sni=example.com"#,
            "\n"
        )
    );
}

#[test]
fn connections_and_flows_have_a_line_too() {
    let stream = |exchange| Record {
        time: Duration::ZERO,
        client: "[2001:db8::1]:9".parse().unwrap(),
        listener: "dns",
        route: None,
        pool: Some("dns"),
        server: None,
        request_bytes: 1,
        response_bytes: 2,
        duration: Duration::from_millis(3),
        connect: None,
        retries: 0,
        reason: None,
        tls: None,
        exchange,
    };
    assert_eq!(
        line(AccessFormat::Json, &stream(Exchange::Udp)),
        concat!(
            r#"{"time":"1970-01-01T00:00:00.000Z","kind":"udp","client":"[2001:db8::1]:9","listener":"dns","#,
            r#""pool":"dns","request_bytes":1,"response_bytes":2,"duration_ms":3.000}"#,
            "\n"
        )
    );
    assert_eq!(
        line(AccessFormat::Combined, &stream(Exchange::Tcp)),
        "2001:db8::1 - - [01/Jan/1970:00:00:00 +0000] \"TCP dns -\" - 2 \"-\" \"-\"\n"
    );
}

#[test]
fn hostile_bytes_are_escaped() {
    let hostile = Request {
        path: b"/\r\nHTTP \x1b[2J\x00\xff\xc3\xa9\xc2\x85\xe2\x80\xa8\\\"",
        ..REQUEST
    };
    let json = with_record(hostile, |r| line(AccessFormat::Json, r));
    assert!(
        json.contains(r#""path":"/\r\nHTTP \u001b[2J\u0000\\xffé\u0085\u2028\\\"","#),
        "{json}"
    );
    let combined = with_record(hostile, |r| line(AccessFormat::Combined, r));
    assert!(
        combined.contains(
            r#""GET /\x0D\x0AHTTP \x1B[2J\x00\xFF\xC3\xA9\xC2\x85\xE2\x80\xA8\x5C\x22 HTTP/1.1""#
        ),
        "{combined}"
    );
}

proptest! {
    #[test]
    fn a_record_is_one_clean_line_whatever_the_client_sent(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let request = Request { method: &bytes, host: &bytes, path: &bytes, user_agent: &bytes, referer: &bytes, ..REQUEST };
        for format in FORMATS {
            let text = with_record(request, |r| line(format, r));
            let body = text.strip_suffix('\n').unwrap();
            prop_assert!(!body.chars().any(char::is_control), "{text:?}");
            match format {
                AccessFormat::Json => {
                    let value: serde_json::Value = serde_json::from_str(body).unwrap();
                    prop_assert_eq!(&value["sni"], "example.com");
                    if let (Ok(sent), false) = (std::str::from_utf8(&bytes), bytes.is_empty()) {
                        prop_assert_eq!(&value["path"], sent);
                    }
                }
                // Time, request, referer, user agent and reason are the only quoted fields: nothing opens another.
                AccessFormat::Combined => prop_assert_eq!(body.matches('"').count(), 8),
                AccessFormat::Logfmt => prop_assert!(body.ends_with(" sni=example.com")),
            }
        }
    }
}
