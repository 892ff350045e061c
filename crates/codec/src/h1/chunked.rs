//! The chunked coding (RFC 9112 §7.1), incremental.
//!
//! ```text
//! Size ──CRLF──> Data ──n bytes──> DataEnd ──CRLF──> Size
//!  │ └─ ; ──> Extension ──CRLF──┘
//!  └─ 0 CRLF ──> Trailers ──empty line──> Done
//! ```

use super::parse::parse_field;
use super::{Malformed, Step};
use crate::head::Span;

/// Longest chunk line with its extensions. RFC 9112 §7.1.1: a server ought to limit their length.
const LINE_LIMIT: usize = 1024;
/// Extension bytes in a whole body.
const EXTENSIONS_LIMIT: usize = 16 << 10;
/// Bytes of the trailer section.
const TRAILERS_LIMIT: usize = 16 << 10;

/// What ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { quoted: bool, escaped: bool },
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Takes a chunked body apart.
#[derive(Clone, Debug)]
pub struct ChunkDecoder {
    state: State,
    /// Of the chunk's data, still to come.
    left: u64,
    line: usize,
    extensions: usize,
    trailer_bytes: Vec<u8>,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self {
            state: State::Size {
                value: 0,
                digits: 0,
            },
            left: 0,
            line: 0,
            extensions: 0,
            trailer_bytes: Vec::new(),
        }
    }
}

impl ChunkDecoder {
    /// What the next bytes are: so many to skip, then so many of data. See [`Step`].
    ///
    /// # Errors
    /// The rule that was broken; the body cannot be read on.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Malformed> {
        let mut at = 0;
        loop {
            if self.state == State::Data {
                let data = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(input.len() - at);
                self.left -= data as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Step {
                    skip: at,
                    data,
                    done: false,
                });
            }
            if self.state == State::Trailers {
                at += self.trailers(&input[at..])?;
            }
            if self.state == State::Done || at == input.len() {
                return Ok(Step {
                    skip: at,
                    data: 0,
                    done: self.state == State::Done,
                });
            }
            self.byte(input[at])?;
            at += 1;
        }
    }

    fn byte(&mut self, b: u8) -> Result<(), Malformed> {
        self.state = match self.state {
            State::Size { value, digits } => self.size(b, value, digits)?,
            State::Extension { quoted, escaped } => self.extension(b, quoted, escaped)?,
            State::SizeLf if b == b'\n' => {
                self.line = 0;
                if self.left == 0 {
                    State::Trailers
                } else {
                    State::Data
                }
            }
            State::SizeLf => return Err(Malformed::BareCr),
            State::DataCr if b == b'\r' => State::DataLf,
            State::DataLf if b == b'\n' => State::Size {
                value: 0,
                digits: 0,
            },
            State::DataCr | State::DataLf => return Err(Malformed::ChunkEnd),
            State::Data | State::Trailers | State::Done => self.state,
        };
        Ok(())
    }

    fn size(&mut self, b: u8, value: u64, digits: u8) -> Result<State, Malformed> {
        // RFC 9112 §7.1: chunk-size = 1*HEXDIG; recipients MUST anticipate large ones: 16 digits fill a u64.
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            b'A'..=b'F' => b - b'A' + 10,
            b'\r' | b';' if digits > 0 => {
                self.left = value;
                return Ok(if b == b'\r' {
                    State::SizeLf
                } else {
                    State::Extension {
                        quoted: false,
                        escaped: false,
                    }
                });
            }
            b'\n' => return Err(Malformed::BareLf),
            _ => return Err(Malformed::ChunkSize),
        };
        if digits == 16 {
            return Err(Malformed::ChunkSize);
        }
        Ok(State::Size {
            value: value << 4 | u64::from(digit),
            digits: digits + 1,
        })
    }

    /// RFC 9112 §7.1.1: a recipient MUST ignore unrecognised extensions: they are read and dropped, as long as they
    /// could not be taken for anything else.
    fn extension(&mut self, b: u8, quoted: bool, escaped: bool) -> Result<State, Malformed> {
        self.line += 1;
        self.extensions += 1;
        if self.line > LINE_LIMIT || self.extensions > EXTENSIONS_LIMIT {
            return Err(Malformed::ChunkExtension);
        }
        Ok(match b {
            b'\n' => return Err(Malformed::BareLf),
            b'\r' if !quoted => State::SizeLf,
            0..=8 | 10..=31 | 127 => return Err(Malformed::ChunkExtension),
            _ if escaped => State::Extension {
                quoted,
                escaped: false,
            },
            b'\\' if quoted => State::Extension {
                quoted,
                escaped: true,
            },
            b'"' => State::Extension {
                quoted: !quoted,
                escaped: false,
            },
            _ if quoted
                || super::parse::is_token(&[b])
                || matches!(b, b'=' | b';' | b' ' | b'\t') =>
            {
                State::Extension {
                    quoted,
                    escaped: false,
                }
            }
            _ => return Err(Malformed::ChunkExtension),
        })
    }

    /// Collects trailer lines; the section ends with an empty one. Returns how many bytes it took.
    fn trailers(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'\n', &input[at..]) {
            let line_start = self.trailer_bytes.len() - self.line;
            self.trailer_bytes
                .extend_from_slice(&input[at..=at + found]);
            at += found + 1;
            self.line = 0;
            let end = self.trailer_bytes.len();
            if end - line_start < 2 || self.trailer_bytes[end - 2] != b'\r' {
                return Err(Malformed::BareLf);
            }
            if end > TRAILERS_LIMIT {
                return Err(Malformed::Trailer);
            }
            if end - line_start == 2 {
                self.trailer_bytes.truncate(line_start);
                self.state = State::Done;
                return Ok(at);
            }
            let field = parse_field(&self.trailer_bytes, Span::new(line_start, end - 2), false)?;
            // RFC 9110 §6.5.1: fields for framing, routing and the like are dropped, not merged.
            if field.id.is_forbidden_in_trailers() {
                self.trailer_bytes.truncate(line_start);
            }
        }
        self.line += input.len() - at;
        self.trailer_bytes.extend_from_slice(&input[at..]);
        if self.trailer_bytes.len() > TRAILERS_LIMIT {
            return Err(Malformed::Trailer);
        }
        Ok(input.len())
    }

    /// The trailer section's lines with their CRLFs, without the empty one; empty until the body is done.
    #[must_use]
    pub fn trailers_received(&self) -> &[u8] {
        if self.state == State::Done {
            &self.trailer_bytes
        } else {
            &[]
        }
    }
}

/// Writes the line before a chunk's data; CRLF must follow the data.
pub fn chunk_head(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for i in (0..digits).rev() {
        out.push(DIGITS[(size >> (4 * i)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}
