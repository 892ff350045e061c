//! The engine under every data path: one single-threaded worker per core, its sockets, buffers,
//! timers and clock.
//!
//! A [`Stream`] has two drivers behind one interface: `io_uring` and epoll. Its shape is the
//! ring's: a read *gives* a [`Chunk`], a write *takes* an [`Outgoing`] and never waits; the amount
//! still [queued](Stream::queued) is the backpressure.
//!
//! Everything here belongs to the thread of its [`Worker`] (nothing is `Send`), except
//! [`listen()`] and the choice of a driver.

pub mod buffer;
mod choose;
pub mod clock;
mod compat;
mod connect;
mod drain;
mod epoll;
mod join;
mod listen;
mod outgoing;
mod random;
mod splice;
mod stream;
mod sys;
pub mod timer;
pub mod udp;
mod uring;
mod worker;
mod write_side;

pub use buffer::{Chunk, scratch};
pub use choose::{Chosen, Driver, ProbeError, choose};
pub use compat::Compat;
pub use connect::{ConnectOptions, Target};
pub use drain::{Drain, Draining};
pub use join::{JoinOptions, JoinOutcome, Progress, Side, join};
pub use listen::{ListenOptions, Listener, listen};
pub use outgoing::Outgoing;
pub use random::random;
pub use stream::{Cork, Gone, Stream};
pub use worker::{Worker, WorkerOptions, block_on, spawn};
