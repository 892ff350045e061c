//! Scripted peers and helpers for the tests of the other crates.
//!
//! Nothing here depends on how fast the machine is: peers act on what they see, and tests wait for
//! conditions with a deadline far beyond what is needed.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "in tests a broken assumption should stop the test where it is"
)]

pub mod need;
