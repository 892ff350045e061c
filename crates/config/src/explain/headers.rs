//! The client, and header fields as a server gets them. Mirrors what the `http` depth does.

use std::net::{IpAddr, SocketAddr};

use fathom_core::plan::*;
use fathom_route::RequestView;
use ipnet::IpNet;

/// The client behind trusted proxies: X-Forwarded-For from right to left, up to the first not trusted.
pub(super) fn client(peer: IpAddr, trusted: &[IpNet], headers: &[(String, String)]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(&ip.to_canonical()));
    let mut client = peer;
    if !is_trusted(&client) {
        return client;
    }
    let lines = headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("x-forwarded-for"));
    let hops: Vec<&str> = lines
        .flat_map(|(_, v)| v.split(','))
        .map(str::trim)
        .collect();
    for hop in hops.iter().rev() {
        let address = hop
            .parse::<IpAddr>()
            .ok()
            .or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
        let Some(address) = address else { break };
        client = address;
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

pub(super) fn sent_headers(
    listener: &ListenerPlan,
    http: &HttpPlan,
    bind: &BindPlan,
    route: &RoutePlan,
    view: &RequestView<'_>,
    peer: IpAddr,
    headers: &[(String, String)],
) -> Vec<(String, String)> {
    let own = forwarding_headers(http, bind, view, peer, headers);
    let identity = listener
        .tls
        .as_ref()
        .and_then(|t| t.client_auth.as_ref()?.identity_header.as_ref());
    let named: Vec<&str> = headers
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case("connection"))
        .flat_map(|(_, v)| v.split(','))
        .map(str::trim)
        .collect();
    let dropped = |name: &str| {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ]
        .into_iter()
        .any(is)
            || named.iter().copied().any(is)
            || own.iter().any(|(n, _)| is(n))
            || identity.is_some_and(|n| is(n))
    };
    let mut out: Vec<_> = headers
        .iter()
        .filter(|(n, _)| !dropped(n))
        .cloned()
        .collect();
    let edits = &route.request_headers;
    edit(
        &mut out,
        &HeaderEdits {
            remove: edits.remove.clone(),
            ..HeaderEdits::default()
        },
    );
    out.extend(own);
    edit(
        &mut out,
        &HeaderEdits {
            remove: Vec::new(),
            ..edits.clone()
        },
    );
    out
}

fn forwarding_headers(
    http: &HttpPlan,
    bind: &BindPlan,
    view: &RequestView<'_>,
    peer: IpAddr,
    headers: &[(String, String)],
) -> Vec<(String, String)> {
    let trusted = http
        .trusted_proxies
        .iter()
        .any(|n| n.contains(&peer.to_canonical()));
    let said = |name: &str| {
        let values: Vec<&str> = headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect();
        (trusted && !values.is_empty()).then(|| values.join(", "))
    };
    let chain = |name: &str, own: String| match said(name) {
        Some(before) => format!("{before}, {own}"),
        None => own,
    };
    let host = String::from_utf8_lossy(view.host).into_owned();
    let proto = if bind.tls { "https" } else { "http" };
    let port = match bind.address {
        BindAddress::Any(port) => port,
        BindAddress::Ip(addr) => addr.port(),
    };
    let element = match peer.to_canonical() {
        IpAddr::V4(ip) => format!("for={ip};host=\"{host}\";proto={proto}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\";host=\"{host}\";proto={proto}"),
    };
    let plan = &http.forwarded;
    let all = [
        (
            plan.x_forwarded_for,
            "X-Forwarded-For",
            chain("x-forwarded-for", peer.to_canonical().to_string()),
        ),
        (
            plan.x_forwarded_proto,
            "X-Forwarded-Proto",
            said("x-forwarded-proto").unwrap_or(proto.into()),
        ),
        (
            plan.x_forwarded_host,
            "X-Forwarded-Host",
            said("x-forwarded-host").unwrap_or(host),
        ),
        (
            plan.x_forwarded_port,
            "X-Forwarded-Port",
            said("x-forwarded-port").unwrap_or(port.to_string()),
        ),
        (
            plan.x_real_ip,
            "X-Real-IP",
            view.source.ip().to_canonical().to_string(),
        ),
        (plan.forwarded, "Forwarded", chain("forwarded", element)),
    ];
    all.into_iter()
        .filter(|(on, ..)| *on)
        .map(|(_, name, value)| (name.to_owned(), value))
        .collect()
}

/// Remove, set, add.
pub(super) fn edit(headers: &mut Vec<(String, String)>, edits: &HeaderEdits) {
    let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
    headers.retain(|(n, _)| !edits.remove.iter().any(|r| is(n, r)));
    for (name, value) in &edits.set {
        headers.retain(|(n, _)| !is(n, name));
        let at = if is(name, "host") { 0 } else { headers.len() };
        headers.insert(at, (name.clone(), value.clone()));
    }
    headers.extend(edits.add.iter().cloned());
}
