//! The document, from what is in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::{
    ActionPlan, Algorithm, BindAddress, DepthPlan, HostPattern, ListenerPlan, MatchPlan,
    PacketProtocol, PathPattern, StreamRoutePlan,
};
use fathom_core::stats::{Count, PerCore, ReasonCounts, Snapshot, StatusClasses};
use fathom_core::{Pool, Reason, Tick, stats};

use super::{CheckStatus, Latency, ListenerStatus, PoolStatus, RouteStatus, ServerStatus, Status};
use crate::State;

/// Everything.
pub(crate) fn status(state: &State) -> Status {
    let bounds = Snapshot::default()
        .cumulative()
        .map(|(bound, _)| bound)
        .filter(|bound| bound.is_finite())
        .collect();
    Status {
        version: state.version.to_owned(),
        started_unix_seconds: state.started.as_secs_f64(),
        uptime_seconds: state.uptime.as_secs_f64(),
        driver: state.driver.to_owned(),
        driver_note: state.driver_note.clone(),
        workers: state.workers,
        worker_panics: state.worker_panics,
        files: state
            .plan
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
        reloads: state.reloads.clone(),
        access_log: state.access_log.clone(),
        latency_bounds_seconds: bounds,
        listeners: state
            .plan
            .listeners
            .iter()
            .map(|plan| listener(plan, &state.stats))
            .collect(),
        pools: state.pools.iter().map(|one| pool(one, state)).collect(),
        certificates: state.certificates.clone(),
        packet: state.packet.clone(),
    }
}

fn listener(plan: &ListenerPlan, registry: &stats::Registry) -> ListenerStatus {
    let stats = registry.listener(&plan.name);
    ListenerStatus {
        name: plan.name.to_string(),
        depth: depth(&plan.depth).to_owned(),
        protocol: protocol(&plan.depth).to_owned(),
        binds: plan
            .binds
            .iter()
            .map(|bind| {
                if bind.tls {
                    format!("tls://{}", address(bind.address))
                } else {
                    address(bind.address)
                }
            })
            .collect(),
        origin: plan.origin.to_string(),
        connections: stats.sum(|c| &c.connections),
        active: stats.level(|c| &c.active),
        requests: stats.sum(|c| &c.requests),
        received_bytes: stats.sum(|c| &c.bytes_in),
        sent_bytes: stats.sum(|c| &c.bytes_out),
        received_datagrams: stats.sum(|c| &c.datagrams_in),
        sent_datagrams: stats.sum(|c| &c.datagrams_out),
        tls_handshakes: stats.sum(|c| &c.tls_handshakes),
        tls_resumed: stats.sum(|c| &c.tls_resumed),
        accept_errors: stats.sum(|c| &c.accept_errors),
        reasons: reasons(&stats, |c| &c.reasons),
        routes: routes(plan, registry),
    }
}

/// The depth's word in the configuration.
pub(crate) fn depth(plan: &DepthPlan) -> &'static str {
    match plan {
        DepthPlan::Http(_) => "http",
        DepthPlan::Stream(_) | DepthPlan::Datagram(_) => "stream",
        DepthPlan::Packet(_) => "packet",
    }
}

fn protocol(plan: &DepthPlan) -> &'static str {
    match plan {
        DepthPlan::Datagram(_) => "udp",
        DepthPlan::Packet(packet) if packet.protocol == PacketProtocol::Udp => "udp",
        _ => "tcp",
    }
}

fn address(bind: BindAddress) -> String {
    match bind {
        BindAddress::Any(port) => format!(":{port}"),
        BindAddress::Ip(address) => address.to_string(),
    }
}

