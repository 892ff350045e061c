//! Trailer sections between the two forms.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::head::Name;

/// A trailer section as lines (`name: value CRLF`...), without what must not stand in one (RFC 9110 §6.5.1).
#[must_use]
pub fn trailer_lines(map: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in map {
        if Name::of(name.as_str().as_bytes()).is_forbidden_in_trailers() {
            continue;
        }
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes().trim_ascii());
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Trailer lines as a header map; what cannot stand in one is left out.
#[must_use]
pub fn trailer_map(lines: &[u8]) -> HeaderMap {
    let block = Bytes::copy_from_slice(lines);
    let mut map = HeaderMap::new();
    for line in block.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        if Name::of(&line[..colon]).is_forbidden_in_trailers() {
            continue;
        }
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_maybe_shared(block.slice_ref(value)),
        ) {
            map.append(name, value);
        }
    }
    map
}
