//! Heads as header maps.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::head::{Field, Fields};

/// Fills a header map in the way of [`crate::h1::Writer`].
#[derive(Debug)]
pub struct FieldWriter {
    map: HeaderMap,
}

impl FieldWriter {
    /// With room for so many fields.
    #[must_use]
    pub fn new(fields: usize) -> Self {
        Self {
            map: HeaderMap::with_capacity(fields),
        }
    }

    /// Copies the fields that `keep` says. Their values share one piece of memory.
    pub fn copy(
        &mut self,
        bytes: &[u8],
        fields: &Fields,
        mut keep: impl FnMut(&Field<'_>) -> bool,
    ) {
        let block = Bytes::copy_from_slice(bytes);
        for field in fields.iter(&block) {
            if !keep(&field) {
                continue;
            }
            // RFC 9113 §8.2.1: names are sent in lower case, which `HeaderName` sees to.
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(field.name),
                HeaderValue::from_maybe_shared(block.slice_ref(field.value)),
            ) {
                self.map.append(name, value);
            }
        }
    }

    /// One field whose value is put together. What no field can say is left out.
    pub fn field_parts(&mut self, name: &[u8], value: &[&[u8]]) {
        let value = match value {
            [whole] => HeaderValue::from_bytes(whole),
            parts => HeaderValue::from_maybe_shared(Bytes::from(parts.concat())),
        };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            self.map.append(name, value);
        }
    }

    /// The map.
    #[must_use]
    pub fn into_map(self) -> HeaderMap {
        self.map
    }
}
