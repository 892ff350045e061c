#![forbid(unsafe_code)]
//! To come.
fn main() {}
