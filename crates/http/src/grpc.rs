//! What gRPC asks of a proxy beyond HTTP/2: deadlines, and errors in its own words.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::time::Duration;

use fathom_codec::head::{Name, Request};
use fathom_core::{Reason, Tick};

use crate::account::Account;
use crate::exchange::Front;
use crate::reply::{Reply, upload_is_open};

const UNKNOWN: u16 = 2;
const DEADLINE_EXCEEDED: u16 = 4;
/// A status that a retry may be asked for.
pub(crate) const UNAVAILABLE: u16 = 14;

/// Whether the client speaks gRPC.
pub(crate) fn is_call(request: Request<'_>) -> bool {
    let kind = request.known(Name::ContentType).unwrap_or_default();
    kind.get(..16)
        .is_some_and(|k| k.eq_ignore_ascii_case(b"application/grpc"))
}

/// When the call is to be over, if it says.
pub(crate) fn deadline(request: Request<'_>, began: Tick) -> Option<Tick> {
    let timeout = parse_timeout(request.get("grpc-timeout")?)?;
    Some(began + timeout)
}

/// `Timeout → "grpc-timeout" TimeoutValue TimeoutUnit`: at most eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits
        .iter()
        .fold(0_u64, |n, d| n * 10 + u64::from(d - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

/// What a `grpc-status` field says.
pub(crate) fn parse_status(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The `grpc-status` among trailer lines.
pub(crate) fn status_in(trailers: &[u8]) -> Option<u16> {
    trailers.split(|b| *b == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(12)?;
        if !name.eq_ignore_ascii_case(b"grpc-status:") {
            return None;
        }
        parse_status(value.trim_ascii())
    })
}

/// What a reason is to a gRPC client:
/// <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>, deadlines aside.
fn status_of(reason: Reason, status: u16) -> u16 {
    match (reason, status) {
        (Reason::GrpcDeadline, _) => DEADLINE_EXCEEDED,
        (_, 400) => 13,
        (_, 401) => 16,
        (_, 403) => 7,
        (_, 404) => 12,
        (_, 429 | 502 | 503 | 504) => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// Answers a call with a reason: a response of trailers only.
pub(crate) fn refuse(front: &impl Front, account: &mut Account<'_>, reason: Reason, status: u16) {
    let code = status_of(reason, status);
    let text = code.to_string();
    // Percent-encoding is not needed: the sentences are plain ASCII (tested below).
    let fields: [(&str, &[u8]); 3] = [
        ("content-type", b"application/grpc"),
        ("grpc-status", text.as_bytes()),
        ("grpc-message", reason.text().as_bytes()),
    ];
    account.status = Some(200);
    account.grpc_status = Some(code);
    account.reason = Some(reason);
    let reply = Reply {
        status: 200,
        reason,
        body: b"",
        fields: &fields,
    };
    account.response_bytes = reply.send(front, upload_is_open(front));
}

/// The trailers that end a response that cannot be finished, and their status: a client cannot take it for whole.
pub(crate) fn trailers(reason: Reason) -> (String, u16) {
    let code = status_of(reason, reason.status().unwrap_or(502));
    let text = reason.text();
    let lines =
        format!("grpc-status: {code}\r\ngrpc-message: {text}\r\nfathom-reason: {reason}\r\n");
    (lines, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let table = [
            ("1H", Some(3_600_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("99999999S", Some(99_999_999_000_000_000)),
            ("0m", Some(0)),
            ("5u", Some(5000)),
            ("7n", Some(7)),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
        ];
        for (text, nanos) in table {
            let got = parse_timeout(text.as_bytes());
            assert_eq!(got, nanos.map(Duration::from_nanos), "{text}");
        }
    }

    #[test]
    fn statuses_in_trailers() {
        assert_eq!(status_in(b"x: y\r\nGrpc-Status: 14\r\n"), Some(14));
        assert_eq!(status_in(b"grpc-status:0\r\n"), Some(0));
        assert_eq!(status_in(b"grpc-status: x\r\n"), None);
        assert_eq!(status_in(b""), None);
    }

    #[test]
    fn every_reason_has_a_status_and_a_plain_sentence() {
        for reason in Reason::ALL {
            let (lines, code) = trailers(*reason);
            assert!((1..=16).contains(&code), "{reason}");
            // `Percent-Byte-Unencoded → 1*( %x20-%x24 / %x26-%x7E )`
            let plain = |b: u8| (0x20..=0x7e).contains(&b) && b != b'%';
            assert!(reason.text().bytes().all(plain), "{reason}");
            assert_eq!(status_in(lines.as_bytes()), Some(code));
        }
    }
}
