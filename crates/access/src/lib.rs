//! The access log: one line for each request, connection or flow.
//!
//! A plane fills a [`Record`] with borrowed fields and calls [`Log::write`]. The record is encoded at once into
//! a buffer of the calling thread and handed to one writer thread; nothing the data path does here waits for a
//! disk, a pipe or another thread. When the writer cannot keep up, records are dropped and counted.
//!
//! Whatever a client sends, a record is one line: see [`encode`].
#![forbid(unsafe_code)]

pub mod encode;
mod log;
mod record;
mod time;

pub use log::Log;
pub use record::{Exchange, Record, Request, Route, Tls};
