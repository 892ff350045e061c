//! Heads that the `h2` crate decoded, checked field by field and put into the form of [`crate::head`].

use http::{HeaderMap, HeaderName, header};

use super::encode_key;
use crate::h1::{Limits, Malformed, content_length, valid_host};
use crate::head::{Body, Builder, Name, RequestHead, ResponseHead, Version};

/// A request's head as it is sent on.
#[derive(Debug)]
pub struct Received {
    /// The head's bytes.
    pub bytes: Vec<u8>,
    /// What they say.
    pub head: RequestHead,
}

impl Received {
    /// Of a request. `ended`: END_STREAM came with it. `protocol`: what `:protocol` says (RFC 8441). `nonce` makes
    /// the key that a WebSocket handshake in HTTP/1 needs.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn request(
        parts: &http::request::Parts,
        protocol: Option<&str>,
        ended: bool,
        memory: Vec<u8>,
        nonce: impl FnOnce() -> [u8; 16],
    ) -> Result<Self, Malformed> {
        let limits = Limits::default();
        let websocket = is_websocket(&parts.method, protocol)?;
        let path = path_of(parts, &limits)?;
        let authority = authority_of(parts)?;
        let length = one_length(&parts.headers)?;
        let mut builder = Builder::new(memory);
        copy_fields(&parts.headers, &limits, |name, id, value| {
            match id {
                // RFC 9113 §8.2.2: connection-specific fields make a message malformed, and TE may say one thing.
                Name::Te if value != b"trailers" => return Err(Malformed::ConnectionField),
                Name::Te => {}
                _ if id.is_hop_by_hop() => return Err(Malformed::ConnectionField),
                // Became the authority, and is written from there; crumbs are written as one.
                Name::Host | Name::Cookie => return Ok(()),
                Name::Other if websocket && name == header::SEC_WEBSOCKET_KEY => return Ok(()),
                _ => {}
            }
            builder.field(name.as_str().as_bytes(), value);
            Ok(())
        })?;
        join_cookies(&parts.headers, &mut builder);
        let (method, body) = if websocket {
            // RFC 8441 §5 to RFC 6455 §4.1: the same request, as HTTP/1 says it.
            builder.upgrade(b"websocket");
            builder.field(b"Sec-WebSocket-Key", &encode_key(nonce()));
            (&b"GET"[..], Body::None)
        } else {
            let body = match (length, ended) {
                // RFC 9113 §8.1.1: a length that is not the sum of the DATA frames is malformed.
                (Some(1..), true) => return Err(Malformed::ContentLength),
                (_, true) | (Some(0), _) => Body::None,
                (Some(n), false) => Body::Length(n),
                (None, false) => Body::Chunked,
            };
            (parts.method.as_str().as_bytes(), body)
        };
        let (bytes, head) = builder.request(Version::Http2, method, authority, path, body);
        Ok(Self { bytes, head })
    }

    /// What is left of a request that was refused: enough to answer it.
    #[must_use]
    pub fn refused(method: &http::Method, memory: Vec<u8>) -> Self {
        let method = method.as_str().as_bytes();
        let (bytes, head) =
            Builder::new(memory).request(Version::Http2, method, b"", b"/", Body::None);
        Self { bytes, head }
    }
}

/// A response's head of a server.
///
/// # Errors
/// The first rule that was broken.
pub fn received_response(
    status: u16,
    headers: &HeaderMap,
    memory: Vec<u8>,
) -> Result<(Vec<u8>, ResponseHead), Malformed> {
    let length = one_length(headers)?;
    let mut builder = Builder::new(memory);
    copy_fields(headers, &Limits::default(), |name, _, value| {
        builder.field(name.as_str().as_bytes(), value);
        Ok(())
    })?;
    Ok(builder.response(Version::Http2, status, length))
}

/// Calls `put` for each field, within the limits.
fn copy_fields(
    headers: &HeaderMap,
    limits: &Limits,
    mut put: impl FnMut(&HeaderName, Name, &[u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if headers.len() > limits.fields {
        return Err(Malformed::TooManyFields);
    }
    let mut size = 0;
    for (name, value) in headers {
        let value = value.as_bytes();
        size += name.as_str().len() + value.len() + 4;
        if size > limits.head {
            return Err(Malformed::HeadTooLarge);
        }
        // RFC 9113 §8.2.1: no NUL, CR, LF (the header map has none), and no whitespace at either end.
        if value.trim_ascii().len() != value.len() {
            return Err(Malformed::FieldValue);
        }
        put(name, Name::of(name.as_str().as_bytes()), value)?;
    }
    Ok(())
}

fn is_websocket(method: &http::Method, protocol: Option<&str>) -> Result<bool, Malformed> {
    match (method == http::Method::CONNECT, protocol) {
        (false, None) => Ok(false),
        (true, Some("websocket")) => Ok(true),
        _ => Err(Malformed::ConnectMethod),
    }
}

fn path_of<'a>(parts: &'a http::request::Parts, limits: &Limits) -> Result<&'a [u8], Malformed> {
    let path = parts
        .uri
        .path_and_query()
        .ok_or(Malformed::Target)?
        .as_str()
        .as_bytes();
    if path.len() > limits.uri {
        return Err(Malformed::UriTooLong);
    }
    // RFC 9113 §8.3.1: MUST start with "/", except for OPTIONS without a path, which has "*".
    let form =
        path.first() == Some(&b'/') || (path == b"*" && parts.method == http::Method::OPTIONS);
    let clean = path.iter().all(|b| *b > b' ' && *b != 0x7f && *b != b'#');
    if form && clean {
        Ok(path)
    } else {
        Err(Malformed::Target)
    }
}

/// RFC 9113 §8.3.1: `:authority` and Host must not name different hosts; one of them must be there.
fn authority_of(parts: &http::request::Parts) -> Result<&[u8], Malformed> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(|v| v.as_bytes());
    if hosts.next().is_some() {
        return Err(Malformed::HostTwice);
    }
    let authority = parts.uri.authority().map(|a| a.as_str().as_bytes());
    let named = match (authority, host) {
        (Some(a), Some(h)) if !a.eq_ignore_ascii_case(h) => return Err(Malformed::HostDiffers),
        (Some(a), _) => a,
        (None, Some(h)) => h,
        (None, None) => return Err(Malformed::HostMissing),
    };
    if named.is_empty() {
        return Err(Malformed::HostMissing);
    }
    if valid_host(named) {
        Ok(named)
    } else {
        Err(Malformed::Host)
    }
}

fn one_length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths
        .next()
        .map(|v| content_length(v.as_bytes()))
        .transpose()?;
    if lengths.next().is_some() {
        return Err(Malformed::ContentLengthTwice);
    }
    Ok(length)
}

/// RFC 9113 §8.2.3: crumbs MUST be joined with "; " before they go anywhere that is not HTTP/2.
fn join_cookies(headers: &HeaderMap, builder: &mut Builder) {
    let mut crumbs = headers.get_all(header::COOKIE).iter().map(|v| v.as_bytes());
    let Some(first) = crumbs.next() else { return };
    let Some(second) = crumbs.next() else {
        return builder.field(b"cookie", first);
    };
    let mut joined = [first, second].join(&b"; "[..]);
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb);
    }
    builder.field(b"cookie", &joined);
}
