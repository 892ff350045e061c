//! Real programs on both sides: what Debian packages, unmodified. Each is skipped aloud where it is missing.

mod browser;
mod dns;
mod grpc;
mod h2;
mod nginx;
mod postgres;
mod program;
mod redis;
mod websocket;

use crate::support::{Io, uring_works};

/// The drivers that work here. One test for both: starting a database takes longer than using it.
fn drivers() -> Vec<Io> {
    let mut drivers = vec![Io::Epoll];
    if uring_works() {
        drivers.push(Io::Uring);
    }
    drivers
}
