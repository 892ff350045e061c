//! Keeps pools true: active checks of their servers ([`Prober`]) and host names that become servers.
//!
//! Everything here runs on the control path, a multi-threaded tokio runtime, and reaches the data path only
//! through [`Endpoint`](fathom_core::Endpoint) and [`Pool`](fathom_core::Pool). [`Upstream`] is the way in.
#![forbid(unsafe_code)]

mod discovery;
mod probe;
mod prober;
mod upstream;

pub use discovery::{NameStatus, ResolverOptions};
pub use upstream::Upstream;