/// Routes by the plan, then what is counted under other names (stream routes have none in the file).
fn routes(plan: &ListenerPlan, registry: &stats::Registry) -> Vec<RouteStatus> {
    let counted: BTreeMap<Arc<str>, Arc<stats::RouteStats>> = registry
        .routes()
        .into_iter()
        .filter(|(of, ..)| *of == plan.name)
        .map(|(_, name, stats)| (name, stats))
        .collect();
    let mut routes = Vec::new();
    if let DepthPlan::Http(http) = &plan.depth {
        for route in &http.routes {
            let stats = counted.get(&route.name).cloned().unwrap_or_default();
            routes.push(route_status(
                &route.name,
                route.origin.to_string(),
                matches(&route.matches),
                action(&route.action),
                &stats,
            ));
        }
    }
    let (stream_routes, pool): (&[StreamRoutePlan], _) = match &plan.depth {
        DepthPlan::Stream(stream) => (&stream.routes, stream.pool.as_ref()),
        DepthPlan::Http(http) => (&http.passthrough, None),
        DepthPlan::Datagram(datagram) => (&[], Some(&datagram.pool)),
        DepthPlan::Packet(packet) => (&[], Some(&packet.pool)),
    };
    for (name, stats) in counted {
        if routes
            .iter()
            .any(|route: &RouteStatus| *route.name == *name)
        {
            continue;
        }
        // A stream route goes by its number, `LISTENER/N`; what is left goes to the listener's own pool.
        let number = name
            .rsplit_once('/')
            .and_then(|(_, n)| n.parse::<usize>().ok())
            .and_then(|n| n.checked_sub(1));
        let route = number.and_then(|n| stream_routes.get(n));
        let (origin, matches, pool) = match route {
            Some(route) => (
                &route.origin,
                stream_matches(route),
                Some(&route.target.pool),
            ),
            None => (&plan.origin, String::new(), pool),
        };
        let action = pool.map(|pool| format!("pool {pool}")).unwrap_or_default();
        routes.push(route_status(
            &name,
            origin.to_string(),
            matches,
            action,
            &stats,
        ));
    }
    routes
}

fn route_status(
    name: &str,
    origin: String,
    matches: String,
    action: String,
    stats: &stats::RouteStats,
) -> RouteStatus {
    RouteStatus {
        name: name.to_owned(),
        origin,
        matches,
        action,
        requests: stats.sum(|c| &c.requests),
        active: stats.level(|c| &c.active),
        responses: classes(stats, |c| &c.status),
        reasons: reasons(stats, |c| &c.reasons),
        received_bytes: stats.sum(|c| &c.bytes_in),
        sent_bytes: stats.sum(|c| &c.bytes_out),
        retries: stats.sum(|c| &c.retries),
        latency: latency(&stats.merge(|c| &c.latency)),
    }
}

fn hosts(hosts: &[HostPattern]) -> String {
    let texts: Vec<_> = hosts
        .iter()
        .map(|host| match host {
            HostPattern::Exact(name) => name.clone(),
            HostPattern::Suffix(suffix) => format!("*{suffix}"),
        })
        .collect();
    texts.join("|")
}

fn matches(plan: &MatchPlan) -> String {
    let mut text = hosts(&plan.host);
    match &plan.path {
        Some(PathPattern::Exact(path)) => text += path,
        Some(PathPattern::Prefix(path)) => text += &format!("{path}*"),
        Some(PathPattern::Regex(regex)) => text += &format!(" {regex:?}"),
        None => text += "/*",
    }
    for (what, count) in [
        ("header", plan.headers.len()),
        ("query", plan.query.len()),
        ("cookie", plan.cookies.len()),
        ("source", plan.source.len()),
    ] {
        if count > 0 {
            text += &format!(" +{what}");
        }
    }
    if !plan.method.is_empty() {
        text += &format!(" {}", plan.method.join("|"));
    }
    text.trim().to_owned()
}

fn stream_matches(plan: &StreamRoutePlan) -> String {
    let mut parts = Vec::new();
    if !plan.sni.is_empty() {
        parts.push(format!("sni {}", hosts(&plan.sni)));
    }
    if !plan.alpn.is_empty() {
        parts.push(format!("alpn {}", plan.alpn.join("|")));
    }
    if !plan.source.is_empty() {
        parts.push("+source".to_owned());
    }
    parts.join(" ")
}

fn action(plan: &ActionPlan) -> String {
    match plan {
        ActionPlan::Forward(target) => format!("pool {}", target.pool),
        ActionPlan::Redirect { status, .. } => format!("redirect {status}"),
        ActionPlan::Respond { status, .. } => format!("respond {status}"),
    }
}

