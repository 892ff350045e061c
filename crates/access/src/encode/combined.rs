//! `format = "combined"`: what Apache and nginx call so, for tools that read nothing else.
//!
//! `client - - [time] "method path version" status bytes "referer" "user agent"`. Where Fathom itself answered or
//! ended it, a field ` "reason file:line"` follows. Connections and flows have `TCP` or `UDP` as their method and
//! the listener as their path.

use super::{escape, integer, ip};
use crate::record::{Exchange, Record};
use crate::time::TimeText;

pub(super) fn encode(out: &mut Vec<u8>, record: &Record<'_>, time: &TimeText) {
    ip(out, record.client.ip());
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(time.common().as_bytes());
    out.extend_from_slice(b"] \"");
    let (method, path, version, status) = match &record.exchange {
        Exchange::Http(r) => (r.method, r.path, r.version, r.status),
        Exchange::Tcp => (b"TCP".as_slice(), record.listener.as_bytes(), "", None),
        Exchange::Udp => (b"UDP".as_slice(), record.listener.as_bytes(), "", None),
        Exchange::Packet => (b"PACKET".as_slice(), record.listener.as_bytes(), "", None),
    };
    escape::combined(out, method);
    out.push(b' ');
    escape::combined(out, path);
    out.push(b' ');
    escape::combined(out, version.as_bytes());
    out.extend_from_slice(b"\" ");
    match status {
        Some(status) => integer(out, status),
        None => out.push(b'-'),
    }
    out.push(b' ');
    integer(out, record.response_bytes);
    let (referer, user_agent) = match &record.exchange {
        Exchange::Http(r) => (r.referer, r.user_agent),
        _ => (b"".as_slice(), b"".as_slice()),
    };
    out.extend_from_slice(b" \"");
    escape::combined(out, referer);
    out.extend_from_slice(b"\" \"");
    escape::combined(out, user_agent);
    out.push(b'"');
    if let Some(reason) = record.reason {
        out.extend_from_slice(b" \"");
        escape::combined(out, reason.as_bytes());
        if let Some(route) = record.route {
            out.push(b' ');
            escape::combined(out, route.origin.file.as_bytes());
            out.push(b':');
            integer(out, route.origin.line);
        }
        out.push(b'"');
    }
    out.push(b'\n');
}
