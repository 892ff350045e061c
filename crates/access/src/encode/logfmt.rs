//! `format = "logfmt"`: `key=value` pairs; values are quoted where they must be.

use super::{escape, integer, millis, rfc3339, socket_addr};
use crate::record::{Exchange, Record, Request};
use crate::time::TimeText;

pub(super) fn encode(out: &mut Vec<u8>, record: &Record<'_>, time: &TimeText) {
    out.extend_from_slice(b"time=");
    rfc3339(out, time, record.time);
    out.extend_from_slice(match record.exchange {
        Exchange::Http(_) => b" kind=http client=".as_slice(),
        Exchange::Tcp => b" kind=tcp client=",
        Exchange::Udp => b" kind=udp client=",
        Exchange::Packet => b" kind=packet client=",
    });
    socket_addr(out, record.client);
    value(out, b" listener=", record.listener.as_bytes());
    if let Some(route) = record.route {
        value(out, b" route=", route.name.as_bytes());
        value(out, b" origin=", route.origin.file.as_bytes());
        let quoted = out.last() == Some(&b'"');
        if quoted {
            out.pop();
        }
        out.push(b':');
        integer(out, route.origin.line);
        if quoted {
            out.push(b'"');
        }
    }
    value(out, b" pool=", record.pool.unwrap_or_default().as_bytes());
    value(
        out,
        b" server=",
        record.server.unwrap_or_default().as_bytes(),
    );
    if let Exchange::Http(request) = &record.exchange {
        http(out, request);
    }
    out.extend_from_slice(b" request_bytes=");
    integer(out, record.request_bytes);
    out.extend_from_slice(b" response_bytes=");
    integer(out, record.response_bytes);
    out.extend_from_slice(b" duration_ms=");
    millis(out, record.duration);
    if let Some(connect) = record.connect {
        out.extend_from_slice(b" connect_ms=");
        millis(out, connect);
    }
    if record.retries > 0 {
        out.extend_from_slice(b" retries=");
        integer(out, record.retries);
    }
    value(
        out,
        b" reason=",
        record.reason.unwrap_or_default().as_bytes(),
    );
    if let Some(tls) = record.tls {
        value(out, b" tls_version=", tls.version.as_bytes());
        value(out, b" sni=", tls.sni.unwrap_or_default().as_bytes());
    }
    out.push(b'\n');
}

fn http(out: &mut Vec<u8>, request: &Request<'_>) {
    value(out, b" method=", request.method);
    value(out, b" host=", request.host);
    value(out, b" path=", request.path);
    value(out, b" version=", request.version.as_bytes());
    if let Some(status) = request.status {
        out.extend_from_slice(b" status=");
        integer(out, status);
    }
    if let Some(status) = request.grpc_status {
        out.extend_from_slice(b" grpc_status=");
        integer(out, status);
    }
    if let Some(first_byte) = request.first_byte {
        out.extend_from_slice(b" first_byte_ms=");
        millis(out, first_byte);
    }
    value(out, b" user_agent=", request.user_agent);
    value(out, b" referer=", request.referer);
}

/// ` key=value`, quoted when a bare word would not do; nothing for an empty value.
fn value(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(key);
    if value
        .iter()
        .all(|&b| escape::is_plain(b) && b != b' ' && b != b'=')
    {
        out.extend_from_slice(value);
    } else {
        out.push(b'"');
        escape::json(out, value);
        out.push(b'"');
    }
}
