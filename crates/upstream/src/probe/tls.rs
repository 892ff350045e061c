//! `tls = true`: a TLS handshake completes.
//!
//! With the pool's own `tls` settings where it has some, so that a certificate the data path would refuse fails
//! here too; otherwise any certificate will do.

use std::sync::LazyLock;

use fathom_core::plan::ProbePlan;
use fathom_tls::Connector;

use super::{Checking, Kind, Probe, Target, wire};

pub(super) const KIND: Kind = Kind {
    make: |plan| match plan {
        ProbePlan::Tls => Some(Box::new(Tls)),
        _ => None,
    },
};

static ANY_CERTIFICATE: LazyLock<Connector> = LazyLock::new(Connector::probe);

struct Tls;

impl Probe for Tls {
    fn check<'a>(&'a self, target: &'a Target) -> Checking<'a> {
        Box::pin(async {
            if target.tls.is_some() {
                return wire::connect_as_pool(target).await.map(drop);
            }
            let io = wire::connect(target).await?;
            wire::handshake(io, &ANY_CERTIFICATE, target)
                .await
                .map(drop)
        })
    }
}
