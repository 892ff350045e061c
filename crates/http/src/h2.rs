//! What both sides of HTTP/2 share: the connection's bytes under the `h2` crate, and content on its way out.

mod payload;
mod wire;

pub(crate) use payload::{Flow, Payload};
pub(crate) use wire::{Watch, Wire};
