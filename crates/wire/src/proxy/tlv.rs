//! Version 2's type-length-value fields.

/// Kinds of TLV that have a meaning here; everything else is passed on as it came.
pub mod kind {
    /// What was negotiated by ALPN.
    pub const ALPN: u8 = 0x01;
    /// The name the client asked for (SNI).
    pub const AUTHORITY: u8 = 0x02;
    /// Checksum of the whole header.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// An opaque identifier of the connection.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What TLS said about the client; carries TLVs of its own.
    pub const SSL: u8 = 0x20;
    /// Network namespace.
    pub const NETNS: u8 = 0x30;
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// One of [`kind`], or something else.
    pub kind: u8,
    /// Its bytes.
    pub value: &'a [u8],
}

/// The fields of a header, as they stood: an iterator over well-formed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// No fields.
    pub const EMPTY: Tlvs<'static> = Tlvs(&[]);

    /// Takes `bytes` as fields; `None` when one reaches past the end.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = split(rest)?;
        }
        Some(Self(bytes))
    }

    /// The fields as bytes, to keep; [`Tlvs::new`] takes them back.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The first field of that kind.
    #[must_use]
    pub fn find(mut self, kind: u8) -> Option<&'a [u8]> {
        Iterator::find(&mut self, |t| t.kind == kind).map(|t| t.value)
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (tlv, rest) = split(self.0)?;
        self.0 = rest;
        Some(tlv)
    }
}

/// The first field and what follows it.
fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk::<3>()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((Tlv { kind, value }, rest))
}
