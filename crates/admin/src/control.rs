//! What the admin side may see and do: the program implements it.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fathom_core::plan::Plan;
use fathom_core::stats::Registry;
use fathom_core::{Pool, Tick};
use serde::{Deserialize, Serialize};

/// An answer that may take its time.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;

/// The running process, as the admin side knows it. Draining and weights need nothing of it: they are the pools' own.
pub trait Control: Send + Sync + 'static {
    /// What is in force at this moment.
    fn state(&self) -> State;

    /// The bearer token in force; `None` = no token is asked for.
    fn token(&self) -> Option<String>;

    /// Reads the configuration again: the whole new one, or none of it.
    fn reload(self: Arc<Self>) -> Answer<PlanReport>;

    /// What a reload to another configuration would change.
    fn plan(self: Arc<Self>, request: PlanRequest) -> Answer<PlanReport>;

    /// What would become of a request: every rule tried and why, then pool and server. The document's shape is the
    /// program's.
    fn explain(self: Arc<Self>, request: ExplainRequest) -> Answer<serde_json::Value>;
}

/// Why something was not done, in words for whoever asked; may have several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl<T: Into<String>> From<T> for Refusal {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// What is in force at a moment.
#[derive(Clone, Debug)]
pub struct State {
    /// The program's version.
    pub version: &'static str,
    /// The moment, on the clock of the data path.
    pub now: Tick,
    /// When the process started, since the Unix epoch.
    pub started: Duration,
    /// How long it has been running.
    pub uptime: Duration,
    /// Data-path threads.
    pub workers: usize,
    /// `uring` or `epoll`.
    pub driver: &'static str,
    /// Why it is not the other one.
    pub driver_note: Option<String>,
    /// Workers that panicked and were started again.
    pub worker_panics: u64,
    /// The configuration.
    pub plan: Arc<Plan>,
    /// Its pools, in the plan's order.
    pub pools: Vec<Arc<Pool>>,
    /// Counters of listeners and routes.
    pub stats: Arc<Registry>,
    /// What became of reloads.
    pub reloads: Reloads,
    /// The access log; `None` when it is off.
    pub access_log: Option<AccessLog>,
    /// Certificates shown to clients.
    pub certificates: Vec<Certificate>,
    /// Host names that stand for servers.
    pub names: Vec<Name>,
    /// The packet depth, if it is in use.
    pub packet: Option<Packet>,
}

/// What became of reloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloads {
    /// Those that took effect.
    pub ok: u64,
    /// Those that were refused.
    pub failed: u64,
    /// When the last one was tried, Unix seconds; `None` = never.
    pub last_unix_seconds: Option<u64>,
    /// Why the last one was refused, as `fathom check` would print it; `None` when it took effect.
    pub last_error: Option<String>,
}

/// The access log's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Records written.
    pub written: u64,
    /// Records lost because the target was too slow or failed.
    pub dropped: u64,
    /// The last failure to write, until the next success.
    pub last_error: Option<String>,
}

/// A certificate shown to clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The listener's name.
    pub listener: String,
    /// Its file.
    pub path: String,
    /// Names it is good for.
    pub names: Vec<String>,
    /// End of validity, Unix seconds.
    pub not_after_unix_seconds: i64,
    /// What is wrong with the files as they are now; the certificate read before goes on being shown.
    pub error: Option<String>,
}

/// A host name that stands for servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// The pool's name.
    pub pool: String,
    /// The host name.
    pub host: String,
    /// What it stands for now.
    pub addresses: Vec<IpAddr>,
    /// Why it could not be resolved lately.
    pub problem: Option<String>,
}

/// What the packet depth does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Its listeners.
    pub listeners: Vec<PacketListener>,
    /// Entries of the flow table in use.
    pub flow_entries: u64,
    /// The most there may be.
    pub flow_capacity: u64,
    /// What did not go as asked: unreachable servers, a slower way of attaching.
    pub notes: Vec<String>,
}

/// A listener at the packet depth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketListener {
    /// Its name.
    pub listener: String,
    /// Packets that were not simply forwarded, by reason.
    pub reasons: Vec<(String, u64)>,
    /// Its servers.
    pub servers: Vec<PacketServer>,
}

/// A server as one packet listener uses it. `in` is towards the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PacketServer {
    pub server: String,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub flows: u64,
    /// Packets it was chosen for that could not be sent.
    pub failed: u64,
}

/// Which configuration to compare with the one in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// A file, as the running process sees it; without it and without text, the process's own file.
    pub path: Option<PathBuf>,
    /// The text itself.
    pub text: Option<String>,
}

/// What changes between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// Empty when nothing does.
    pub changes: Vec<Change>,
    /// What is accepted but looks wrong.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `added`, `removed` or `changed`.
    pub verb: String,
    /// `pool api`, `listener web`.
    pub what: String,
    /// What about it, a line each.
    pub details: Vec<String>,
}

/// A request to be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// `GET`.
    pub method: String,
    /// `https://example.com/path?query`.
    pub url: String,
    /// Further header fields.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The client's address; default 127.0.0.1.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// The listener, when the URL does not tell.
    #[serde(default)]
    pub listener: Option<String>,
    /// The request's body.
    #[serde(default)]
    pub body: Option<String>,
}
