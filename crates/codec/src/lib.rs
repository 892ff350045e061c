//! Codecs without sockets: bytes in, messages out, and back.
//!
//! A message head is the same for every version: [`head`] keeps it as bytes with spans into them, so HTTP/1 heads
//! are used where they arrived, and other codecs write theirs in the same form ([`head::Builder`]).
//! [`h1`] is HTTP/1.1 (RFC 9112), strict: what two readers could understand in two ways is refused.
//! [`h2`] is what a proxy needs beside the `h2` crate: its limits, floods, and heads in both directions.

#![forbid(unsafe_code)]

pub mod h1;
pub mod h2;
pub mod head;
