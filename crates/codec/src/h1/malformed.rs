//! What can be wrong with a message, each with the paragraph that says so.

use std::fmt;

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Malformed {
    BareLf,
    BareCr,
    RequestLine,
    Method,
    Target,
    Version,
    VersionUnsupported,
    StatusLine,
    FieldName,
    SpaceBeforeColon,
    FieldValue,
    ObsFold,
    HostMissing,
    HostTwice,
    Host,
    ContentLength,
    ContentLengthTwice,
    LengthAndCoding,
    TransferEncoding,
    CodingInHttp10,
    ChunkSize,
    ChunkExtension,
    ChunkEnd,
    Trailer,
    ConnectMethod,
    HeadTooLarge,
    UriTooLong,
    TooManyFields,
    HostDiffers,
    ConnectionField,
}

impl Malformed {
    /// The status that answers a request like this.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::UriTooLong => 414,
            Self::VersionUnsupported => 505,
            Self::ConnectMethod => 501,
            _ => 400,
        }
    }

    /// One short sentence, safe to be shown to whoever sent it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BareLf => "a line ends in LF without CR (RFC 9112 section 2.2)",
            Self::BareCr => "a CR without LF (RFC 9112 section 2.2)",
            Self::RequestLine => {
                "the request line is not 'method SP target SP version' (RFC 9112 section 3)"
            }
            Self::Method => "the method is not a token (RFC 9110 section 9.1)",
            Self::Target => "the request target has none of the four forms (RFC 9112 section 3.2)",
            Self::Version => "the version is not HTTP/1.x (RFC 9112 section 2.3)",
            Self::VersionUnsupported => {
                "this HTTP version is not spoken here (RFC 9110 section 15.6.6)"
            }
            Self::StatusLine => "the status line is malformed (RFC 9112 section 4)",
            Self::FieldName => "a field name is not a token (RFC 9110 section 5.1)",
            Self::SpaceBeforeColon => {
                "whitespace between field name and colon (RFC 9112 section 5.1)"
            }
            Self::FieldValue => "a control character in a field value (RFC 9110 section 5.5)",
            Self::ObsFold => "a folded field line (RFC 9112 section 5.2)",
            Self::HostMissing => "no Host field (RFC 9112 section 3.2)",
            Self::HostTwice => "more than one Host field (RFC 9112 section 3.2)",
            Self::Host => "the host is invalid (RFC 9112 section 3.2)",
            Self::ContentLength => "Content-Length is not one number (RFC 9110 section 8.6)",
            Self::ContentLengthTwice => "more than one Content-Length (RFC 9112 section 6.3)",
            Self::LengthAndCoding => {
                "both Content-Length and Transfer-Encoding (RFC 9112 section 6.1)"
            }
            Self::TransferEncoding => "Transfer-Encoding is not 'chunked' (RFC 9112 section 6.1)",
            Self::CodingInHttp10 => {
                "Transfer-Encoding in an HTTP/1.0 message (RFC 9112 section 6.1)"
            }
            Self::ChunkSize => "a chunk size is malformed (RFC 9112 section 7.1)",
            Self::ChunkExtension => {
                "a chunk extension is malformed or too long (RFC 9112 section 7.1.1)"
            }
            Self::ChunkEnd => "chunk data does not end where its size says (RFC 9112 section 7.1)",
            Self::Trailer => {
                "the trailer section is malformed or too long (RFC 9112 section 7.1.2)"
            }
            Self::ConnectMethod => "CONNECT is not offered here (RFC 9110 section 9.3.6)",
            Self::HeadTooLarge => "the header section is too large (RFC 6585 section 5)",
            Self::UriTooLong => "the request target is too long (RFC 9110 section 15.5.15)",
            Self::TooManyFields => "too many header fields (RFC 6585 section 5)",
            Self::HostDiffers => "Host is not what :authority says (RFC 9113 section 8.3.1)",
            Self::ConnectionField => {
                "a connection-specific field in HTTP/2 (RFC 9113 section 8.2.2)"
            }
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Malformed {}
