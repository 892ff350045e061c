//! Towards servers: connections that are kept, connections that are made, and one file for each version.

mod dial;
pub(crate) mod h1;
pub(crate) mod h2;
mod kept;
mod streams;

pub(crate) use dial::{Dialled, dial};
pub(crate) use kept::{keep, take};
pub(crate) use streams::{Placed, place};

/// Closes every kept connection of this thread's worker that is idle, and the others when they become so.
pub fn close_kept() {
    kept::close_kept();
    streams::leave_all();
}
