//! Towards clients: one file for each version.

pub(crate) mod h1;
pub(crate) mod h2;