/// One pool.
pub(crate) fn pool(pool: &Pool, state: &State) -> PoolStatus {
    let (plan, stats) = (pool.plan(), pool.stats());
    PoolStatus {
        name: pool.name().to_string(),
        origin: plan.origin.to_string(),
        balance: balance(plan.balance.algorithm).to_owned(),
        picks: stats.sum(|c| &c.picks),
        no_server: stats.sum(|c| &c.no_server),
        backups: stats.sum(|c| &c.backups),
        waiting: stats.level(|c| &c.waiting),
        retries: stats.sum(|c| &c.retries),
        retries_refused: stats.sum(|c| &c.retries_refused),
        names: state
            .names
            .iter()
            .filter(|name| name.pool == **pool.name())
            .cloned()
            .collect(),
        servers: pool
            .servers(state.now)
            .iter()
            .map(|one| server(one, state.now))
            .collect(),
    }
}

fn balance(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RoundRobin => "round-robin",
        Algorithm::LeastConnections => "least-connections",
        Algorithm::LeastResponseTime => "least-response-time",
        Algorithm::RandomTwoChoices => "random-two-choices",
        Algorithm::Random => "random",
        Algorithm::First => "first",
        Algorithm::Hash => "hash",
    }
}

fn server(server: &fathom_core::ServerStatus, now: Tick) -> ServerStatus {
    let stats = server.endpoint.stats();
    let check = server.health.and_then(|_| server.endpoint.last_check());
    ServerStatus {
        name: server.name.to_string(),
        address: server.address.to_string(),
        health: server
            .health
            .map_or("unchecked", fathom_core::Health::as_str)
            .to_owned(),
        check: check.map(|check| CheckStatus {
            ok: check.ok,
            detail: check.detail,
            ago_seconds: now.since(check.at).as_secs_f64(),
            took_seconds: check.took.as_secs_f64(),
        }),
        ejected_seconds: server.ejected_for.map(|left| left.as_secs_f64()),
        draining: server.draining,
        weight: server.weight,
        configured_weight: server.configured_weight,
        share: server.share,
        backup: server.backup,
        in_flight: server.in_flight,
        max_connections: server.max_connections,
        open: stats.level(|c| &c.open),
        idle: stats.level(|c| &c.idle),
        response_seconds: server.ewma.map(|ewma| ewma.as_secs_f64()),
        requests: stats.sum(|c| &c.requests),
        connections: stats.sum(|c| &c.connections),
        responses: classes(stats, |c| &c.status),
        failures: reasons(stats, |c| &c.failures),
        received_bytes: stats.sum(|c| &c.bytes_in),
        sent_bytes: stats.sum(|c| &c.bytes_out),
        ejections: stats.sum(|c| &c.ejections),
        latency: latency(&stats.merge(|c| &c.latency)),
    }
}

fn latency(snapshot: &Snapshot) -> Latency {
    Latency {
        count: snapshot.count(),
        sum_seconds: snapshot.sum_seconds(),
        p50_seconds: snapshot.quantile(0.5).map(|d: Duration| d.as_secs_f64()),
        p99_seconds: snapshot.quantile(0.99).map(|d: Duration| d.as_secs_f64()),
        buckets: snapshot.cumulative().map(|(_, below)| below).collect(),
    }
}

fn classes<T: Default>(stats: &PerCore<T>, of: impl Fn(&T) -> &StatusClasses) -> [u64; 5] {
    std::array::from_fn(|i| stats.sum(|cells| of(cells).class(i + 1)))
}

/// Counts by reason code, without zeros.
pub(crate) fn reasons<T: Default>(
    stats: &PerCore<T>,
    of: impl Fn(&T) -> &ReasonCounts,
) -> BTreeMap<String, u64> {
    let count = |reason: Reason| stats.sum(|cells| -> &Count { of(cells).of(reason) });
    Reason::ALL
        .iter()
        .map(|&reason| (reason.as_str().to_owned(), count(reason)))
        .filter(|(_, n)| *n > 0)
        .collect()
}
