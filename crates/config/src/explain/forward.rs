//! What a server would get, and which server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::*;
use fathom_core::{Endpoints, Pick, Pool};
use fathom_route::{Match, RequestView, hash_connection, hash_request, rewrite};
use serde_json::{Value, json};

use super::Outcome;
use super::headers::sent_headers;

/// A request or connection on its way to a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarding {
    /// The pool's name.
    pub pool: String,
    /// Where it was written.
    pub origin: Origin,
    /// `round-robin`...
    pub balance: &'static str,
    /// What the choice depends on, and the server if that is certain.
    pub choice: String,
    /// The server, where the same client always gets the same.
    pub server: Option<String>,
    /// Every server: name, weight, and what is special.
    pub servers: Vec<(String, u32, &'static str)>,
    /// To connect.
    pub connect_timeout: Duration,
    /// To the head of the response; `None` at other depths.
    pub response_timeout: Option<Duration>,
    /// Without bytes or datagrams; `None` at `http` depth.
    pub idle_timeout: Option<Duration>,
    /// When it is tried again.
    pub retry: String,
    /// `GET /path HTTP/1.1` as the server gets it.
    pub request_line: Option<String>,
    /// Header fields as the server gets them.
    pub headers: Vec<(String, String)>,
    /// What is done to the response's fields.
    pub response_edits: Vec<String>,
    /// Largest body in bytes.
    pub max_body: Option<u64>,
}

/// A pool, and who of it.
fn to_pool(plan: &Plan, name: &str, hash: Option<u64>, source: IpAddr) -> Option<Forwarding> {
    let pool = plan.pool(name)?;
    let servers = pool.servers.iter().map(|s| {
        let note = match (s.backup, s.weight) {
            (true, _) => "backup",
            (_, 0) => "weight 0: no new work",
            _ => "",
        };
        (s.name.to_string(), s.weight, note)
    });
    let (balance, choice) = describe(pool);
    let mut out = Forwarding {
        pool: name.into(),
        origin: pool.origin.clone(),
        balance,
        choice,
        server: None,
        servers: servers.collect(),
        connect_timeout: Duration::ZERO,
        response_timeout: None,
        idle_timeout: None,
        retry: String::new(),
        request_line: None,
        headers: Vec::new(),
        response_edits: Vec::new(),
        max_body: None,
    };
    if pool.balance.algorithm == Algorithm::Hash {
        match hash {
            Some(hash) => out.server = certain(pool, hash, source),
            None => out
                .choice
                .push_str("; the request has none, so the client's address is taken"),
        }
    }
    Some(out)
}

/// The server that `hash` chooses while all are well; none if some must be resolved first.
fn certain(pool: &Arc<PoolPlan>, hash: u64, source: IpAddr) -> Option<String> {
    if pool
        .servers
        .iter()
        .any(|s| matches!(s.address, ServerAddress::Name { .. }))
    {
        return None;
    }
    let live = Pool::new(pool.clone(), &Endpoints::default(), None);
    let lease = live
        .pick(&Pick {
            hash: Some(hash),
            source: Some(source),
            ..Pick::default()
        })
        .ok()?;
    Some(lease.endpoint().name().to_string())
}

fn describe(pool: &PoolPlan) -> (&'static str, String) {
    let (name, why) = match pool.balance.algorithm {
        Algorithm::RoundRobin => ("round-robin", "one after the other, by weight"),
        Algorithm::LeastConnections => (
            "least-connections",
            "the one with the fewest in flight, by weight",
        ),
        Algorithm::LeastResponseTime => {
            ("least-response-time", "the one expected to answer soonest")
        }
        Algorithm::RandomTwoChoices => ("random-two-choices", "the less busy of two drawn by lot"),
        Algorithm::Random => ("random", "drawn by lot, by weight"),
        Algorithm::First => ("first", "the first in order that is not full"),
        Algorithm::Hash => {
            let on = match &pool.balance.hash_on {
                HashOn::SourceIp => "the client's address".into(),
                HashOn::SourceIpPort => "the client's address and port".into(),
                HashOn::Path => "the path".into(),
                HashOn::Query(name) => format!("the query parameter {name}"),
                HashOn::Header(name) => format!("the header {name}"),
                HashOn::Cookie(name) => format!("the cookie {name}"),
                HashOn::Sni => "the server name of the TLS handshake".into(),
            };
            return ("hash", format!("by a hash of {on}"));
        }
    };
    match &pool.affinity {
        Some(affinity) => (
            name,
            format!(
                "{why}; a client keeps its server for {:?} since the last use",
                affinity.ttl
            ),
        ),
        None => (name, why.into()),
    }
}

