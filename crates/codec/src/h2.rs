//! HTTP/2 (RFC 9113) beside the `h2` crate: its limits, what it does not check, floods, and heads in both directions.
//!
//! The crate decodes frames and HPACK. Here is what a proxy needs beyond that: [`Received`] turns its requests into
//! the heads of this crate and refuses what HTTP/1 servers could read differently; [`FieldWriter`] turns heads into
//! its header maps; [`Meter`] counts the frames that cost a peer nothing.

mod limits;
mod meter;
mod receive;
mod trailers;
mod websocket;
mod write;

pub use limits::{client, server};
pub use meter::Meter;
pub use receive::{Received, received_response};
pub use trailers::{trailer_lines, trailer_map};
pub use websocket::{accept_for, encode_key};
pub use write::FieldWriter;

/// What a client that speaks HTTP/2 sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests;
