//! `format = "json"`: one object a line; fields that are not known are left out.

use super::{escape, integer, millis, rfc3339, socket_addr};
use crate::record::{Exchange, Record, Request};
use crate::time::TimeText;

pub(super) fn encode(out: &mut Vec<u8>, record: &Record<'_>, time: &TimeText) {
    out.extend_from_slice(b"{\"time\":\"");
    rfc3339(out, time, record.time);
    out.extend_from_slice(match record.exchange {
        Exchange::Http(_) => b"\",\"kind\":\"http\",\"client\":\"".as_slice(),
        Exchange::Tcp => b"\",\"kind\":\"tcp\",\"client\":\"",
        Exchange::Udp => b"\",\"kind\":\"udp\",\"client\":\"",
        Exchange::Packet => b"\",\"kind\":\"packet\",\"client\":\"",
    });
    socket_addr(out, record.client);
    out.push(b'"');
    string(out, b",\"listener\":\"", record.listener.as_bytes());
    if let Some(route) = record.route {
        string(out, b",\"route\":\"", route.name.as_bytes());
        string(out, b",\"origin\":\"", route.origin.file.as_bytes());
        out.pop(); // reopen the string: the line number belongs to it
        out.push(b':');
        integer(out, route.origin.line);
        out.push(b'"');
    }
    string(
        out,
        b",\"pool\":\"",
        record.pool.unwrap_or_default().as_bytes(),
    );
    string(
        out,
        b",\"server\":\"",
        record.server.unwrap_or_default().as_bytes(),
    );
    if let Exchange::Http(request) = &record.exchange {
        http(out, request);
    }
    out.extend_from_slice(b",\"request_bytes\":");
    integer(out, record.request_bytes);
    out.extend_from_slice(b",\"response_bytes\":");
    integer(out, record.response_bytes);
    out.extend_from_slice(b",\"duration_ms\":");
    millis(out, record.duration);
    if let Some(connect) = record.connect {
        out.extend_from_slice(b",\"connect_ms\":");
        millis(out, connect);
    }
    if record.retries > 0 {
        out.extend_from_slice(b",\"retries\":");
        integer(out, record.retries);
    }
    string(
        out,
        b",\"reason\":\"",
        record.reason.unwrap_or_default().as_bytes(),
    );
    if let Some(tls) = record.tls {
        string(out, b",\"tls_version\":\"", tls.version.as_bytes());
        string(out, b",\"sni\":\"", tls.sni.unwrap_or_default().as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

fn http(out: &mut Vec<u8>, request: &Request<'_>) {
    string(out, b",\"method\":\"", request.method);
    string(out, b",\"host\":\"", request.host);
    string(out, b",\"path\":\"", request.path);
    string(out, b",\"version\":\"", request.version.as_bytes());
    if let Some(status) = request.status {
        out.extend_from_slice(b",\"status\":");
        integer(out, status);
    }
    if let Some(status) = request.grpc_status {
        out.extend_from_slice(b",\"grpc_status\":");
        integer(out, status);
    }
    if let Some(first_byte) = request.first_byte {
        out.extend_from_slice(b",\"first_byte_ms\":");
        millis(out, first_byte);
    }
    string(out, b",\"user_agent\":\"", request.user_agent);
    string(out, b",\"referer\":\"", request.referer);
}

/// `,"key":"value"`, or nothing for an empty value. `key` carries its own punctuation.
fn string(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(key);
        escape::json(out, value);
        out.push(b'"');
    }
}