pub(super) fn stream(
    plan: &Plan,
    pool: &str,
    peer: IpAddr,
    sni: Option<&str>,
    connect: Duration,
    idle: Duration,
) -> Outcome {
    let on = plan
        .pool(pool)
        .map(|p| p.balance.hash_on.clone())
        .unwrap_or_default();
    let hash = hash_connection(&on, SocketAddr::new(peer, 0), sni);
    let Some(mut out) = to_pool(plan, pool, hash, peer) else {
        return Outcome::Close(format!("there is no pool `{pool}`"));
    };
    out.connect_timeout = connect;
    out.idle_timeout = (idle != Duration::ZERO).then_some(idle);
    if connect != Duration::ZERO {
        out.retry = "up to 3 servers are tried while connecting".into();
    }
    Outcome::Forward(Box::new(out))
}

#[allow(clippy::too_many_arguments)]
pub(super) fn http(
    plan: &Plan,
    listener: &ListenerPlan,
    http: &HttpPlan,
    bind: &BindPlan,
    pool: &str,
    found: &Match<'_, '_>,
    view: &RequestView<'_>,
    peer: IpAddr,
    headers: &[(String, String)],
) -> Outcome {
    let route = found.route;
    let on = plan
        .pool(pool)
        .map(|p| p.balance.hash_on.clone())
        .unwrap_or_default();
    let Some(mut out) = to_pool(plan, pool, hash_request(&on, view), view.source.ip()) else {
        return Outcome::Close(format!("there is no pool `{pool}`"));
    };
    let target = match &route.rewrite {
        Some(plan) => rewrite(plan, &found.captures, view).into_owned(),
        None => [
            view.path,
            view.query.map_or(b"", |_| b"?"),
            view.query.unwrap_or_default(),
        ]
        .concat(),
    };
    let version = match plan.pool(pool).map(|p| p.protocol) {
        Some(ServerProtocol::Http2 | ServerProtocol::Grpc) => "HTTP/2",
        _ => "HTTP/1.1",
    };
    let method = String::from_utf8_lossy(view.method);
    out.request_line = Some(format!(
        "{method} {} {version}",
        String::from_utf8_lossy(&target)
    ));
    out.headers = sent_headers(listener, http, bind, route, view, peer, headers);
    out.connect_timeout = route.connect_timeout;
    out.response_timeout = Some(route.response_timeout);
    out.max_body = route.max_body.or(http.max_body);
    out.retry = retry(&route.retry);
    let edits = &route.response_headers;
    out.response_edits
        .extend(edits.remove.iter().map(|n| format!("remove {n}")));
    out.response_edits
        .extend(edits.set.iter().map(|(n, v)| format!("set {n}: {v}")));
    out.response_edits
        .extend(edits.add.iter().map(|(n, v)| format!("add {n}: {v}")));
    Outcome::Forward(Box::new(out))
}

fn retry(plan: &RetryPlan) -> String {
    if plan.attempts == 0 || plan.on.is_empty() {
        return "none".into();
    }
    let on: Vec<String> = plan.on.iter().map(show_retry).collect();
    let times = if plan.attempts == 1 {
        "once".into()
    } else {
        format!("up to {} times", plan.attempts)
    };
    format!(
        "{times}, on {}, within a budget of {}%",
        on.join(", "),
        plan.budget * 100.0
    )
}

pub(crate) fn show_retry(on: &RetryOn) -> String {
    match on {
        RetryOn::ConnectFailure => "connect-failure".into(),
        RetryOn::Reset => "reset".into(),
        RetryOn::Timeout => "timeout".into(),
        RetryOn::GrpcUnavailable => "unavailable".into(),
        RetryOn::Status(status) => status.to_string(),
    }
}

impl Forwarding {
    pub(super) fn to_json(&self) -> Value {
        let servers: Vec<Value> = self
            .servers
            .iter()
            .map(|(name, weight, note)| json!({ "name": name, "weight": weight, "note": note }))
            .collect();
        json!({
            "action": "forward", "pool": self.pool, "origin": self.origin.to_string(),
            "balance": self.balance, "choice": self.choice, "server": self.server, "servers": servers,
            "connect_timeout_ms": self.connect_timeout.as_millis() as u64,
            "response_timeout_ms": self.response_timeout.map(|t| t.as_millis() as u64),
            "idle_timeout_ms": self.idle_timeout.map(|t| t.as_millis() as u64),
            "retry": self.retry, "request_line": self.request_line, "headers": self.headers,
            "response_edits": self.response_edits, "max_body": self.max_body,
        })
    }
}
