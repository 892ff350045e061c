//! Message heads of every version: bytes with spans into them, field order and case kept.
//!
//! A head does not own its bytes: whoever does passes them to [`RequestHead::view`] or [`ResponseHead::view`].
//! Lines are kept as `Name: value CRLF`, so that a run of fields can be copied to an HTTP/1 peer in one piece.

mod builder;
mod fields;
mod name;

pub use builder::Builder;
pub(crate) use fields::list;
pub use fields::{ConnectionOptions, Field, FieldIter, FieldSpan, Fields};
pub use name::Name;

/// A part of a head's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// Of these offsets; heads are far shorter than 4 GiB.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The bytes it stands for; empty if `bytes` is not what it was made from.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Whether it covers nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The version a message came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl Version {
    /// `HTTP/1.1`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// How a message's content is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    #[default]
    None,
    /// `Content-Length`, above zero.
    Length(u64),
    /// Its end is marked: chunked coding in HTTP/1, END_STREAM without a length in HTTP/2.
    Chunked,
    /// Until the connection closes; only in responses.
    UntilClose,
}

/// Methods that the proxy treats in a way of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Options,
    Trace,
    Put,
    Delete,
    Post,
    Connect,
    #[default]
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"POST" => Self::Post,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether sending it twice means the same as once (RFC 9110 §9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Options | Self::Trace | Self::Put | Self::Delete
        )
    }
}

/// What a request's head says.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub(crate) method: Span,
    pub(crate) target: Span,
    /// Host and port, from the target (absolute-form, `:authority`) or else from `Host`.
    pub(crate) authority: Option<Span>,
    /// Whether the authority came with the target, and so wins over `Host`.
    pub(crate) authority_in_target: bool,
    pub(crate) path: Span,
    pub(crate) query: Option<Span>,
    pub(crate) kind: Method,
    pub(crate) version: Version,
    pub(crate) body: Body,
    pub(crate) fields: Fields,
    pub(crate) cursor: crate::h1::Cursor,
}

/// What a response's head says.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) reason: Span,
    pub(crate) version: Version,
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
    /// Every line is as it must be sent on; false once something was mended on reading.
    pub(crate) mended: bool,
    pub(crate) fields: Fields,
    pub(crate) cursor: crate::h1::Cursor,
}

/// A request's head with its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The head's bytes.
    pub bytes: &'a [u8],
    /// What they say.
    pub head: &'a RequestHead,
}

/// A response's head with its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The head's bytes.
    pub bytes: &'a [u8],
    /// What they say.
    pub head: &'a ResponseHead,
}

impl RequestHead {
    /// With the bytes it was made from.
    #[must_use]
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        Request { bytes, head: self }
    }

    /// The method, as far as it matters.
    #[must_use]
    pub fn method(&self) -> Method {
        self.kind
    }

    /// The version it came in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// How its content is delimited.
    #[must_use]
    pub fn body(&self) -> Body {
        self.body
    }

    /// Its fields.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Whether the authority came with the target, so that `Host` must be written from it (RFC 9112 §3.2.2).
    #[must_use]
    pub fn authority_in_target(&self) -> bool {
        self.authority_in_target
    }

    /// Empties it for the next request; keeps its memory unless that is large.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }
}

impl<'a> Request<'a> {
    /// The method as written.
    #[must_use]
    pub fn method(self) -> &'a [u8] {
        self.head.method.of(self.bytes)
    }

    /// The request-target as written (for HTTP/2 the path).
    #[must_use]
    pub fn target(self) -> &'a [u8] {
        self.head.target.of(self.bytes)
    }

    /// Host with port, as written; empty when the client named none.
    #[must_use]
    pub fn authority(self) -> &'a [u8] {
        self.head.authority.map_or(&[], |s| s.of(self.bytes))
    }

    /// The authority without its port.
    #[must_use]
    pub fn host(self) -> &'a [u8] {
        host_of(self.authority())
    }

    /// The path, `/` at least (`*` for `OPTIONS *`).
    #[must_use]
    pub fn path(self) -> &'a [u8] {
        if self.head.path.is_empty() {
            b"/"
        } else {
            self.head.path.of(self.bytes)
        }
    }

    /// The query without its `?`.
    #[must_use]
    pub fn query(self) -> Option<&'a [u8]> {
        self.head.query.map(|s| s.of(self.bytes))
    }

    /// Path with query, as an origin-form target.
    #[must_use]
    pub fn path_and_query(self) -> (&'a [u8], Option<&'a [u8]>) {
        (self.path(), self.query())
    }

    /// Its fields in order.
    pub fn fields(self) -> FieldIter<'a> {
        self.head.fields.iter(self.bytes)
    }

    /// The first field of that name.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.head.fields.get(self.bytes, name)
    }

    /// The first field of that known name.
    #[must_use]
    pub fn known(self, name: Name) -> Option<&'a [u8]> {
        self.head.fields.known(self.bytes, name)
    }
}

impl ResponseHead {
    /// With the bytes it was made from.
    #[must_use]
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> Response<'a> {
        Response { bytes, head: self }
    }

    /// The status, 100 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The version it came in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// `Content-Length`, where there is one.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.length
    }

    /// Whether its bytes may be sent on as they are, as far as reading them goes.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        !self.mended
    }

    /// Its fields.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// How its content is delimited, as the answer to a request with this method.
    #[must_use]
    pub fn body(&self, to: Method) -> Body {
        // RFC 9112 §6.3 rule 1: no content after HEAD, with 1xx, 204 and 304, whatever the fields say.
        if to == Method::Head || self.status < 200 || self.status == 204 || self.status == 304 {
            return Body::None;
        }
        // Rules 4, 6 and 8. (A request that both sides could read differently was refused on parsing.)
        match (self.chunked, self.length) {
            (true, _) => Body::Chunked,
            (_, Some(0)) => Body::None,
            (_, Some(n)) => Body::Length(n),
            (_, None) if self.version == Version::Http2 => Body::Chunked,
            _ => Body::UntilClose,
        }
    }

    /// Empties it for the next response; keeps its memory unless that is large.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }
}

impl<'a> Response<'a> {
    /// The reason phrase as written; may be empty.
    #[must_use]
    pub fn reason(self) -> &'a [u8] {
        self.head.reason.of(self.bytes)
    }

    /// Its fields in order.
    pub fn fields(self) -> FieldIter<'a> {
        self.head.fields.iter(self.bytes)
    }

    /// The first field of that name.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.head.fields.get(self.bytes, name)
    }

    /// The first field of that known name.
    #[must_use]
    pub fn known(self, name: Name) -> Option<&'a [u8]> {
        self.head.fields.known(self.bytes, name)
    }
}

/// An authority without its port: `[::1]:80` is `[::1]`.
#[must_use]
pub fn host_of(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        Some(colon) if memchr::memchr(b']', &authority[colon..]).is_none() => &authority[..colon],
        _ => authority,
    }
}
