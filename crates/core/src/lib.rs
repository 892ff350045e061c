//! The words every part of Fathom shares: the plan (what a configuration means),
//! pools, endpoints, health, affinity, limits, retries and counters.
//!
//! Nothing here opens a socket, reads a clock or draws a global random number:
//! the present moment ([`Tick`]) and randomness are arguments.
#![forbid(unsafe_code)]

pub mod affinity;
mod bounded;
mod client;
mod endpoint;
mod endpoints;
pub mod hash;
pub mod health;
pub mod limit;
mod outlier;
pub mod plan;
pub mod pool;
pub mod queue;
mod reason;
pub mod retry;
pub mod stats;
mod tick;

pub use client::{ClientIdentity, ClientInfo, TlsInfo};
pub use endpoint::{CheckReport, Endpoint, EndpointAddress, EndpointId, Health};
pub use endpoints::Endpoints;
pub use fathom_balance as balance;
pub use pool::{Lease, Member, NoServer, Pick, Pool, ServerStatus};
pub use reason::{Blame, Reason};
pub use tick::Tick;
