//! `tcp = true`: a connection opens.

use fathom_core::plan::ProbePlan;

use super::{Checking, Kind, Probe, Target, wire};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::Tcp => Some(Box::new(Tcp)),
        _ => None,
    },
};

struct Tcp;

impl Probe for Tcp {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async { wire::connect(target).await.map(drop) })
    }
}
