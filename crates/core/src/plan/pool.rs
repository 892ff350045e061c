//! Pools and their servers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Origin, Rate, Regex, TlsClientPlan};

/// `[pools.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
    /// How a server is chosen.
    pub balance: BalancePlan,
    /// At least one.
    pub servers: Vec<ServerPlan>,
    /// Active checks; `None` = servers count as healthy.
    pub health: Option<HealthPlan>,
    /// Passive ejection; `None` = off.
    pub outliers: Option<OutlierPlan>,
    /// A server that came up gets its weight over this time; zero = at once.
    pub slow_start: Duration,
    /// `affinity`: remembered choice by source.
    pub affinity: Option<AffinityPlan>,
    /// TLS to the servers.
    pub tls: Option<TlsClientPlan>,
    /// What is spoken to the servers (http depth).
    pub protocol: ServerProtocol,
    /// Kept connections to servers (http depth).
    pub keepalive: KeepalivePlan,
    /// Waiting when every server is at its `max_connections`; `None` = no waiting.
    pub queue: Option<QueuePlan>,
    /// Header sent to the servers.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// One entry of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPlan {
    /// `name = ` if given, else the address as written; unique in the pool.
    pub name: Arc<str>,
    /// Where it is.
    pub address: ServerAddress,
    /// 0 to 65,535; 0 = no new work. Default 1.
    pub weight: u32,
    /// Used only when no other server can be.
    pub backup: bool,
    /// Most connections (stream) or requests in flight (http) at a time.
    pub max_connections: Option<u32>,
    /// Where it was written.
    pub origin: Origin,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// `"10.0.0.10:3000"`.
    Ip(SocketAddr),
    /// `"unix:/run/app.sock"`.
    Unix(PathBuf),
    /// `"name.example:80"`: resolved, and again when its TTL ends; each address is an endpoint.
    Name {
        /// Host name, lower case.
        host: String,
        /// Port.
        port: u16,
    },
}

/// `balance`, `hash_on`, `bounded_load`.
#[derive(Clone, Debug, PartialEq)]
pub struct BalancePlan {
    /// Default round-robin.
    pub algorithm: Algorithm,
    /// For `hash`. Default source-ip.
    pub hash_on: HashOn,
    /// For `hash`: a server gets at most this multiple of the mean load (1.25 = "125%").
    pub bounded_load: Option<f64>,
}

/// `balance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Algorithm {
    #[default]
    RoundRobin,
    LeastConnections,
    LeastResponseTime,
    RandomTwoChoices,
    Random,
    First,
    Hash,
}

/// `hash_on`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum HashOn {
    #[default]
    SourceIp,
    SourceIpPort,
    Path,
    Query(String),
    /// Lower case.
    Header(String),
    Cookie(String),
    Sni,
}

/// `health`.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthPlan {
    /// What is asked.
    pub probe: ProbePlan,
    /// Default 2 s.
    pub interval: Duration,
    /// Default 1 s, at most the interval unless given.
    pub timeout: Duration,
    /// Successes to come up. Default 2.
    pub rise: u32,
    /// Failures to go down. Default 3.
    pub fall: u32,
    /// Interval while a state is changing. Default: half the interval, at most 1 s; so a server that crashes is out after
    /// at most twice the interval with the default `fall`.
    pub fast_interval: Duration,
    /// Another port to check.
    pub port: Option<u16>,
    /// Where it was written.
    pub origin: Origin,
}

/// One kind of probe.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbePlan {
    /// A connection opens.
    Tcp,
    /// A TLS handshake completes.
    Tls,
    /// An HTTP request is answered as expected.
    Http(HttpProbePlan),
    /// The gRPC health service says SERVING for this service.
    Grpc {
        /// Service name; empty = the whole server.
        service: String,
    },
    /// A startup message is answered by an authentication request (or ready-for-query).
    Postgres {
        /// `user=... dbname=...`.
        parameters: Vec<(String, String)>,
    },
    /// A command is answered without an error (`PING` by `+PONG`).
    Redis {
        /// The command, inline.
        command: String,
    },
    /// A 220 greeting, EHLO answered 250, QUIT.
    Smtp,
    /// Bytes are sent, and what comes back matches.
    SendExpect {
        /// May be empty.
        send: Vec<u8>,
        /// On the bytes received so far.
        expect: Regex,
    },
    /// A program exits 0; gets FATHOM_SERVER_ADDRESS, FATHOM_SERVER_PORT, FATHOM_POOL, FATHOM_SERVER in its environment.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// `health = { http = ... }`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbePlan {
    /// Path and query.
    pub path: String,
    /// Default GET.
    pub method: String,
    /// Host header; default the server's address.
    pub host: Option<String>,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// Inclusive ranges. Default 200-399.
    pub expect_status: Vec<(u16, u16)>,
    /// On the first 64 KiB of the body.
    pub expect_body: Option<Regex>,
    /// A field of a JSON body.
    pub expect_json: Option<JsonExpect>,
}

/// `expect_json = { path = "$.status", equals = "ok" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonExpect {
    /// The path's steps after `$`.
    pub path: Vec<JsonStep>,
    /// The value as JSON text (`"ok"` with quotes for a string, `3`, `true`, `null`).
    pub equals: String,
}

/// One step of a JSON path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum JsonStep {
    Key(String),
    Index(usize),
}

/// `outliers`.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierPlan {
    /// Default 5.
    pub consecutive_errors: u32,
    /// First ejection; doubles with each one that follows, up to ten times. Default 30 s.
    pub eject: Duration,
    /// Largest share of the pool out at a time (0.5 = "50%"). Default 0.5.
    pub max_ejected: f64,
}

/// `affinity = { key = "source-ip", ttl = "30m" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinityPlan {
    /// Since the last use. Default 30 min.
    pub ttl: Duration,
    /// Most clients remembered. Default 100,000.
    pub capacity: usize,
}

/// `protocol` of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServerProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2, and gRPC errors.
    Grpc,
}

/// `keepalive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepalivePlan {
    /// Most idle connections kept to each server by each worker. Default 256. 0 = a new connection per request.
    pub idle: usize,
    /// How long one is kept idle. Default 60 s.
    pub timeout: Duration,
}

/// `queue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePlan {
    /// Most waiting at a time.
    pub length: usize,
    /// Longest wait. Default 5 s.
    pub timeout: Duration,
}

/// `proxy_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ProxyVersion {
    V1,
    V2,
}

impl Rate {
    /// The time one event takes at this rate.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.per / self.count.max(1)
    }
}
