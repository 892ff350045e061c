//! The built binary, driven as a user drives it: files, signals, sockets, commands.
//!
//! Whatever moves data is tested on both drivers: see [`support::Io`]. Tests wait for conditions, never for time, and
//! each has ports of its own.
#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption stops the test where it is"
)]

#[macro_use]
mod support;

mod bad;
mod basics;
mod commands;
mod demo;
mod heavy;
mod reload;
mod seen;
mod shutdown;
mod tls;
