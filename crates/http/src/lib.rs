//! The `http` depth: requests are parsed, routed, edited, sent to a server, and answered.
//!
//! [`serve`] takes one client's connection. What a request goes through is written once, in `proxy` and what it
//! calls, against two traits of `exchange`: `Front` (a request of a client and the way of its response) and
//! `Back` (a request on its way to a server and its response). HTTP/1 implements both in `front::h1` and `back::h1`;
//! another version is another implementation, and nothing else here can tell them apart.
//!
//! Memory: a connection between requests is its socket, a timer and where it came from. All that a request needs is
//! allocated in one piece when its first byte arrives and freed when its last is sent.

#![forbid(unsafe_code)]

mod account;
mod back;
mod connection;
mod date;
mod edit;
mod exchange;
mod forward;
mod forwarded;
mod front;
mod grpc;
mod h2;
mod heads;
mod link;
mod proxy;
mod relay;
mod reply;
mod service;

pub use back::close_kept;
pub use connection::serve;
pub use link::{Link, Secure};
pub use service::{Current, Pools, Service};
