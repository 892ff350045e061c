//! Which listener takes a URL.

use std::net::IpAddr;

use fathom_core::plan::*;

use super::CannotExplain;
use super::target::{Kind, Target};

/// The listener, the bind, and what had to be assumed.
pub(super) fn choose<'p>(
    plan: &'p Plan,
    target: &Target,
    name: Option<&str>,
) -> Result<(&'p ListenerPlan, &'p BindPlan, Vec<String>), CannotExplain> {
    let named = |l: &&ListenerPlan| name.is_none_or(|n| &*l.name == n);
    if plan.listeners.iter().all(|l| !named(&l)) {
        return Err(CannotExplain(match name {
            Some(name) => format!("there is no listener `{name}`"),
            None => "the file has no listener".into(),
        }));
    }
    let fitting: Vec<(&ListenerPlan, &BindPlan)> = plan
        .listeners
        .iter()
        .filter(named)
        .filter(|l| takes(l, target.kind))
        .flat_map(|l| l.binds.iter().map(move |b| (l, b)))
        .collect();
    let port = target.port.or(match (target.kind, target.tls) {
        (Kind::Request, true) => Some(443),
        (Kind::Request, false) => Some(80),
        _ => None,
    });
    let ip: Option<IpAddr> = target.host.trim_matches(['[', ']']).parse().ok();
    let on_port = |b: &BindPlan| match b.address {
        BindAddress::Any(p) => Some(p) == port,
        // A name may mean any address; an address only itself.
        BindAddress::Ip(a) => {
            Some(a.port()) == port && (a.ip().is_unspecified() || ip.is_none_or(|ip| ip == a.ip()))
        }
    };
    let tls_fits = |l: &ListenerPlan, b: &BindPlan| {
        !matches!(l.depth, DepthPlan::Http(_)) || b.tls == target.tls
    };
    let mut exact = fitting.iter().filter(|(_, b)| on_port(b));
    if let Some((l, b)) = exact.clone().find(|(l, b)| tls_fits(l, b)) {
        return Ok((l, b, Vec::new()));
    }
    if target.port.is_some() && name.is_none() {
        return Err(CannotExplain(match exact.next() {
            Some((l, b)) if b.tls => {
                format!("listener `{}` speaks TLS there: write https://", l.name)
            }
            Some((l, _)) => format!(
                "listener `{}` does not speak TLS there: write http://",
                l.name
            ),
            None => format!(
                "no listener takes {}; there are: {}",
                target.authority,
                list(plan)
            ),
        }));
    }
    // The URL names no port, so any listener that speaks its scheme may be meant.
    match fitting
        .iter()
        .find(|(l, b)| tls_fits(l, b))
        .or(fitting.first())
    {
        Some((l, b)) => {
            let note = format!(
                "taken to arrive at listener `{}`, {}",
                l.name,
                show(&b.address)
            );
            Ok((l, b, vec![note]))
        }
        None => Err(CannotExplain(format!(
            "no listener takes such a URL; there are: {}",
            list(plan)
        ))),
    }
}

fn takes(listener: &ListenerPlan, kind: Kind) -> bool {
    match &listener.depth {
        DepthPlan::Http(_) => kind == Kind::Request,
        // An https URL may well go to a listener that passes TLS on.
        DepthPlan::Stream(_) => kind != Kind::Datagram,
        DepthPlan::Datagram(_) => kind == Kind::Datagram,
        DepthPlan::Packet(p) => (p.protocol == PacketProtocol::Udp) == (kind == Kind::Datagram),
    }
}

fn list(plan: &Plan) -> String {
    let one = |l: &ListenerPlan| {
        let binds: Vec<String> = l.binds.iter().map(|b| show(&b.address)).collect();
        format!("`{}` at {}", l.name, binds.join(" "))
    };
    plan.listeners
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(", ")
}

pub(crate) fn show(address: &BindAddress) -> String {
    match address {
        BindAddress::Any(port) => format!(":{port}"),
        BindAddress::Ip(addr) => addr.to_string(),
    }
}
