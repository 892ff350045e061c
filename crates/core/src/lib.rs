//! The words every part of Fathom shares: the plan (what a configuration means),
//! pools, endpoints, health, affinity, limits, retries and counters.
//!
//! Nothing here opens a socket, reads a clock or draws a global random number:
//! the present moment ([`Tick`]) and randomness are arguments.
#![forbid(unsafe_code)]

pub mod plan;
mod tick;

pub use tick::Tick;
