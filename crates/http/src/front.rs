//! Towards clients: one file for each version.

pub(crate) mod h1;
