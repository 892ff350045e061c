//! What a probe knows of the server it asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use fathom_core::EndpointAddress;
use fathom_core::plan::ProxyVersion;
use fathom_tls::Connector;

/// One server, as one endpoint's probe sees it.
pub(crate) struct Target {
    /// Where to check: the endpoint's address, with the plan's `port` if it has one.
    pub(crate) address: EndpointAddress,
    /// The server's host name, if it was configured by name.
    pub(crate) host: Option<String>,
    /// The pool's name.
    pub(crate) pool: Arc<str>,
    /// The server's name.
    pub(crate) server: Arc<str>,
    /// TLS as the pool speaks it to its servers; an error is the reason every check fails.
    pub(crate) tls: Option<Result<Connector, String>>,
    /// The header the pool's servers wait for; it says that nobody is relayed.
    pub(crate) proxy: Option<ProxyVersion>,
    /// HTTP checks speak HTTP/2.
    pub(crate) http2: bool,
    /// How far the present check has come.
    pub(crate) stage: Stage,
}

impl Target {
    /// What an HTTP request to the server names as its host.
    pub(crate) fn authority(&self) -> String {
        match (&self.address, &self.host) {
            (EndpointAddress::Ip(address), Some(host)) => format!("{host}:{}", address.port()),
            (EndpointAddress::Ip(address), None) => address.to_string(),
            (EndpointAddress::Unix(_), host) => host.as_deref().unwrap_or("localhost").to_owned(),
        }
    }
}

/// How far a check has come: what a timeout says it waited for.
#[derive(Debug, Default)]
pub(crate) struct Stage(AtomicU8);

const STAGES: [&str; 4] = [
    "connecting",
    "in the TLS handshake",
    "waiting for an answer",
    "running the command",
];

impl Stage {
    pub(crate) const CONNECTING: u8 = 0;
    pub(crate) const HANDSHAKE: u8 = 1;
    pub(crate) const WAITING: u8 = 2;
    pub(crate) const RUNNING: u8 = 3;

    pub(crate) fn set(&self, stage: u8) {
        self.0.store(stage, Ordering::Relaxed);
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STAGES[usize::from(self.0.load(Ordering::Relaxed)) % STAGES.len()])
    }
}
