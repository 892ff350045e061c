//! Records as text.
//!
//! The promise of every format: a record is exactly one line, ended by `\n`, of valid UTF-8 without control
//! characters, and a field never ends before its delimiter, whatever bytes a client put into it. Bytes that are
//! not UTF-8 are written as the four characters `\xHH`.

mod combined;
mod escape;
mod json;
mod logfmt;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fathom_core::plan::AccessFormat;

use crate::Record;
use crate::time::TimeText;

/// Appends one line to `out`.
///
/// `time` caches the second's text between calls.
pub(crate) fn encode(
    format: AccessFormat,
    out: &mut Vec<u8>,
    record: &Record<'_>,
    time: &mut TimeText,
) {
    time.update(record.time);
    match format {
        AccessFormat::Json => json::encode(out, record, time),
        AccessFormat::Combined => combined::encode(out, record, time),
        AccessFormat::Logfmt => logfmt::encode(out, record, time),
    }
}

/// One record as a line of text, as the log would write it.
#[must_use]
pub fn line(format: AccessFormat, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    encode(format, &mut out, record, &mut TimeText::default());
    String::from_utf8_lossy(&out).into_owned()
}

fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three decimals: `1.234`.
fn millis(out: &mut Vec<u8>, value: Duration) {
    let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
    integer(out, micros / 1000);
    let rest = micros % 1000;
    out.push(b'.');
    three_digits(out, rest);
}

/// `007`; `value` is below 1000.
fn three_digits(out: &mut Vec<u8>, value: u64) {
    for divisor in [100, 10, 1] {
        out.push(b'0' + (value / divisor % 10) as u8);
    }
}

/// `2026-11-29T11:26:41.007Z`.
fn rfc3339(out: &mut Vec<u8>, time: &TimeText, at: Duration) {
    out.extend_from_slice(time.rfc3339().as_bytes());
    out.push(b'.');
    three_digits(out, u64::from(at.subsec_millis()));
    out.push(b'Z');
}

/// An address; IPv4-mapped ones as IPv4.
fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            for (i, octet) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                integer(out, octet);
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

/// `192.0.2.1:80`, `[2001:db8::1]:80`.
fn socket_addr(out: &mut Vec<u8>, address: SocketAddr) {
    let v6 = address.ip().to_canonical().is_ipv6();
    if v6 {
        out.push(b'[');
    }
    ip(out, address.ip());
    if v6 {
        out.push(b']');
    }
    out.push(b':');
    integer(out, address.port());
}

#[cfg(test)]
mod tests;
