//! Active checks: one file for each kind, one line for it in [`KINDS`].
//!
//! A probe asks a server once and says whether it answered as wanted; when to ask and what follows is the
//! [`Prober`](crate::Prober)'s. The prober bounds the time of every check; each probe bounds the bytes it reads.

mod command;
mod failure;
mod grpc;
mod http;
mod postgres;
mod redis;
mod send_expect;
mod smtp;
mod target;
mod tcp;
mod tls;
mod wire;

use std::future::Future;
use std::pin::Pin;

use fathom_core::plan::ProbePlan;

pub(crate) use failure::Failure;
pub(crate) use target::{Stage, Target};

/// One kind of check.
struct Kind {
    /// The probe, if the plan asks for this kind.
    make: fn(&ProbePlan) -> Option<Box<dyn Probe>>,
}

/// Every kind there is.
const KINDS: &[Kind] = &[
    tcp::KIND,
    tls::KIND,
    http::KIND,
    grpc::KIND,
    postgres::KIND,
    redis::KIND,
    smtp::KIND,
    send_expect::KIND,
    command::KIND,
];

/// Asks a server.
pub(crate) trait Probe: Send + Sync {
    /// One check; dropping the future abandons it and whatever it started.
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a>;
}

/// A check under way.
pub(crate) type Checking<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// The probe a plan asks for.
pub(crate) fn make(plan: &ProbePlan) -> Box<dyn Probe> {
    KINDS
        .iter()
        .find_map(|kind| (kind.make)(plan))
        .expect("the table has every kind of ProbePlan; see the test")
}

#[cfg(test)]
mod tests;
