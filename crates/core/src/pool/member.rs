//! A server of a pool: what the file says of it, and one of its endpoints.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::view::View;
use crate::Tick;
use crate::endpoint::{Endpoint, EndpointAddress, Health};
use crate::endpoints::Endpoints;
use crate::plan::{PoolPlan, ServerAddress, ServerPlan};

/// One endpoint with the file's word on it. A server given by host name is one member for each address.
#[derive(Clone, Debug)]
pub struct Member {
    endpoint: Arc<Endpoint>,
    server: Arc<ServerPlan>,
}

impl From<SocketAddr> for EndpointAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<PathBuf> for EndpointAddress {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl Member {
    /// The member of that pool for one address of a server.
    #[must_use]
    pub fn new(
        registry: &Endpoints,
        pool: &PoolPlan,
        server: Arc<ServerPlan>,
        address: EndpointAddress,
    ) -> Self {
        let name = match &server.address {
            // One server name, several endpoints: each needs a name of its own in metrics.
            ServerAddress::Name { .. } => format!("{}/{address}", server.name).into(),
            _ => Arc::clone(&server.name),
        };
        let endpoint = registry.get_or_create(&pool.name, &name, &address, pool.health.is_some());
        Self { endpoint, server }
    }

    /// Its endpoint.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// What the file says.
    #[must_use]
    pub const fn server(&self) -> &Arc<ServerPlan> {
        &self.server
    }

    /// The weight that holds: set at run time, or the file's.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.endpoint
            .weight_override(self.server.weight)
            .unwrap_or(self.server.weight)
    }

    /// What it is in a Maglev table: the same on every machine with the same file.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {}", self.endpoint.address(), self.server.name)
    }

    /// Whether `name` means it: its server's name, or its endpoint's.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        *self.server.name == *name || *self.endpoint.name() == *name
    }

    pub(super) fn status(&self, plan: &PoolPlan, view: &View, now: Tick) -> ServerStatus {
        let endpoint = &self.endpoint;
        ServerStatus {
            name: endpoint.name(),
            address: endpoint.address().clone(),
            configured_weight: self.server.weight,
            weight: self.weight(),
            share: view.share_of(endpoint.id()),
            backup: self.server.backup,
            health: plan.health.as_ref().map(|_| endpoint.health()),
            ejected_for: endpoint
                .outlier
                .until()
                .filter(|until| *until > now)
                .map(|until| until.since(now)),
            draining: endpoint.draining(),
            in_flight: endpoint.in_flight(),
            max_connections: self.server.max_connections,
            ewma: Some(endpoint.ewma_ns(now))
                .filter(|ns| *ns > 0)
                .map(Duration::from_nanos),
            endpoint: Arc::clone(endpoint),
        }
    }
}

/// A server as it is at a moment.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// As in metrics.
    pub name: Arc<str>,
    /// Where it is.
    pub address: EndpointAddress,
    /// The file's weight.
    pub configured_weight: u32,
    /// The weight that holds.
    pub weight: u32,
    /// Share of the new work it is offered now, 0 to 1, by weights alone.
    pub share: f64,
    /// Used only when no other can be.
    pub backup: bool,
    /// What active checks say; `None` when there are none.
    pub health: Option<Health>,
    /// How long it is still left out for its errors.
    pub ejected_for: Option<Duration>,
    /// Gets no new work.
    pub draining: bool,
    /// What it has.
    pub in_flight: u32,
    /// The most it may have.
    pub max_connections: Option<u32>,
    /// Smoothed response time.
    pub ewma: Option<Duration>,
    /// All the rest.
    pub endpoint: Arc<Endpoint>,
}

/// Who gets new work.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Of the pool, when this was read.
    pub generation: u64,
    /// When it changes by itself (an ejection ends, a slow start goes on).
    pub until: Tick,
    /// Members and their weights in units of a twentieth (slow start counts).
    pub servers: Vec<(Member, u32)>,
}
