//! Host names as servers: resolved, and again when their time to live ends.
//!
//! [`Resolver`] answers one question; [`names`] keeps what is known of a name over failures; [`watch`] is the task
//! that keeps one pool's members true.

mod hosts;
mod names;
mod resolver;
mod watch;

pub use names::NameStatus;
pub(crate) use names::Names;
pub(crate) use resolver::Resolver;
pub use resolver::ResolverOptions;
pub(crate) use watch::watch;
