//! Towards servers: connections that are kept, connections that are made, and one file for each version.

mod dial;
pub(crate) mod h1;
mod kept;

pub(crate) use dial::{Dialled, dial};
pub use kept::close_kept;
pub(crate) use kept::{keep, take};
