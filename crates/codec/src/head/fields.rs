//! The fields of a head: spans in order of arrival, and what the `Connection` field says of them.

use smallvec::SmallVec;

use super::{Name, Span};

/// Where one field stands in the head's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpan {
    /// First byte of the name, and of the line.
    pub start: u32,
    /// The value, without whitespace around it.
    pub value: Span,
    /// Behind the line's CRLF.
    pub line_end: u32,
    /// Length of the name.
    pub name_len: u16,
    /// Which name it is.
    pub id: Name,
}

/// One field with its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The name as written.
    pub name: &'a [u8],
    /// The value without whitespace around it.
    pub value: &'a [u8],
    /// Which name it is.
    pub id: Name,
    /// The whole line with its CRLF, as offsets.
    pub line: Span,
}

/// What the `Connection` fields of a head said (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
    /// Anything else: those fields must be looked up to be removed.
    pub names_fields: bool,
}

/// The fields of a head.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(crate) spans: SmallVec<[FieldSpan; 12]>,
    /// What `Connection` said.
    pub connection: ConnectionOptions,
    /// `TE: trailers` (RFC 9110 §10.1.4).
    pub te_trailers: bool,
    /// `Expect: 100-continue` (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// Fields in order.
pub struct FieldIter<'a> {
    spans: std::slice::Iter<'a, FieldSpan>,
    bytes: &'a [u8],
}

impl<'a> Iterator for FieldIter<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let span = self.spans.next()?;
        Some(Field {
            name: span.name(self.bytes),
            value: span.value.of(self.bytes),
            id: span.id,
            line: Span {
                start: span.start,
                end: span.line_end,
            },
        })
    }
}

impl FieldSpan {
    fn name(self, bytes: &[u8]) -> &[u8] {
        Span {
            start: self.start,
            end: self.start + u32::from(self.name_len),
        }
        .of(bytes)
    }
}

impl Fields {
    /// In order, with the bytes they were made from.
    #[must_use]
    pub fn iter<'a>(&'a self, bytes: &'a [u8]) -> FieldIter<'a> {
        FieldIter {
            spans: self.spans.iter(),
            bytes,
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The first value of that name, in any case.
    #[must_use]
    pub fn get<'a>(&'a self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.spans
            .iter()
            .find(|s| {
                usize::from(s.name_len) == name.len()
                    && s.name(bytes).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(|s| s.value.of(bytes))
    }

    /// The first value of that known name.
    #[must_use]
    pub fn known<'a>(&'a self, bytes: &'a [u8], name: Name) -> Option<&'a [u8]> {
        self.spans
            .iter()
            .find(|s| s.id == name)
            .map(|s| s.value.of(bytes))
    }

    /// Whether there is a field of that known name.
    #[must_use]
    pub fn has(&self, name: Name) -> bool {
        self.spans.iter().any(|s| s.id == name)
    }

    /// Whether a `Connection` field names this one.
    #[must_use]
    pub fn connection_names(&self, bytes: &[u8], name: &[u8]) -> bool {
        self.connection.names_fields
            && self
                .iter(bytes)
                .filter(|f| f.id == Name::Connection)
                .any(|f| list(f.value).any(|option| option.eq_ignore_ascii_case(name)))
    }

    pub(crate) fn note_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.connection.close = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => {
                    self.connection.keep_alive = true
                }
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.connection.upgrade = true,
                _ => self.connection.names_fields = true,
            }
        }
    }

    /// Empties it; keeps its memory unless that is large.
    pub(crate) fn clear(&mut self) {
        if self.spans.capacity() > 64 {
            self.spans = SmallVec::new();
        }
        self.spans.clear();
        self.connection = ConnectionOptions::default();
        self.te_trailers = false;
        self.expects_continue = false;
    }
}

/// The members of a comma-separated list, without whitespace and empty ones (RFC 9110 §5.6.1.2).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|m| !m.is_empty())
}
