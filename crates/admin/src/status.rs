//! `GET /api/v1/status`: the running process as one document. Names are those of the configuration and the metrics.
//!
//! Counts only grow; whoever wants rates asks twice.

mod build;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AccessLog, Certificate, Name, Packet, Reloads};

pub(crate) use build::{depth, pool, status};

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// When it was started, Unix seconds.
    pub started_unix_seconds: f64,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// `uring` or `epoll`.
    pub driver: String,
    /// Why it is not the other one.
    pub driver_note: Option<String>,
    /// Data-path threads.
    pub workers: usize,
    /// Workers that panicked and were started again.
    pub worker_panics: u64,
    /// The configuration's files, the main one first.
    pub files: Vec<String>,
    /// What became of reloads.
    pub reloads: Reloads,
    /// The access log; `null` when it is off.
    pub access_log: Option<AccessLog>,
    /// Upper bounds in seconds of [`Latency::buckets`]; a last bucket without bound follows.
    pub latency_bounds_seconds: Vec<f64>,
    /// In file order.
    pub listeners: Vec<ListenerStatus>,
    /// In file order.
    pub pools: Vec<PoolStatus>,
    /// Certificates shown to clients.
    pub certificates: Vec<Certificate>,
    /// The packet depth, if it is in use.
    pub packet: Option<Packet>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// `packet`, `stream` or `http`.
    pub depth: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Addresses as configured; `tls://` before those that speak TLS.
    pub binds: Vec<String>,
    /// `file:line`.
    pub origin: String,
    /// Connections accepted, or flows begun.
    pub connections: u64,
    /// Open now.
    pub active: i64,
    /// Requests (http).
    pub requests: u64,
    /// From clients.
    pub received_bytes: u64,
    /// To clients.
    pub sent_bytes: u64,
    /// From clients (udp).
    pub received_datagrams: u64,
    /// To clients (udp).
    pub sent_datagrams: u64,
    /// TLS handshakes completed.
    pub tls_handshakes: u64,
    /// Of which resumed a session.
    pub tls_resumed: u64,
    /// Errors of accept, such as too many open files.
    pub accept_errors: u64,
    /// Connections refused or broken off and requests without a route, by reason; without zeros.
    pub reasons: BTreeMap<String, u64>,
    /// Its routes, in file order.
    pub routes: Vec<RouteStatus>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// `file:line`.
    pub origin: String,
    /// When it applies, in short: `example.com/api/* GET`.
    pub matches: String,
    /// What it does: `pool api`, `redirect 301`, `respond 200`.
    pub action: String,
    /// Requests or connections it took.
    pub requests: u64,
    /// Under way.
    pub active: i64,
    /// Responses: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub responses: [u64; 5],
    /// What Fathom decided itself, by reason; without zeros.
    pub reasons: BTreeMap<String, u64>,
    /// From clients.
    pub received_bytes: u64,
    /// To clients.
    pub sent_bytes: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Of requests, to the response's last byte.
    pub latency: Latency,
}

/// Durations that were counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum_seconds: f64,
    /// Half were shorter.
    pub p50_seconds: Option<f64>,
    /// 99 of 100 were shorter.
    pub p99_seconds: Option<f64>,
    /// How many by [`Status::latency_bounds_seconds`], each with all shorter ones; the last is all.
    pub buckets: Vec<u64>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// `file:line`.
    pub origin: String,
    /// As in the file: `round-robin`.
    pub balance: String,
    /// Choices made.
    pub picks: u64,
    /// Choices that found no server.
    pub no_server: u64,
    /// Choices that fell to a backup.
    pub backups: u64,
    /// Waiting for a server that is not full.
    pub waiting: i64,
    /// Requests sent again.
    pub retries: u64,
    /// Retries that the budget refused.
    pub retries_refused: u64,
    /// Its host names.
    pub names: Vec<Name>,
    /// Its servers, in file order.
    pub servers: Vec<ServerStatus>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// `up`, `down`, `probing`; `unchecked` without active checks.
    pub health: String,
    /// What the last check found.
    pub check: Option<CheckStatus>,
    /// How long it is still left out for its errors.
    pub ejected_seconds: Option<f64>,
    /// Gets no new work.
    pub draining: bool,
    /// The weight that holds.
    pub weight: u32,
    /// The file's.
    pub configured_weight: u32,
    /// Share of the new work it is offered, 0 to 1.
    pub share: f64,
    /// Used only when no other can be.
    pub backup: bool,
    /// Connections or requests it has now.
    pub in_flight: u32,
    /// The most it may have.
    pub max_connections: Option<u32>,
    /// Connections open to it.
    pub open: i64,
    /// Of which idle (http).
    pub idle: i64,
    /// Smoothed response time.
    pub response_seconds: Option<f64>,
    /// Requests sent to it.
    pub requests: u64,
    /// Connections opened to it, flows begun.
    pub connections: u64,
    /// Responses: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub responses: [u64; 5],
    /// Failures by reason; without zeros.
    pub failures: BTreeMap<String, u64>,
    /// From it.
    pub received_bytes: u64,
    /// To it.
    pub sent_bytes: u64,
    /// Times it was left out for its errors.
    pub ejections: u64,
    /// From sending the request to the response's head, or of whole connections.
    pub latency: Latency,
}

/// What an active check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Whether all was well.
    pub ok: bool,
    /// `ok`, or what was wrong: `status 500, wanted 200-299`.
    pub detail: String,
    /// How long ago it ended.
    pub ago_seconds: f64,
    /// How long it took.
    pub took_seconds: f64,
}
