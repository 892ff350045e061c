//! Whether a pool can do what the depth that uses it needs.

use std::collections::HashSet;
use std::sync::Arc;

use fathom_core::plan::*;

use super::Cx;
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// A place that sends to a pool.
pub(super) struct Use {
    pub(super) pool: Arc<str>,
    pub(super) span: Span,
    pub(super) depth: Depth,
}

/// What sends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Http,
    Stream,
    Datagram,
    Packet,
}

pub(super) fn check(cx: &mut Cx<'_>, pools: &[Arc<PoolPlan>]) {
    let used: HashSet<&str> = cx.uses.iter().map(|u| &*u.pool).collect();
    let mut found = Vec::new();
    for pool in pools {
        if !used.contains(&*pool.name) {
            let span = cx.pools.get(&*pool.name).map(|f| f.span);
            let message = format!("nothing sends to the pool `{}`", pool.name);
            cx.warnings
                .push(Diagnostic::new(span, "unused-pool", message));
        }
    }
    for one in &cx.uses {
        let Some(pool) = pools.iter().find(|p| p.name == one.pool) else {
            continue;
        };
        let Some(fields) = cx.pools.get(&*pool.name) else {
            continue;
        };
        for (key, why) in misfits(pool, one.depth) {
            let message = format!("the pool `{}` cannot be used here: {why}", pool.name);
            let diagnostic = Diagnostic::new(one.span, "pool-misfit", message);
            found.push(diagnostic.related(fields.key_span(key), "because of this"));
        }
    }
    cx.errors.append(&mut found);
}

/// What does not fit: the pool's key, and why.
fn misfits(pool: &PoolPlan, depth: Depth) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if depth == Depth::Http {
        return out;
    }
    let name = match depth {
        Depth::Http | Depth::Stream => "`stream` depth",
        Depth::Datagram => "UDP",
        Depth::Packet => "`packet` depth",
    };
    let hashes = pool.balance.algorithm == Algorithm::Hash;
    let seen = match &pool.balance.hash_on {
        HashOn::SourceIp | HashOn::SourceIpPort => true,
        HashOn::Sni => depth == Depth::Stream,
        HashOn::Path | HashOn::Query(_) | HashOn::Header(_) | HashOn::Cookie(_) => false,
    };
    if hashes && !seen {
        out.push(("hash_on", format!("{name} does not see what it hashes on")));
    }
    if pool.protocol != ServerProtocol::Http1 {
        out.push(("protocol", format!("{name} speaks no HTTP to servers")));
    }
    if pool.tls.is_some() {
        out.push((
            "tls",
            format!("{name} passes bytes on as they are and speaks no TLS to servers"),
        ));
    }
    if depth == Depth::Datagram && pool.proxy_protocol.is_some() {
        out.push((
            "proxy_protocol",
            "a PROXY protocol header with datagrams is not built yet".into(),
        ));
    }
    if depth == Depth::Datagram && pool.queue.is_some() {
        out.push(("queue", "datagrams do not wait for a server".into()));
    }
    if depth == Depth::Packet && pool.proxy_protocol.is_some() {
        out.push(("proxy_protocol", format!("{name} adds nothing to packets")));
    }
    let unix = pool
        .servers
        .iter()
        .any(|s| matches!(s.address, ServerAddress::Unix(_)));
    if unix && depth != Depth::Stream {
        out.push(("servers", format!("{name} cannot reach a unix socket")));
    }
    let follows_load = matches!(
        pool.balance.algorithm,
        Algorithm::LeastConnections
            | Algorithm::LeastResponseTime
            | Algorithm::RandomTwoChoices
            | Algorithm::First
    );
    if depth == Depth::Packet && follows_load {
        let why = "`packet` depth chooses by a table and does not follow each server's load; use round-robin, random or hash";
        out.push(("balance", why.into()));
    }
    out
}
