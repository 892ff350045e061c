//! Writing heads, in one pass over the fields of the head that came in.

use crate::head::{Field, FieldIter, Version};

/// Appends a head to a buffer. Begin with [`Writer::request`] or [`Writer::response`], end with [`Writer::end`].
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    /// `METHOD target HTTP/1.1`. Whatever the client speaks, a proxy speaks its own version (RFC 9110 §6.2).
    pub fn request(out: &'o mut Vec<u8>, method: &[u8], target: &[&[u8]]) -> Self {
        out.extend_from_slice(method);
        out.push(b' ');
        for part in target {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        Self { out }
    }

    /// `HTTP/1.1 200 OK`.
    pub fn response(out: &'o mut Vec<u8>, status: u16, reason: &[u8]) -> Self {
        out.extend_from_slice(Version::Http11.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\n");
        Self { out }
    }

    /// Copies the fields that `keep` says, order and case kept; neighbours go in one piece.
    pub fn copy(
        &mut self,
        bytes: &[u8],
        fields: FieldIter<'_>,
        mut keep: impl FnMut(&Field<'_>) -> bool,
    ) {
        let mut run = 0..0;
        for field in fields {
            if !keep(&field) {
                continue;
            }
            let line = field.line.start as usize..field.line.end as usize;
            if run.end != line.start {
                self.out
                    .extend_from_slice(bytes.get(run).unwrap_or_default());
                run = line;
            } else {
                run.end = line.end;
            }
        }
        self.out
            .extend_from_slice(bytes.get(run).unwrap_or_default());
    }

    /// Copies the fields that `keep` says, each written anew: for heads that were mended on reading.
    pub fn rewrite(&mut self, fields: FieldIter<'_>, mut keep: impl FnMut(&Field<'_>) -> bool) {
        for field in fields.filter(|f| keep(f)) {
            self.field(field.name, field.value);
        }
    }

    /// One field.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        self.field_parts(name, &[value])
    }

    /// One field whose value is put together.
    pub fn field_parts(&mut self, name: &[u8], value: &[&[u8]]) -> &mut Self {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        for part in value {
            self.out.extend_from_slice(part);
        }
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// One field with a number.
    pub fn number(&mut self, name: &[u8], value: u64) -> &mut Self {
        self.field(name, itoa::Buffer::new().format(value).as_bytes())
    }

    /// The empty line.
    pub fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// The buffer, for a value that a caller writes by itself.
    pub fn raw(&mut self) -> &mut Vec<u8> {
        self.out
    }
}
