//! What stands on the wire, and nothing else: no socket, no clock, no allocation that a peer can choose.
//!
//! [`proxy`] is the PROXY protocol (both versions, both directions), [`client_hello`] what a TLS client says
//! before anything is encrypted; [`packet`] is what the kernel program and its user space share.
#![no_std]

extern crate alloc;

pub mod client_hello;
pub mod packet;
pub mod proxy;
