//! Heads from other codecs than HTTP/1, written in the same form: lines, and spans into them.

use super::{Body, FieldSpan, Fields, Method, Name, RequestHead, ResponseHead, Span, Version};

/// Writes a head's bytes and spans. The caller has checked names and values (`http::HeaderMap` has).
#[derive(Debug, Default)]
pub struct Builder {
    bytes: Vec<u8>,
    fields: Fields,
}

impl Builder {
    /// Into this memory, which is emptied.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self {
            bytes,
            fields: Fields::default(),
        }
    }

    fn put(&mut self, part: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        Span::new(start, self.bytes.len())
    }

    /// Adds a field. Names longer than 65,535 bytes are cut off, which no header limit lets through.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        let id = Name::of(name);
        let name = self.put(&name[..name.len().min(usize::from(u16::MAX))]);
        self.bytes.extend_from_slice(b": ");
        let value_span = self.put(value);
        let end = self.put(b"\r\n");
        match id {
            Name::Te => self.fields.te_trailers |= value.eq_ignore_ascii_case(b"trailers"),
            Name::Expect => {
                self.fields.expects_continue |= value.eq_ignore_ascii_case(b"100-continue")
            }
            _ => {}
        }
        self.fields.spans.push(FieldSpan {
            start: name.start,
            value: value_span,
            line_end: end.end,
            name_len: (name.end - name.start) as u16,
            id,
        });
    }

    /// Asks for an upgrade to `protocol`, in the form of HTTP/1.
    pub fn upgrade(&mut self, protocol: &[u8]) {
        self.field(b"Upgrade", protocol);
        self.fields.connection.upgrade = true;
    }

    /// Ends a request's head. `path` is with query; `authority` may be empty.
    #[must_use]
    pub fn request(
        mut self,
        version: Version,
        method: &[u8],
        authority: &[u8],
        path: &[u8],
        body: Body,
    ) -> (Vec<u8>, RequestHead) {
        let method_span = self.put(method);
        let authority = self.put(authority);
        let target = self.put(path);
        let (path, query) = crate::h1::split_query(&self.bytes, target);
        let head = RequestHead {
            method: method_span,
            target,
            authority: (!authority.is_empty()).then_some(authority),
            authority_in_target: !authority.is_empty(),
            path,
            query,
            kind: Method::of(method),
            version,
            body,
            fields: self.fields,
            ..RequestHead::default()
        };
        (self.bytes, head)
    }

    /// Ends a response's head.
    #[must_use]
    pub fn response(
        self,
        version: Version,
        status: u16,
        length: Option<u64>,
    ) -> (Vec<u8>, ResponseHead) {
        let head = ResponseHead {
            status,
            version,
            length,
            fields: self.fields,
            ..ResponseHead::default()
        };
        (self.bytes, head)
    }
}
