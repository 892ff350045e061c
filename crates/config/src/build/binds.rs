//! No address is bound twice.

use std::net::{IpAddr, SocketAddr};

use fathom_core::plan::BindAddress;

use super::Cx;
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// An address that something binds.
pub(super) struct Bound {
    pub(super) what: String,
    pub(super) address: BindAddress,
    pub(super) transport: Transport,
    pub(super) span: Span,
}

/// Addresses of different transports do not collide.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Transport {
    Tcp,
    Udp,
    /// Before the kernel's own sockets, on one interface.
    Packet {
        interface: String,
        udp: bool,
    },
}

impl Bound {
    pub(super) fn admin(address: SocketAddr, span: Span) -> Self {
        let address = BindAddress::Ip(address);
        Self {
            what: "the admin side".into(),
            address,
            transport: Transport::Tcp,
            span,
        }
    }
}

fn port(address: BindAddress) -> u16 {
    match address {
        BindAddress::Any(port) => port,
        BindAddress::Ip(addr) => addr.port(),
    }
}

/// Whether one socket would take what is meant for the other. Port 0 is another port each time.
fn collide(a: BindAddress, b: BindAddress) -> bool {
    if port(a) != port(b) || port(a) == 0 {
        return false;
    }
    let (BindAddress::Ip(a), BindAddress::Ip(b)) = (a, b) else {
        return true;
    };
    let any = |ip: IpAddr| ip.is_unspecified();
    a.is_ipv4() == b.is_ipv4() && (a.ip() == b.ip() || any(a.ip()) || any(b.ip()))
}

pub(super) fn check(cx: &mut Cx<'_>) {
    // By port and transport first, so that thousands of binds are not all compared.
    let mut groups = std::collections::HashMap::<_, Vec<&Bound>>::new();
    for bound in &cx.binds {
        let group = groups
            .entry((port(bound.address), bound.transport.clone()))
            .or_default();
        if let Some(first) = group.iter().find(|b| collide(b.address, bound.address)) {
            let message = match first.what == bound.what {
                true => format!("{} binds this address twice", bound.what),
                false => format!("{} and {} bind the same address", first.what, bound.what),
            };
            let diagnostic =
                Diagnostic::new(bound.span, "duplicate-bind", message).label("again here");
            cx.errors
                .push(diagnostic.related(first.span, "first bound here"));
        }
        group.push(bound);
    }
}
