//! Scripted peers and helpers for the tests of the other crates.
//!
//! Peers are plain blocking threads on loopback sockets of their own: they share no runtime with the code under
//! test. Nothing here depends on how fast the machine is: peers act on what they see, and tests wait for
//! conditions ([`wait`]) with a deadline far beyond what is needed.
//!
//! | to get | use |
//! |---|---|
//! | an HTTP/1 server that does what a script says | [`http1::Server`] |
//! | HTTP/1 requests, whole or byte by byte | [`client`] |
//! | TCP echo, sink, source, RST, anything | [`tcp::Peer`] |
//! | an address that refuses | [`tcp::Refusing`] |
//! | UDP echo, anything | [`udp::Peer`] |
//! | a port for a program to listen on | [`ports::Port`] |
//! | the built `fathom`, running | [`fathom::Fathom`] |
//! | certificates | [`certs`] |
//! | to skip aloud | [`need`] |
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "in tests a broken assumption stops the test where it is"
)]

pub mod certs;
pub mod client;
pub mod fathom;
pub mod http1;
pub mod message;
pub mod need;
pub mod ports;
pub mod tcp;
pub mod udp;
pub mod wait;

pub use wait::Gate;
