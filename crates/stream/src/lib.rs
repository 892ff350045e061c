//! The `stream` depth: TCP connections joined with a server's, UDP flows relayed.
//!
//! At most a first look is taken at what is carried ([`peek()`]); after that bytes are moved and not understood.
//!
//! ```text
//! accepted ──needs a hello──> peek ──> route ──> dial (up to 3 servers, maybe after a wait) ──> join
//!     └────────────────────────────────┘           └──> nobody: closed, counted by reason
//! ```
#![forbid(unsafe_code)]

mod choice;
mod connection;
pub mod datagram;
mod dial;
mod failure;
mod greeting;
mod peek;
mod service;

pub use connection::{serve, serve_peeked};
pub use peek::{PeekError, Peeked, peek};
pub use service::{Pools, Service};
