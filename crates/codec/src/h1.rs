//! HTTP/1.1 (RFC 9112), sans-IO and strict.
//!
//! Reading: [`RequestHead::parse`] and [`ResponseHead::parse`] on the bytes received so far, [`BodyDecoder`] on what
//! follows. Writing: [`Writer`]. What went wrong is a [`Malformed`], which knows its status and its paragraph.

mod body;
mod chunked;
mod fuzz;
mod malformed;
mod parse;
mod target;
mod write;

pub use body::{BodyDecoder, Step};
pub use chunked::{ChunkDecoder, LAST_CHUNK, chunk_head};
pub use fuzz::{fuzz_chunked, fuzz_request, fuzz_response};
pub use malformed::Malformed;
pub(crate) use parse::content_length;
pub use parse::{Cursor, Limits, Progress};
pub(crate) use target::{split_query, valid_host};
pub use write::Writer;

#[cfg(test)]
mod tests;
