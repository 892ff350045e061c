//! What only the `http` depth knows: routes, edits, retries.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{HostPattern, Origin, Regex, StreamRoutePlan};

/// `depth = "http"`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpPlan {
    /// Routes in file order. A listener with `pool = ` and no routes has one that matches everything.
    pub routes: Vec<Arc<RoutePlan>>,
    /// Routes with `passthrough = true`: sent through undecrypted by SNI/ALPN.
    pub passthrough: Vec<StreamRoutePlan>,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which forwarding headers are written.
    pub forwarded: ForwardedPlan,
    /// What is spoken on cleartext binds.
    pub cleartext: CleartextProtocols,
    /// `timeouts.header`: for a whole header section, and for each TLS handshake. Default 10 s.
    pub header_timeout: Duration,
    /// `timeouts.idle`: between requests. Default 60 s.
    pub idle_timeout: Duration,
    /// `timeouts.body`: longest pause inside a request body or in the client's taking of a response. Default 30 s.
    pub body_timeout: Duration,
    /// `max_body` of the listener: largest request body in bytes; `None` = no limit.
    pub max_body: Option<u64>,
}

/// `protocols` on cleartext binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CleartextProtocols {
    pub http1: bool,
    /// HTTP/2 by prior knowledge (RFC 9113 §3.3).
    pub h2c: bool,
}

/// `forwarded = ["x-forwarded-for", ...]`: which headers Fathom writes for servers.
/// Default: `x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-host`, `x-forwarded-port` on; the others off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ForwardedPlan {
    pub x_forwarded_for: bool,
    pub x_forwarded_proto: bool,
    pub x_forwarded_host: bool,
    pub x_forwarded_port: bool,
    pub x_real_ip: bool,
    /// RFC 7239.
    pub forwarded: bool,
}

/// `[[listeners.NAME.routes]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutePlan {
    /// The route's name in metrics and logs: `name = ` if given, else `LISTENER/N` (N from 1 in file order).
    pub name: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
    /// When it applies.
    pub matches: MatchPlan,
    /// What it does.
    pub action: ActionPlan,
    /// Edits on what the server gets.
    pub request_headers: HeaderEdits,
    /// Edits on what the client gets.
    pub response_headers: HeaderEdits,
    /// Path edit, before the request is sent on.
    pub rewrite: Option<RewritePlan>,
    /// `timeouts.connect`. Default 5 s.
    pub connect_timeout: Duration,
    /// `timeouts.response`: to the response's head. Default 60 s.
    pub response_timeout: Duration,
    /// When a request is sent again.
    pub retry: RetryPlan,
    /// Largest request body in bytes; `None` = the listener's.
    pub max_body: Option<u64>,
}

/// `match = {...}`: all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatchPlan {
    /// `host`, any of these; empty = any host.
    pub host: Vec<HostPattern>,
    /// `path`.
    pub path: Option<PathPattern>,
    /// `method`, any of these; empty = any.
    pub method: Vec<String>,
    /// `header`: name (lower case) and what its value must be.
    pub headers: Vec<(String, ValuePattern)>,
    /// `query`: parameter name and what its (percent-decoded) value must be.
    pub query: Vec<(String, ValuePattern)>,
    /// `cookie`.
    pub cookies: Vec<(String, ValuePattern)>,
    /// `source`: the client's address (after `trusted_proxies`).
    pub source: Vec<IpNet>,
}

/// `path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// `/healthz`.
    Exact(String),
    /// `/api/*`, kept as `/api/`: every path that begins so; what follows is `$1`. `/*` is `/`.
    Prefix(String),
    /// `~^/v[0-9]+/`: groups are `$1`...
    Regex(Regex),
}

/// What a header, query or cookie value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValuePattern {
    /// Present, with any value (`"*"`).
    Present,
    /// Exactly this.
    Exact(String),
    /// `~expr`.
    Regex(Regex),
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionPlan {
    /// `pool = `.
    Forward(RouteTarget),
    /// `redirect = {...}`.
    Redirect {
        /// `$1`... stand for what the `*` or the groups matched; `$host`, `$path` (with query) for the request's.
        to: String,
        /// 301, 302, 303, 307 or 308. Default 302.
        status: u16,
    },
    /// `respond = {...}`.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The body; `Content-Type: text/plain; charset=utf-8` unless the headers say otherwise.
        body: String,
        /// Further header fields.
        headers: Vec<(String, String)>,
    },
}

/// Where a route sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    /// The pool's name; it exists in the plan.
    pub pool: Arc<str>,
}

/// `request_headers`, `response_headers`. Applied in the order remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replaced, or added when missing; name as written, value.
    pub set: Vec<(String, String)>,
    /// Added beside what is there.
    pub add: Vec<(String, String)>,
    /// Removed; names.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// `rewrite = {...}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewritePlan {
    /// `strip_prefix = "/api"`: the rest, `/` if nothing is left. Only at a segment border.
    StripPrefix(String),
    /// `add_prefix = "/v1"`.
    AddPrefix(String),
    /// `path = "/new/$1"`: the whole path; `$1`... as in redirects.
    Path(String),
    /// `regex = "^/a/(.*)$", to = "/b/$1"`.
    Regex {
        /// On the path without the query.
        regex: Regex,
        /// What replaces the match.
        to: String,
    },
}

/// `retry = {...}`.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPlan {
    /// Attempts after the first. Default 2.
    pub attempts: u32,
    /// Default connect-failure and reset.
    pub on: Vec<RetryOn>,
    /// Retries as a share of requests in flight or recently made (0.2 = 20 %). Default 0.2; at least 3 a second are always allowed.
    pub budget: f64,
}

/// When a request is sent again. A request whose body was begun to be sent, or that is not idempotent (RFC 9110 §9.2.2)
/// and was sent at all, is not sent again on `Reset` or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// `connect-failure`: nothing was sent.
    ConnectFailure,
    /// `reset`: the connection broke before any byte of the response.
    Reset,
    /// `timeout`: no response head in time.
    Timeout,
    /// `502`: this status.
    Status(u16),
    /// `unavailable`: gRPC status 14 in a trailers-only response.
    GrpcUnavailable,
}
